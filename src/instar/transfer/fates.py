"""Decides for every object of the past whether it stays where it is, moves, or is replaced.

Most blocks stay: a block moves only if its layout changes. Statics, thread-locals and locals always have
another address; those that nobody ever changed keep what the new version gives them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.pairing.mapping import Relation
from instar.pairing.problems import Problem
from instar.state.capture import Shapes
from instar.state.columns import (
    Fate,
    ObjectFlag,
    ObjectKind,
    Strength,
    claim_types,
    strength_of,
)
from instar.state.kernel import State
from instar.transfer.behind import find_behind, find_small_arrays
from instar.transfer.mappings import MappingPool
from instar.transfer.opaque import Opaque, compare

Array = np.ndarray[Any, np.dtype[Any]]

_ALIGNMENT = 16
_PAGE = 4096
_SLACK = 31
_TAGGED = (TypeKind.STRUCT, TypeKind.UNION, TypeKind.ENUM)


@dataclass
class Fates:
    """What was decided, and what could not be.

    Attributes:
        arena_size: Bytes that the moved blocks need, laid out one after the other.
        problems: (object row, problem); a plan with any is refused.
        doubtful: Blocks that only void pointers reach and that could hold a changed type: warned about.
        changed: Old type rows whose layout changes -> mapping row.
        assumed_arrays: Blocks taken for several objects of a type that changes only because they fit.
    """

    arena_size: int = 0
    problems: list[tuple[int, Problem]] = field(default_factory=list)
    doubtful: list[tuple[int, Problem]] = field(default_factory=list)
    changed: dict[int, int] = field(default_factory=dict)
    assumed_arrays: list[int] = field(default_factory=list)


class TypeFates:
    """Per old type: is its layout the same in the new version?"""

    def __init__(self, pool: MappingPool) -> None:
        self.pool = pool
        self._old: Version = pool.pairing.old.version
        self._memo: dict[int, tuple[Relation, int]] = {}

    def of(self, row: int) -> tuple[Relation, int]:
        """(relation, mapping row or -1) of one element of a stripped type.

        A type that the new version does not have cannot be laid out differently: IDENTICAL.
        """
        found = self._memo.get(row)
        if found is None:
            found = self._memo[row] = self._of(row)
        return found

    def _of(self, row: int) -> tuple[Relation, int]:
        if TypeKind(int(self._old.types[row]["kind"])) not in _TAGGED:
            return Relation.IDENTICAL, -1
        pairing = self.pool.pairing
        other = pairing.counterpart(row)
        if other is None:
            problem = pairing.problem_of(row)
            vanished = problem is None or problem.code == "type-vanished"
            return (Relation.IDENTICAL if vanished else Relation.REFUSED), -1
        if pairing.stays_in_place(row, other):
            return Relation.IDENTICAL, -1
        relation = pairing.relation(row, other)
        if relation is Relation.REFUSED:
            return relation, -1
        return Relation.CONVERTIBLE, self.pool.row(row, other)

    def changed_sizes(self) -> dict[int, int]:
        """Every old struct or union whose objects cannot stay as they are -> bytes of one."""
        found = {}
        for row in np.flatnonzero(
            np.isin(self._old.types["kind"], (TypeKind.STRUCT, TypeKind.UNION))
        ).tolist():
            size = self._old.size_of(row)
            if size and self.of(row)[0] is not Relation.IDENTICAL:
                found[row] = size
        return found

    def name(self, row: int) -> str:
        """C spelling of an old type."""
        return self._old.type_name(row)

    def problems_of(self, row: int) -> tuple[Problem, ...]:
        """Why a refused type cannot be converted."""
        other = self.pool.pairing.counterpart(row)
        if other is None:
            problem = self.pool.pairing.problem_of(row)
            return () if problem is None else (problem,)
        return self.pool.pairing.compile(row, other).problems


def decide_heap(state: State, types: TypeFates, fates: Fates, streams: MappingOf[int, int]) -> None:
    """Fates of heap blocks; those that move are laid out from offset 0 of the new arena.

    Args:
        state: Typed.
        types: Relations of types.
        fates: Filled in.
        streams: Old ``FILE`` address -> the future's own.
    """
    objects = state.objects
    live = (objects["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT)) != 0
    heap = live & (objects["kind"] == ObjectKind.HEAP)
    _replace_streams(state, heap, fates, streams)
    heap &= (objects["flags"] & ObjectFlag.LIBRARY) == 0
    for row in np.unique(objects["type"][heap & (objects["type"] >= 0)]):
        relation, mapping = types.of(int(row))
        rows = np.flatnonzero(heap & (objects["type"] == row))
        if relation is Relation.REFUSED:
            fates.problems.extend((int(rows[0]), problem) for problem in types.problems_of(int(row)))
        elif relation is Relation.CONVERTIBLE:
            fates.changed[int(row)] = mapping
            _refuse_conflicts(objects, rows, fates)
            _question_arrays(state, rows, types, fates)
            _place(state, rows, mapping, types, fates)
        elif _is_claimed_by_changed(state, int(row), types):
            _refuse_conflicts(objects, rows, fates)
    _refuse_opaque(state, types, heap, fates)


def _replace_streams(state: State, heap: Array, fates: Fates, streams: MappingOf[int, int]) -> None:
    objects = state.objects
    for row in np.flatnonzero(heap & ((objects["flags"] & ObjectFlag.LIBRARY) != 0)):
        address = int(objects["address"][row])
        if address in streams:
            objects["fate"][row] = Fate.REPLACE
            objects["new_address"][row] = streams[address]
        else:
            fates.problems.append(
                (
                    int(row),
                    Problem(
                        "stream-not-carried",
                        "",
                        f"the stream (FILE) at {address:#x} has no counterpart in the new version",
                        "close it before the update, or let the new version open it at start-up",
                    ),
                )
            )


def _is_claimed_by_changed(state: State, row: int, types: TypeFates) -> bool:
    """Whether a type that changes claims blocks of this one, which does not: nobody can tell who is right."""
    rivals = {
        b if a == row else a for (a, b), winner in state.verdicts.items() if winner == 2 and row in (a, b)
    }
    return any(types.of(rival)[0] is not Relation.IDENTICAL for rival in rivals)


def _refuse_conflicts(objects: Array, rows: Array, fates: Fates) -> None:
    for row in rows[(objects["flags"][rows] & ObjectFlag.CONFLICT) != 0][:8]:
        fates.problems.append(
            (
                int(row),
                Problem(
                    "conflicting-types",
                    "",
                    "two pointers claim different types for this block, and one of them changes",
                    "settle it with a handler, or leave the type's layout as it is",
                ),
            )
        )


def _question_arrays(state: State, rows: Array, types: TypeFates, fates: Fates) -> None:
    """One object with other data behind it must not be converted as if it were several."""
    texts, unknown = find_behind(state, rows)
    for row in texts:
        name = types.name(int(state.objects["type"][row]))
        cause = (
            f"text lies behind {name}, whose layout changes, in the same block, and no member describes it"
        )
        remedy = "give the struct a flexible array as its last member, or settle it with a handler"
        fates.problems.append((row, Problem("untyped-block", "", cause, remedy)))
    fates.assumed_arrays.extend(unknown)
    for row in find_small_arrays(state, rows):
        name = types.name(int(state.objects["type"][row]))
        cause = f"data lies behind {name}, whose layout changes, in a block with room for more than one of it"
        remedy = "leave the type's layout as it is, or clear the memory behind such objects"
        fates.problems.append((row, Problem("untyped-block", "", cause, remedy)))


def _place(state: State, rows: Array, mapping: int, types: TypeFates, fates: Fates) -> None:
    """Give blocks that move their new size and their place in the arena."""
    objects = state.objects
    compiled = types.pool.compiled[mapping]
    counts = objects["count"][rows].astype(np.int64)
    behind = np.maximum(objects["size"][rows].astype(np.int64) - counts * compiled.old_size, 0)
    sizes = counts * compiled.new_size + behind  # slack, or data that no member describes
    growth = max(compiled.new_size - compiled.old_size, 0)
    sizes += behind // max(compiled.old_size, 1) * growth  # or room for more objects, all of them empty yet
    cut = np.flatnonzero(objects["flags"][rows] & ObjectFlag.TRUNCATED)
    for index in cut.tolist():
        sizes[index] = _cut_size(types, mapping, int(objects["size"][rows[index]]))
    alignment = _alignment(objects["address"][rows])
    rounded = np.maximum(-(-sizes // alignment) * alignment, alignment)
    first = -(-fates.arena_size // alignment) * alignment
    starts = first + np.concatenate([[0], np.cumsum(rounded)[:-1]])
    fates.arena_size = first + int(rounded.sum())
    objects["fate"][rows] = Fate.MOVE
    objects["mapping"][rows] = mapping
    objects["out"][rows] = starts
    objects["out_size"][rows] = sizes
    objects["new_address"][rows] = starts  # the arena's base is added when it is mapped


def _alignment(addresses: Array) -> int:
    """The alignment that all blocks of a type have in common, at most a page."""
    bits = int(np.bitwise_or.reduce(addresses)) | _PAGE
    return max(bits & -bits, _ALIGNMENT)


def _cut_size(types: TypeFates, mapping: int, size: int) -> int:
    """New size of a block whose last member is cut or flexible."""
    compiled = types.pool.compiled[mapping]
    old_tail, new_tail = types.pool.tail_of(
        compiled, types.pool.pairing.offset_map(compiled.old_type, compiled.new_type)
    )
    rest = max(size - old_tail, 0)
    if compiled.tail is not None and compiled.tail.old_size:
        return new_tail + -(-rest // compiled.tail.old_size) * compiled.tail.new_size
    return new_tail + rest


def _refuse_opaque(state: State, types: TypeFates, heap: Array, fates: Fates) -> None:
    """Untyped blocks that may hold a type whose layout changes are refused, never guessed."""
    objects = state.objects
    claimed = heap & (objects["type"] < 0) & (claim_types(objects) >= 0)
    claimed &= (objects["flags"] & (ObjectFlag.TENTATIVE | ObjectFlag.INTERIOR | ObjectFlag.UNION)) != 0
    for row in np.flatnonzero(claimed):
        kind = int(claim_types(objects)[row])
        if types.of(kind)[0] is not Relation.IDENTICAL:
            fates.problems.append((int(row), _untyped_problem(types, kind)))
    _refuse_claims(state, types, heap, fates)
    _refuse_behind_nameless(state, types, heap, fates)
    _refuse_alike(state, types, heap, fates)


def _refuse_alike(state: State, types: TypeFates, heap: Array, fates: Fates) -> None:
    """Blocks that only void pointers or words reach, and that hold what a type that changes would.

    Character data that leads to a block which nothing else does is no text, but a container of pointers: then
    a block that only may hold the type is refused, too.
    """
    opaque = Opaque(state, heap)
    for kind, size in types.changed_sizes().items():
        confirmed, possible = compare(state, opaque.candidates(size), kind)
        hidden = [row for row in possible if _hangs_on_bytes(state, row)]
        fates.problems.extend((row, _untyped_problem(types, kind)) for row in [*confirmed, *hidden][:4])
        if kind in fates.changed:
            fates.doubtful.extend((row, _untyped_problem(types, kind)) for row in possible[:4])


def _hangs_on_bytes(state: State, row: int) -> bool:
    """Whether the search for what is reached came to a block from character data of the heap."""
    objects = state.objects
    parent = int(objects["parent"][row])
    return (
        parent >= 0
        and objects["kind"][parent] == ObjectKind.HEAP
        and bool(objects["flags"][parent] & ObjectFlag.BYTES)
    )


def _refuse_claims(state: State, types: TypeFates, heap: Array, fates: Fates) -> None:
    """Slabs: blocks without a type of their own, inside which objects of a changed type are claimed."""
    claims = state.claims()
    untyped = heap & (state.objects["type"] < 0)
    if claims is None:
        rows = np.flatnonzero(untyped & ((state.objects["flags"] & ObjectFlag.INTERIOR) != 0))
        if fates.changed and len(rows):
            fates.problems.append((int(rows[0]), _untyped_problem(types, next(iter(fates.changed)))))
        return
    known = {row for row, _ in fates.problems}
    for row, kind in claims[untyped[claims[:, 0]]].tolist():
        if row not in known and types.of(kind)[0] is not Relation.IDENTICAL:
            known.add(row)
            fates.problems.append((row, _untyped_problem(types, kind)))


def _refuse_behind_nameless(state: State, types: TypeFates, heap: Array, fates: Fates) -> None:
    """Blocks that only data without debug information leads to, and that could hold a type that changes.

    Compilers make such data of their own: clang turns a block that is allocated once into a nameless static.
    """
    objects = state.objects
    live = heap & ((objects["flags"] & ObjectFlag.REACHED) != 0) & (objects["type"] < 0)
    rows = np.flatnonzero(live & (objects["parent"] >= 0))
    rows = rows[objects["kind"][objects["parent"][rows]] == ObjectKind.UNNAMED]
    if not len(rows):
        return
    for kind, size in types.changed_sizes().items():
        fits = rows[(objects["size"][rows] >= size) & (objects["size"][rows] <= size + _SLACK)]
        fates.problems.extend((int(row), _untyped_problem(types, kind)) for row in fits[:1])


def _untyped_problem(types: TypeFates, kind: int) -> Problem:
    return Problem(
        "untyped-block",
        "",
        f"a block may hold {types.name(kind)}, whose layout changes, but nothing proves its type",
        "give the pointer its type, or settle it with a handler",
    )


def decide_static(
    state: State,
    new: Version,
    types: TypeFates,
    fates: Fates,
    row: int,
    old_type: int,
    new_type: int,
    shapes: tuple[Shapes, Shapes],
) -> None:
    """Mapping of one static, thread-local or local that moves; its new address is known to the caller."""
    objects = state.objects
    pool = types.pool
    relation = pool.pairing.relation(old_type, new_type)
    objects["fate"][row] = Fate.MOVE
    objects["out_size"][row] = new.size_of(new_type)
    if relation is Relation.REFUSED:
        fates.problems.extend((row, problem) for problem in pool.pairing.compile(old_type, new_type).problems)
        return
    if relation is Relation.IDENTICAL:
        return
    old_element, old_count, _ = shapes[0].of(old_type)
    new_element, new_count, _ = shapes[1].of(new_type)
    same_count = old_count == new_count and old_element >= 0
    if same_count and pool.pairing.relation(old_element, new_element) is Relation.CONVERTIBLE:
        objects["mapping"][row] = pool.row(old_element, new_element)
    else:
        objects["mapping"][row] = pool.row(old_type, new_type)
        objects["type"][row], objects["count"][row] = pool.pairing.old.version.strip(old_type), 1


def is_weak(state: State, row: int) -> bool:
    """Whether an object is only believed to be what it is: locals, and what only they type."""
    entry = state.objects[row]
    return bool(
        entry["kind"] in (ObjectKind.LOCAL, ObjectKind.FRAME)
        or (entry["type"] >= 0 and strength_of(entry["flags"]) <= Strength.WEAK)
    )
