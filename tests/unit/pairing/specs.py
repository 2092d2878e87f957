"""C types as plain Python values: laid out, read and written by name, independent of the code under test."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import Any

from instar.metadata.model import Encoding
from instar.testing.versions import VersionBuilder


class Lost(Exception):
    """By the rules, this value has no place in the new version."""


@dataclass(frozen=True)
class Int:
    size: int
    signed: bool = True
    boolean: bool = False
    char: bool = False


@dataclass(frozen=True)
class Float:
    size: int


@dataclass(frozen=True)
class Pointer:
    pass


@dataclass(frozen=True)
class Enumeration:
    tag: str
    names: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Array:
    element: Any
    count: int


@dataclass(frozen=True)
class Member:
    name: str  # "": anonymous struct
    type: Any
    bits: int = 0


@dataclass(frozen=True)
class Struct:
    tag: str
    members: tuple[Member, ...]
    packed: bool = False


@dataclass(frozen=True)
class Union:
    tag: str
    members: tuple[Member, ...]


def align(spec: Any) -> int:
    match spec:
        case Int() | Float():
            return spec.size
        case Pointer():
            return 8
        case Enumeration():
            return 4
        case Array():
            return align(spec.element)
        case Struct(packed=True):
            return 1
    return max((align(member.type) for member in spec.members), default=1)


def size(spec: Any) -> int:
    match spec:
        case Int() | Float():
            return spec.size
        case Pointer():
            return 8
        case Enumeration():
            return 4
        case Array():
            return spec.count * size(spec.element)
        case Union():
            end = max((size(member.type) for member in spec.members), default=0)
            return up(end, align(spec))
    end = max((at + (m.bits or 8 * size(m.type)) for m, at in places(spec)), default=0)
    return up(up(end, 8) // 8, align(spec))


def up(value: int, to: int) -> int:
    return (value + to - 1) // to * to


def places(spec: Struct) -> list[tuple[Member, int]]:
    """Members with their bit offsets, by the rules of the System V ABI."""
    found, at = [], 0
    for member in spec.members:
        unit = 8 * size(member.type)
        if member.bits:
            if not spec.packed and at // unit != (at + member.bits - 1) // unit:
                at = up(at, unit)
        else:
            at = up(at, 8 if spec.packed else 8 * align(member.type))
        found.append((member, at))
        at += member.bits or unit
    return found


def declare(builder: VersionBuilder, spec: Any) -> int:
    """The type in a version; a tag is declared once."""
    match spec:
        case Int(boolean=True):
            return builder.integer("_Bool", 1, encoding=Encoding.BOOLEAN)
        case Int(char=True):
            return builder.integer("char", 1, encoding=Encoding.SIGNED_CHAR)
        case Int():
            return builder.integer(
                f"{'i' if spec.signed else 'u'}{8 * spec.size}", spec.size, signed=spec.signed
            )
        case Float():
            return builder.floating("float" if spec.size == 4 else "double", spec.size)
        case Pointer():
            return builder.pointer()
        case Enumeration():
            signed = any(value < 0 for _, value in spec.names)
            return builder.enum(spec.tag, dict(spec.names), signed=signed)
        case Array():
            return builder.array(declare(builder, spec.element), spec.count)
        case Union():
            row = builder.union(spec.tag, size(spec))
            for member in spec.members:
                builder.member(row, member.name, declare(builder, member.type), 0)
            return row
    row = builder.struct(spec.tag, size(spec))
    for member, at in places(spec):
        builder.member(row, member.name, declare(builder, member.type), bit_offset=at, bits=member.bits)
    return row


def random_value(spec: Any, rng: random.Random, bits: int = 0) -> Any:
    match spec:
        case Int(boolean=True):
            return rng.randrange(2)
        case Int():
            width = rng.choice((1, 4, bits or 8 * spec.size, bits or 8 * spec.size))
            value = rng.getrandbits(min(width, bits or 8 * spec.size))
            top = 1 << (bits or 8 * spec.size)
            return value - top if spec.signed and value >= top // 2 else value
        case Float():
            return float(
                rng.choice((0, 1, -3, 0.5, 2.0**40, 70000))
                if spec.size == 4
                else rng.choice((0, 7, 0.1, 1e300))
            )
        case Pointer():
            return rng.choice((0, 0x5555_0000_1000, 2**64 - 1))
        case Enumeration():
            return rng.choice([value for _, value in spec.names] + ([77] if rng.random() < 0.1 else []))
        case Array():
            kept = rng.randrange(spec.count + 1)
            values = [random_value(spec.element, rng) for _ in range(kept)]
            return values + [zero(spec.element) for _ in range(spec.count - kept)]
        case Union():
            return rng.randbytes(size(spec))
    return {m.name: random_value(m.type, rng, m.bits) for m in flat(spec)}


def zero(spec: Any) -> Any:
    match spec:
        case Array():
            return [zero(spec.element) for _ in range(spec.count)]
        case Struct():
            return {m.name: zero(m.type) for m in flat(spec)}
        case Union():
            return bytes(size(spec))
        case Float():
            return 0.0
    return 0


def flat(spec: Struct) -> list[Member]:
    return [m for member in spec.members for m in ([member] if member.name else flat(member.type))]


def flat_places(spec: Struct, base: int = 0) -> list[tuple[Member, int]]:
    found = []
    for member, at in places(spec):
        found += [(member, base + at)] if member.name else flat_places(member.type, base + at)
    return found


def write(spec: Any, value: Any, into: bytearray, at: int = 0, bits: int = 0) -> None:
    """Write a value at a bit offset, by name."""
    match spec:
        case Array():
            for index, one in enumerate(value):
                write(spec.element, one, into, at + 8 * index * size(spec.element))
        case Union():
            into[at // 8 : at // 8 + size(spec)] = value
        case Struct():
            for member, start in flat_places(spec):
                write(member.type, value[member.name], into, at + start, member.bits)
        case Float():
            struct.pack_into("<f" if spec.size == 4 else "<d", into, at // 8, value)
        case _:
            width = bits or 8 * size(spec)
            whole = int.from_bytes(into, "little")
            mask = (1 << width) - 1
            whole = whole & ~(mask << at) | (value & mask) << at
            into[:] = whole.to_bytes(len(into), "little")


def read(spec: Any, data: bytes | bytearray, at: int = 0, bits: int = 0) -> Any:
    """Read a value at a bit offset, by name."""
    match spec:
        case Array():
            return [read(spec.element, data, at + 8 * i * size(spec.element)) for i in range(spec.count)]
        case Union():
            return data[at // 8 : at // 8 + size(spec)]
        case Struct():
            return {m.name: read(m.type, data, at + start, m.bits) for m, start in flat_places(spec)}
        case Float():
            return struct.unpack_from("<f" if spec.size == 4 else "<d", data, at // 8)[0]
    width = bits or 8 * size(spec)
    value = int.from_bytes(data, "little") >> at & (1 << width) - 1
    signed = (
        spec.signed
        if isinstance(spec, Int)
        else isinstance(spec, Enumeration) and any(v < 0 for _, v in spec.names)
    )
    return value - (1 << width) if signed and value >> width - 1 else value


def convert(old: Any, new: Any, value: Any, default: Any, old_bits: int = 0, new_bits: int = 0) -> Any:
    """What a value of the old type is in the new one; `default` is what the new version has there."""
    match old, new:
        case Struct(), Struct():
            return _convert_struct(old, new, value, default)
        case Array(), Array():
            return _convert_array(old, new, value, default)
        case Union(), Union():
            used = size(old) if size(old) == size(new) else max(size(member.type) for member in old.members)
            return value[:used] + default[used:]
        case Float(), Float():
            return _convert_float(value, new.size)
        case Float(), Int():
            if value != int(value):
                raise Lost
            return _convert_int(int(value), new, new_bits)
        case Int(), Float():
            found = _convert_float(float(value), new.size)
            if found != value:
                raise Lost
            return found
        case Enumeration(), Enumeration():
            return _convert_enum(old, new, value)
        case Pointer(), Pointer():
            return value
    if isinstance(old, Int) and isinstance(new, Int) and old.size == new.size == 1:
        numbers = old_bits or new_bits or old.boolean or new.boolean
        if (old.char or new.char) and not numbers:
            return read(new, (value & 255).to_bytes(1, "little"))
    return _convert_int(value, new, new_bits)


def _convert_int(value: int, new: Any, bits: int) -> int:
    width = bits or 8 * size(new)
    if isinstance(new, Int) and new.boolean:
        width, signed = 1, False
    else:
        signed = isinstance(new, Int) and new.signed
    if not (-(1 << width - 1) if signed else 0) <= value < (1 << width - 1 if signed else 1 << width):
        raise Lost
    return value


def _convert_float(value: float, new_size: int) -> float:
    try:
        packed = struct.pack("<f" if new_size == 4 else "<d", value)
    except OverflowError:
        raise Lost from None
    return float(struct.unpack("<f" if new_size == 4 else "<d", packed)[0])


def _convert_enum(old: Enumeration, new: Enumeration, value: int) -> int:
    new_values = dict(new.names)
    if all(new_values.get(name) == number for name, number in old.names):
        return value
    found = {new_values[name] for name, number in old.names if number == value and name in new_values}
    if value == 0 and all(number for _, number in old.names + new.names):
        return 0
    if len(found) != 1:
        raise Lost
    return found.pop()


def _convert_struct(old: Struct, new: Struct, value: Any, default: Any) -> Any:
    olds = {member.name: member for member in flat(old)}
    result = {}
    for member in flat(new):
        if member.name not in olds:
            result[member.name] = default[member.name]
            continue
        was = olds[member.name]
        arguments = (was.type, member.type, value[member.name], default[member.name], was.bits, member.bits)
        result[member.name] = convert(*arguments)
    return result


def _convert_array(old: Array, new: Array, value: Any, default: Any) -> Any:
    kept = min(old.count, new.count)
    if new.count < old.count:
        text = isinstance(old.element, Int) and old.element.char and kept
        lost = value[kept - (1 if text else 0) :]
        if any(one != zero(old.element) for one in lost):
            raise Lost
    elements = [convert(old.element, new.element, value[i], default[i]) for i in range(kept)]
    return elements + default[kept:]
