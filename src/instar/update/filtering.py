"""Waits for the state filters of ``instar.toml``: the past is held for a look only and goes on in between."""

from __future__ import annotations

import time
from collections.abc import Callable

from instar.errors import RefusedError
from instar.process.deadline import Deadline
from instar.update.guard import Guard

_FIRST_S, _LAST_S = 0.002, 0.1
_TRIES = 20

Unmet = Callable[[], list[str]]


def await_filters(guard: Guard, deadline: Deadline, unmet: Unmet) -> None:
    """Return when the filters have held once; the past runs then.

    Raises:
        RefusedError: "filter-not-met" when they do not within the deadline.
    """
    wait_s = _FIRST_S
    left: list[str] = []
    while True:
        try:
            guard.hold(deadline)
        except RefusedError as error:
            if left and error.code == "quiescence-timeout":  # there was hardly time for this look
                raise _not_met(left) from error
            raise
        try:
            left = unmet()
        finally:
            guard.release()
        if not left:
            return
        if deadline.remaining() <= wait_s:
            raise _not_met(left)
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, _LAST_S)


def hold_filtered(guard: Guard, deadline: Deadline, unmet: Unmet) -> None:
    """Have the past, which is held, held at a moment at which the filters hold.

    Raises:
        RefusedError: "filter-not-met" when they do not within a few tries.
    """
    for _ in range(_TRIES):
        left = unmet()
        if not left:
            return
        guard.release()
        time.sleep(_FIRST_S)
        guard.hold(deadline)
    raise _not_met(left)


def require_met(left: list[str]) -> None:
    """Refuse a past that will never be another, such as a core file, when filters do not hold."""
    if left:
        raise _not_met(left)


def _not_met(left: list[str]) -> RefusedError:
    return RefusedError(
        "filter-not-met",
        f"the state never let the update happen: {left[0]}",
        "try again at a quieter time, allow more with --timeout, or change the filter",
        details=tuple(left[1:]),
    )
