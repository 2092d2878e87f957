"""Questions that only the past itself can ask the kernel: its timers, and what it does at signals.

The held past makes the system calls; afterwards it stands as before.
"""

from __future__ import annotations

import os
import signal as signals

from instar.errors import FaultError, InternalError
from instar.guard import reach
from instar.process import ptrace
from instar.process.registers import DIRECTION_FLAG, MASK, SYSCALL_ARGUMENTS, TRAP_FLAG
from instar.process.resting import RED_ZONE, RESTARTS
from instar.process.thread import How, Stop, Thread

_ROOM = 32
_STEP_S = 2.0
_SIGSTOP = int(signals.SIGSTOP)
ROOM = 1 << 64  # stands for the address of the room
_TOUCH = (14, [0, 0, ROOM, 8])  # rt_sigprocmask(SIG_BLOCK, NULL, room, 8): makes the stack grow
_TIMERS, _ACTION = (36, 224), 13  # getitimer, timer_gettime; rt_sigaction


def is_question(number: int, arguments: list[int]) -> bool:
    """Whether a call only asks."""
    return number in _TIMERS or (number == _ACTION and arguments[1] == 0)


class Asking:
    """A time during which a held thread asks for us; use as a context manager.

    Args:
        thread: It stands in a system call, or at one's entry is refused.
    """

    def __init__(self, thread: Thread) -> None:
        self._thread, self._stopped = thread, False

    def __enter__(self) -> Asking:
        thread = self._thread
        self._registers, self._mask = thread.registers(), thread.signal_mask()
        if thread.stop is None or thread.stop.event != ptrace.EVENT_STOP or not self._is_in_call():
            raise InternalError(f"process {thread.pid} is not held in a call")
        self._room = (self._registers.rsp - RED_ZONE - _ROOM) & ~63
        thread.suspend_filter()
        thread.set_signal_mask(MASK)
        return self

    def _is_in_call(self) -> bool:
        return self._registers.in_syscall and self._registers.result in RESTARTS

    def call(self, number: int, arguments: list[int], room: bytes) -> tuple[int, bytes]:
        """Make a system call; returns its result and what is then in the room.

        Args:
            number: Of the call.
            arguments: ``ROOM`` stands for the address of the room.
            room: What is in the room before, at most 32 bytes.
        """
        try:
            reach.write(self._thread.pid, self._room, room.ljust(_ROOM, b"\0"))
        except FaultError:
            self._make(*_TOUCH)
            reach.write(self._thread.pid, self._room, room.ljust(_ROOM, b"\0"))
        result = self._make(number, arguments)
        return result, reach.read(self._thread.pid, self._room, _ROOM)

    def _make(self, number: int, arguments: list[int]) -> int:
        values = [self._room if value == ROOM else value for value in arguments]
        names = dict(zip(SYSCALL_ARGUMENTS, values, strict=False))
        target = self._registers.copy(rip=self._registers.rip - 2, rax=number, orig_rax=-1, **names)
        target.eflags &= ~(TRAP_FLAG | DIRECTION_FLAG)
        self._thread.set_registers(target)
        self._next("syscall", "syscall-entry")
        stop = self._next("syscall", "syscall-exit")
        return (stop.syscall and stop.syscall.result) or 0

    def _next(self, how: How, expected: str) -> Stop:
        """To the next stop of a kind; SIGSTOP, which no mask holds back, is put aside."""
        thread = self._thread
        while True:
            thread.resume(how)
            stop = thread.await_stop(_STEP_S)
            if stop is None:
                raise InternalError(f"process {thread.pid} does not come to a stop")
            if stop.ended:
                raise thread.died(stop)
            if stop.kind == expected:
                return stop
            if stop.kind == "signal" and stop.signal == _SIGSTOP:
                self._stopped = True
            elif expected != "event":
                raise InternalError(f"process {thread.pid}: {stop.kind} in place of {expected}")

    def __exit__(self, *_: object) -> None:
        thread = self._thread
        if thread.end is not None:
            return
        thread.request_stop()
        self._next("cont", "event")
        thread.set_registers(self._registers)
        thread.set_signal_mask(self._mask)
        thread.resume_filter()
        if self._stopped:
            os.kill(thread.pid, _SIGSTOP)
