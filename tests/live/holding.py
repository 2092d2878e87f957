"""A process held in its blocking call by a guard of its own."""

from __future__ import annotations

from instar.guard.client import Past
from instar.process.syscalls import NUMBERS

SOON = 10.0


def hold(pid: int, limit_s: float = 60.0) -> Past:
    """Hold a process that is waiting in a call; ``close`` it in the end."""
    past = Past(pid)
    try:
        past.connect()
        past.seize(limit_s)
        past.stop(SOON)
        past.step(SOON, NUMBERS.values())
        past.hold(limit_s)
    except BaseException:
        past.close()
        raise
    return past
