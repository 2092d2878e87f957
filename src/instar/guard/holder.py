"""Holds one process: stops it, brings it to a call, lets it go as if nothing had been, or ends it.

Every method leaves the process so that the kernel can let it go on at any moment: should we die, a call that
was broken off is made again, and no signal is lost. Nothing is decided here, and no order of calls, however
foolish, does the process harm: what does not fit its state is refused.
"""

from __future__ import annotations

import math
import time

from instar.errors import HostError, InternalError
from instar.guard import reach
from instar.guard.asking import Asking, is_question
from instar.process import ptrace
from instar.process.registers import MASK
from instar.process.resting import Rest, restart_code, rewind, set_time_left
from instar.process.thread import WATCH, Stop, Thread

_STOP_S = 2.0
_EXIT_GROUP = 231


class Holder:
    """Holds process ``pid``: in the guard, or in a test."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._thread: Thread | None = None
        self._rest: Rest | None = None
        self._limit = math.inf
        self._entries = 0
        self._held = self._final = self._staked = False

    # ------------------------------------------------------------------------------------ beginning and end

    def seize(self, limit_s: float) -> None:
        """Trace it, for so long at most (``left``); raises OSError."""
        if self._thread is None:
            ptrace.seize(self.pid, WATCH)  # without EXITKILL: it outlives us
            self._thread, self._held, self._final = Thread(self.pid, WATCH), False, False
            self._rest = None
        self._limit = time.monotonic() + limit_s

    def left(self) -> float | None:
        """Seconds until it must be let go; None while it is free or beyond return."""
        if self._thread is None or self._final or self._staked:
            return None
        return max(0.0, self._limit - time.monotonic())

    def release(self) -> None:
        """Let it go as if nothing had been: no EINTR, no lost signal or time; harmless when it is free."""
        thread = self._thread
        if thread is None or self._staked:
            return
        try:
            if not self._final and thread.end is None:
                self._stand()
            thread.detach(_due(thread))
        finally:
            self._thread, self._held = None, False

    def _stand(self) -> None:
        """From wherever it is to a stop at which it can be let go unnoticed."""
        thread = self.thread
        if thread.stop is not None and thread.stop.entry:
            try:
                self._hold_in_call()
            except HostError:  # its filter cannot be suspended: let the call begin, then stop it inside
                thread.resume("cont")
        if thread.stop is None:
            self.stop(_STOP_S)
        self._wake()

    @property
    def thread(self) -> Thread:
        """The traced thread; raises InternalError when it is free or beyond return."""
        if self._thread is None or self._final:
            raise InternalError(f"process {self.pid} is not held")
        return self._thread

    def _required(self) -> Thread:
        if not self._held or self.thread.stop is None or self.thread.end is not None:
            raise InternalError(f"process {self.pid} is not held in a call")
        return self.thread

    # ------------------------------------------------------------------------------------ steps

    def stop(self, seconds: float) -> Stop | None:
        """Stop it wherever it is, its call is made again afterwards; None: it has not stopped in time.

        ``message`` of the stop: how often it was stopped for that.
        """
        thread, stops = self.thread, 1
        ran, self._held = thread.stop is None, False
        if ran:
            thread.request_stop()
        stop = thread.await_stop(seconds)
        if ran and stop is not None and stop.exit:
            # Traced call by call it shows this instead; only inside get_signal can the call be made again.
            thread.request_stop()
            thread.resume("cont")
            stop, stops = thread.await_stop(seconds), 2
        self._entries, self._rest = 0, None
        self._wake()
        return stop and stop._replace(message=stops)

    def since(self, ends_at_ns: int, argument: int, unit_ns: int) -> None:
        """Tell when the wait ends in which it stands: only the rest of it is left, whenever it goes on."""
        registers = self.thread.registers()
        self._rest = Rest(ends_at_ns, argument, unit_ns, (registers.rip, registers.rsp))
        if not self._held:
            self._wake()

    def step(self, seconds: float, wanted: list[int]) -> Stop | None:
        """Let it run until it is about to make one of the wanted calls, signals delivered; None: not yet."""
        thread, end = self.thread, time.monotonic() + seconds
        self._held = False
        while (left := end - time.monotonic()) > 0:
            if thread.stop is not None and thread.end is None:
                self._wake()
                thread.resume("syscall", _due(thread))
            stop = thread.await_stop(left)
            if stop is None:
                break
            self._entries += stop.entry
            if self._entries > 1:
                self._rest = None  # that wait is over: whatever waits now began anew
            if stop.ended or (stop.entry and stop.syscall is not None and stop.syscall.number in wanted):
                return stop
        return None

    def hold(self, limit_s: float) -> Stop:
        """From the entry of a call to the state of a thread that was stopped while it waited in it.

        ``message`` of the stop: 0 when the rest of its wait is known already (``since``).
        """
        stop = self.thread.stop
        if stop is None or not stop.entry:
            raise InternalError(f"process {self.pid} is not about to make a call")
        self._hold_in_call()
        self._held, self._limit = True, time.monotonic() + limit_s
        return (self.thread.stop or stop)._replace(message=int(self._rest is None))

    def _wake(self) -> None:
        """Set it so that it waits on, however it is let go from here; may be done again and again."""
        thread = self.thread
        if thread.stop is None or thread.end is not None or not rewind(thread) or self._rest is None:
            return
        set_time_left(thread, self._rest, lambda at, data: reach.write(self.pid, at, data))

    def _hold_in_call(self) -> None:
        """However it is let go, it makes the call, unless a signal with a handler has come meanwhile.

        The registers are set at once (number -1 makes the kernel pass over the call and leave rax alone), so
        that there is no moment at which our death would let it see anything but the call itself.
        """
        thread, registers = self.thread, self.thread.registers()
        number = registers.orig_rax
        thread.suspend_filter()  # it would see the number -1
        try:
            thread.set_registers(registers.copy(rip=registers.rip - 2, rax=number, orig_rax=-1))
            thread.run_to("syscall", "syscall-exit")
        finally:
            if thread.end is None:
                thread.resume_filter()
        thread.request_stop()
        thread.run_to("cont", "event")
        registers = thread.registers()
        rest = {"rip": registers.rip + 2, "rax": restart_code(number), "orig_rax": number}
        thread.set_registers(registers.copy(**rest))

    # ------------------------------------------------------------------------------------ questions

    def signals(self, shared: bool, first: int) -> list[str]:
        """``siginfo_t`` of signals queued for its thread, or for all of it, from a place in the queue on."""
        thread = self._thread or self.thread
        return [info.hex() for info in thread.request(ptrace.peek_signals, shared, first)]

    def mask(self) -> int:
        """The signals that it blocks."""
        return self.thread.signal_mask()

    # ------------------------------------------------------------------------------------ its end

    def stake(self, staked: bool) -> None:
        """Make it die with us, because its successor serves (or not any more); it stays where it is."""
        thread = self._required()
        thread.request(ptrace.set_options, thread.options | (ptrace.O_EXITKILL if staked else 0))
        self._staked = staked

    def inject(self, number: int, arguments: list[int], room: bytes) -> tuple[int, bytes]:
        """Have it make a system call that only asks, or any while it is staked and serves nobody."""
        if not self._staked and not is_question(number, arguments):
            raise InternalError(f"process {self.pid} still serves")
        with Asking(self._required()) as asking:
            return asking.call(number, arguments, room)

    def prepare_end(self) -> None:
        """What can fail about its end; changes nothing in it."""
        thread = self._required()
        thread.request(ptrace.set_options, thread.options | ptrace.O_TRACEEXIT)

    def commit_end(self) -> None:
        """The point of no return: from here on it runs its own exit_group(0), even when we are killed."""
        thread = self._required()
        registers = thread.registers()
        self._final, self._staked = True, False
        end = {"rip": registers.rip - 2, "rax": _EXIT_GROUP, "rdi": 0, "orig_rax": -1}
        thread.set_registers(registers.copy(**end))

    def run_end(self, seconds: float) -> None:
        """Let it run into its exit; returns when it has left user space for ever."""
        thread = self._thread
        if thread is None or not self._final:
            raise InternalError(f"process {self.pid} is not to end")
        thread.set_signal_mask(MASK)
        stop = thread.stop
        while stop is None or not (stop.ended or stop.event == ptrace.EVENT_EXIT):
            thread.resume("cont")
            if (stop := thread.await_stop(seconds)) is None:
                raise InternalError(f"process {self.pid} does not end")


def _due(thread: Thread) -> int:
    """The signal of a signal stop, which must not be lost."""
    return thread.stop.signal if thread.stop is not None and thread.stop.kind == "signal" else 0
