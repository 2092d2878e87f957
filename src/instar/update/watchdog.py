"""Bounds an update and its pause, whatever hangs: first an exception in the main thread, then a kill.

While the past is held, code of ours runs: kernels, system calls. When the pause exceeds its limit an
exception is raised in the main thread, and everything is rolled back. Should even that not help (a loop in a
kernel), the process kills itself: the kernel then ends the future (EXITKILL) and lets the past go on. Should
the interpreter itself be stuck, the kernel kills it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from instar.errors import RolledBackError
from instar.process.deadline import Deadline, DeadlineError
from instar.process.last_resort import LastResort

_GRACE_S = 2.0
_STUCK_S = 3.0  # more, for the thread that says why
_LATE_S = 1.0  # after --timeout: waits that know it have given up by then


class PauseTooLongError(RolledBackError):
    """The pause has reached its limit."""

    def __init__(self, limit_ms: float) -> None:
        super().__init__(
            "pause-too-long",
            f"the pause would exceed {limit_ms:g} ms",
            "allow a longer one with --max-pause",
        )


@contextmanager
def bounded_pause(limit_ms: float) -> Iterator[None]:
    """Inside, the pause may take ``limit_ms``; must be entered in the main thread.

    Raises:
        PauseTooLongError: From wherever the main thread is.
    """

    def alarm(_signal: int, _frame: FrameType | None) -> None:
        raise PauseTooLongError(limit_ms)

    over = threading.Event()
    last_resort = threading.Thread(target=_end_unless, args=(over, limit_ms), daemon=True)
    stuck = LastResort()
    last_resort.start()
    previous = signal.signal(signal.SIGALRM, alarm)
    try:
        stuck.set(limit_ms / 1000 + _GRACE_S + _STUCK_S)
        signal.setitimer(signal.ITIMER_REAL, limit_ms / 1000)
        yield
    finally:
        stuck.set(0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        over.set()


def _end_unless(over: threading.Event, limit_ms: float) -> None:
    """Kill this process when the pause is not over in time."""
    if over.wait(limit_ms / 1000 + _GRACE_S):
        return
    print("instar: the pause does not end: giving up, the old version goes on", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


class WorkTooLongError(DeadlineError):
    """The whole update has taken longer than it may, in work that looks at no deadline itself."""

    def __init__(self) -> None:
        super().__init__("the update", 0)
        self.cause = "the update: not within --timeout"


@contextmanager
def bounded_work(deadline: Deadline, is_over: Callable[[], bool]) -> Iterator[None]:
    """Inside, the main thread may work until a moment after the deadline; what waits looks at it itself.

    An exception raised from another thread reaches a loop of Python's; what is in a kernel or in the system
    does not see it, and ends with this process.

    Args:
        deadline: Of the whole update.
        is_over: Whether a version serves for good; then nothing is bounded any more.

    Raises:
        WorkTooLongError: From wherever the main thread is.
    """
    if deadline.remaining() > threading.TIMEOUT_MAX / 2:
        yield
        return
    over, lock, main = threading.Event(), threading.Lock(), threading.get_ident()
    stuck = LastResort()

    def watch() -> None:
        if over.wait(deadline.remaining() + _LATE_S):
            return
        with lock:
            if over.is_set() or is_over():
                stuck.set(0)
                return
            _raise_in(main, WorkTooLongError)
        if over.wait(_GRACE_S) or is_over():
            stuck.set(0)
            return
        print(
            "instar: the update does not end: giving up, the old version goes on", file=sys.stderr, flush=True
        )
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    stuck.set(deadline.remaining() + _LATE_S + _GRACE_S + _STUCK_S)
    try:
        yield
    finally:
        with lock:
            over.set()
            stuck.set(0)
            _raise_in(main, None)  # one that did not come up yet


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """PyThreadState_SetAsyncExc (Python/C API, "Initialization, finalization, and threads")."""
    given = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), given)
