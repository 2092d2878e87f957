"""Storing in the future: every value is checked against the type of its place, then written."""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from instar.ext.values import Enumerator, RangeError, Raw, ReadOnlyError, TypeMismatchError
from instar.handlers.types import RECORDS, VOID, Member, Types
from instar.metadata.model import TypeKind

if TYPE_CHECKING:
    from instar.handlers.views import Side


_WORD = 8


@dataclass(frozen=True)
class Tagged:
    """A pointer with bits in its low end."""

    value: Any
    bits: int


# (past address, old pointee row, new pointee row, path) -> future address.
Translate = Callable[[int, int, int, str], int]


def store(side: Side, type_row: int, address: int, value: Any, path: str) -> None:
    """Write a value at an address of the future; raises HandlerError before anything is written."""
    _require_future(side, path)
    types = side.types
    row = types.strip(type_row)
    kind = types.kind(row)
    if kind in RECORDS:
        _store_record(side, row, address, value, path)
    elif kind is TypeKind.ARRAY:
        _store_array(side, row, address, value, path)
    elif kind is TypeKind.POINTER:
        word = pointer_word(side, types.target(row), value, path)
        side.memory.write(address, word.to_bytes(8, "little"))
    elif kind in (TypeKind.INTEGER, TypeKind.ENUM):
        size = types.size(row)
        if isinstance(value, Tagged) and size == _WORD:
            value = _as_number(types, row, pointer_word(side, VOID, value, path))
        number = whole_number(types, row, 8 * size, value, path)
        side.memory.write(address, (number & (1 << 8 * size) - 1).to_bytes(size, "little"))
    elif kind is TypeKind.FLOAT and types.size(row) in (4, 8):
        side.memory.write(address, _float_bytes(types.size(row), value, path))
    else:
        raise TypeMismatchError(f"{path} is a {types.label(type_row)}, in which handlers cannot store")


def _as_number(types: Types, row: int, word: int) -> int:
    """A word as the number that an integer of 8 bytes has then."""
    return word - (1 << 64) if types.is_signed(row) and word >> 63 else word


def store_bits(side: Side, member: Member, base: int, value: Any, path: str) -> None:
    """Write a bit-field."""
    _require_future(side, path)
    row = side.types.strip(member.type)
    number = whole_number(side.types, row, member.bit_size, value, path)
    shift, mask = member.bit_offset % 8, (1 << member.bit_size) - 1
    size = (shift + member.bit_size + 7) // 8
    word = int.from_bytes(side.memory.read(base + member.offset, size), "little")
    word = word & ~(mask << shift) | (number & mask) << shift
    side.memory.write(base + member.offset, word.to_bytes(size, "little"))


def _require_future(side: Side, path: str) -> None:
    if not side.is_future and side.which == "new":
        raise ReadOnlyError(f"{path}: read-only: a check changes nothing")
    if not side.is_future:
        raise ReadOnlyError(f"{path}: the past is read-only: store in `new`")


# Numbers ----------------------------------------------------------------------------------------------------


def whole_number(types: Types, row: int, bits: int, value: Any, path: str) -> int:
    """The number that a value is for an integer or enum of ``bits`` bits."""
    if types.kind(row) is TypeKind.ENUM:
        number = _enum_number(types, row, value, path)
    else:
        number = _index(types, row, value, path)
    if types.is_boolean(row):
        low, high = 0, 1
    elif types.is_signed(row):
        low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    else:
        low, high = 0, (1 << bits) - 1
    if not low <= number <= high:
        raise RangeError(f"{path}: {value!r} does not fit {types.label(row)} ({low} to {high})")
    return number


