"""Objects by type, as they were and as the plan leaves them. Pure: counts columns, reads no process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.state.columns import Fate, ObjectFlag, ObjectKind, Status
from instar.transfer.planner import KIND_NAMES, Planner

Array = np.ndarray[Any, np.dtype[Any]]

UNTYPED, TEXT = "(untyped)", "(text and bytes)"
MOST_TYPES = 1000
_PART = 1 << 16
POINTER_CLASS = {
    Status.NULL: "null",
    Status.SMALL: "number",
    Status.STAY: "unmoved",
    Status.MOVED: "moved",
    Status.LIBRARY: "library",
    Status.DANGLING: "dangling",
    Status.WILD: "wild",
    Status.UNPAIRED: "no-counterpart",
    Status.INSIDE: "odd",
    Status.DROPPED: "dropped-member",
    Status.UNRESOLVED: "unknown-constant",
    Status.AMBIGUOUS: "ambiguous",
}


@dataclass(frozen=True)
class TypeFigures:
    """The carried objects of one type.

    Attributes:
        name: C spelling in the old version; ``UNTYPED`` and ``TEXT`` are blocks without a type.
        new_name: In the new version; None where it has no such type, or nothing of it was carried.
        kind: Where they live (the keys of ``objects`` of the report).
        objects, bytes: In the old version.
        new_objects, new_bytes: What becomes of them in the new one.
        converted: Of them, objects that are laid out anew.
    """

    name: str
    new_name: str | None
    kind: str
    objects: int
    bytes: int
    new_objects: int
    new_bytes: int
    converted: int


def count_types(planner: Planner) -> tuple[TypeFigures, ...]:
    """All types of carried objects, the largest first; behind ``MOST_TYPES`` they are one row, "(others)"."""
    objects, width = planner.state.objects, len(ObjectKind)
    sums = np.zeros((5, (len(planner.state.table.types) + 2) * width))
    for first in range(0, len(objects), _PART):  # at once it would take as much memory as the objects
        sums += _count(objects[first : first + _PART], sums.shape[1])
    found: dict[tuple[str, str | None, str], list[int]] = {}
    for key in np.flatnonzero(sums[0]).tolist():
        names = _names(planner, key // width - 2)
        entry = found.setdefault((*names, KIND_NAMES[ObjectKind(key % width)]), [0] * len(sums))
        for index, column in enumerate(sums):
            entry[index] += int(column[key])
    figures = [
        TypeFigures(name, new if counts[2] else None, kind, *counts)
        for (name, new, kind), counts in found.items()
    ]
    figures.sort(key=lambda one: (-max(one.bytes, one.new_bytes), one.name, one.kind))
    return (*figures[:MOST_TYPES], *_others(figures[MOST_TYPES:]))


def _count(objects: Array, keys: int) -> Array:
    """(5, keys): objects, bytes, new objects, new bytes, converted ones (exact: below 2**53)."""
    live = (objects["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT)) != 0
    rows = objects[live & np.isin(objects["kind"], list(KIND_NAMES))]
    text = (rows["type"] < 0) & ((rows["flags"] & ObjectFlag.BYTES) != 0)
    key = ((rows["type"].astype(np.int64) + 2) - text) * len(ObjectKind) + rows["kind"]
    moved = (rows["fate"] == Fate.MOVE) | ((rows["kind"] != ObjectKind.HEAP) & (rows["out_size"] > 0))
    new_sizes = np.where(moved, rows["out_size"], rows["size"])
    kept = rows["fate"] != Fate.DROP
    converted = kept & (rows["fate"] == Fate.MOVE) & (rows["mapping"] >= 0)
    weights = (None, rows["size"], kept, new_sizes * kept, converted)
    return np.stack([np.bincount(key, one, minlength=keys) for one in weights])


def _names(planner: Planner, row: int) -> tuple[str, str | None]:
    if row < 0:
        name = UNTYPED if row == -1 else TEXT
        return name, name
    pairing = planner.prepared.pool.pairing
    other = pairing.counterpart(row)
    return pairing.label(row), None if other is None else pairing.new_label(other)


def _others(rest: list[TypeFigures]) -> list[TypeFigures]:
    if not rest:
        return []
    columns = ("objects", "bytes", "new_objects", "new_bytes", "converted")
    sums = (sum(int(getattr(one, column)) for one in rest) for column in columns)
    return [TypeFigures("(others)", "(others)", "", *sums)]


def pointer_classes(planner: Planner) -> dict[str, int]:
    """Pointers by where they lead; classes that do not occur are left out."""
    statuses = planner.scanned.statuses
    return {name: statuses[status] for status, name in POINTER_CLASS.items() if statuses[status]}
