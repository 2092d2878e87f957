"""Moves: the flat program that turns the bytes of one object into the bytes of its counterpart.

A mapping is compiled once for a pair of types and executed for every object of that pair. All offsets are
bytes from the start of the old and of the new object. New bytes that no move writes keep what the new version
has there (its initial value or what its start-up stored). The executor clips moves at the end of a block that
is shorter than its type; only COPY and EVIDENCE may be clipped in the middle of an element.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt

from instar.pairing.problems import Change, Problem


class MoveOp(IntEnum):
    """How one element becomes its new value."""

    COPY = 0
    """``new_size`` bytes as they are (``new_size`` 0: nothing is written, only checked; see flags)."""
    INTEGER = 1
    """Little endian integer of ``old_size`` (1, 2, 4, 8) -> ``new_size`` bytes; a value that does not fit
    the new width and sign (NEW_BOOLEAN: that is not 0 or 1) is refused."""
    FLOAT = 2
    """IEEE or x87 float of 4, 8 or 16 (long double) bytes -> another; overflow to infinity is refused,
    rounding is not."""
    INT_FLOAT = 3
    """Integer -> float, or with FROM_FLOAT float -> integer; what does not convert back to itself is
    refused."""
    POINTER = 4
    """8 bytes, translated by what it points at; ``extra`` is the old pointee type, -1 for void or unknown."""
    BITS = 5
    """Bit-field or integer -> bit-field or integer; ``extra`` is the row of ``Mapping.bits``. The move's
    offsets and sizes delimit windows of 1 to 9 bytes; only the field's own bits of the new window change."""
    ENUM = 6
    """Enum value -> value by table ``extra`` of ``Mapping.enum_tables``; a value without a row is refused."""
    EVIDENCE = 7
    """Bytes copied; an aligned word that is exactly the base of a live block, or of a thing that moves, is
    translated (unions with pointers)."""


class MoveFlag(IntFlag):
    """Further facts about a move."""

    OLD_SIGNED = 1
    NEW_SIGNED = 2
    CHECK_ZERO_TAIL = 4
    """Always on a COPY with ``new_size`` 0: all ``old_size`` bytes must be zero, else data would be lost."""
    NEW_BOOLEAN = 8
    FROM_FLOAT = 16
    HANDLED = 32
    """A handler answers for this element: what the move would lose is not reported."""


# 48 bytes, naturally aligned, so that C reads the same rows (struct instar_move).
MOVE = np.dtype(
    [
        ("old_offset", "u8"),
        ("new_offset", "u8"),
        ("old_size", "u4"),  # bytes of one element
        ("new_size", "u4"),
        ("count", "u4"),  # elements; >= 1
        ("old_stride", "u4"),  # bytes from one element to the next; 0 when count is 1
        ("new_stride", "u4"),
        ("extra", "i4"),
        ("path", "u4"),  # index into Mapping.paths
        ("op", "u1"),
        ("flags", "u1"),
        ("_pad", "u2"),
    ]
)
# Bits are numbered from the least significant bit of the first byte of the move's window. Signs are in the
# move's flags. `enum_table`: row of Mapping.enum_tables through which the value goes, or -1.
BITFIELD = np.dtype(
    [
        ("old_shift", "u1"),
        ("old_bits", "u1"),  # 1..64
        ("new_shift", "u1"),
        ("new_bits", "u1"),
        ("enum_table", "i4"),
    ]
)
ENUM_TABLE = np.dtype([("first", "u4"), ("count", "u4")])  # rows of Mapping.enum_values
ENUM_VALUE = np.dtype([("old", "i8"), ("new", "i8")])  # sorted by old within a table

Rows = npt.NDArray[np.void]


def _frozen(dtype: np.dtype[Any]) -> Rows:
    rows: Rows = np.zeros(0, dtype)
    rows.flags.writeable = False
    return rows


@dataclass(frozen=True, eq=False)
class Mapping:
    """How an object of one old type becomes an object of one new type.

    Attributes:
        old_type, new_type: Type rows.
        old_size, new_size: Bytes of one object.
        moves: MOVE rows, sorted by old_offset.
        paths: Member paths for messages, relative to the object: ``""``, ``.peer.port``, ``.slots[].name``.
        bits, enum_tables, enum_values: What ``extra`` of BITS and ENUM moves refers to.
        problems: Why this pair cannot be converted; empty when it can.
        changes: What differs and is automatic, for the report.
        tail: Mapping of one element of a trailing array that a block may extend: a flexible array member
            (``tail_flexible``) or one declared with at most one element. None when there is none.
        tail_old_offset, tail_new_offset: Where element 0 of that array is. The elements that a declared size
            covers are in ``moves`` as well; executing them twice is harmless.
    """

    old_type: int
    new_type: int
    old_size: int
    new_size: int
    moves: Rows
    paths: tuple[str, ...] = ("",)
    bits: Rows = field(default_factory=lambda: _frozen(BITFIELD))
    enum_tables: Rows = field(default_factory=lambda: _frozen(ENUM_TABLE))
    enum_values: Rows = field(default_factory=lambda: _frozen(ENUM_VALUE))
    problems: tuple[Problem, ...] = ()
    changes: tuple[Change, ...] = ()
    tail: Mapping | None = None
    tail_old_offset: int = 0
    tail_new_offset: int = 0
    tail_flexible: bool = False
