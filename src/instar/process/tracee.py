"""A traced thread that is driven: started, stepped, and made to work for us (ptrace(2))."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal as signals
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from instar.errors import InternalError
from instar.process import ptrace
from instar.process.deadline import Deadline, DeadlineError
from instar.process.failures import ProcessDiedError, explain_absence, explain_seize
from instar.process.memory import Memory
from instar.process.ptrace_state import (
    SignalInfo,
    get_event_message,
    get_siginfo,
    parse_siginfo,
    set_extended_state,
)
from instar.process.resting import rewind
from instar.process.thread import WATCH as WATCH
from instar.process.thread import How as How
from instar.process.thread import Stop as Stop
from instar.process.thread import StopKind as StopKind
from instar.process.thread import Syscall as Syscall
from instar.process.thread import Thread
from instar.process.waiting import Pause as Pause

if TYPE_CHECKING:
    from instar.process.injection import Surgery
    from instar.process.launch import Preparation

_SIGKILL = int(signals.SIGKILL)

FOLLOW = WATCH | ptrace.O_TRACEFORK | ptrace.O_TRACEVFORK | ptrace.O_TRACECLONE | ptrace.O_TRACEEXIT

_TIMER_SLACK = 29
_libc = ctypes.CDLL(None, use_errno=True)


class Tracee(Thread):
    """A seized thread with its memory, and what can be done to one that is ours to drive."""

    def __init__(self, pid: int, options: int) -> None:
        super().__init__(pid, options)
        self.memory = Memory(pid)
        self.gadget = 0
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
        """See Thread; one that runs is stopped first (within a second; else it stays traced until we end)."""
        if self.end is None and (self.stop is not None or not self.interrupt(Deadline(1.0)).ended):
            super().detach(signal)

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

    def wait(self, deadline: Deadline) -> Stop:
        """The next stop or the end; raises DeadlineError (the thread runs on, traced)."""
        if self.end is not None:
            return self.end
        if self.stop is not None:
            raise InternalError(f"process {self.pid} is waited for while it stands")
        pause = Pause(deadline, f"a stop of process {self.pid}")
        while (stop := self.poll()) is None:
            pause.sleep()
        return stop

    def interrupt(self, deadline: Deadline) -> Stop:
        """Stop the thread wherever it is; returns the stop it came to, which may be another one (or the end).

        A thread that stands already stays as it is. Raises DeadlineError for a thread that is stuck in the
        kernel; it then stops when it leaves, and the next ``wait`` reports it.
        """
        if self.end is not None or self.stop is not None:
            return self.end or self.stop or Stop("killed")
        self.request_stop()
        return self.wait(deadline)

    def _describe(self, signal: int, event: int) -> Stop:
        if event == ptrace.EVENT_EXEC:
            self.gadget = 0
        stop = super()._describe(signal, event)
        if stop.kind != "event" or event == ptrace.EVENT_STOP:
            return stop
        return stop._replace(message=get_event_message(self.pid))

    def run_until_syscall(self, deadline: Deadline) -> Stop:
        """Run to the next stop that is not a signal (which is delivered), usually of a system call."""
        signal = 0
        while True:
            self.resume("syscall", signal)
            stop = self.wait(deadline)
            if stop.kind != "signal":
                return stop
            signal = stop.signal

    # ------------------------------------------------------------------------------------ state at a stop

    def siginfo(self) -> SignalInfo:
        """Who sent the signal of the present signal stop, and why."""
        return self.request(get_siginfo)

    def pending_signals(self) -> list[SignalInfo]:
        """The signals queued for the thread, then those queued for the process."""
        own = self.request(ptrace.peek_signals, False)
        return [parse_siginfo(raw) for raw in own + self.request(ptrace.peek_signals, True)]

    def extended_state(self) -> bytes:
        """The XSAVE area: x87, SSE, AVX and later registers."""
        return self.request(ptrace.get_extended_state)

    def set_extended_state(self, state: bytes) -> None:
        """Put an XSAVE area back."""
        self.request(set_extended_state, state)

    def _lost(self, error: OSError) -> Exception:
        if error.errno != errno.ESRCH:
            return error
        if self.end is None:
            pause = Pause(Deadline(1.0), "the end")
            while (stop := self.poll()) is None or not stop.ended:
                if stop is not None:
                    self._resume(ptrace.CONT, 0)
                try:
                    pause.sleep()
                except DeadlineError:
                    return InternalError(f"process {self.pid} is used while it runs, or by another thread")
        assert self.end is not None
        return self.died(self.end)

    # ------------------------------------------------------------------------------------ surgery

    def died(self, stop: Stop) -> ProcessDiedError:
        """The error for an end that the caller cannot use."""
        return ProcessDiedError(self.pid, stop.status if stop.kind == "exited" else -stop.signal)

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
        """See ``instar.process.resting.rewind``."""
        return rewind(self)


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
