"""Bounds the pause, whatever hangs: first an exception in the main thread, then this process ends itself.

While the past is held, code of ours runs: kernels, system calls. When the pause exceeds its limit an
exception is raised in the main thread, and everything is rolled back. Should even that not help (a loop in a
kernel), the process kills itself: the kernel then ends the future (EXITKILL) and lets the past go on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from instar.errors import RolledBackError

_GRACE_S = 2.0


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
    previous = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, limit_ms / 1000)
    last_resort.start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        over.set()


def _end_unless(over: threading.Event, limit_ms: float) -> None:
    """Kill this process when the pause is not over in time."""
    if over.wait(limit_ms / 1000 + _GRACE_S):
        return
    print("instar: the pause does not end: giving up, the old version goes on", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
