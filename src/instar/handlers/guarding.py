"""Runs code of the user inside bounds: time, memory, standard output, and the ways to end the process.

That is about mistakes, not about malice: that is what the process without rights is for in which they run.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

TIME_S = 5.0
ROOM = 4 << 30
_GRACE_S = 3.0
_KILL = os.kill  # handlers find another one there


class HandlerTimeoutError(BaseException):
    """Handlers take too long. No Exception, so that ``except Exception`` of a handler does not catch it."""


class HandlerExitError(BaseException):
    """A handler tried to end the process."""


@contextmanager
def bounded(seconds: float = TIME_S, room: int = ROOM) -> Iterator[None]:
    """Inside, code may take some time and some memory, prints to standard error, and cannot end the process.

    Raises:
        HandlerTimeoutError, HandlerExitError, MemoryError: From inside.
    """
    with ExitStack() as stack:
        stack.enter_context(_limited_memory(room))
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        stack.enter_context(_no_exit())
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(_limited_time(seconds))
        yield


@contextmanager
def _limited_time(seconds: float) -> Iterator[None]:
    """An alarm; one that was set already (the end of the pause) is not put off."""
    outer, _ = signal.getitimer(signal.ITIMER_REAL)
    if 0 < outer <= seconds:
        yield
        return

    def alarm(_signal: int, _frame: FrameType | None) -> None:
        raise HandlerTimeoutError(f"handlers have run for {seconds:g} s")

    started = time.monotonic()
    over = threading.Event()
    previous = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    threading.Thread(target=_end_unless, args=(over, seconds), daemon=True).start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        over.set()
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - started), 0.001))


def _end_unless(over: threading.Event, seconds: float) -> None:
    """A loop in C, or a handler that catches everything: this process ends, and the old version goes on."""
    if not over.wait(seconds + _GRACE_S):
        print(
            "instar: a handler does not end: giving up, the old version goes on", file=sys.stderr, flush=True
        )
        _KILL(os.getpid(), signal.SIGKILL)


@contextmanager
def _limited_memory(room: int) -> Iterator[None]:
    """Address space for what there is and ``room`` more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    present = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    wanted = present + room
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([wanted, *known]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _no_exit() -> Iterator[None]:
    def refuse(*_: object) -> NoReturn:
        raise HandlerExitError("it tried to end the process")

    names = ("_exit", "abort", "fork", "forkpty", "execv", "execve", "posix_spawn", "kill", "killpg")
    saved = {name: getattr(os, name) for name in names}
    for name in names:
        setattr(os, name, refuse)
    try:
        yield
    finally:
        for name, function in saved.items():
            setattr(os, name, function)
