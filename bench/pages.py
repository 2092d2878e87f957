"""One gigabyte in blocks of 4 KB of unchanged type: the pause, and the memory that the tool needs."""

from __future__ import annotations

from collections.abc import Iterator

from bench.measure import Row, floor, peak_row, program, resident, store, update


def run(*, quick: bool) -> Iterator[Row]:
    megabytes = 128 if quick else 1024
    with store("pages", str(megabytes)) as one:
        state, before = resident(one.pid), one.ask("sum")
        done = update(one.pid, program("pages", 2))
        assert one.ask("sum") == before
        assert one.ask("ping") == "pong 2"
    size = megabytes << 20
    yield Row(f"{megabytes:,} MB in 4 KB blocks, unchanged", done.pause, "ms", floor(size), "floor", 2.0)
    yield peak_row(f"{megabytes:,} MB in 4 KB blocks", done, state)
