"""Where the inside of an old object is in the new one, for interior pointers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from instar.metadata.model import TypeKind
from instar.pairing.compiler import Compiler
from instar.pairing.layout import RECORDS, VOID, Layout

Offsets = npt.NDArray[np.int64]
Exact = npt.NDArray[np.bool_]
DROPPED = -1


class OffsetMaps:
    """Offset maps of type pairs, each computed once."""

    def __init__(self, old: Layout, new: Layout, compiler: Compiler) -> None:
        self._old, self._new = old, new
        self._compiler = compiler
        self._maps: dict[tuple[int, int, int], Offsets] = {}
        self._parts: dict[tuple[int, int, int], tuple[Offsets, Exact]] = {}

    def offset_map(self, old_type: int, new_type: int, pointee: int | None) -> Offsets:
        """See ``TypePairing.offset_map``."""
        wanted = VOID if pointee is None else self._old.strip(pointee)
        key = (self._old.strip(old_type), self._new.strip(new_type), wanted)
        found = self._maps.get(key)
        if found is None:
            inside, _ = self._part(*key)
            found = np.append(inside, self._new.size(new_type))
            found.flags.writeable = False
            self._maps[key] = found
        return found

    def _part(self, old_type: int, new_type: int, wanted: int) -> tuple[Offsets, Exact]:
        """New offsets of the bytes of a pair, and at which of them a thing of the wanted type starts."""
        old_type, new_type = self._old.strip(old_type), self._new.strip(new_type)
        key = (old_type, new_type, wanted)
        found = self._parts.get(key)
        if found is None:
            found = self._parts[key] = self._build(old_type, new_type, wanted)
        return found

    def _build(self, old_type: int, new_type: int, wanted: int) -> tuple[Offsets, Exact]:
        sizes = (self._old.size(old_type), self._new.size(new_type))
        kinds = (self._old.kind(old_type), self._new.kind(new_type))
        offsets: Offsets = np.full(sizes[0], DROPPED, np.int64)
        if not sizes[0]:
            return offsets, np.zeros(0, np.bool_)
        if self._compiler.fragment(old_type, new_type).in_place:
            return np.arange(sizes[0], dtype=np.int64), self._starts(old_type, wanted)
        exact: Exact = np.zeros(sizes[0], np.bool_)
        if kinds == (TypeKind.STRUCT, TypeKind.STRUCT):
            self._fill_members(offsets, exact, old_type, new_type, wanted)
        elif kinds == (TypeKind.ARRAY, TypeKind.ARRAY):
            self._fill_elements(offsets, exact, old_type, new_type, wanted)
        else:  # scalars (little endian) and unions
            kept = min(sizes)
            offsets[:kept] = np.arange(kept)
            exact = self._starts(old_type, wanted)
        if old_type == wanted or not exact[0]:
            offsets[0] = 0
        exact[0] |= old_type == wanted
        return offsets, exact

    def _starts(self, old_type: int, wanted: int) -> Exact:
        """At which bytes of a type something of the wanted type starts."""
        old_type = self._old.strip(old_type)
        starts: Exact = np.zeros(self._old.size(old_type), np.bool_)
        if wanted == VOID or not len(starts):
            return starts
        kind = self._old.kind(old_type)
        if kind in RECORDS:
            for _, member, bit_offset, bit_size in self._old.members(old_type):
                inside = self._starts(member, wanted) if not bit_size else starts[:0]
                starts[bit_offset // 8 : bit_offset // 8 + len(inside)] |= inside
        elif kind == TypeKind.ARRAY:
            element = self._starts(self._old.target(old_type), wanted)
            starts |= np.tile(element, self._old.elements(old_type))
        starts[0] |= old_type == wanted
        return starts

    def _fill_members(
        self, offsets: Offsets, exact: Exact, old_type: int, new_type: int, wanted: int
    ) -> None:
        for old_entry, new_entry in self._compiler.pairs(old_type, new_type).pairs:
            old_at, new_at = old_entry.bit_offset // 8, new_entry.bit_offset // 8
            if old_entry.bit_size or new_entry.bit_size:
                offsets[old_at] = max(offsets[old_at], new_at)  # has no address; keep a byte's first answer
                continue
            inside, hits = self._part(old_entry.type, new_entry.type, wanted)
            offsets[old_at : old_at + len(inside)] = np.where(inside < 0, DROPPED, inside + new_at)
            exact[old_at : old_at + len(inside)] = hits

    def _fill_elements(
        self, offsets: Offsets, exact: Exact, old_type: int, new_type: int, wanted: int
    ) -> None:
        elements = (self._old.target(old_type), self._new.target(new_type))
        count = min(self._old.elements(old_type), self._new.elements(new_type))
        inside, hits = self._part(*elements, wanted)
        starts = np.arange(count, dtype=np.int64) * self._new.size(elements[1])
        grid = np.where(inside < 0, DROPPED, inside + starts[:, None])
        offsets[: grid.size] = grid.reshape(-1)
        exact[: grid.size] = np.tile(hits, count)
