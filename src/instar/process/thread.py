"""One traced thread at its barest: stopping it, letting it go, its registers (ptrace(2)).

The guard holds the past with nothing more than this; ``instar.process.tracee`` adds what is done to a future.
"""

from __future__ import annotations

import errno
import os
import signal as signals
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Concatenate, Literal, NamedTuple, ParamSpec, TypeVar

from instar.errors import HostError, InstarError, InternalError
from instar.process import ptrace
from instar.process.registers import Registers, signed

P = ParamSpec("P")
R = TypeVar("R")
StopKind = Literal["syscall-entry", "syscall-exit", "signal", "event", "group", "exited", "killed"]
How = Literal["cont", "syscall", "step", "listen"]

_HOW = {"cont": ptrace.CONT, "syscall": ptrace.SYSCALL, "step": ptrace.SINGLESTEP, "listen": ptrace.LISTEN}
_WALL = 0x40000000
_STOP_SIGNALS = (signals.SIGSTOP, signals.SIGTSTP, signals.SIGTTIN, signals.SIGTTOU)
_SIGKILL = int(signals.SIGKILL)
_LONGEST_SLEEP_S, _STEP_S = 1e-3, 2.0

WATCH = ptrace.O_TRACESYSGOOD | ptrace.O_TRACEEXEC


class Syscall(NamedTuple):
    """A system call at one of its stops.

    Attributes:
        number: Of the x86-64 table (``instar.process.syscalls``).
        arguments: All six argument registers, unsigned.
        result: Signed; None at entry.
    """

    number: int
    arguments: tuple[int, ...]
    result: int | None


class Stop(NamedTuple):
    """Why a tracee stands still, or how it ended.

    Attributes:
        kind: "group" is a stop by SIGSTOP and the like; "event" has ``event`` (``ptrace.EVENT_*``).
        signal: The signal to be delivered ("signal"), that stopped the group, or that killed.
        event: A ``ptrace.EVENT_*`` number, else 0.
        status: Exit status ("exited"), else 0.
        message: At an event: the new pid (fork, vfork, clone), the raw exit status (exit).
        syscall: The call, at the two system call stops.
    """

    kind: StopKind
    signal: int = 0
    event: int = 0
    status: int = 0
    message: int = 0
    syscall: Syscall | None = None

    @property
    def ended(self) -> bool:
        """Whether the process is no more."""
        return self.kind in ("exited", "killed")

    @property
    def entry(self) -> bool:
        """Whether a system call is about to be made."""
        return self.kind == "syscall-entry"

    @property
    def exit(self) -> bool:
        """Whether a system call has just been made."""
        return self.kind == "syscall-exit"


