"""Types every heap block that evidence can type (docs/internals/transfer.md).

Claims are followed in the order of their strength: typed pointers from statics and thread-locals; embedded
nodes and arrays, resolved from what the claims say together; unions; locals. A stronger claim is never beaten
by a weaker one, and what no rule reconciles stays opaque and is reported.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.state.columns import (
    KernelType,
    ObjectFlag,
    ObjectKind,
    Strength,
    claim_offsets,
    claim_types,
)
from instar.state.kernel import State

Array = np.ndarray[Any, np.dtype[Any]]

_SLACK = 31
_ROUNDS = 64


def type_state(state: State, version: Version, known: Array) -> None:
    """Type, then mark what is reached.

    Args:
        state: Objects with their roots marked (``ROOT``, a type and a strength).
        version: Whose types they have.
        known: (n, 2) u8 sorted address ranges that pointers may lead to besides the objects.
    """
    containers = Containers(version, state)
    _settle(state, version, Strength.STRONG)
    _resolve(state, version, containers, known)
    for strength in (Strength.INFERRED, Strength.WEAK):
        _settle(state, version, strength)
        _resolve(state, version, containers, known)
    state.reach()


def _settle(state: State, version: Version, strength: Strength) -> None:
    """Trace; where two types claim one block, decide the pair once and trace again."""
    for _ in range(_ROUNDS):
        unknown = state.trace(strength)
        if not unknown:
            return
        for current, claimed in unknown:
            state.verdicts[current, claimed] = decide(version, state, current, claimed)


def _resolve(state: State, version: Version, containers: Containers, known: Array) -> None:
    """Embedded nodes, arrays and unions, until nothing more is found."""
    for _ in range(_ROUNDS):
        before = int(state.c_state.retyped)
        _resolve_containers(state, containers, known)
        _settle(state, version, Strength.INFERRED)
        state.trace_unions()
        _settle(state, version, Strength.INFERRED)
        if int(state.c_state.retyped) == before:
            return


def leaves(version: Version, row: int, stripped: Array, limit: int = 4096) -> list[tuple[int, int, int]]:
    """(offset, kind, size) of every scalar of a type, in order; at most ``limit``."""
    result: list[tuple[int, int, int]] = []
    stack = [(0, row)]
    while stack and len(result) < limit:
        offset, current = stack.pop()
        if current < 0:
            continue
        entry = version.types[current]
        kind = TypeKind(int(entry["kind"]))
        if kind is TypeKind.STRUCT:
            members = [m for m in version.members_of(current) if m["type"] >= 0]
            stack.extend(
                (offset + int(m["bit_offset"]) // 8, int(stripped[m["type"]])) for m in reversed(members)
            )
        elif kind is TypeKind.ARRAY and entry["elements"] > 0:
            element = int(stripped[entry["target"]])
            size = int(version.size_of(element)) if element >= 0 else 0
            count = min(int(entry["elements"]), limit)
            stack.extend((offset + i * size, element) for i in reversed(range(count)))
        else:
            result.append((offset, int(kind), int(version.size_of(current))))
    return result


def decide(version: Version, state: State, current: int, claimed: int) -> int:
    """Of two types that claim one block: 0 the current one stays, 1 the claimed wins, 2 nobody can tell.

    The longer of two with a common prefix wins; equal shapes are the same thing.
    """
    old = leaves(version, current, state.table.stripped)
    new = leaves(version, claimed, state.table.stripped)
    shared = min(len(old), len(new))
    if shared and old[:shared] == new[:shared]:
        return 1 if len(new) > len(old) else 0
    return 2


class Containers:
    """Which structs have a type embedded, and where (container_of)."""

    def __init__(self, version: Version, state: State) -> None:
        self._version = version
        self._state = state
        self._table = state.table
        self._places: dict[int, list[tuple[int, int]]] | None = None

    def of(self, inner: int) -> list[tuple[int, int]]:
        """(outer struct, offset of ``inner`` in it), outermost included, at any depth."""
        if self._places is None:
            self._places = self._collect()
        result: list[tuple[int, int]] = []
        pending = [(inner, 0)]
        while pending and len(result) < 10_000:
            current, base = pending.pop()
            for outer, offset in self._places.get(current, ()):
                result.append((outer, offset + base))
                pending.append((outer, offset + base))
        return result

    def _collect(self) -> dict[int, list[tuple[int, int]]]:
        places: dict[int, list[tuple[int, int]]] = {}
        stripped = self._table.stripped
        for row in np.flatnonzero(self._table.types["kind"] == KernelType.AGGREGATE):
            if self._version.types[row]["kind"] not in (TypeKind.STRUCT, TypeKind.UNION):
                continue
            for member in self._version.members_of(int(row)):
                if member["type"] >= 0 and not member["bit_size"]:
                    start = int(member["bit_offset"]) // 8
                    for offset, kind in self._elements(int(stripped[member["type"]])):
                        places.setdefault(kind, []).append((int(row), start + offset))
        return places

    def _elements(self, kind: int) -> Iterable[tuple[int, int]]:
        """The member's type itself, or every element of a (small) array of structs."""
        entry = self._version.types[kind] if kind >= 0 else None
        if entry is None or entry["kind"] != TypeKind.ARRAY:
            return [(0, kind)]
        element = int(self._table.stripped[entry["target"]])
        size = int(self._version.size_of(element)) if element >= 0 else 0
        return [(i * size, element) for i in range(min(max(int(entry["elements"]), 0), 16))]


