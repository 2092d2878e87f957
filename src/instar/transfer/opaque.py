"""Blocks without a type that may hold one which changes: they would stay as they are, and be misread.

Their words decide: a block whose pointers lead exactly where those of the type do is refused; one that the
type cannot explain is something else; where no pointer says anything, there is a warning. Pure.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np

from instar.metadata.distinct import distinct
from instar.state.columns import KernelType, ObjectFlag, SlotKind, claim_types
from instar.state.kernel import State

Array = np.ndarray[Any, np.dtype[Any]]

_PAGE, _SLACK = 4096, 31
_LOOKED_AT = 512
_TOP = (1 << 64) - _PAGE


class Likeness(Enum):
    """How far a block's words are those of a type."""

    OTHER = 0
    POSSIBLE = 1
    CONFIRMED = 2


class Opaque:
    """The blocks that nothing types, by size.

    Args:
        state: Typed.
        heap: Mask of the blocks that are carried.
    """

    def __init__(self, state: State, heap: Array) -> None:
        objects = state.objects
        opaque = heap & (objects["type"] < 0) & (claim_types(objects) < 0)
        opaque &= (objects["flags"] & ObjectFlag.BYTES) == 0
        self._rows = np.flatnonzero(opaque)
        self._sizes = objects["size"][self._rows]
        self._distinct = distinct(self._sizes)

    def candidates(self, size: int) -> Array:
        """Rows of the blocks that are as large as one object, or several, of a size."""
        fits = (self._distinct >= size) & (self._distinct % np.uint64(size) <= _SLACK)
        if not fits.any():
            return self._rows[:0]
        found: Array = self._rows[np.isin(self._sizes, self._distinct[fits])]
        return found


def compare(state: State, rows: Array, kind: int) -> tuple[list[int], list[int]]:
    """Which of some blocks are confirmed to hold a type, and which may: (confirmed, possible).

    Where there are more than 512, blocks all over the heap are looked at.
    """
    confirmed: list[int] = []
    possible: list[int] = []
    step = max(len(rows) // _LOOKED_AT, 1)
    for row in rows[::step].tolist():
        likeness = _likeness(state, row, kind)
        if likeness is Likeness.CONFIRMED:
            confirmed.append(row)
        elif likeness is Likeness.POSSIBLE:
            possible.append(row)
    size = int(state.table.types[kind]["size"])
    once = [row for row in possible if int(state.objects["size"][row]) <= size + _SLACK]
    return confirmed, once


def _likeness(state: State, row: int, kind: int) -> Likeness:
    entry = state.table.types[kind]
    data = state.bytes_at(int(state.objects["address"][row]), int(state.objects["size"][row]))
    slots = state.table.slots[entry["first_slot"] : entry["first_slot"] + entry["slot_count"]]
    result = Likeness.POSSIBLE
    for slot in slots if data is not None else ():
        for index in range(min(int(slot["count"]), 16)):
            at = int(slot["offset"]) + index * int(slot["stride"])
            word = int.from_bytes((data or b"")[at : at + 8], "little")
            found = _slot_likeness(state, slot, word)
            if found is Likeness.OTHER:
                return found
            result = found if found is Likeness.CONFIRMED else result
    return result


def _slot_likeness(state: State, slot: Any, word: int) -> Likeness:
    """What the word in a pointer slot of the type says."""
    kind = SlotKind(int(slot["kind"]))
    if kind is SlotKind.UNION or word < _PAGE or word >= _TOP:
        return Likeness.POSSIBLE
    target = state.find(word)
    if kind is SlotKind.FUNCTION:
        return Likeness.POSSIBLE if target is None and not word >> 47 else Likeness.OTHER
    if target is None:
        return Likeness.POSSIBLE if not word >> 47 else Likeness.OTHER  # a constant, or dangling
    entry, pointee = state.objects[target], int(slot["pointee"])
    if pointee < 0 or int(entry["address"]) != word:
        return Likeness.POSSIBLE
    if state.table.types[pointee]["kind"] == KernelType.BYTES:
        return Likeness.CONFIRMED if entry["flags"] & ObjectFlag.BYTES else Likeness.POSSIBLE
    if entry["type"] < 0:
        rest = int(entry["size"]) - int(state.table.types[pointee]["size"])
        return Likeness.CONFIRMED if 0 <= rest <= _SLACK else Likeness.POSSIBLE
    return Likeness.CONFIRMED if _begins_with(state, int(entry["type"]), pointee) else Likeness.OTHER


def _begins_with(state: State, outer: int, inner: int) -> bool:
    """Whether something of a type lies at the start of another one."""
    while outer >= 0 and outer != inner:
        outer = int(state.table.types[outer]["inner"])
    return outer == inner