def _index(types: Types, row: int, value: Any, path: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        hint = " (say int(...) to cut it)" if isinstance(value, float) else ""
        raise TypeMismatchError(f"{path} is a {types.label(row)}: {describe(value)}{hint}") from None


def _enum_number(types: Types, row: int, value: Any, path: str) -> int:
    """Names count, not numbers: an enumerator of the past is found again by its name."""
    name = value if isinstance(value, str) else value.name if isinstance(value, Enumerator) else None
    if name is None:
        return _index(types, row, value, path)
    number = types.enumerator(row, name)
    if number is None:
        names = ", ".join(types.enumerators(row).values())
        raise RangeError(f"{path}: {types.label(row)} has no enumerator {name}; it has {names}")
    return number


def _float_bytes(size: int, value: Any, path: str) -> bytes:
    try:
        number = float(value) if not isinstance(value, str | bytes) else None
    except TypeError:
        number = None
    if number is None:
        raise TypeMismatchError(f"{path} is a floating-point number: {describe(value)}")
    try:
        return struct.pack("<f" if size == 4 else "<d", number)
    except OverflowError:
        raise RangeError(f"{path}: {number} does not fit a float") from None


def describe(value: Any) -> str:
    """What a value is, for messages."""
    from instar.handlers.views import ArrayView, PointerView, StructView

    if isinstance(value, StructView | ArrayView | PointerView):
        side = value._instar_side.which
        return f"{value._instar_type_name()} of the {side} version does not go there"
    text = repr(value)
    return f"{text if len(text) < 60 else text[:57] + '...'} ({type(value).__name__}) does not go there"


# Pointers ---------------------------------------------------------------------------------------------------


def pointer_word(side: Side, pointee: int, value: Any, path: str) -> int:
    """The word for a pointer to ``pointee`` (a stripped row of the new version)."""
    from instar.handlers.views import ArrayView, PointerView, StructView

    if value is None or (isinstance(value, int) and value == 0):
        return 0
    if isinstance(value, Raw):
        return value.value
    if isinstance(value, Tagged):
        word = pointer_word(side, pointee, value.value, path)
        if word & value.bits:
            raise RangeError(f"{path}: {word:#x} has no room for the tag {value.bits:#x}")
        return word | value.bits
    if isinstance(value, PointerView):
        address = value._instar_word
        if not address:
            return 0
    elif isinstance(value, StructView | ArrayView):
        address = value._instar_address
    else:
        hint = "; addresses are stored with raw()" if isinstance(value, int) else ""
        hint = "; texts are stored with alloc_string()" if isinstance(value, str | bytes) else hint
        raise TypeMismatchError(f"{path} is a {side.types.label(pointee)} *: {describe(value)}{hint}")
    source: Side = value._instar_side
    if not source.is_future:
        assert side.translate is not None
        return side.translate(address, value._instar_row, pointee, path)
    if not _fits(side.types, pointee, value._instar_row):
        wanted, got = side.types.label(pointee), side.types.label(value._instar_row)
        raise TypeMismatchError(
            f'{path} points at {wanted}, not at {got}; say cast(p, "{wanted} *") if it may'
        )
    return address


def _fits(types: Types, wanted: int, got: int) -> bool:
    """Whether a pointer to ``got`` is one to ``wanted``: the same, void, characters, an element."""
    if VOID in (wanted, got) or wanted == got or types.is_character(wanted):
        return True
    if types.kind(got) is TypeKind.ARRAY:
        return _fits(types, wanted, types.target(got))
    both_integers = types.kind(wanted) is TypeKind.INTEGER and types.kind(got) is TypeKind.INTEGER
    return both_integers and types.size(wanted) == types.size(got)


# Aggregates -------------------------------------------------------------------------------------------------


def _store_record(side: Side, row: int, address: int, value: Any, path: str) -> None:
    from instar.handlers.views import StructView

    if isinstance(value, StructView):
        _convert_record(side, row, address, value, path)
        return
    if not isinstance(value, dict):
        raise TypeMismatchError(
            f"{path} is a {side.types.label(row)}: {describe(value)}; give a dict or a struct"
        )
    target = StructView(side, row, address, path)
    for name, item in value.items():
        target[name] = item


def _convert_record(side: Side, row: int, address: int, value: Any, path: str) -> None:
    """Members by name; those that only the new version has stay as they are."""
    from instar.handlers.views import StructView, load_member

    source: Side = value._instar_side
    if source.is_future and value._instar_row == row:
        side.memory.write(address, source.memory.read(value._instar_address, side.types.size(row)))
        return
    if side.types.kind(row) is TypeKind.UNION or source.types.kind(value._instar_row) is TypeKind.UNION:
        raise TypeMismatchError(f"{path} is a union: say which member, such as new.u.number = old.u.number")
    target, theirs = StructView(side, row, address, path), source.types.members(value._instar_row)
    for name in side.types.members(row):
        if name in theirs:
            inner = f"{value._instar_path}.{name}"
            target[name] = load_member(source, theirs[name], value._instar_address, inner)


def _store_array(side: Side, row: int, address: int, value: Any, path: str) -> None:
    types = side.types
    element, count = types.target(row), types.elements(row)
    store_elements(side, element, count, address, value, path)


def store_elements(side: Side, element: int, count: int, address: int, value: Any, path: str) -> None:
    """Fill an array: from a text, bytes, a list or another array. What is left over becomes zero."""
    from instar.handlers.views import ArrayView

    types = side.types
    size = types.size(element)
    if isinstance(value, str) and types.is_character(element):
        value = value.encode() + b"\0"
    if isinstance(value, ArrayView) and _are_same_characters(side, element, value):
        value = value.bytes()  # at once: texts are long
        value = value[:count] if not value[count:].strip(b"\0") else value
    if isinstance(value, bytes | bytearray) and size == 1:
        if len(value) > count:
            raise RangeError(f"{path} has room for {count} bytes, not for {len(value)}")
        side.memory.write(address, bytes(value).ljust(count, b"\0"))
        return
    if (
        isinstance(value, str | bytes | dict)
        or not hasattr(value, "__len__")
        or not hasattr(value, "__iter__")
    ):
        raise TypeMismatchError(f"{path} is an array of {types.label(element)}: {describe(value)}")
    kept = min(len(value), count)
    if len(value) > count and not (isinstance(value, ArrayView) and not _rest(value, count).strip(b"\0")):
        raise RangeError(f"{path} has {count} elements, {len(value)} do not fit")
    for index, item in zip(range(kept), value, strict=False):
        store(side, element, address + index * size, item, f"{path}[{index}]")
    if kept < count:
        side.memory.write(address + kept * size, bytes((count - kept) * size))


def _are_same_characters(side: Side, element: int, value: Any) -> bool:
    """Whether an array has one-byte characters of the same sign."""
    types, row = value._instar_side.types, value._instar_row
    if not (side.types.is_character(element) and types.is_character(row)):
        return False
    same: bool = side.types.is_signed(element) == types.is_signed(row)
    return same


def _rest(value: Any, count: int) -> bytes:
    size = value._instar_side.types.size(value._instar_row)
    data: bytes = value.bytes()
    return data[count * size :]