def _resolve_containers(state: State, containers: Containers, known: Array) -> None:
    """Blocks claimed only through an embedded node, or by an element of an array."""
    flags = state.objects["flags"]
    wanted = (flags & (ObjectFlag.TENTATIVE | ObjectFlag.INTERIOR)) != 0
    wanted &= (flags & ObjectFlag.CONFLICT) == 0
    rows = np.flatnonzero(wanted & (state.objects["type"] < 0) & (state.objects["kind"] == ObjectKind.HEAP))
    if not len(rows):
        return
    chosen = state.objects[rows]
    keys = np.stack(
        [
            claim_types(chosen),
            claim_offsets(chosen).astype(np.int64),
            chosen["size"].astype(np.int64),
            (chosen["flags"] & ObjectFlag.POOL).astype(np.int64),
        ]
    )
    groups, inverse = np.unique(keys, axis=1, return_inverse=True)
    inverse = inverse.reshape(-1)
    for index in range(groups.shape[1]):
        inner, offset, size, pool = (int(value) for value in groups[:, index])
        _resolve_group(state, containers, known, rows[inverse == index], inner, offset, size, bool(pool))


def _resolve_group(
    state: State,
    containers: Containers,
    known: Array,
    rows: Array,
    inner: int,
    offset: int,
    size: int,
    pool: bool,
) -> None:
    """Blocks of one usable size with one claim: the struct that has it there, else an array of it.

    What looks like a ``pool``, because different types are claimed inside, may be one struct with several
    embedded nodes (a session in a list and in a heap of timers), but no array.
    """
    outers = {outer for outer, at in containers.of(inner) if at == offset and _fits_once(state, outer, size)}
    candidates = [outer for outer in sorted(outers) if not _is_covered(state, containers, outer, outers)]
    if len(candidates) > 1:
        candidates = [c for c in candidates if state.plausible(rows, c, known).all()]
    if len(candidates) == 1:
        valid = state.plausible(rows, candidates[0], known)
        state.infer(rows[valid], candidates[0])
        rows = rows[~valid]
    elif candidates:
        return  # several structs explain it: stays opaque, reported by `check`
    element = int(state.table.types[inner]["size"]) if inner >= 0 else 0
    if len(rows) and element and offset % element == 0 and not pool:
        valid = state.plausible(rows, inner, known)
        state.infer(rows[valid], inner)


def _fits_once(state: State, outer: int, size: int) -> bool:
    entry = state.table.types[outer]
    own = int(entry["size"])
    if entry["tail_size"]:
        return int(entry["tail_offset"]) <= size
    return own <= size <= own + _SLACK


def _is_covered(state: State, containers: Containers, outer: int, outers: set[int]) -> bool:
    """Is this candidate itself the first part of another candidate? The outer type beats its first member."""
    return any(other in outers for other, at in containers.of(outer) if at == 0 and other != outer)
