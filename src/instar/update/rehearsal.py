"""A rehearsal: an update up to its validation, after which the future is thrown away and the past goes on.

The future may first be kept for a look at its state. It then has no descriptor any more, so that what
the past closes meanwhile is closed, and it never runs. Its registers are given to `instar inspect`
over an abstract socket, which vanishes with this process as the future does (PTRACE_O_EXITKILL): nothing is
left behind.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Callable

from instar.control.gate import require_no_filter
from instar.process.held import Rendezvous
from instar.process.registers import Registers
from instar.update.driver import Driver
from instar.update.guard import Guard
from instar.update.options import Rehearsal

_LOOK_S = 0.2


def let_past_go(rehearsal: Rehearsal, guard: Guard, driver: Driver) -> None:
    """End the pause; the duplicates of the past's descriptors in this process must be closed already.

    Raises:
        RefusedError: The commit would have refused the future.
    """
    require_no_filter(driver.pid)
    if rehearsal.hold:
        driver.drop_descriptors()
    else:
        driver.abort()
    guard.release()


def keep(rehearsal: Rehearsal, guard: Guard, driver: Driver) -> None:
    """Hold the future for inspection as long as the user wants, while the past serves."""
    if not rehearsal.hold:
        return
    end = None if rehearsal.hold_s is None else time.monotonic() + rehearsal.hold_s
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(Rendezvous(driver.pid)) as rendezvous:
        rehearsal.announce(driver.pid)
        _serve(rendezvous, driver.registers(), end, lambda: guard.is_alive() and driver.is_alive())


def _serve(
    rendezvous: Rendezvous, registers: Registers, end: float | None, goes_on: Callable[[], bool]
) -> None:
    """Answer until the time is over, a line comes in, or one of the two processes has ended."""
    waited: list[socket.socket | int] = [rendezvous.socket, *_input()]
    while goes_on() and (end is None or time.monotonic() < end):
        ready, _, _ = select.select(waited, [], [], _LOOK_S)
        for one in ready:
            if isinstance(one, socket.socket):
                rendezvous.answer(registers)
            elif b"\n" in (said := _read(one)):
                return
            elif not said:
                waited.remove(one)  # nobody can ever say a line there


def _input() -> list[int]:
    try:
        return [sys.stdin.fileno()]
    except (AttributeError, OSError, ValueError):
        return []


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 12)
    except OSError:
        return b""
