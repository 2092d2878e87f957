"""Blocks of 64 bytes in lists and a hash table: the pause against the floor, and how it grows; the memory."""

from __future__ import annotations

from collections.abc import Iterator

from bench.measure import Row, best_and_median, floor, peak_row, program, store, update

_LIMIT = 3.0
_ROUNDS = 3


def run(*, quick: bool) -> Iterator[Row]:
    most = 100_000 if quick else 1_000_000
    for percent in (0, 50, 100):
        name = f"{most:,} blocks of 64 B, {percent} % changed"
        pauses = [_pause(most, percent) for _ in range(_ROUNDS)]
        yield from best_and_median(name, pauses, floor(most * 64), "floor", _LIMIT)
        with store("blocks", f"{most} {percent}") as one:
            yield peak_row(name, one, program("blocks", 2))
    previous: float | None = None
    for count in (10_000, 100_000, 1_000_000):
        if count > most:
            break
        pause = min(_pause(count, 100) for _ in range(_ROUNDS))
        if previous is not None:
            yield Row(
                f"pause of {count:,} changed blocks", pause, "ms", previous * 10, "10 x a tenth",
                1.0, "grows no faster than linearly; best of three",
            )  # fmt: skip
        previous = pause


def _pause(count: int, percent: int) -> float:
    with store("blocks", f"{count} {percent}") as one:
        before = one.ask("sum")
        done = update(one.pid, program("blocks", 2))
        after, version = one.ask("sum"), one.ask("ping")
        assert after == before, f"the content changed: {before} {after}"
        assert version == "pong 2", version
    return done.pause
