"""The pause with and without transfer back and compare: what being sure costs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from bench.measure import Row, program, store, update

_LIMIT = 1.8  # the pause without it, and at most 0.8 of that for validation
_ROUNDS = 5


def run(*, quick: bool) -> Iterator[Row]:
    count = 100_000 if quick else 1_000_000
    for percent in (0, 50, 100):
        plain = _pause(count, percent, validate=False)
        sure = _pause(count, percent, validate=True)
        yield Row(
            f"{count:,} blocks, {percent} % changed, validated", sure, "ms", plain,
            "without validation", _LIMIT,
        )  # fmt: skip


def _pause(count: int, percent: int, *, validate: bool) -> float:
    """Median over several updates, each of a process of its own."""
    return median(_once(count, percent, validate=validate) for _ in range(_ROUNDS))


def _once(count: int, percent: int, *, validate: bool) -> float:
    with switched(validate), store("blocks", f"{count} {percent}") as one:
        before = one.ask("sum")
        done = update(one.pid, program("blocks", 2))
        assert one.ask("sum") == before
        return done.pause


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Validation on or off for updates started inside."""
    kept = os.environ.get("INSTAR_VALIDATE")
    os.environ["INSTAR_VALIDATE"] = "1" if on else "0"
    try:
        yield
    finally:
        if kept is None:
            del os.environ["INSTAR_VALIDATE"]
        else:
            os.environ["INSTAR_VALIDATE"] = kept
