"""One traced thread: stopping it, letting it go, and what it looks like at a stop (ptrace(2))."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal as signals
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Literal, NamedTuple, ParamSpec, TypeVar

from instar.errors import HostError, InternalError
from instar.process import ptrace
from instar.process.deadline import Deadline, DeadlineError
from instar.process.failures import ProcessDiedError, explain_absence, explain_seize
from instar.process.memory import Memory
from instar.process.ptrace import SignalInfo
from instar.process.registers import Registers, signed
from instar.process.waiting import Pause as Pause

if TYPE_CHECKING:
    from instar.process.injection import Surgery
    from instar.process.launch import Preparation

P = ParamSpec("P")
R = TypeVar("R")
StopKind = Literal["syscall-entry", "syscall-exit", "signal", "event", "group", "exited", "killed"]
How = Literal["cont", "syscall", "step", "listen"]

_HOW = {"cont": ptrace.CONT, "syscall": ptrace.SYSCALL, "step": ptrace.SINGLESTEP, "listen": ptrace.LISTEN}
_WALL = 0x40000000
_STOP_SIGNALS = (signals.SIGSTOP, signals.SIGTSTP, signals.SIGTTIN, signals.SIGTTOU)
_SIGKILL = int(signals.SIGKILL)

WATCH = ptrace.O_TRACESYSGOOD | ptrace.O_TRACEEXEC
FOLLOW = WATCH | ptrace.O_TRACEFORK | ptrace.O_TRACEVFORK | ptrace.O_TRACECLONE | ptrace.O_TRACEEXIT

_TIMER_SLACK = 29
_libc = ctypes.CDLL(None, use_errno=True)


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


class Tracee:
    """A seized thread. All methods but the constructors' checks must run in the thread that seized it.

    While ``stop`` is not None the thread stands still and its registers and memory may be changed. Whatever
    is called on a process that ends meanwhile raises ProcessDiedError, except ``wait`` and ``interrupt``,
    which return the end as a Stop.
    """

    def __init__(self, pid: int, options: int) -> None:
        self.pid = pid
        self.memory = Memory(pid)
        self.options = options
        self.stop: Stop | None = None
        self.end: Stop | None = None
        self.filtered = _has_seccomp_filter(pid)
        self.gadget = 0
        self._call: Syscall | None = None
        _libc.prctl(_TIMER_SLACK, 1, 0, 0, 0)

    # ------------------------------------------------------------------------------------ beginning and end

    @classmethod
    def seize(cls, pid: int, *, exitkill: bool = False, options: int = WATCH) -> Tracee:
        """Trace a running process without stopping it; raises HostError with the reason when refused."""
        problem = explain_absence(pid)
        if problem is not None:
            raise problem
        if exitkill:
            options |= ptrace.O_EXITKILL
        try:
            ptrace.seize(pid, options)
        except OSError as error:
            raise explain_seize(pid, error) from error
        return cls(pid, options)

    @classmethod
    def launch(
        cls,
        argv: list[str | bytes],
        env: dict[str, str] | dict[bytes, bytes] | list[bytes],
        *,
        executable: str | bytes | Path,
        exitkill: bool = True,
        prepare: Preparation | None = None,
        deadline: Deadline | None = None,
    ) -> Tracee:
        """Start a program under trace; it stands at the exit of its execve, before its first instruction."""
        from instar.process.launch import launch_tracee

        return launch_tracee(argv, env, executable, FOLLOW, exitkill, prepare, deadline or Deadline(10.0))

    @classmethod
    def adopt(cls, pid: int, options: int) -> Tracee:
        """For a child that a fork of a tracee attached by itself; wait for its first stop."""
        return cls(pid, options)

    def detach(self, signal: int = 0) -> None:
        """Stop tracing; the thread runs on from where it stands, with ``signal`` delivered at a signal stop.

        A running thread is stopped first (within a second; else it stays traced until this process ends).
        A thread that a stop signal had stopped stays stopped.
        """
        if self.end is not None:
            return
        if self.stop is None and self.interrupt(Deadline(1.0)).ended:
            return
        try:
            ptrace.resume(ptrace.DETACH, self.pid, signal)
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise
        self.stop = None

    def kill(self) -> Stop:
        """SIGKILL, and wait for the end (a killed process may take its time in the kernel: 10 s)."""
        if self.end is not None:
            return self.end
        os.kill(self.pid, _SIGKILL)
        deadline = Deadline(10.0)
        while True:
            if self.stop is not None:  # a stop on the way to its exit is not ended by SIGKILL
                self._resume(ptrace.CONT, 0)
            stop = self.wait(deadline)
            if stop.ended:
                return stop

    # ------------------------------------------------------------------------------------ running and waiting

    def resume(self, how: How = "cont", signal: int = 0) -> None:
        """Let the thread run: freely, to the next system call stop, or one instruction.

        At a signal stop ``signal`` is what is delivered (0: the signal is dropped). From a group stop "cont"
        and "syscall" listen: the thread stays stopped until SIGCONT, and reports that.
        """
        if self.stop is None:
            raise InternalError(f"process {self.pid} is resumed while it runs")
        number = _HOW[how]
        if self.stop.kind == "group":
            number = ptrace.LISTEN
        self._resume(number, signal)

    def _resume(self, number: int, signal: int) -> None:
        self.stop = None
        try:
            ptrace.resume(number, self.pid, signal)
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise
            # Killed while it stood: the next wait reports the end.

    def wait(self, deadline: Deadline) -> Stop:
        """The next stop or the end; raises DeadlineError (the thread runs on, traced)."""
        if self.end is not None:
            return self.end
        if self.stop is not None:
            raise InternalError(f"process {self.pid} is waited for while it stands")
        pause = Pause(deadline, f"a stop of process {self.pid}")
        while True:
            stop = self.poll()
            if stop is not None:
                return stop
            pause.sleep()

    def poll(self) -> Stop | None:
        """The next stop or the end if there is one already."""
        try:
            found, status = os.waitpid(self.pid, os.WNOHANG | _WALL)
        except ChildProcessError:
            return self._ended(Stop("killed", _SIGKILL))
        if found == 0:
            return None
        return self._decode(status)

    def interrupt(self, deadline: Deadline) -> Stop:
        """Stop the thread wherever it is; returns the stop it came to, which may be another one (or the end).

        A thread that stands already stays as it is. Raises DeadlineError for a thread that is stuck in the
        kernel; it then stops when it leaves, and the next ``wait`` reports it.
        """
        if self.end is not None:
            return self.end
        if self.stop is not None:
            return self.stop
        try:
            ptrace.interrupt(self.pid)
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise
        return self.wait(deadline)

    def run_until_syscall(self, deadline: Deadline) -> Stop:
        """Run to the next stop that is not a signal (which is delivered), usually of a system call."""
        signal = 0
        while True:
            self.resume("syscall", signal)
            stop = self.wait(deadline)
            if stop.kind != "signal":
                return stop
            signal = stop.signal

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
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise
            # SIGKILL took it out of this stop: the next poll reports the end.
            self.stop = Stop("event", signal, event)
        return self.stop

    def _describe(self, signal: int, event: int) -> Stop:
        if signal == signals.SIGTRAP | 0x80:
            return self._syscall_stop()
        if event == ptrace.EVENT_STOP:
            return Stop("group" if signal in _STOP_SIGNALS else "event", signal, event)
        if event:
            if event == ptrace.EVENT_EXEC:
                self.gadget = 0
            return Stop("event", signal, event, message=ptrace.get_event_message(self.pid))
        return Stop("signal", signal)

    def _syscall_stop(self) -> Stop:
        info = ptrace.get_syscall_info(self.pid)
        if info.arch != ptrace.AUDIT_ARCH_X86_64:
            raise HostError(
                "wrong-architecture",
                f"process {self.pid} makes 32-bit system calls",
                "only x86-64 programs can be updated",
            )
        if info.op == ptrace.SYSCALL_ENTRY:
            number, *arguments = info.values
            self._call = Syscall(number, tuple(arguments), None)
            if number in (157, 317):  # prctl, seccomp: may install a filter
                self.filtered = True
            return Stop("syscall-entry", syscall=self._call)
        call = self._call
        if call is None:
            registers = self.registers()
            call = Syscall(registers.orig_rax, registers.syscall_arguments(), None)
        self._call = None
        return Stop("syscall-exit", syscall=call._replace(result=signed(info.values[0])))

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

    def siginfo(self) -> SignalInfo:
        """Who sent the signal of the present signal stop, and why."""
        return self.request(ptrace.get_siginfo)

    def pending_signals(self) -> list[SignalInfo]:
        """The signals queued for the thread, then those queued for the process."""
        own = self.request(ptrace.peek_signals, False)
        return own + self.request(ptrace.peek_signals, True)

    def extended_state(self) -> bytes:
        """The XSAVE area: x87, SSE, AVX and later registers."""
        return self.request(ptrace.get_extended_state)

    def set_extended_state(self, state: bytes) -> None:
        """Put an XSAVE area back."""
        self.request(ptrace.set_extended_state, state)

    def _lost(self, error: OSError) -> Exception:
        if error.errno != errno.ESRCH:
            return error
        stop = self.end
        if stop is None:
            deadline = Deadline(1.0)
            pause = Pause(deadline, "the end")
            while (stop := self.poll()) is None or not stop.ended:
                if stop is not None:
                    self._resume(ptrace.CONT, 0)
                try:
                    pause.sleep()
                except DeadlineError:
                    return InternalError(f"process {self.pid} is used while it runs, or by another thread")
        return self.died(stop)

    def died(self, stop: Stop) -> ProcessDiedError:
        """The error for an end that the caller cannot use."""
        return ProcessDiedError(self.pid, stop.status if stop.kind == "exited" else -stop.signal)

    # ------------------------------------------------------------------------------------ surgery

    def surgery(self) -> Surgery:
        """A context in which the thread works for us; everything is put back at its end."""
        from instar.process.injection import Surgery

        return Surgery(self)

    def inject_syscall(self, number: int, *arguments: int, deadline: Deadline | None = None) -> int:
        """Make one system call in the thread; returns its result, minus the errno where it failed."""
        with self.surgery() as surgery:
            return surgery.syscall(number, *arguments, deadline=deadline)

    def call(self, function: int, *arguments: int, deadline: Deadline | None = None) -> int:
        """Call a C function of the process (integer arguments) on the thread's own stack; returns rax."""
        with self.surgery() as surgery:
            return surgery.call(function, *arguments, deadline=deadline)

    def suppress_syscall(self, result: int) -> None:
        """Have the present system call return ``result``; at its entry the call is not made.

        From an entry stop the thread goes on to the exit stop of the call and stands there.
        """
        if self.stop is None or not (self.stop.entry or self.stop.exit):
            raise InternalError(f"process {self.pid} is not at a system call")
        registers = self.registers()
        if self.stop.entry:
            call = self.stop.syscall
            self.set_registers(registers.copy(orig_rax=-1))
            self.suspend_filter()  # it would see a call number of -1
            self._go_to_exit()
            self.resume_filter()
            self._call = None
            registers = self.registers()
            if call is not None:
                self.stop = Stop("syscall-exit", syscall=call._replace(result=result))
                registers.orig_rax = call.number
        else:
            call = self.stop.syscall
            self.stop = self.stop._replace(syscall=call._replace(result=result) if call else None)
        self.set_registers(registers.copy(rax=result))

    def suspend_filter(self) -> None:
        """Keep the process's own seccomp filter from killing it for what is not its doing."""
        if not self.filtered:
            return
        try:
            self.request(ptrace.set_options, self.options | ptrace.O_SUSPEND_SECCOMP)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
            raise HostError(
                "seccomp-filter",
                f"process {self.pid} runs under a seccomp filter that cannot be suspended",
                "run instar as root and unsandboxed, on a kernel with CONFIG_CHECKPOINT_RESTORE",
            ) from error

    def resume_filter(self) -> None:
        """Put the filter back to work."""
        if self.filtered:
            self.request(ptrace.set_options, self.options)

    def _go_to_exit(self) -> None:
        """From an entry stop to the exit stop of the same call (nothing can come between but the end)."""
        self.resume("syscall")
        stop = self.wait(Deadline(10.0))
        if stop.ended or stop.event == ptrace.EVENT_EXIT:
            raise self.died(stop)
        if not stop.exit:
            raise InternalError(f"process {self.pid}: {stop.kind} instead of the exit of a call")

    def exit(self, status: int, deadline: Deadline) -> Stop:
        """Have the process call exit_group itself, without its exit handlers; returns its end.

        For its parent it exits with ``status``. The thread must stand outside of a call or at a call's stops.
        """
        with contextlib.suppress(ProcessDiedError):
            with self.surgery() as surgery:
                surgery.exit(status, deadline)
        if self.end is None:
            raise InternalError(f"process {self.pid} did not exit")
        return self.end

    def rewind_syscall(self) -> bool:
        """See ``instar.process.parking.rewind_syscall``."""
        from instar.process.parking import rewind_syscall

        return rewind_syscall(self)


def wait_any(tracees: Iterable[Tracee], deadline: Deadline) -> tuple[Tracee, Stop]:
    """The first stop or end among several running tracees."""
    running = [tracee for tracee in tracees if tracee.stop is None]
    if not running:
        raise InternalError("no running process to wait for")
    pause = Pause(deadline, "a stop of processes " + ", ".join(str(tracee.pid) for tracee in running))
    while True:
        for tracee in running:
            stop = tracee.poll()
            if stop is not None:
                return tracee, stop
        pause.sleep()


def _has_seccomp_filter(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return False
    return any(line.startswith("Seccomp:") and line.split()[1] != "0" for line in text.splitlines())
