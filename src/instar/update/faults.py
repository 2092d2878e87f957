"""Fault points for tests: ``INSTAR_FAULT=phase:where:what`` makes this very process misbehave there.

``where`` is before, middle or after; ``what`` is kill (SIGKILL to itself), stop (SIGSTOP; goes on when it is
continued), raise (an unexpected exception), hang, spin (in C, without giving the interpreter back), oom
(MemoryError) or enospc (OSError); kill-ROLE and stop-ROLE are signals to another one.
Without the variable every point is free.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import time

VARIABLE = "INSTAR_FAULT"
#: Process ids of the others that take part: "kill-guard" kills one of them in place of us.
roles: dict[str, int] = {}
_FOREVER_S = 3600.0


class InjectedError(Exception):
    """What "raise" raises; no code catches it by name."""


def reach(phase: str, where: str) -> None:
    """Pass a point of a phase; misbehave if the environment asks for it here."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    parts = wanted.split(":")
    if parts[:2] == [phase, where]:
        _misbehave(parts[2] if len(parts) > 2 else "raise")


def _misbehave(what: str) -> None:
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what.startswith(("kill-", "stop-")):
        name, _, role = what.partition("-")
        os.kill(roles[role], signal.SIGKILL if name == "kill" else signal.SIGSTOP)
        return
    if what == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    if what == "hang":
        time.sleep(_FOREVER_S)
    if what == "spin":
        sum(itertools.repeat(0))
    if what == "oom":
        raise MemoryError("injected")
    if what == "enospc":
        raise OSError(errno.ENOSPC, "injected")
    raise InjectedError(what)
