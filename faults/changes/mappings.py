"""Wrong mappings and targets: what the kernels are told about where things go and how they change."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from faults.changes import Array, Change


def _some(rng: random.Random, count: int) -> int | None:
    return rng.randrange(count) if count else None


def move(field: str, change: Callable[[random.Random, int], int]) -> Change:
    """One field of one move."""

    def spoil(rng: random.Random, columns: dict[str, Array]) -> str | None:
        row = _some(rng, len(columns["moves"]))
        if row is None:
            return None
        before = int(columns["moves"][field][row])
        after = max(change(rng, before), 0)
        columns["moves"][field][row] = after
        return f"{field} of move {row}: {before} became {after}"

    return spoil


def beside(rng: random.Random, value: int) -> int:
    return value + rng.choice((1, -1, 4, -4, 8, -8, 16))


def by_one(rng: random.Random, value: int) -> int:
    return value + rng.choice((1, -1))


def other_width(rng: random.Random, value: int) -> int:
    return rng.choice([size for size in (1, 2, 4, 8) if size != value])


def lost_move(rng: random.Random, columns: dict[str, Array]) -> str | None:
    row = _some(rng, len(columns["moves"]))
    if row is None:
        return None
    for field in ("op", "old_size", "new_size", "flags"):
        columns["moves"][field][row] = 0
    return f"move {row} is lost"


def doubled_move(rng: random.Random, columns: dict[str, Array]) -> str | None:
    moves = columns["moves"]
    if len(moves) < 2:
        return None
    row = rng.randrange(len(moves) - 1)
    moves[row + 1] = moves[row]
    moves["new_offset"][row + 1] += rng.choice((4, 8))
    return f"move {row} once more instead of the next"


def mapping_size(rng: random.Random, columns: dict[str, Array]) -> str | None:
    row = _some(rng, len(columns["mappings"]))
    if row is None:
        return None
    field = rng.choice(("old_size", "new_size"))
    columns["mappings"][field][row] += np.uint64(8)
    return f"{field} of mapping {row}: 8 more"


def fewer_moves(rng: random.Random, columns: dict[str, Array]) -> str | None:
    row = _some(rng, len(columns["mappings"]))
    if row is None or not columns["mappings"]["move_count"][row]:
        return None
    columns["mappings"]["move_count"][row] -= 1
    return f"the last move of mapping {row}"


# Targets --------------------------------------------------------------------------------------------------


def _paired(rows: Array) -> list[int]:
    return [int(i) for i in np.flatnonzero((rows["new_start"] != 0) & (rows["kind"] <= 3))]


def other_target(rng: random.Random, rows: Array) -> str | None:
    found = _paired(rows)
    if len(found) < 2:
        return None
    one = rng.choice(found)
    same = [row for row in found if row != one and rows["kind"][row] == rows["kind"][one]]
    if not same:
        return None
    other = rng.choice(same)
    rows["new_start"][one] = rows["new_start"][other]
    return f"{int(rows['start'][one]):#x} goes where {int(rows['start'][other]):#x} goes"


def stale_target(rng: random.Random, rows: Array) -> str | None:
    found = [row for row in _paired(rows) if rows["new_start"][row] != rows["start"][row]]
    if not found:
        return None
    row = rng.choice(found)
    rows["new_start"][row] = rows["start"][row]
    return f"{int(rows['start'][row]):#x} stays"


def far_target(rng: random.Random, rows: Array) -> str | None:
    found = _paired(rows)
    if not found:
        return None
    row = rng.choice(found)
    rows["new_start"][row] += np.uint64(rng.choice((1, 8, 16)))
    return f"{int(rows['start'][row]):#x} goes too far"