class Thread:
    """A seized thread. Everything must be called by the thread of ours that seized it.

    While ``stop`` is not None the thread stands still and its registers and memory may be changed. Whatever
    is called on a process that ends meanwhile raises ProcessDiedError, except ``wait`` and ``interrupt``,
    which return the end as a Stop.
    """

    def __init__(self, pid: int, options: int) -> None:
        self.pid = pid
        self.options = options
        self.stop: Stop | None = None
        self.end: Stop | None = None
        self.filtered = False
        self._call: Syscall | None = None

    def detach(self, signal: int = 0) -> None:
        """Stop tracing; the thread runs on from where it stands, with ``signal`` delivered at a signal stop.

        A thread that a stop signal had stopped stays stopped.
        """
        if self.stop is not None and self.end is None:
            with suppress(ProcessLookupError):
                ptrace.resume(ptrace.DETACH, self.pid, signal)
            self.stop = None

    # ------------------------------------------------------------------------------------ running and waiting

    def resume(self, how: How = "cont", signal: int = 0) -> None:
        """Let the thread run: freely, to the next system call stop, or one instruction.

        At a signal stop ``signal`` is what is delivered (0: the signal is dropped). From a group stop "cont"
        and "syscall" listen: the thread stays stopped until SIGCONT, and reports that.
        """
        if self.stop is None:
            raise InternalError(f"process {self.pid} is resumed while it runs")
        self._resume(ptrace.LISTEN if self.stop.kind == "group" else _HOW[how], signal)

    def _resume(self, number: int, signal: int) -> None:
        self.stop = None
        with suppress(ProcessLookupError):  # killed while it stood: the next wait reports the end
            ptrace.resume(number, self.pid, signal)

    def await_stop(self, seconds: float) -> Stop | None:
        """The stop it stands at, the next one, or the end; None: not in time (the thread runs on, traced).

        waitpid(2) has no limit: this polls, at the cost of an eighth of the time waited at most.
        """
        begin = now = time.monotonic()
        while (stop := self.stop or self.poll()) is None and now < begin + seconds:
            time.sleep(min((now - begin) / 8, _LONGEST_SLEEP_S))
            now = time.monotonic()
        return stop

    def run_to(self, how: How, expected: StopKind) -> Stop:
        """To the next stop of a kind ("event": any of PTRACE_INTERRUPT's); others on the way are passed.

        A stop signal is delivered, and its group stop passed: the kernel stops it for good when it is let go.
        """
        due = 0
        while True:
            self._resume(_HOW[how], due)
            stop = self.await_stop(_STEP_S)
            if stop is None or stop.ended:
                raise self.died(stop) if stop else InternalError(f"process {self.pid} does not stop")
            if stop.kind == expected or (expected == "event" and stop.event == ptrace.EVENT_STOP):
                return stop
            due = stop.signal if stop.kind == "signal" else 0

    def request_stop(self) -> None:
        """Make it stop wherever it is, also one that is about to be resumed."""
        with suppress(ProcessLookupError):
            ptrace.interrupt(self.pid)

    def poll(self) -> Stop | None:
        """The next stop or the end if there is one already."""
        try:
            found, status = os.waitpid(self.pid, os.WNOHANG | _WALL)
        except ChildProcessError:
            return self._ended(Stop("killed", _SIGKILL))
        return self._decode(status) if found else None

    # ------------------------------------------------------------------------------------ decoding stops

    def _ended(self, stop: Stop) -> Stop:
        self.end = self.stop = stop
        return stop

    def _decode(self, status: int) -> Stop:
        if os.WIFEXITED(status):
            return self._ended(Stop("exited", status=os.WEXITSTATUS(status)))
        if os.WIFSIGNALED(status):
            return self._ended(Stop("killed", os.WTERMSIG(status)))
        signal, event = (status >> 8) & 0xFF, status >> 16
        try:
            self.stop = self._describe(signal, event)
        except ProcessLookupError:  # SIGKILL took it out of this stop: the next poll reports the end
            self.stop = Stop("event", signal, event)
        return self.stop

    def _describe(self, signal: int, event: int) -> Stop:
        if signal == signals.SIGTRAP | 0x80:
            return self._syscall_stop()
        if event == ptrace.EVENT_STOP:
            return Stop("group" if signal in _STOP_SIGNALS else "event", signal, event)
        if event:
            return Stop("event", signal, event)
        return Stop("signal", signal)

    def _syscall_stop(self) -> Stop:
        op, arch, values = ptrace.get_syscall_info(self.pid)
        if arch != ptrace.AUDIT_ARCH_X86_64:
            cause = f"process {self.pid} makes 32-bit system calls"
            raise HostError("wrong-architecture", cause, "only x86-64 programs can be updated")
        if op == ptrace.SYSCALL_ENTRY:
            number, *arguments = values
            self._call = Syscall(number, tuple(arguments), None)
            return Stop("syscall-entry", syscall=self._call)
        call, self._call = self._call, None
        if call is None:
            registers = self.registers()
            call = Syscall(registers.orig_rax, registers.syscall_arguments(), None)
        return Stop("syscall-exit", syscall=call._replace(result=signed(values[0])))

    # ------------------------------------------------------------------------------------ state at a stop

    def request(self, function: Callable[Concatenate[int, P], R], *values: P.args, **named: P.kwargs) -> R:
        """Call a function of ``instar.process.ptrace``; the death of the process is a ProcessDiedError."""
        try:
            return function(self.pid, *values, **named)
        except OSError as error:
            raise self._lost(error) from error

    def registers(self) -> Registers:
        """The general registers."""
        return self.request(ptrace.get_registers)

    def set_registers(self, registers: Registers) -> None:
        """Replace the general registers."""
        self.request(ptrace.set_registers, registers)

    def signal_mask(self) -> int:
        """The blocked signals, bit ``n - 1`` is signal ``n`` (inside ppoll: those of before it)."""
        return self.request(ptrace.get_signal_mask)

    def set_signal_mask(self, mask: int) -> None:
        """Replace the blocked signals."""
        self.request(ptrace.set_signal_mask, mask)

    def _lost(self, error: OSError) -> Exception:
        return self.died(Stop("killed")) if isinstance(error, ProcessLookupError) else error

    def died(self, stop: Stop) -> InstarError:
        """The error for an end that the caller cannot use."""
        return InstarError("process-died", f"process {self.pid} has ended: {stop.kind}", "see why it ended")

    # ------------------------------------------------------------------------------------ its own filter

    def suspend_filter(self) -> None:
        """Keep the process's own seccomp filter from killing it for what is not its doing."""
        self.filtered = _has_seccomp_filter(self.pid)
        if not self.filtered:
            return
        try:
            self.request(ptrace.set_options, self.options | ptrace.O_SUSPEND_SECCOMP)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
            cause = f"process {self.pid} runs under a seccomp filter that cannot be suspended"
            remedy = "run instar as root and unsandboxed, on a kernel with CONFIG_CHECKPOINT_RESTORE"
            raise HostError("seccomp-filter", cause, remedy) from error

    def resume_filter(self) -> None:
        """Put the filter back to work."""
        if self.filtered:
            self.request(ptrace.set_options, self.options)


def _has_seccomp_filter(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return False
    return any(line.startswith("Seccomp:") and line.split()[1] != "0" for line in text.splitlines())
