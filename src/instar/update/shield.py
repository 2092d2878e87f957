"""Signals that would end this process are put off while it must not be ended."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def shielded() -> Iterator[list[int]]:
    """Inside, Ctrl-C and the like are only noted, in the list; where somebody undoes, they change nothing."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    previous = {}
    try:
        for number in _SIGNALS:
            if callable(signal.getsignal(number)):
                previous[number] = signal.signal(number, note)
    except ValueError:  # not the main thread: signals are somebody else's there
        previous = {}
    try:
        yield came
    finally:
        for number, handler in previous.items():
            if signal.getsignal(number) is note:
                signal.signal(number, handler)


def ignore_from_now_on() -> None:
    """It is done: ending this process early would only hide that."""
    try:
        for number in _SIGNALS:
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_IGN)
    except ValueError:
        return
