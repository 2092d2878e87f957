"""Questions that only the past itself can ask the kernel: its timers, and what it does at signals.

The held past makes the system calls; afterwards it stands as before. Nothing but these three can be asked.
"""

from __future__ import annotations

import os
import signal as signals

from instar.errors import FaultError, InternalError
from instar.guard import reach
from instar.process import ptrace
from instar.process.deadline import Deadline
from instar.process.registers import DIRECTION_FLAG, MASK, TRAP_FLAG, Registers
from instar.process.resting import RED_ZONE, RESTARTS
from instar.process.thread import How, Stop, Thread

_ROOM = 32
_STEP_S = 2.0
_SIGSTOP = int(signals.SIGSTOP)
#: Question -> number of the call and its arguments; "%" the value asked for, "@" where the answer goes.
QUESTIONS = {"itimer": (36, "%@"), "timer": (224, "%@"), "action": (13, "%0@8")}
_TOUCH = (14, "00@8")  # rt_sigprocmask(SIG_BLOCK, NULL, room, 8): makes the stack grow


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

    def ask(self, question: str, value: int) -> bytes:
        """The kernel's answer; raises KeyError for another question, OSError when the call failed."""
        number, shape = QUESTIONS[question]
        try:
            reach.write(self._thread.pid, self._room, bytes(_ROOM))
        except FaultError:
            self._call(*_TOUCH, value)
        result = self._call(number, shape, value)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return reach.read(self._thread.pid, self._room, _ROOM)

    def _call(self, number: int, shape: str, value: int) -> int:
        meaning = {"%": value, "@": self._room, "0": 0, "8": 8}
        arguments = [meaning[sign] for sign in shape.ljust(4, "0")]
        names = dict(zip(("rdi", "rsi", "rdx", "r10"), arguments, strict=True))
        gate = self._registers.rip - 2
        target: Registers = self._registers.copy(rip=gate, rax=number, orig_rax=-1, **names)
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
            stop = thread.wait(Deadline(_STEP_S))
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
        thread.request(ptrace.interrupt)
        self._next("cont", "event")
        thread.set_registers(self._registers)
        thread.set_signal_mask(self._mask)
        thread.resume_filter()
        if self._stopped:
            os.kill(thread.pid, _SIGSTOP)
