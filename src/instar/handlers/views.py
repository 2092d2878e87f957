"""The views of ``instar.ext``, over the types of a version and the memory of a state."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from instar.ext.values import Array, Enumerator, Pointer, PointerError, RangeError, Struct, TypeMismatchError
from instar.handlers.memory import Memory
from instar.handlers.store import Translate, store, store_bits
from instar.handlers.types import RECORDS, VOID, Member, Types
from instar.metadata.model import TypeKind

_TEXT_LIMIT = 1 << 20
_SHOWN = 8


@dataclass(eq=False)
class Side:
    """One version's state: types and memory.

    Attributes:
        types: Of the version.
        memory: Of its process, as a copy or live.
        translate: Past address, old pointee type, new pointee type -> future address; None in the past.
        name: ``old`` or ``new``, for messages; "": as ``translate`` says.
    """

    types: Types
    memory: Memory
    translate: Translate | None = field(default=None, repr=False)
    name: str = ""

    @property
    def is_future(self) -> bool:
        """Whether it may be written."""
        return self.translate is not None

    @property
    def which(self) -> str:
        """``old`` or ``new``."""
        return self.name or ("new" if self.is_future else "old")


def load(side: Side, type_row: int, address: int, path: str) -> Any:
    """The value of a type at an address: a number, an enumerator, or a view."""
    types = side.types
    row = types.strip(type_row)
    kind = types.kind(row)
    if kind in RECORDS:
        return StructView(side, row, address, path)
    if kind is TypeKind.ARRAY:
        return ArrayView(side, types.target(row), types.elements(row), address, path)
    if kind is TypeKind.POINTER:
        word = int.from_bytes(side.memory.read(address, 8), "little")
        return PointerView(side, types.target(row), word, path)
    if kind in (TypeKind.INTEGER, TypeKind.ENUM):
        number = int.from_bytes(
            side.memory.read(address, types.size(row)), "little", signed=types.is_signed(row)
        )
        return _number(types, row, number)
    if kind is TypeKind.FLOAT and types.size(row) in (4, 8):
        raw = side.memory.read(address, types.size(row))
        return struct.unpack("<f" if len(raw) == 4 else "<d", raw)[0]
    raise TypeMismatchError(f"{path} is a {types.label(type_row)}, which handlers cannot read")


def load_member(side: Side, member: Member, base: int, path: str) -> Any:
    """A member, bit-fields included."""
    if not member.bit_size:
        return load(side, member.type, base + member.offset, path)
    types, row = side.types, side.types.strip(member.type)
    shift = member.bit_offset % 8
    size = (shift + member.bit_size + 7) // 8
    word = int.from_bytes(side.memory.read(base + member.offset, size), "little")
    number = word >> shift & ((1 << member.bit_size) - 1)
    if types.is_signed(row) and number >> (member.bit_size - 1):
        number -= 1 << member.bit_size
    return _number(types, row, number)


def _number(types: Types, row: int, number: int) -> int:
    if types.kind(row) is TypeKind.ENUM:
        return Enumerator(number, types.enumerators(row).get(number))
    return bool(number) if types.is_boolean(row) and number in (0, 1) else number


class StructView(Struct):
    """A struct or union at an address."""

    __slots__ = ("_instar_address", "_instar_path", "_instar_row", "_instar_side")
    _instar_side: Side
    _instar_row: int
    _instar_address: int
    _instar_path: str

    def __init__(self, side: Side, row: int, address: int, path: str) -> None:
        set_slot = object.__setattr__
        set_slot(self, "_instar_side", side)
        set_slot(self, "_instar_row", row)
        set_slot(self, "_instar_address", address)
        set_slot(self, "_instar_path", path)

    def _instar_type_name(self) -> str:
        return self._instar_side.types.label(self._instar_row)

    def _instar_members(self) -> list[str]:
        return list(self._instar_side.types.members(self._instar_row))

    def _instar_member(self, name: str) -> Member:
        members = self._instar_side.types.members(self._instar_row)
        found = members.get(name)
        if found is None:
            kind = self._instar_type_name()
            hint = self._instar_side.types.similar(name, members)
            side = self._instar_side.which
            raise TypeMismatchError(f"{kind} of the {side} version has no member `{name}`: {hint}")
        return found

    def __getitem__(self, name: str) -> Any:
        member = self._instar_member(name)
        return load_member(self._instar_side, member, self._instar_address, f"{self._instar_path}.{name}")

    def __setitem__(self, name: str, value: Any) -> None:
        member = self._instar_member(name)
        path, side = f"{self._instar_path}.{name}", self._instar_side
        if member.bit_size:
            store_bits(side, member, self._instar_address, value, path)
        else:
            store(side, member.type, self._instar_address + member.offset, value, path)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __dir__(self) -> list[str]:
        return self._instar_members()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, StructView)
            and self._instar_side is other._instar_side
            and self._instar_address == other._instar_address
        )

    def __hash__(self) -> int:
        return hash(self._instar_address)

    def __repr__(self) -> str:
        shown = []
        for name in self._instar_members()[:_SHOWN]:
            try:
                value = self[name]
            except Exception as error:  # who prints a view while looking for an error gets no other one
                value = f"<{error}>"
            text = "{...}" if isinstance(value, StructView) else repr(value)
            shown.append(f"{name}={text}")
        more = ", ..." if len(self._instar_members()) > _SHOWN else ""
        return f"{self._instar_type_name()} {{{', '.join(shown)}{more}}}"


class ArrayView(Array):
    """Elements one after the other."""

    __slots__ = ("_instar_address", "_instar_count", "_instar_path", "_instar_row", "_instar_side")

    def __init__(self, side: Side, element: int, count: int, address: int, path: str) -> None:
        self._instar_side, self._instar_row, self._instar_count = side, element, count
        self._instar_address, self._instar_path = address, path

    def _instar_type_name(self) -> str:
        return f"{self._instar_side.types.label(self._instar_row)}[{self._instar_count}]"

    def __len__(self) -> int:
        return self._instar_count

    def _at(self, index: int) -> tuple[int, str]:
        if not isinstance(index, int) and not hasattr(index, "__index__"):
            raise TypeMismatchError(f"{self._instar_path}[{index!r}]: an index is a whole number")
        at = int(index) + (self._instar_count if index < 0 else 0)
        if not 0 <= at < self._instar_count:
            raise RangeError(f"{self._instar_path} has {self._instar_count} elements, none has index {index}")
        size = self._instar_side.types.size(self._instar_row)
        return self._instar_address + at * size, f"{self._instar_path}[{at}]"

    def __getitem__(self, index: int) -> Any:
        address, path = self._at(index)
        return load(self._instar_side, self._instar_row, address, path)

    def __setitem__(self, index: int, value: Any) -> None:
        address, path = self._at(index)
        store(self._instar_side, self._instar_row, address, value, path)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(self._instar_count))

    def bytes(self) -> bytes:
        """All its bytes."""
        size = self._instar_side.types.size(self._instar_row) * self._instar_count
        return self._instar_side.memory.read(self._instar_address, size) if size else b""

    def string(self) -> str:
        """The text in it."""
        if not self._instar_side.types.is_character(self._instar_row):
            raise TypeMismatchError(f"{self._instar_path} is a {self._instar_type_name()}, no text")
        return self.bytes().split(b"\0", 1)[0].decode(errors="backslashreplace")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ArrayView):
            return (self._instar_side, self._instar_address) == (other._instar_side, other._instar_address)
        return list(self) == other if isinstance(other, list) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._instar_address)

    def __repr__(self) -> str:
        if self._instar_side.types.is_character(self._instar_row):
            return repr(self.string())
        shown = ", ".join(repr(self[i]) for i in range(min(self._instar_count, _SHOWN)))
        return f"[{shown}{', ...' if self._instar_count > _SHOWN else ''}]"


class PointerView(Pointer):
    """A pointer's value: it is not looked up again when the state changes."""

    __slots__ = ("_instar_path", "_instar_row", "_instar_side", "_instar_word")
    _instar_side: Side
    _instar_row: int
    _instar_word: int
    _instar_path: str

    def __init__(self, side: Side, pointee: int, word: int, path: str) -> None:
        set_slot = object.__setattr__
        set_slot(self, "_instar_side", side)
        set_slot(self, "_instar_row", pointee)
        set_slot(self, "_instar_word", word)
        set_slot(self, "_instar_path", path)

    def _instar_type_name(self) -> str:
        return f"{self._instar_side.types.label(self._instar_row)} *"

    def _require(self) -> int:
        if not self._instar_word:
            raise PointerError(f"{self._instar_path} is null")
        if self._instar_row == VOID:
            raise TypeMismatchError(f'{self._instar_path} is a void *: say cast(p, "struct x *") first')
        return self._instar_word

    def deref(self) -> Any:
        """What it points at."""
        return load(self._instar_side, self._instar_row, self._require(), f"(*{self._instar_path})")

    def array(self, count: int) -> Array:
        """Elements from where it points."""
        return ArrayView(
            self._instar_side, self._instar_row, count, self._require(), f"(*{self._instar_path})"
        )

    def string(self) -> str:
        """The text it points at."""
        if not self._instar_word:
            raise PointerError(f"{self._instar_path} is null")
        if self._instar_row != VOID and not self._instar_side.types.is_character(self._instar_row):
            raise TypeMismatchError(f"{self._instar_path} is a {self._instar_type_name()}, no text")
        text, at = b"", self._instar_word
        while b"\0" not in text and len(text) < _TEXT_LIMIT:
            text += self._piece(at + len(text))
        return text.split(b"\0", 1)[0].decode(errors="backslashreplace")

    def _piece(self, address: int) -> bytes:
        """Bytes up to an edge of 64, so that none behind the end of a block need be there."""
        try:
            return self._instar_side.memory.read(address, 64 - address % 64)
        except PointerError:
            return self._instar_side.memory.read(address, 1)

    def __bool__(self) -> bool:
        return self._instar_word != 0

    def __int__(self) -> int:
        return self._instar_word

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return getattr(self._struct(name), name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._struct(name)[name] = value

    def _struct(self, name: str) -> StructView:
        target = self.deref()
        if not isinstance(target, StructView):
            kind = self._instar_type_name()
            raise TypeMismatchError(f"{self._instar_path} is a {kind}: there is no member `{name}`")
        return target

    def __getitem__(self, index: int) -> Any:
        address, path = self._element(index)
        return load(self._instar_side, self._instar_row, address, path)

    def __setitem__(self, index: int, value: Any) -> None:
        address, path = self._element(index)
        store(self._instar_side, self._instar_row, address, value, path)

    def _element(self, index: int) -> tuple[int, str]:
        size = self._instar_side.types.size(self._instar_row)
        return self._require() + index * size, f"{self._instar_path}[{index}]"

    def __eq__(self, other: object) -> bool:
        if other is None:
            return not self._instar_word
        return (
            isinstance(other, PointerView)
            and self._instar_side is other._instar_side
            and self._instar_word == other._instar_word
        )

    def __hash__(self) -> int:
        return hash(self._instar_word)

    def __repr__(self) -> str:
        return f"({self._instar_type_name()}) {self._instar_word:#x}" if self._instar_word else "NULL"
