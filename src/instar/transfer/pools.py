"""Memory that the program shares out itself, out of blocks of the allocator: which types lie there. Pure.

A pool stays where it is, whole. So nothing in it can be laid out anew, and the new code would misread
whatever of another layout lies there. Typed pointers are followed into pools and on from there. What only
void pointers lead to is not found so: of a type that changes and is found nowhere at all, nobody can tell
that no pool has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.pairing.mapping import Relation
from instar.pairing.problems import Problem
from instar.state.columns import ObjectFlag, ObjectKind
from instar.state.kernel import State
from instar.transfer.fates import Fates, TypeFates
from instar.transfer.own import own_rows

Array = np.ndarray[Any, np.dtype[Any]]

_CODE = "untyped-block"
_REMEDY = "leave the type's layout as it is, or pass --allow untyped-block if no such object is alive"
_INSIDE = ObjectFlag.INTERIOR | ObjectFlag.POOL
_SHOWN = 4


def refuse_pooled(state: State, types: TypeFates, version: Version, fates: Fates) -> None:
    """Refuse types that change and lie in pools, and those of which nobody can tell whether they do.

    Args:
        state: Typed.
        types: Relations of types.
        version: The past's.
        fates: Problems and doubts are added.
    """
    objects = state.objects
    live = (objects["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT)) != 0
    opaque = live & (objects["kind"] == ObjectKind.HEAP) & (objects["type"] < 0)
    opaque[[row for row, _ in own_rows(state)]] = False  # what the program mapped itself: refuse_inside
    pools = np.flatnonzero(opaque & ((objects["flags"] & _INSIDE) != 0))
    changed = types.changed_sizes() if len(pools) else {}
    if not changed:
        return
    found = state.inside(_ranges(objects, pools))
    known = {row for row, problem in fates.problems if problem.code == _CODE}
    in_pools = dict(zip(found["type"].tolist(), found["row"].tolist(), strict=True))
    for kind, row in in_pools.items():
        if types.of(kind)[0] is not Relation.IDENTICAL and row not in known:
            fates.problems.append((row, _problem(types, kind, "holds")))
    seen = _embedded(version, {*np.unique(objects["type"][live]).tolist(), *in_pools})
    largest = int(pools[np.argmax(objects["size"][pools])])
    for kind, size in changed.items():
        if kind in seen or size > int(objects["size"][largest]):
            continue
        fates.problems.append((largest, _problem(types, kind, "may hold")))
    doubts = [kind for kind in changed if kind in seen and kind not in in_pools]
    fates.doubtful += [(largest, _problem(types, kind, "may hold")) for kind in doubts[:_SHOWN]]


def _ranges(objects: Array, rows: Array) -> Array:
    starts = np.sort(objects[rows], order="address")
    return np.stack([starts["address"], starts["address"] + starts["size"]], axis=1)


def _embedded(version: Version, kinds: set[int]) -> set[int]:
    """Some types, and all that lie in one of them."""
    pending, seen = [kind for kind in kinds if kind >= 0], set[int]()
    while pending:
        kind = version.strip(pending.pop())
        if kind < 0 or kind in seen:
            continue
        seen.add(kind)
        entry = version.types[kind]
        if entry["kind"] == TypeKind.ARRAY:
            pending.append(int(entry["target"]))
        elif entry["kind"] in (TypeKind.STRUCT, TypeKind.UNION):
            pending += [int(member["type"]) for member in version.members_of(kind)]
    return seen


def _problem(types: TypeFates, kind: int, verb: str) -> Problem:
    name = types.pool.pairing.label(kind)
    cause = f"memory that the program shares out itself {verb} {name}, whose layout changes"
    if verb == "may hold":
        cause += ", but nothing tells where"
    return Problem(_CODE, "", cause, _REMEDY)
