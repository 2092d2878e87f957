"""The types of one version as pairing walks them: stripped, flattened through anonymous members, measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from instar.metadata.model import Encoding, TypeKind

if TYPE_CHECKING:
    from instar.metadata.version import Version

VOID = -1
ANNOTATIONS = {"instar_ixfer_": "ixfer", "instar_pxfer_": "pxfer", "instar_noxfer_": "noxfer"}
RECORDS = (TypeKind.STRUCT, TypeKind.UNION)
TAGGED = (TypeKind.STRUCT, TypeKind.UNION, TypeKind.ENUM)
INTEGRAL = (TypeKind.INTEGER, TypeKind.ENUM)
_SIGNED = (Encoding.SIGNED, Encoding.SIGNED_CHAR)


@dataclass(frozen=True, slots=True)
class Entry:
    """A member as pairing sees it: anonymous structs are dissolved, an anonymous union is one entry.

    Attributes:
        name: Member name; "" for an anonymous union.
        type: Type row.
        bit_offset: From the start of the outermost struct.
        bit_size: 0 when not a bit-field.
        leaves: Of an anonymous union: its named members (offsets from the same start), else empty.
    """

    name: str
    type: int
    bit_offset: int
    bit_size: int
    leaves: tuple[Entry, ...] = ()

    def label(self) -> str:
        """The member path component for messages."""
        return f".{self.name}" if self.name else ".{" + "|".join(leaf.name for leaf in self.leaves) + "}"


class Layout:
    """Reads the type columns of one version; every answer is remembered."""

    def __init__(self, version: Version) -> None:
        self.version = version
        names = version.types.dtype.names or ()
        columns = {name: version.types[name].tolist() for name in names}
        self._kind: list[int] = columns["kind"]
        self._encoding: list[int] = columns["encoding"]
        self.flags: list[int] = columns["flags"]
        self._name: list[int] = columns["name"]
        self._size: list[int] = columns["size"]
        self._target: list[int] = columns["target"]
        self._first: list[int] = columns["first"]
        self._count: list[int] = columns["count"]
        self._elements: list[int] = columns["elements"]
        self.unit: list[int] = columns["unit"]
        self._entries: dict[int, tuple[Entry, ...]] = {}
        self._pointers: dict[int, bool] = {}
        self._shapes: dict[tuple[int, bool], Any] = {}
        self._stripped: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._kind)

    @cached_property
    def _members(self) -> list[tuple[str, int, int, int]]:
        rows = self.version.members
        names = [self.version.text(offset) for offset in rows["name"].tolist()]
        columns = (rows[column].tolist() for column in ("type", "bit_offset", "bit_size"))
        return list(zip(names, *columns, strict=True))

    @cached_property
    def _enumerators(self) -> list[tuple[str, int]]:
        rows = self.version.enumerators
        names = [self.version.text(offset) for offset in rows["name"].tolist()]
        return list(zip(names, rows["value"].tolist(), strict=True))

    def kind(self, row: int) -> TypeKind:
        """Kind of a row as it is (not stripped); VOID for -1."""
        return TypeKind(self._kind[row]) if row >= 0 else TypeKind.VOID

    def name(self, row: int) -> str:
        """Tag, typedef name or base type name, "" when anonymous."""
        return self.version.text(self._name[row]) if row >= 0 else "void"

    def label(self, row: int) -> str:
        """C spelling for messages."""
        return self.version.type_name(row) if row >= 0 else "void"

    def target(self, row: int) -> int:
        """Pointee, element, return, aliased or underlying type; -1 for void."""
        return self._target[row]

    def elements(self, row: int) -> int:
        """Declared element count of an ARRAY row; 0 when flexible or unknown."""
        return max(self._elements[row], 0)

    def is_flexible(self, row: int) -> bool:
        """Whether an ARRAY row has no declared element (``[]`` or ``[0]``)."""
        return self._elements[row] <= 0

    def strip(self, row: int) -> int:
        """The row behind all typedefs, -1 for void."""
        found = self._stripped.get(row)
        if found is None:
            found = row
            while found >= 0 and self._kind[found] == TypeKind.TYPEDEF:
                found = self._target[found]
            if found >= 0 and self._kind[found] == TypeKind.VOID:
                found = VOID
            self._stripped[row] = found
        return found

    def annotation(self, row: int) -> str:
        """``ixfer``, ``pxfer`` or ``noxfer`` when a typedef on the way says so (instar.h), else ""."""
        while row >= 0 and self._kind[row] == TypeKind.TYPEDEF:
            name = self.name(row)
            if name.startswith("instar_"):
                for prefix, meaning in ANNOTATIONS.items():
                    if name.startswith(prefix):
                        return meaning
            row = self._target[row]
        return ""

    def size(self, row: int) -> int:
        """Bytes of a type; 0 for void, functions and flexible arrays."""
        row = self.strip(row)
        if row < 0:
            return 0
        if self._kind[row] == TypeKind.ARRAY:
            return self.elements(row) * self.size(self._target[row])
        return self._size[row]

    def is_signed(self, row: int) -> bool:
        """Whether an INTEGER or ENUM row (stripped) holds negative values."""
        encoding = self._encoding[row]
        if encoding == Encoding.NONE and self._kind[row] == TypeKind.ENUM:
            return any(value < 0 for _, value in self.enumerators(row))
        return encoding in _SIGNED

    def is_boolean(self, row: int) -> bool:
        """Whether a stripped row is ``_Bool``."""
        return self._encoding[row] == Encoding.BOOLEAN

    def is_plain_char(self, row: int) -> bool:
        """Whether a stripped row is ``char`` itself: bytes or text, not a small number."""
        return row >= 0 and self._kind[row] == TypeKind.INTEGER and self.name(row) == "char"

    def enumerators(self, row: int) -> list[tuple[str, int]]:
        """(name, value) of an ENUM row."""
        first = self._first[row]
        return self._enumerators[first : first + self._count[row]]

    def parameters(self, row: int) -> list[int]:
        """Parameter types of a FUNCTION row."""
        first = self._first[row]
        return [member[1] for member in self._members[first : first + self._count[row]]]

    def members(self, row: int) -> list[tuple[str, int, int, int]]:
        """(name, type, bit offset, bit size) of a STRUCT or UNION row, as declared."""
        first = self._first[row]
        return self._members[first : first + self._count[row]]

    def entries(self, row: int) -> tuple[Entry, ...]:
        """Members of a STRUCT or UNION row with anonymous structs dissolved."""
        found = self._entries.get(row)
        if found is None:
            found = self._entries[row] = tuple(self._flatten(row, 0, self.kind(row) == TypeKind.UNION))
        return found

    def _flatten(self, row: int, base: int, in_union: bool) -> list[Entry]:
        entries: list[Entry] = []
        for name, member, bit_offset, bit_size in self.members(row):
            if name:
                entries.append(Entry(name, member, base + bit_offset, bit_size))
                continue
            inner = self.strip(member)
            kind = self.kind(inner)
            if kind == TypeKind.STRUCT and not in_union:
                entries += self._flatten(inner, base + bit_offset, False)
            elif kind in RECORDS:
                leaves = tuple(self._leaves(inner, base + bit_offset))
                entries.append(Entry("", member, base + bit_offset, 0, leaves))
        return entries

    def _leaves(self, row: int, base: int) -> list[Entry]:
        leaves: list[Entry] = []
        for name, member, bit_offset, bit_size in self.members(row):
            if name:
                leaves.append(Entry(name, member, base + bit_offset, bit_size))
            elif self.kind(self.strip(member)) in RECORDS:
                leaves += self._leaves(self.strip(member), base + bit_offset)
        return leaves

    def has_pointers(self, row: int) -> bool:
        """Whether any byte of the type belongs to a pointer, annotations considered."""
        if row < 0:
            return False
        found = self._pointers.get(row)
        if found is None:
            found = self._pointers[row] = self._find_pointers(row)
        return found

    def _find_pointers(self, row: int) -> bool:
        annotation = self.annotation(row)
        if annotation:
            return annotation == "pxfer"
        row = self.strip(row)
        kind = self.kind(row)
        if kind in RECORDS:
            return any(self.has_pointers(member[1]) for member in self.members(row))
        return kind == TypeKind.POINTER or (kind == TypeKind.ARRAY and self.has_pointers(self._target[row]))

    def is_padding(self, row: int, low: int, high: int) -> bool:
        """Whether the bits [low, high) of a type belong to no member."""
        row = self.strip(row)
        if low >= high or row < 0:
            return True
        kind = self.kind(row)
        if kind == TypeKind.ARRAY:
            return self._is_array_padding(row, low, high)
        if kind not in RECORDS:
            return high <= 0 or low >= 8 * self._size[row]
        for _, member, start, bits in self.members(row):
            end = start + (bits or 8 * self.size(member))
            overlaps = start < high and low < end
            if overlaps and (
                bits or not self.is_padding(member, max(low, start) - start, min(high, end) - start)
            ):
                return False
        return True

    def _is_array_padding(self, row: int, low: int, high: int) -> bool:
        element = self._target[row]
        bits = 8 * self.size(element)
        high = min(high, bits * self.elements(row))
        if not bits or low >= high:
            return True
        first, last = low // bits, (high - 1) // bits
        if last - first > 1:  # a whole element lies inside: decided by that one alone
            return self.is_padding(element, 0, bits)
        return all(
            self.is_padding(element, max(low - at * bits, 0), min(high - at * bits, bits))
            for at in range(first, last + 1)
        )

    def shape(self, row: int) -> Any:
        """Hashable structure of a type: equal shapes have equal layout, member names and pointee names."""
        return self._shape(row, True)

    def skeleton(self, row: int) -> Any:
        """The same without what pointers point at."""
        return self._shape(row, False)

    def _shape(self, row: int, pointees: bool) -> Any:
        row = self.strip(row)
        found = self._shapes.get((row, pointees))
        if found is None:
            found = self._shapes[row, pointees] = self._build_shape(row, pointees)
        return found

    def _build_shape(self, row: int, pointees: bool) -> Any:
        kind = self.kind(row)
        if kind in RECORDS:
            members = tuple((m[0], m[2], m[3], self._shape(m[1], pointees)) for m in self.members(row))
            return (int(kind), self._size[row], members)
        if kind == TypeKind.ENUM:
            return (int(kind), self._size[row], tuple(sorted(self.enumerators(row))))
        if kind == TypeKind.ARRAY:
            return (int(kind), self._elements[row], self._shape(self._target[row], pointees))
        if kind == TypeKind.POINTER:
            pointee = self.strip(self._target[row])
            return (int(kind), int(self.kind(pointee)), self.name(pointee)) if pointees else (int(kind),)
        return (int(kind), self._encoding[row] if row >= 0 else 0, self._size[row] if row >= 0 else 0)
