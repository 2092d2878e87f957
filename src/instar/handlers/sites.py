"""Where the objects of a type lie inside the objects of others: members, arrays, flexible tails. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from instar.handlers.types import Member
from instar.metadata.model import TypeKind
from instar.pairing.layout import Entry
from instar.pairing.mapping import TypePairing

Array = np.ndarray[Any, np.dtype[Any]]


class Site(NamedTuple):
    """Places of a type in one object of another; ``bits`` for a bit-field (old and new member)."""

    old: Array
    new: Array
    bits: tuple[Member, Member] | None = None


@dataclass(frozen=True)
class Sites:
    """All places of a type in one element of an object.

    Attributes:
        places: Offsets, old and new, the same number of both.
        tail: Places in one element of the flexible tail; offsets from that element.
        in_union: A union member that holds the type, "" for none: which one is in use is not known.
    """

    places: tuple[Site, ...] = ()
    tail: tuple[Site, ...] = ()
    in_union: str = ""

    def __bool__(self) -> bool:
        return bool(self.places or self.tail or self.in_union)


class SiteFinder:
    """Finds a type's places; answers are remembered.

    Args:
        pairing: Of the two versions.
        wanted: Old row of the type.
        new_wanted: New row.
    """

    def __init__(self, pairing: TypePairing, wanted: int, new_wanted: int) -> None:
        self._pairing, self._wanted = pairing, (wanted, new_wanted)
        self._memo: dict[tuple[int, int], Sites] = {}

    def find(self, old_type: int, new_type: int) -> Sites:
        """Places in one object of a (stripped) pair."""
        key = (old_type, new_type)
        found = self._memo.get(key)
        if found is None:
            self._memo[key] = Sites()  # ends no cycle: types contain themselves through pointers only
            found = self._memo[key] = self._find(*key)
        return found

    def _find(self, old_type: int, new_type: int) -> Sites:
        if (old_type, new_type) == self._wanted:
            zero = np.zeros(1, np.int64)
            return Sites((Site(zero, zero),))
        if old_type < 0 or new_type < 0:
            return Sites()
        old, new = self._pairing.old, self._pairing.new
        kinds = (old.kind(old_type), new.kind(new_type))
        if kinds[0] != kinds[1]:
            return Sites()
        if kinds[0] == TypeKind.ARRAY:
            return self._in_array(old_type, new_type)
        if kinds[0] == TypeKind.STRUCT:
            return self._in_struct(old_type, new_type)
        if kinds[0] == TypeKind.UNION:
            return self._in_union(old_type, new_type)
        return Sites()

    def _in_array(self, old_type: int, new_type: int) -> Sites:
        old, new = self._pairing.old, self._pairing.new
        elements = (old.strip(old.target(old_type)), new.strip(new.target(new_type)))
        inner = self.find(*elements)
        count = min(old.elements(old_type), new.elements(new_type))
        if not inner or not count:
            return inner if inner.in_union else Sites()
        index = np.arange(count, dtype=np.int64)[:, None]
        strides = (old.size(elements[0]), new.size(elements[1]))
        places = tuple(
            Site((index * strides[0] + s.old).reshape(-1), (index * strides[1] + s.new).reshape(-1), s.bits)
            for s in inner.places
        )
        return Sites(places, (), inner.in_union)

    def _in_struct(self, old_type: int, new_type: int) -> Sites:
        places: list[Site] = []
        union = ""
        for old_entry, new_entry in self._pairing.compiler.pairs(old_type, new_type).pairs:
            found = self._in_member(old_entry, new_entry)
            places += found.places
            union = union or found.in_union
        return Sites(tuple(places), self._in_tail(old_type, new_type), union)

    def _in_member(self, old_entry: Entry, new_entry: Entry) -> Sites:
        old, new = self._pairing.old, self._pairing.new
        pair = (old.strip(old_entry.type), new.strip(new_entry.type))
        if old_entry.bit_size or new_entry.bit_size:
            if pair != self._wanted:
                return Sites()
            members = _members(old_entry, new_entry)
            zero = np.zeros(1, np.int64)
            return Sites((Site(zero, zero, members),))
        inner = self.find(*pair)
        shift = (old_entry.bit_offset // 8, new_entry.bit_offset // 8)
        places = tuple(Site(s.old + shift[0], s.new + shift[1], s.bits) for s in inner.places)
        union = f"{old_entry.label()}{inner.in_union}" if inner.in_union else ""
        return Sites(places, (), union)

    def _in_tail(self, old_type: int, new_type: int) -> tuple[Site, ...]:
        mapping = self._pairing.compile(old_type, new_type)
        if mapping.tail is None or not mapping.tail_flexible:
            return ()
        pair = (
            self._pairing.old.strip(mapping.tail.old_type),
            self._pairing.new.strip(mapping.tail.new_type),
        )
        return self.find(*pair).places

    def _in_union(self, old_type: int, new_type: int) -> Sites:
        for old_entry, new_entry in self._pairing.compiler.pairs(old_type, new_type).pairs:
            old, new = self._pairing.old, self._pairing.new
            if self.find(old.strip(old_entry.type), new.strip(new_entry.type)):
                return Sites(in_union=old_entry.label())
        return Sites()


def _members(old_entry: Entry, new_entry: Entry) -> tuple[Member, Member]:
    return (
        Member(old_entry.name, old_entry.type, old_entry.bit_offset, old_entry.bit_size),
        Member(new_entry.name, new_entry.type, new_entry.bit_offset, new_entry.bit_size),
    )
