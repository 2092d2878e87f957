"""Walks two types side by side by the names of their members, without the compiler of forward mappings.

What comes out is where each leaf of the past is in the future. The inverse mapping is made of that, as
are the masks of the bits that must come back: a fault of the compiler touches neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.pairing.mapping import TypePairing

_NUMBERS = (TypeKind.INTEGER, TypeKind.ENUM, TypeKind.FLOAT)
_RECORDS = (TypeKind.STRUCT, TypeKind.UNION)
_X87_BITS = 80
_DEPTH = 64


@dataclass(frozen=True)
class Leaf:
    """One scalar of the past and its counterpart, or ``count`` equal ones. Offsets and strides are bits.

    Attributes:
        old_at, new_at: Of the first.
        old_bits, new_bits: Of one, as stored (bit-fields: their width).
        old_type, new_type: Stripped rows.
        is_field: Whether either is a bit-field.
    """

    old_at: int
    new_at: int
    old_bits: int
    new_bits: int
    old_type: int
    new_type: int
    is_field: bool = False
    count: int = 1
    old_stride: int = 0
    new_stride: int = 0

    def shifted(self, old_at: int, new_at: int) -> Leaf:
        """The same, further into both objects."""
        return replace(self, old_at=self.old_at + old_at, new_at=self.new_at + new_at)


@dataclass(frozen=True)
class Region:
    """Bits of one type, ``count`` times."""

    at: int
    bits: int
    count: int = 1
    stride: int = 0


@dataclass
class Pair:
    """What a walk over one pair of types found.

    Attributes:
        leaves: Paired leaves.
        lost: Bits of the past's type that the future's has no room for, and that must be zero: cut arrays.
        fresh: Bits that only the future's type has.
        starts: (old offset, new offset, new type row) in bytes, of every paired struct, array and scalar.
        dropped: Bits of members that the future's type does not have.
        handled: Bits of the past's members that a handler has taken on.
        tail: (old offset, new offset, old element, new element) in bytes of a last array that blocks extend.
    """

    leaves: list[Leaf] = field(default_factory=list)
    lost: list[Region] = field(default_factory=list)
    fresh: list[Region] = field(default_factory=list)
    starts: list[tuple[int, int, int]] = field(default_factory=list)
    dropped: int = 0
    handled: int = 0
    tail: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Member:
    """One named member, also of an anonymous struct or union; ``offset`` in bits, 0 ``bits``: no field."""

    name: str
    offset: int
    bits: int
    type: int


class TypeWalk:
    """Pairs leaves.

    Args:
        pairing: Of the two versions; used for annotations and for what handlers settle.
    """

    def __init__(self, pairing: TypePairing) -> None:
        self._pairing = pairing
        self._settled = pairing.settled
        self._old, self._new = pairing.old.version, pairing.new.version
        self._memo: dict[tuple[int, int], Pair] = {}

    def pair(self, old_type: int, new_type: int) -> Pair:
        """Everything about one pair; remembered."""
        key = old_type, new_type
        if key not in self._memo:
            found = self._memo[key] = Pair()
            self._walk(old_type, new_type, found)
            found.starts.append((0, 0, self._new.strip(new_type)))
            found.tail = self._tail(old_type, new_type)
        return self._memo[key]

    def _walk(self, old_type: int, new_type: int, into: Pair) -> None:
        old_row, new_row = self._old.strip(old_type), self._new.strip(new_type)
        if old_row < 0 or new_row < 0:
            return
        kinds = kind_of(self._old, old_row), kind_of(self._new, new_row)
        if self._pairing.new.annotation(new_type) == "noxfer":
            into.fresh.append(Region(0, 8 * self._new.size_of(new_row)))
            into.dropped += 8 * self._old.size_of(old_row)
        elif self._settled.between(old_row, new_row).whole:
            into.handled += 8 * self._old.size_of(old_row)
        elif kinds == (TypeKind.STRUCT, TypeKind.STRUCT):
            self._members(old_row, new_row, into)
        elif kinds == (TypeKind.ARRAY, TypeKind.ARRAY):
            self._elements(old_row, new_row, into)
        elif kinds == (TypeKind.UNION, TypeKind.UNION):
            self._union(old_row, new_row, into)
        elif kinds[0] == kinds[1] or all(kind in _NUMBERS for kind in kinds):
            sizes = leaf_bits(self._old, old_row), leaf_bits(self._new, new_row)
            into.leaves.append(Leaf(0, 0, *sizes, old_row, new_row))
        else:
            into.dropped += 8 * self._old.size_of(old_row)
            into.fresh.append(Region(0, 8 * self._new.size_of(new_row)))

    def _union(self, old_row: int, new_row: int, into: Pair) -> None:
        """Its bytes as they are; where it grew, what is padding at its end now may be data then."""
        bits = 8 * self._old.size_of(old_row)
        if self._old.size_of(old_row) != self._new.size_of(new_row):
            data = (one for member in named_members(self._old, old_row) for one in self._data_of(member))
            bits = max((one.at + one.bits for one in data), default=0)
        bits = min(-(-bits // 8) * 8, 8 * self._new.size_of(new_row))
        if bits:
            into.leaves.append(Leaf(0, 0, bits, bits, old_row, new_row))

    def _data_of(self, member: Member) -> Iterator[Region]:
        return self._data(self._old, member.type, member.offset, member.bits)

    def _members(self, old_row: int, new_row: int, into: Pair) -> None:
        owned = self._settled.between(old_row, new_row)
        renames: Mapping[str, str] = self._settled.members.get(old_row, {})
        others = {member.name: member for member in named_members(self._new, new_row)}
        used = set()
        for member in named_members(self._old, old_row):
            name = renames.get(member.name, member.name)
            bits = member.bits or 8 * self._old.size_of(member.type)
            if name in owned.new or member.name in owned.old:
                into.handled += bits
            elif name not in others:
                into.dropped += bits
            else:
                used.add(name)
                self._member(member, others[name], into)
        for name, other in others.items():
            if name not in used and name not in owned.new:
                into.fresh.extend(self._data(self._new, other.type, other.offset, other.bits))

    def _member(self, old: Member, new: Member, into: Pair) -> None:
        if not old.bits and not new.bits:
            inner = self.pair(old.type, new.type)
            _put(into, inner, old.offset, new.offset)
            return
        sizes = old.bits or 8 * self._old.size_of(old.type), new.bits or 8 * self._new.size_of(new.type)
        rows = self._old.strip(old.type), self._new.strip(new.type)
        if self._settled.between(*rows).whole:
            into.handled += sizes[0]
        else:
            into.leaves.append(Leaf(old.offset, new.offset, *sizes, *rows, is_field=True))

    def _elements(self, old_row: int, new_row: int, into: Pair) -> None:
        elements = int(self._old.types[old_row]["target"]), int(self._new.types[new_row]["target"])
        counts = int(self._old.types[old_row]["elements"]), int(self._new.types[new_row]["elements"])
        sizes = 8 * self._old.size_of(elements[0]), 8 * self._new.size_of(elements[1])
        inner = self.pair(*elements)
        shared = max(min(counts), 0)
        into.dropped += inner.dropped * shared
        into.handled += inner.handled * shared
        for leaf in inner.leaves:
            if leaf.count == 1 and shared:
                into.leaves.append(replace(leaf, count=shared, old_stride=sizes[0], new_stride=sizes[1]))
            else:
                into.leaves.extend(leaf.shifted(i * sizes[0], i * sizes[1]) for i in range(shared))
        for name, stride in (("lost", sizes[0]), ("fresh", sizes[1])):
            regions: list[Region] = getattr(into, name)
            for region in getattr(inner, name):
                regions.extend(replace(region, at=region.at + i * stride) for i in range(shared))
        into.starts.extend(
            (a + i * sizes[0] // 8, b + i * sizes[1] // 8, kind)
            for i in range(shared if kind_of(self._old, self._old.strip(elements[0])) in _RECORDS else 0)
            for a, b, kind in inner.starts
        )
        if counts[0] == counts[1] > 0:  # one past the end
            into.starts.append((shared * sizes[0] // 8, shared * sizes[1] // 8, self._innermost(elements[1])))
        if counts[0] > shared > 0:
            into.lost.append(Region(shared * sizes[0], (counts[0] - shared) * sizes[0]))
        if counts[1] > shared >= 0:
            into.fresh.extend(
                one
                for i in range(shared, counts[1])
                for one in self._data(self._new, elements[1], i * sizes[1], 0)
            )

    def _innermost(self, kind: int) -> int:
        """The element of an array of arrays, in the new version."""
        row = self._new.strip(kind)
        while kind_of(self._new, row) is TypeKind.ARRAY:
            row = self._new.strip(int(self._new.types[row]["target"]))
        return row

    def _data(self, version: Version, kind: int, at: int, bits: int, depth: int = 0) -> Iterator[Region]:
        """Everything of a type but padding."""
        if bits:
            yield Region(at, bits)
            return
        row = version.strip(kind)
        shape = kind_of(version, row)
        if shape is TypeKind.STRUCT and depth < _DEPTH:
            for member in named_members(version, row):
                yield from self._data(version, member.type, at + member.offset, member.bits, depth + 1)
        elif shape is not None:
            yield Region(at, leaf_bits(version, row))

    def _tail(self, old_type: int, new_type: int) -> tuple[int, int, int, int] | None:
        """A last member that is an array of at most one element, in both."""
        rows = self._old.strip(old_type), self._new.strip(new_type)
        if any(
            kind_of(v, r) is not TypeKind.STRUCT for v, r in zip((self._old, self._new), rows, strict=True)
        ):
            return None
        lasts = [_last(version, row) for version, row in zip((self._old, self._new), rows, strict=True)]
        old, new = lasts
        renames = self._settled.members.get(rows[0], {})
        if old is None or new is None or renames.get(old.name, old.name) != new.name:
            return None
        kinds = self._old.strip(old.type), self._new.strip(new.type)
        if kind_of(self._old, kinds[0]) is TypeKind.STRUCT:
            inner = self._tail(*kinds)
            return inner and (inner[0] + old.offset // 8, inner[1] + new.offset // 8, inner[2], inner[3])
        for version, kind in zip((self._old, self._new), kinds, strict=True):
            if kind_of(version, kind) is not TypeKind.ARRAY or int(version.types[kind]["elements"]) > 1:
                return None
        elements = int(self._old.types[kinds[0]]["target"]), int(self._new.types[kinds[1]]["target"])
        return old.offset // 8, new.offset // 8, *elements


def _put(into: Pair, inner: Pair, old_at: int, new_at: int) -> None:
    """Put what was found in a member at its place."""
    into.leaves.extend(leaf.shifted(old_at, new_at) for leaf in inner.leaves)
    into.lost.extend(replace(region, at=region.at + old_at) for region in inner.lost)
    into.fresh.extend(replace(region, at=region.at + new_at) for region in inner.fresh)
    into.starts.extend((a + old_at // 8, b + new_at // 8, kind) for a, b, kind in inner.starts)
    into.dropped += inner.dropped
    into.handled += inner.handled


def _last(version: Version, row: int) -> Member | None:
    members = [m for m in named_members(version, row) if not m.bits]
    return max(members, key=lambda m: (m.offset, version.size_of(m.type) == 0), default=None)


def named_members(version: Version, row: int) -> Iterator[Member]:
    """All members that have a name, in the record itself or in anonymous ones inside it."""
    for member in version.members_of(row):
        name, offset, kind = version.text(int(member["name"])), int(member["bit_offset"]), int(member["type"])
        if name:
            yield Member(name, offset, int(member["bit_size"]), kind)
        elif kind >= 0 and kind_of(version, version.strip(kind)) in _RECORDS:
            for inner in named_members(version, version.strip(kind)):
                yield replace(inner, offset=offset + inner.offset)


def kind_of(version: Version, row: int) -> TypeKind | None:
    """What a stripped type is; None for void."""
    return TypeKind(int(version.types[row]["kind"])) if row >= 0 else None


def leaf_bits(version: Version, row: int) -> int:
    """Bits of a scalar that hold its value."""
    bits = 8 * version.size_of(row)
    return _X87_BITS if kind_of(version, row) is TypeKind.FLOAT and bits == 128 else bits
