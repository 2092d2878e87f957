"""The pause of an update with handlers: kept from before it, against run again in it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.measure import Row, program, store, update

_LIMIT = 0.8
_ROUNDS = 3
_KEPT = """\
from instar.ext import Struct, initialize


@initialize("struct record.added")
def added(old: Struct, new: Struct) -> int:
    return int(old.flags) + 1


@added.check
def is_more(old: Struct, new: Struct) -> bool:
    return bool(new.added == old.flags + 1)
"""
_AGAIN = "import time  # so that nobody knows what it depends on\n" + _KEPT


def run(*, quick: bool) -> Iterator[Row]:
    count = 5_000 if quick else 20_000
    with tempfile.TemporaryDirectory() as home:
        kept, again = (_pause(count, Path(home, name), text) for name, text in (("a", _KEPT), ("b", _AGAIN)))
    name = f"{count:,} objects with a handler, none of them written since the pre-copy"
    yield Row(name, kept, "ms", again, "handlers run in the pause", _LIMIT)


def _pause(count: int, handlers: Path, text: str) -> float:
    """Median over several updates, each of a process of its own."""
    handlers.write_text(text)
    return median(_once(count, handlers) for _ in range(_ROUNDS))


def _once(count: int, handlers: Path) -> float:
    with store("blocks", f"{count} 100") as one:
        before = one.ask("sum")
        done = update(one.pid, program("blocks", 2), "--handlers", str(handlers))
        assert one.ask("sum") == before
        return done.pause
