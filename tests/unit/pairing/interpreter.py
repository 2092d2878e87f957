"""Executes the moves of a mapping one byte and one value at a time: slow, and plain enough to be believed."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import numpy as np

from instar.pairing.moves import Mapping, MoveFlag, MoveOp

FLOATS = {4: "<f", 8: "<d"}


class Refusal(Exception):
    """A value that the executor would refuse, with the path of its move."""


def execute(
    mapping: Mapping,
    old: bytes,
    new: bytearray,
    translate: Callable[[int, int], int] = lambda value, _: value,
) -> bytearray:
    """Run every move on `old`, into `new`; `translate(value, pointee)` stands for the pointer rules."""
    for row in mapping.moves:
        for index in range(int(row["count"])):
            source = int(row["old_offset"]) + index * int(row["old_stride"])
            target = int(row["new_offset"]) + index * int(row["new_stride"])
            _step(mapping, row, old[source : source + int(row["old_size"])], new, target, translate)
    return new


def _step(mapping, row, data, new, target, translate) -> None:  # type: ignore[no-untyped-def]
    op, flags, size = MoveOp(int(row["op"])), MoveFlag(int(row["flags"])), int(row["new_size"])
    path = mapping.paths[row["path"]]
    assert len(data) == row["old_size"], "a move reads past the old object"
    assert target + size <= len(new), "a move writes past the new object"
    if flags & MoveFlag.CHECK_ZERO_TAIL:
        assert op == MoveOp.COPY and size == 0
        if any(data):
            raise Refusal(path)
        return
    if op in (MoveOp.COPY, MoveOp.EVIDENCE):
        assert size == len(data)
        new[target : target + size] = data
    elif op == MoveOp.POINTER:
        value = translate(int.from_bytes(data, "little"), int(row["extra"]))
        new[target : target + 8] = value.to_bytes(8, "little")
    elif op == MoveOp.BITS:
        _bits(mapping, row, data, new, target, flags, path)
    else:
        new[target : target + size] = _scalar(mapping, row, data, op, flags, size, path)


def _scalar(mapping, row, data, op, flags, size, path) -> bytes:  # type: ignore[no-untyped-def]
    signed = bool(flags & MoveFlag.OLD_SIGNED)
    if op == MoveOp.INTEGER:
        return fit(int.from_bytes(data, "little", signed=signed), 8 * size, flags, path).to_bytes(
            size, "little"
        )
    if op == MoveOp.ENUM:
        value = from_table(mapping, int(row["extra"]), int.from_bytes(data, "little", signed=signed), path)
        return fit(value, 8 * size, flags, path).to_bytes(size, "little")
    if op == MoveOp.FLOAT:
        return to_float(from_float(data), size, path)
    assert op == MoveOp.INT_FLOAT
    if not flags & MoveFlag.FROM_FLOAT:
        number = int.from_bytes(data, "little", signed=signed)
        packed = to_float(number, size, path)
        if int(from_float(packed)) != number:
            raise Refusal(path)
        return packed
    whole = from_float(data)
    if not math.isfinite(whole) or whole != int(whole):
        raise Refusal(path)
    return fit(int(whole), 8 * size, flags, path).to_bytes(size, "little")


def fit(value: int, bits: int, flags: MoveFlag, path: str) -> int:
    low, high = (
        (-(1 << bits - 1), (1 << bits - 1) - 1) if flags & MoveFlag.NEW_SIGNED else (0, (1 << bits) - 1)
    )
    if flags & MoveFlag.NEW_BOOLEAN:
        low, high = 0, 1
    if not low <= value <= high:
        raise Refusal(path)
    return value & (1 << bits) - 1


def from_table(mapping: Mapping, table: int, value: int, path: str) -> int:
    first, count = (int(mapping.enum_tables[table][name]) for name in ("first", "count"))
    for pair in mapping.enum_values[first : first + count]:
        if int(pair["old"]) == value:
            return int(pair["new"])
    raise Refusal(path)


def from_float(data: bytes) -> float:
    if len(data) == 16:  # x87
        return float(np.frombuffer(data, np.longdouble)[0])
    return float(struct.unpack(FLOATS[len(data)], data)[0])


def to_float(value: float, size: int, path: str) -> bytes:
    if size == 16:
        return np.longdouble(value).tobytes()[:10] + bytes(6)
    try:
        return struct.pack(FLOATS[size], value)
    except OverflowError:
        raise Refusal(path) from None


def _bits(mapping, row, data, new, target, flags, path) -> None:  # type: ignore[no-untyped-def]
    field = mapping.bits[int(row["extra"])]
    old_bits, new_bits = int(field["old_bits"]), int(field["new_bits"])
    value = int.from_bytes(data, "little") >> int(field["old_shift"]) & (1 << old_bits) - 1
    if flags & MoveFlag.OLD_SIGNED and value >> old_bits - 1:
        value -= 1 << old_bits
    if field["enum_table"] >= 0:
        value = from_table(mapping, int(field["enum_table"]), value, path)
    value = fit(value, new_bits, flags, path)
    size, shift = int(row["new_size"]), int(field["new_shift"])
    window = int.from_bytes(new[target : target + size], "little")
    window = window & ~((1 << new_bits) - 1 << shift) | value << shift
    new[target : target + size] = window.to_bytes(size, "little")
