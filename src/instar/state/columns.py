"""The columns that the C kernels work on; mirrors of native/kernels/state.h and transfer.h.

One row per object, type, slot or word. `tests/unit/state/test_columns.py` compares every layout with C's.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any

import numpy as np


class ObjectKind(IntEnum):
    """Where an object lives."""

    HEAP = 0
    STATIC = 1
    TLS = 2
    LOCAL = 3
    UNNAMED = 4
    FRAME = 5


class Strength(IntEnum):
    """How an object came by its type; a weaker claim never beats a stronger one."""

    NONE = 0
    WEAK = 1
    INFERRED = 2
    STRONG = 3


class ObjectFlag(IntFlag):
    """See ``enum instar_object_flag``."""

    REACHED = 1
    BYTES = 2
    VOID = 4
    TENTATIVE = 8
    INTERIOR = 16
    CONFLICT = 32
    TRUNCATED = 64
    POOL = 128
    QUEUED = 256
    SCANNED = 512
    ROOT = 1024
    LIBRARY = 2048
    UNION = 4096
    HELD = 8192


class Fate(IntEnum):
    """What happens to an object in the future."""

    STAY = 0
    MOVE = 1
    REPLACE = 2
    DROP = 3


class KernelType(IntEnum):
    """What the kernels need to know of a type."""

    NONE = 0
    BYTES = 1
    SCALAR = 2
    POINTER = 3
    AGGREGATE = 4


class SlotKind(IntEnum):
    """What a pointer slot declares."""

    POINTER = 0
    VOID = 1
    FUNCTION = 2
    UNION = 3


class FixedKind(IntEnum):
    """Things that have another address in the future whatever happens."""

    STATIC = 0
    FUNCTION = 1
    STRING = 2
    LIBRARY = 3
    STACK = 4
    ARGUMENT = 5
    CODE = 6
    CONSTANT = 7


class FixedFlag(IntFlag):
    """See ``enum instar_fixed_flag``."""

    EXACT = 1
    UNPAIRED = 2
    UNRESOLVED = 4
    DANGLING = 8


class Status(IntEnum):
    """Where a word of the past leads."""

    NULL = 0
    SMALL = 1
    STAY = 2
    MOVED = 3
    LIBRARY = 4
    DANGLING = 5
    WILD = 6
    UNPAIRED = 7
    INSIDE = 8
    DROPPED = 9
    UNRESOLVED = 10
    AMBIGUOUS = 11


#: Those whose word has a value in the future.
CARRIED = frozenset(
    (Status.NULL, Status.SMALL, Status.STAY, Status.MOVED, Status.LIBRARY, Status.DANGLING, Status.WILD)
)


class WordSource(IntEnum):
    """What kind of word was judged."""

    POINTER = 0
    UNEXPLAINED = 1
    UNION = 2
    FUNCTION = 3


class FaultKind(IntEnum):
    """Why a conversion lost something."""

    RANGE = 1
    ENUM = 2
    TAIL = 3
    FLOAT = 4


OBJECT = np.dtype(
    [
        ("address", "u8"),
        ("size", "u8"),
        ("new_address", "u8"),
        ("out", "u8"),  # until it is decided what moves: type and offset of a claim
        ("out_size", "u8"),
        ("parent", "i4"),
        ("parent_offset", "u4"),
        ("type", "i4"),
        ("count", "u4"),
        ("mapping", "i4"),
        ("kind", "u1"),
        ("fate", "u1"),
        ("flags", "u2"),  # the two highest bits are the strength
    ]
)
NO_CLAIM = 0xFFFF_FFFF
_CLAIM = OBJECT.fields["out"][1] if OBJECT.fields is not None else 0
STRENGTH_SHIFT = 14


def claim_types(objects: Any) -> Any:
    """The type that was claimed of every untyped block, -1 for none; valid until it is decided what moves."""
    return objects.getfield(np.int32, _CLAIM)


def claim_offsets(objects: Any) -> Any:
    """The offset of that claim."""
    return objects.getfield(np.uint32, _CLAIM + 4)


def strength_of(flags: Any) -> Any:
    """The strength of one object, or of a column of them, by their flags."""
    return flags >> STRENGTH_SHIFT


def flags_with(flags: ObjectFlag, strength: Strength) -> int:
    """What to put into ``flags`` of an object that has such a strength."""
    return int(flags) | strength << STRENGTH_SHIFT


REGION = np.dtype(
    [
        ("start", "u8"),
        ("end", "u8"),
        ("data", "u8"),
        ("begins", "u8"),
        ("ranks", "u8"),
        ("single", "i8"),
        ("first", "i8"),
        ("last", "i8"),
        ("granular", "u8"),
    ]
)
KTYPE = np.dtype(
    [
        ("size", "u8"),
        ("tail_offset", "u8"),
        ("first_slot", "u4"),
        ("slot_count", "u4"),
        ("tail_slot", "u4"),
        ("tail_slot_count", "u4"),
        ("tail_size", "u4"),
        ("inner", "i4"),
        ("kind", "u1"),
        ("truncatable", "u1"),
        ("library", "u1"),
        ("spare", "u1"),
        ("spare2", "u4"),
    ]
)
SLOT = np.dtype(
    [
        ("offset", "u8"),
        ("count", "u4"),
        ("stride", "u4"),
        ("pointee", "i4"),
        ("kind", "u1"),
        ("mask", "u1"),
        ("spare", "u1", (2,)),
    ]
)
FIXED = np.dtype(
    [
        ("start", "u8"),
        ("end", "u8"),
        ("new_start", "u8"),
        ("type", "i4"),
        ("count", "u4"),
        ("mapping", "i4"),
        ("kind", "u1"),
        ("flags", "u1"),
        ("spare", "u1", (2,)),
    ]
)
KMAPPING = np.dtype(
    [
        ("old_size", "u8"),
        ("new_size", "u8"),
        ("old_tail", "u8"),
        ("new_tail", "u8"),
        ("old_element", "u4"),
        ("new_element", "u4"),
        ("first_move", "u4"),
        ("move_count", "u4"),
        ("first_tail_move", "u4"),
        ("tail_move_count", "u4"),
        ("first_offset", "u8"),
        ("first_inner", "u4"),
        ("inner_count", "u4"),
    ]
)
INNER = np.dtype([("old_offset", "u8"), ("new_offset", "u8"), ("type", "i4"), ("spare", "u4")])
WORD = np.dtype(
    [
        ("value", "u8"),
        ("new_value", "u8"),
        ("object", "i4"),
        ("offset", "u4"),
        ("pointee", "i4"),
        ("status", "u1"),
        ("source", "u1"),
        ("spare", "u2"),
    ]
)
INSIDE = np.dtype([("address", "u8"), ("type", "i4"), ("row", "i4")])
FAULT = np.dtype(
    [
        ("value", "i8"),
        ("object", "i4"),
        ("element", "u4"),
        ("move", "u4"),
        ("kind", "u4"),
        ("offset", "u8"),
    ]
)
CHANGE = np.dtype([("address", "u8"), ("size", "u8")])
