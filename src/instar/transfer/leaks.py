"""Blocks that nothing leads to: leaks, unless the program hides its pointers (xor-ed, compressed).

A few are dropped and counted. Where they are a large share of the heap they are kept where they are, which
costs nothing but their bytes, and may then not be of a type that changes. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from instar.pairing.problems import Problem
from instar.state.columns import ObjectFlag, ObjectKind
from instar.state.kernel import State
from instar.transfer.fates import TypeFates
from instar.transfer.own import not_leaked

Array = np.ndarray[Any, np.dtype[Any]]

_MANY, _SHARE, _SLACK = 16, 0.1, 31


def find_leaks(state: State, library_owned: Array) -> Array:
    """Mask of the heap blocks that no word of the state could point into.

    Args:
        state: Reached.
        library_owned: Mask of blocks that are libraries' own.
    """
    objects = state.objects
    live = (objects["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT)) != 0
    leaks: Array = (objects["kind"] == ObjectKind.HEAP) & ~live & ~library_owned & ~not_leaked(state)
    return leaks


def keep_many(state: State, leaks: Array) -> bool:
    """Keep leaked blocks alive where they are too many to be believed; whether they were kept."""
    count = int(leaks.sum())
    live = (state.objects["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT)) != 0
    heap = int(((state.objects["kind"] == ObjectKind.HEAP) & live).sum())
    if count < _MANY or count < _SHARE * (count + heap):
        return False
    state.objects["flags"][leaks] |= np.uint32(ObjectFlag.REACHED)
    return True


def refuse_hidden(state: State, types: TypeFates, leaks: Array) -> Iterator[tuple[int, Problem]]:
    """Kept leaks that could hold a type which changes: one for each such type."""
    rows = np.flatnonzero(leaks & (state.objects["type"] < 0))
    sizes = state.objects["size"][rows]
    for kind, size in types.changed_sizes().items():
        fits = rows[(sizes >= size) & (sizes <= size + _SLACK)]
        if len(fits):
            cause = f"nothing leads to {len(fits)} blocks that may hold {types.name(kind)}, which changes: "
            cause += "does the program hide pointers (xor-ed, compressed)?"
            remedy = "leave the type's layout as it is, or, if they are leaks, pass --allow untyped-block"
            yield int(fits[0]), Problem("untyped-block", "", cause, remedy)


def leak_warning(state: State, leaks: Array) -> str:
    """What the report says of kept leaks."""
    count, size = int(leaks.sum()), int(state.objects["size"][leaks].sum())
    return (
        f"many-leaks: nothing leads to {count} blocks, {size} bytes; they are "
        "kept where they are: does the program hide pointers (xor-ed, compressed)?"
    )
