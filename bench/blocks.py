"""Blocks of 64 bytes in lists and a hash table: the pause against the floor, and how it grows."""

from __future__ import annotations

from collections.abc import Iterator

from bench.measure import Row, floor, peak_row, program, resident, store, update

_LIMIT = 3.0


def run(*, quick: bool) -> Iterator[Row]:
    most = 100_000 if quick else 1_000_000
    for percent in (0, 50, 100):
        yield from _measure(most, percent)
    previous: Row | None = None
    for count in (10_000, 100_000, 1_000_000):
        if count > most:
            break
        row = _measure(count, 100)[0]
        if previous is not None:
            yield Row(
                f"pause of {count:,} changed blocks", row.value, "ms", previous.value * 10, "10 x a tenth",
                1.0, "grows no faster than linearly",
            )  # fmt: skip
        previous = row


def _measure(count: int, percent: int) -> tuple[Row, Row]:
    """The pause, and the memory that it took."""
    with store("blocks", f"{count} {percent}") as one:
        state, before = resident(one.pid), one.ask("sum")
        done = update(one.pid, program("blocks", 2))
        after, version = one.ask("sum"), one.ask("ping")
        assert after == before, f"the content changed: {before} {after}"
        assert version == "pong 2", version
    phases = ", ".join(f"{p['name']} {p['ms']:.1f}" for p in done.report.get("phases", ()))
    name = f"{count:,} blocks of 64 B, {percent} % changed"
    return Row(name, done.pause, "ms", floor(count * 64), "floor", _LIMIT, phases), peak_row(
        name, done, state
    )
