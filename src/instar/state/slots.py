"""What the kernels need to know of one version's types: sizes, pointer slots, tails.

Built once per version while the target still serves; pure (no process).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.metadata.annotations import annotation_of, tag_mask
from instar.metadata.model import TypeFlag, TypeKind
from instar.metadata.version import Version
from instar.state.columns import KTYPE, SLOT, KernelType, SlotKind

Array = np.ndarray[Any, np.dtype[Any]]

_MASK_SHIFT = 8
# (offset, count, stride, pointee, kind and above it the bits of a tag)
Slot = tuple[int, int, int, int, int]

LIBRARY_TYPES = ("_IO_FILE",)
"""Structs whose contents belong to libc: carried by `control.streams`, never by copying bytes."""


@dataclass(frozen=True, eq=False)
class TypeTable:
    """Columns of one version's types for the kernels; row numbers are those of ``Version.types``.

    Attributes:
        types: ``KTYPE`` rows.
        slots: ``SLOT`` rows, those of one type together and sorted by offset.
        bitmaps: One bit per aligned word of every type that has slots: is it a pointer slot?
        bitmap_first: Per type the number of its first bit.
        stripped: Per type the row behind its typedefs; -1 for void.
    """

    types: Array
    slots: Array
    bitmaps: Array
    bitmap_first: Array
    stripped: Array


class _Builder:
    """Recursion over the types with a memo; cycles go through pointers only, which end it."""

    def __init__(self, version: Version) -> None:
        self.version = version
        self.rows = version.types
        self.stripped = np.array([self._strip(i) for i in range(len(self.rows))], dtype=np.int32)
        self.memo: dict[int, tuple[Slot, ...]] = {}

    def _strip(self, row: int) -> int:
        seen = 0
        while row >= 0 and self.rows[row]["kind"] == TypeKind.TYPEDEF and seen < 64:
            row = int(self.rows[row]["target"])
            seen += 1
        return -1 if row >= 0 and self.rows[row]["kind"] == TypeKind.VOID else row

    def kernel_kind(self, row: int) -> KernelType:
        if row < 0:
            return KernelType.NONE
        kind = TypeKind(int(self.rows[row]["kind"]))
        if kind in (TypeKind.VOID, TypeKind.FUNCTION, TypeKind.OPAQUE):
            return KernelType.NONE
        if kind is TypeKind.POINTER:
            return KernelType.POINTER
        if kind in (TypeKind.STRUCT, TypeKind.UNION):
            incomplete = bool(int(self.rows[row]["flags"]) & TypeFlag.INCOMPLETE)
            return KernelType.NONE if incomplete else KernelType.AGGREGATE
        if kind is TypeKind.ARRAY:
            element = self.kernel_kind(int(self.stripped[self.rows[row]["target"]]))
            return KernelType.BYTES if element is KernelType.BYTES else KernelType.AGGREGATE
        if kind is TypeKind.INTEGER and self.rows[row]["size"] == 1:
            return KernelType.BYTES
        return KernelType.SCALAR

    def hidden_struct(self, row: int) -> int:
        """`typedef void FOO`: the one struct that other units call FOO; -1 when there is none, or several."""
        if row < 0 or self.rows[row]["kind"] != TypeKind.TYPEDEF:
            return -1
        name = self.version.text(int(self.rows[row]["name"]))
        found = {
            int(self.stripped[other])
            for other in np.flatnonzero(self.rows["name"] == self.rows[row]["name"])
            if self.rows[other]["kind"] in (TypeKind.TYPEDEF, TypeKind.STRUCT) and self.stripped[other] >= 0
        }
        found |= set(self.version.find_types(f"struct {name}"))
        return found.pop() if len(found) == 1 else -1

    def target(self, row: int) -> int:
        target = int(self.rows[row]["target"])
        return -1 if target < 0 else int(self.stripped[target])

    def slots(self, row: int) -> tuple[Slot, ...]:
        """Pointer slots of one object of a (stripped) type, flexible tail excluded."""
        if row < 0:
            return ()
        found = self.memo.get(row)
        if found is None:
            found = self.memo[row] = tuple(sorted(self._slots(row)))
        return found

    def annotated(self, row: int) -> tuple[Slot, ...]:
        """Slots of a type as declared: what instar.h says of it comes before what it is."""
        if mask := tag_mask(self.version, row):
            tagged = self.slots(int(self.stripped[row])) or ((0, 1, 0, -1, SlotKind.VOID),)
            return tuple((*slot[:4], slot[4] | mask << _MASK_SHIFT) for slot in tagged)
        meaning = annotation_of(self.version, row)
        if meaning == "pxfer" and self.rows[int(self.stripped[row])]["kind"] != TypeKind.POINTER:
            return ((0, 1, 0, -1, SlotKind.VOID),) if self.size(int(self.stripped[row])) == 8 else ()
        return () if meaning in ("ixfer", "noxfer") else self.slots(int(self.stripped[row]))

    def _slots(self, row: int) -> list[Slot]:
        kind = TypeKind(int(self.rows[row]["kind"]))
        if kind is TypeKind.POINTER:
            return [self._pointer(row)]
        if kind is TypeKind.ARRAY:
            return self._array(row)
        if kind is TypeKind.STRUCT:
            return [
                (int(m["bit_offset"]) // 8 + slot[0], *slot[1:])
                for m in self.version.members_of(row)
                if not m["bit_size"] and m["type"] >= 0
                for slot in self.annotated(int(m["type"]))
            ]
        if kind is TypeKind.UNION:
            return self._union(row)
        return []

    def _pointer(self, row: int) -> Slot:
        pointee = self.target(row)
        if pointee < 0:
            pointee = self.hidden_struct(int(self.rows[row]["target"]))
        while pointee >= 0 and self.rows[pointee]["kind"] == TypeKind.ARRAY:
            pointee = self.target(pointee)  # a pointer to an array claims its elements
        if pointee >= 0 and self.rows[pointee]["kind"] == TypeKind.FUNCTION:
            return (0, 1, 0, -1, SlotKind.FUNCTION)
        if self.kernel_kind(pointee) is KernelType.NONE:
            return (0, 1, 0, -1, SlotKind.VOID)
        return (0, 1, 0, pointee, SlotKind.POINTER)

    def _array(self, row: int) -> list[Slot]:
        element = self.target(row)
        raw = int(self.rows[row]["target"])
        inner = self.annotated(raw) if raw >= 0 else ()
        elements = int(self.rows[row]["elements"])
        if not inner or elements <= 0:
            return []
        size = self.size(element)
        result: list[Slot] = []
        for offset, count, stride, pointee, kind in inner:
            if count == 1:
                result.append((offset, elements, size, pointee, kind))
            elif elements * size == elements * count * stride and offset < stride:
                result.append((offset, elements * count, stride, pointee, kind))
            elif elements <= count:
                result.extend((offset + i * size, count, stride, pointee, kind) for i in range(elements))
            else:
                result.extend((offset + k * stride, elements, size, pointee, kind) for k in range(count))
        return result

    def _members(self, row: int) -> list[tuple[int, int]]:
        """(byte offset, stripped type) of every member that is no bit-field."""
        return [
            (int(m["bit_offset"]) // 8, int(self.stripped[m["type"]]))
            for m in self.version.members_of(row)
            if not m["bit_size"] and m["type"] >= 0
        ]

    def _shifted(self, member: tuple[int, int]) -> list[Slot]:
        start, kind = member
        return [(start + o, c, s, p, k) for o, c, s, p, k in self.slots(kind)]

    def _union(self, row: int) -> list[Slot]:
        each = [set(self._shifted(member)) for member in self._members(row)]
        found = set[Slot]().union(*each)
        if all(slots == found for slots in each):
            return list(found)  # whichever is in use, the pointers are the same (sa_handler, sa_sigaction)
        return [(o, c, s, p, SlotKind.UNION) for o, c, s, p, _ in found]

    def size(self, row: int) -> int:
        return int(self.version.size_of(row)) if row >= 0 else 0

    def inner(self, row: int) -> int:
        """The type at offset 0 of an aggregate, -1 when it has none."""
        kind = TypeKind(int(self.rows[row]["kind"]))
        if kind is TypeKind.ARRAY:
            return self.target(row)
        if kind in (TypeKind.STRUCT, TypeKind.UNION):
            for offset, member in self._members(row):
                if offset == 0:
                    return member
        return -1

    def tail(self, row: int) -> tuple[int, int, bool]:
        """(offset, element type of a flexible last array or -1, may the last member be cut?)."""
        size = self.size(row)
        if self.rows[row]["kind"] != TypeKind.STRUCT:
            return size, -1, False
        members = self._members(row)
        if not members:
            return size, -1, False
        offset, last = members[-1]
        if self.rows[last]["kind"] == TypeKind.ARRAY:
            flexible = int(self.rows[last]["elements"]) <= 1
            return offset, self.target(last) if flexible else -1, True
        if self.rows[last]["kind"] == TypeKind.STRUCT:
            inner_offset, element, cut = self.tail(last)
            return (offset + inner_offset, element, cut) if cut else (size, -1, False)
        cut = self.rows[last]["kind"] == TypeKind.UNION and any(
            self.kernel_kind(m) is KernelType.BYTES for _, m in self._members(last)
        )
        return (offset, -1, True) if cut else (size, -1, False)


def build_type_table(version: Version) -> TypeTable:
    """Compile every type of a version for the kernels (about 10 us a type)."""
    builder = _Builder(version)
    count = len(version.types)
    types = np.zeros(count, dtype=KTYPE)
    rows: list[Slot] = []
    first_bit = np.zeros(count, dtype=np.uint64)
    bits = 0
    library = {version.find_type(f"struct {name}") for name in LIBRARY_TYPES}
    for row in range(count):
        entry = types[row]
        stripped = int(builder.stripped[row])
        entry["inner"] = -1
        if stripped != row:
            continue  # typedefs are never looked at by the kernels
        entry["kind"] = kind = builder.kernel_kind(row)
        if kind is KernelType.NONE:
            continue
        _fill(builder, row, entry, rows)
        entry["library"] = row in library
        if entry["slot_count"]:
            first_bit[row] = bits
            bits += (int(entry["size"]) + 7) // 8
    slots = np.zeros(max(len(rows), 1), dtype=SLOT)
    for name, column in zip(
        ("offset", "count", "stride", "pointee", "kind"), zip(*rows, strict=True), strict=False
    ):
        slots[name][: len(rows)] = np.array(column, dtype=np.int64) & 0xFF if name == "kind" else column
        if name == "kind":
            slots["mask"][: len(rows)] = np.array(column, dtype=np.int64) >> _MASK_SHIFT
    return TypeTable(types, slots, _bitmaps(types, slots, first_bit, bits), first_bit, builder.stripped)


def _fill(builder: _Builder, row: int, entry: Any, rows: list[Slot]) -> None:
    entry["size"] = builder.size(row)
    entry["inner"] = builder.inner(row)
    tail_offset, element, cut = builder.tail(row)
    entry["tail_offset"], entry["truncatable"] = tail_offset, cut
    if element >= 0:
        entry["tail_size"] = builder.size(element)
        entry["tail_slot"] = len(rows)
        rows.extend(builder.slots(element))
        entry["tail_slot_count"] = len(rows) - int(entry["tail_slot"])
    own = builder.slots(row)
    entry["first_slot"], entry["slot_count"] = len(rows), len(own)
    rows.extend(own)


def _bitmaps(types: Array, slots: Array, first_bit: Array, bits: int) -> Array:
    """One bit per aligned pointer slot, types one after the other."""
    words = np.zeros(bits // 64 + 1, dtype=np.uint64)
    for row in np.flatnonzero(types["slot_count"]):
        entry = types[row]
        for slot in slots[entry["first_slot"] : entry["first_slot"] + entry["slot_count"]]:
            offsets = int(slot["offset"]) + np.arange(int(slot["count"])) * int(slot["stride"])
            aligned = offsets[offsets % 8 == 0]
            position = (int(first_bit[row]) + aligned // 8).astype(np.uint64)
            np.bitwise_or.at(words, position // np.uint64(64), np.uint64(1) << (position % np.uint64(64)))
    return words
