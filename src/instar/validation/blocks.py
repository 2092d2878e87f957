"""Whether the future's runtime is told of every block that it inherits, and whether blocks may stay. Pure.

Contents alone do not show it: a block that lies in its place but in no table can be read and written, until
the program frees it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from instar.metadata.model import TypeKind
from instar.pairing.mapping import TypePairing
from instar.state.columns import Fate, ObjectFlag, ObjectKind
from instar.transfer.plan import TransferPlan
from instar.transfer.planner import Planner
from instar.validation.columns import CounterpartFlag
from instar.validation.comparison import Comparison
from instar.validation.counterparts import Counterparts, distinct_of
from instar.validation.layouts import TAGGED, Layouts

_ROWS = 1 << 16
_VARIABLES = (ObjectKind.STATIC, ObjectKind.TLS, ObjectKind.LOCAL)

Array = np.ndarray[Any, np.dtype[Any]]


def missing_blocks(
    planner: Planner, found: Counterparts, plan: TransferPlan, comparison: Comparison
) -> Array:
    """Rows of (the first) heap blocks that are in no table of the plan, or there with another size."""
    objects = planner.state.objects
    wanted = _placed_blocks(planner, found, lambda part: part["fate"] != Fate.REPLACE)
    wanted[planner.pinned] = False  # in blocks of the future's own allocator
    for span in planner.past.heap:
        if span.mapped is not None:  # nobody frees it
            wanted &= (objects["address"] < span.start) | (objects["address"] >= span.end)
    ranges = [*plan.kept, *([plan.arena] if plan.arena is not None else [])]
    return comparison.untold(wanted, [kept.blocks for kept in ranges if not kept.plain])


def _placed_blocks(planner: Planner, found: Counterparts, choose: Callable[[Array], Array]) -> Array:
    """Per object, bool: a heap block with a place in the future, and chosen; so many rows at a time."""
    objects, flags = planner.state.objects, found.rows["flags"]
    result = np.empty(len(objects), dtype=bool)
    for at in range(0, len(objects), _ROWS):
        part = slice(at, at + _ROWS)
        result[part] = (flags[part] & CounterpartFlag.PLACED) != 0
        result[part] &= (objects["kind"][part] == ObjectKind.HEAP) & choose(objects[part])
    return result


def copied_streams(planner: Planner) -> Array:
    """Object rows of streams that their counterparts do not replace: libc's own bytes mean nothing there."""
    wrong = []
    for address, place in planner.streams.items():
        row = planner.state.find(address)
        entry = None if row is None else planner.state.objects[row]
        if entry is None or entry["address"] != address or entry["kind"] != ObjectKind.HEAP:
            continue  # libc's own variable, or not in the copy
        if entry["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT) and not (
            entry["fate"] == Fate.REPLACE and entry["new_address"] == place
        ):
            wrong.append(row)
    return np.array(wrong, dtype=np.int64)


def unconverted(planner: Planner, found: Counterparts, layouts: Layouts) -> Array:
    """Object rows of what keeps its layout although its type has another one.

    They would come back unchanged: what was never converted is right only where nothing had to be.
    """
    objects, pairing = planner.state.objects, planner.prepared.pool.pairing
    stay = _placed_blocks(planner, found, lambda part: (part["fate"] == Fate.STAY) & (part["type"] >= 0))
    stay[planner.pinned] = False  # handlers have placed these, and fill them
    for span in planner.past.heap:
        if span.mapped is not None:  # carried as it is, or refused
            stay &= (objects["address"] < span.start) | (objects["address"] >= span.end)
    stay |= _unmapped(objects, found.rows)
    changed = [kind for kind in distinct_of(objects["type"], stay) if _is_changed(pairing, layouts, kind)]
    result: Array = np.flatnonzero(stay & np.isin(objects["type"], changed))
    return result


def _unmapped(objects: Array, rows: Array) -> Array:
    """Per object, bool: a variable or local that is compared and was copied byte by byte."""
    result = np.empty(len(objects), dtype=bool)
    for at in range(0, len(objects), _ROWS):
        part, flags = objects[at : at + _ROWS], rows[at : at + _ROWS]
        result[at : at + _ROWS] = (flags["flags"] & CounterpartFlag.COMPARED) != 0
        result[at : at + _ROWS] &= (flags["mapping"] < 0) & np.isin(part["kind"], _VARIABLES)
        result[at : at + _ROWS] &= part["type"] >= 0
    return result


def _is_changed(pairing: TypePairing, layouts: Layouts, kind: int) -> bool:
    """Whether objects of an old type cannot stay as they are, and nobody was asked about it."""
    row = layouts.element(kind)
    if row < 0 or TypeKind(int(pairing.old.version.types[row]["kind"])) not in TAGGED:
        return False
    other = pairing.counterpart(row)
    if other is None:
        return pairing.problem_of(row) is None and not layouts.may_stay(row)
    if pairing.problems_of(row, other):  # the user was asked
        return False
    return not (pairing.stays_in_place(row, other) and layouts.stays(row, other) and layouts.may_stay(row))
