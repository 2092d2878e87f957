"""One gigabyte in blocks of 4 KB of unchanged type: the pause, and the memory that the tool needs."""

from __future__ import annotations

from collections.abc import Iterator

from bench.measure import Row, best_and_median, floor, peak_row, program, store, update

_ROUNDS = 3


def run(*, quick: bool) -> Iterator[Row]:
    megabytes = 128 if quick else 1024
    pauses = [_pause(megabytes) for _ in range(_ROUNDS)]
    name = f"{megabytes:,} MB in 4 KB blocks, unchanged"
    yield from best_and_median(name, pauses, floor(megabytes << 20), "floor", 2.0)
    with store("pages", str(megabytes)) as one:
        yield peak_row(name, one, program("pages", 2))


def _pause(megabytes: int) -> float:
    with store("pages", str(megabytes)) as one:
        before = one.ask("sum")
        done = update(one.pid, program("pages", 2))
        assert one.ask("sum") == before
        assert one.ask("ping") == "pong 2"
    return done.pause
