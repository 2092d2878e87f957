"""The live objects of a type in a plan: where each lies in the past and where in the future."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.handlers.sites import Site, SiteFinder, Sites
from instar.handlers.types import Member
from instar.pairing.mapping import TypePairing
from instar.pairing.problems import Problem
from instar.state.columns import Fate, ObjectFlag, ObjectKind, claim_types
from instar.state.kernel import State
from instar.transfer.mappings import MappingPool
from instar.transfer.planner import Planner

Array = np.ndarray[Any, np.dtype[Any]]

_HIDDEN = ObjectFlag.TENTATIVE | ObjectFlag.INTERIOR | ObjectFlag.UNION


@dataclass(frozen=True, eq=False)
class Objects:
    """Places of a type, one entry each.

    Attributes:
        rows: Of the object that holds it.
        offsets: In that object.
        old, new: Addresses in the past and in the future.
        bits: For bit-fields, the members; addresses are then those of the struct.
    """

    rows: Array
    offsets: Array
    old: Array
    new: Array
    bits: tuple[Member, Member] | None = None

    def __len__(self) -> int:
        return len(self.rows)


def keeps_new_value(planner: Planner, address: int) -> bool:
    """Whether a variable of the past keeps what the new version gives it, because nobody ever changed it."""
    row = planner.state.find(address)
    return row is not None and bool(planner.state.objects["fate"][row] == Fate.REPLACE)


class ObjectFinder:
    """Finds the objects of a plan.

    Args:
        state: The past's, fates decided.
        pool: Compiled mappings.
        carried: Rows of locals that are not carried as such, with their names.
    """

    def __init__(self, state: State, pool: MappingPool, uncarried: dict[int, str]) -> None:
        self._state, self._pool, self._uncarried = state, pool, uncarried
        self._pairing: TypePairing = pool.pairing
        objects = state.objects
        live = (objects["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT)) != 0
        live &= (objects["flags"] & ObjectFlag.LIBRARY) == 0
        self._typed = np.flatnonzero(live & (objects["type"] >= 0))
        self._live = live
        self._known: dict[tuple[int, int], list[Objects]] = {}
        self.problems: list[tuple[int, Problem]] = []

    def find(self, old_type: int, new_type: int) -> list[Objects]:
        """All places of a pair of types; ``problems`` has the objects in which they cannot be told."""
        if (old_type, new_type) not in self._known:
            self._known[old_type, new_type] = self._find(old_type, new_type)
        return self._known[old_type, new_type]

    def _find(self, old_type: int, new_type: int) -> list[Objects]:
        finder = SiteFinder(self._pairing, old_type, new_type)
        objects = self._state.objects
        found: list[Objects] = []
        keys = np.stack([objects["type"][self._typed], objects["mapping"][self._typed]], axis=1)
        for kind, mapping in np.unique(keys, axis=0).tolist():
            pair = self._pair(kind, mapping)
            sites = finder.find(*pair) if pair is not None else Sites()
            if not sites:
                continue
            rows = self._typed[(keys[:, 0] == kind) & (keys[:, 1] == mapping)]
            found += self._of_rows(rows, pair or (-1, -1), sites)
        self._refuse_hidden(finder)
        return found

    def _pair(self, kind: int, mapping: int) -> tuple[int, int] | None:
        if mapping >= 0:
            compiled = self._pool.compiled[mapping]
            return self._pairing.old.strip(compiled.old_type), self._pairing.new.strip(compiled.new_type)
        other = self._pairing.counterpart(kind)
        return None if other is None else (kind, self._pairing.new.strip(other))

    def _of_rows(self, rows: Array, pair: tuple[int, int], sites: Sites) -> list[Objects]:
        objects = self._state.objects
        fates = objects["fate"][rows]
        self._refuse_locals(rows[fates == Fate.REPLACE])
        rows = rows[(fates == Fate.STAY) | (fates == Fate.MOVE)]
        self._refuse_conflicts(rows)
        if sites.in_union and len(rows):
            cause = "it may be in a union, and which member of that is in use is unknown"
            remedy = "handle the type that holds the union"
            self.problems.append((int(rows[0]), Problem("handler-in-union", sites.in_union, cause, remedy)))
        sizes = (self._pairing.old.size(pair[0]), self._pairing.new.size(pair[1]))
        counts = objects["count"][rows].astype(np.int64)
        owner = np.repeat(np.arange(len(rows)), counts)
        element = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        found = [
            self._place(rows[owner], element * sizes[0], element * sizes[1], site) for site in sites.places
        ]
        return [*found, *self._in_tails(rows, pair, sites)]

    def _place(self, rows: Array, old_base: Array, new_base: Array, site: Site) -> Objects:
        """One entry for every row and every offset of a site."""
        objects = self._state.objects
        new_start = np.where(
            objects["fate"][rows] == Fate.STAY, objects["address"][rows], objects["new_address"][rows]
        )
        old_offsets = (old_base[:, None] + site.old[None, :]).reshape(-1)
        new_offsets = (new_base[:, None] + site.new[None, :]).reshape(-1)
        each = np.repeat(np.arange(len(rows)), len(site.old))
        inside = old_offsets < objects["size"][rows][each].astype(np.int64)  # a block may be cut
        each, old_offsets, new_offsets = each[inside], old_offsets[inside], new_offsets[inside]
        return Objects(
            rows[each],
            old_offsets,
            objects["address"][rows][each] + old_offsets.astype(np.uint64),
            new_start[each] + new_offsets.astype(np.uint64),
            site.bits,
        )

    def _in_tails(self, rows: Array, pair: tuple[int, int], sites: Sites) -> list[Objects]:
        """Elements of flexible arrays, as many as the block has room for."""
        if not sites.tail or not len(rows):
            return []
        mapping = self._pairing.compile(*pair)
        assert mapping.tail is not None
        rest = self._state.objects["size"][rows].astype(np.int64) - mapping.tail_old_offset
        counts = np.maximum(rest // max(mapping.tail.old_size, 1), 0)
        owner = np.repeat(np.arange(len(rows)), counts)
        element = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        bases = (
            mapping.tail_old_offset + element * mapping.tail.old_size,
            mapping.tail_new_offset + element * mapping.tail.new_size,
        )
        return [self._place(rows[owner], *bases, site) for site in sites.tail]

    # What cannot be told ------------------------------------------------------------------------------------

    def _refuse_conflicts(self, rows: Array) -> None:
        """Two pointers disagree about a block: the handler may be for neither of its types."""
        flags = self._state.objects["flags"][rows]
        for row in rows[(flags & ObjectFlag.CONFLICT) != 0][:4].tolist():
            cause = "two pointers claim different types for this block, and a handler is for one of them"
            remedy = "give both pointers the same type"
            self.problems.append((row, Problem("conflicting-types", "", cause, remedy)))

    def is_cut(self, found: list[Objects]) -> bool:
        """Whether any block is shorter than its type."""
        flags = self._state.objects["flags"]
        return any(bool((flags[objects.rows] & ObjectFlag.TRUNCATED).any()) for objects in found)

    def _refuse_locals(self, rows: Array) -> None:
        for row in rows.tolist():
            if row in self._uncarried:
                cause = "is a local of a frame that is carried as it is, which handlers cannot change"
                remedy = "keep such an object in a static variable or on the heap"
                self.problems.append((row, Problem("handler-local", "", cause, remedy)))

    def _refuse_hidden(self, finder: SiteFinder) -> None:
        """Blocks without a type of their own in which an object of the type may lie."""
        objects = self._state.objects
        untyped = self._live & (objects["kind"] == ObjectKind.HEAP) & (objects["type"] < 0)
        claimed = untyped & (claim_types(objects) >= 0) & ((objects["flags"] & _HIDDEN) != 0)
        claimed &= objects["fate"] != Fate.MOVE  # then it is told no more
        suspects = [(int(row), int(claim_types(objects)[row])) for row in np.flatnonzero(claimed)]
        claims = self._state.claims()
        if claims is None:
            suspects += [
                (int(row), -1) for row in np.flatnonzero(untyped & (objects["flags"] & _HIDDEN != 0))
            ]
        else:
            suspects += [(int(row), int(kind)) for row, kind in claims[untyped[claims[:, 0]]].tolist()]
        known: set[int] = set()
        for row, kind in suspects:
            pair = self._pair(kind, -1) if kind >= 0 else None
            if row in known or (kind >= 0 and (pair is None or not finder.find(*pair))):
                continue
            known.add(row)
            cause = "may hold objects that a handler is for, but nothing proves its type"
            remedy = "give the pointer to it its type"
            self.problems.append((row, Problem("untyped-block", "", cause, remedy)))
