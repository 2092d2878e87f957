"""The columns in which one version's debug information is kept.

Bulk facts are NumPy structured arrays, one row per fact; rows refer to each other by index and to text by
offset into one pool of NUL-terminated strings (offset 0 is the empty string). The same arrays are what the
cache stores, so this module is also the cache format (see ``metadata.cache``). All addresses are link-time
addresses of the file (before load bias); all sizes are bytes unless a name says bits.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any

import numpy as np


class TypeKind(IntEnum):
    """What a type is. Qualifiers (const, volatile, restrict, atomic) are dropped by the walker."""

    VOID = 0
    INTEGER = 1  # see Encoding
    FLOAT = 2
    POINTER = 3  # target: pointee, -1 for void *
    STRUCT = 4  # first/count: members
    UNION = 5  # first/count: members
    ENUM = 6  # first/count: enumerators; target: underlying integer or -1
    TYPEDEF = 7  # target: aliased type, -1 for void
    ARRAY = 8  # target: element; elements: count, -1 when flexible or unknown; one row a dimension
    FUNCTION = 9  # target: return type, -1 for void; first/count: parameters, as members without offsets
    OPAQUE = 10  # a kind C does not have; only its size is known


class Encoding(IntEnum):
    """How the bits of an INTEGER or ENUM are to be read."""

    NONE = 0
    SIGNED = 1
    UNSIGNED = 2
    BOOLEAN = 3
    SIGNED_CHAR = 4
    UNSIGNED_CHAR = 5


class TypeFlag(IntFlag):
    """Further facts about a type."""

    INCOMPLETE = 1  # declared, never defined in any unit of the program
    VARARGS = 2


class VariableKind(IntEnum):
    """Where the name of a static variable lives."""

    GLOBAL = 0
    FILE_STATIC = 1
    FUNCTION_STATIC = 2


class VariableFlag(IntFlag):
    """How the compiler (clang -O2) has taken a static variable apart."""

    PIECE = 1  # one of several places of one variable; the name goes on with the member's path ("state.port")
    CHOICE = 2  # it only ever has two values and is one byte; the type says which two (_Bool: 0 and 1)


class LocalFlag(IntFlag):
    """Facts about a local variable."""

    PARAMETER = 1
    INLINED = 2  # belongs to a function that was inlined into `function`


NO_LOCATION = 0xFFFFFFFF


# Types are already made canonical: structurally equal definitions from several units share one row, and a
# declaration (`struct foo;`) is the row of the one definition of that name if there is exactly one.
TYPE = np.dtype(
    [
        ("kind", "u1"),
        ("encoding", "u1"),
        ("flags", "u2"),
        ("name", "u4"),  # tag, typedef or base type name; 0 when anonymous
        ("size", "u8"),
        ("target", "i4"),
        ("first", "u4"),
        ("count", "u4"),
        ("unit", "u4"),
        ("file", "u4"),  # declaration
        ("line", "u4"),
        ("elements", "i8"),
    ]
)
MEMBER = np.dtype(
    [
        ("name", "u4"),  # 0: anonymous struct or union member
        ("type", "i4"),
        ("bit_offset", "u8"),  # from the start of the struct; little endian bit numbering
        ("bit_size", "u4"),  # 0: not a bit-field
        ("flags", "u4"),
    ]
)
ENUMERATOR = np.dtype([("name", "u4"), ("_pad", "u4"), ("value", "i8")])
# Only variables whose location is exactly one static address (or TLS offset).
VARIABLE = np.dtype(
    [
        ("address", "u8"),  # link-time address, or offset in the module's TLS block
        ("name", "u4"),
        ("type", "i4"),
        ("kind", "u1"),
        ("tls", "u1"),
        ("flags", "u2"),  # VariableFlag
        ("unit", "u4"),
        ("function", "i4"),  # the function of a function static, else -1
        ("scope", "u4"),  # name of the outermost source function even if it has no row, else 0
        ("file", "u4"),
        ("line", "u4"),
    ]
)
FUNCTION = np.dtype(
    [
        ("low", "u8"),  # entry address
        ("high", "u8"),  # end of the contiguous range that starts at low
        ("name", "u4"),
        ("unit", "u4"),
        ("type", "i4"),  # FUNCTION type row
        ("external", "u1"),
        ("_pad", "u1"),
        ("flags", "u2"),
        ("first_range", "u4"),  # further ranges (cold parts), in `ranges`
        ("range_count", "u4"),
        ("first_local", "u4"),
        ("local_count", "u4"),
        ("frame_base", "u4"),  # row of `locations`, NO_LOCATION if it has none
        ("file", "u4"),
        ("line", "u4"),
        ("_pad2", "u4"),
    ]
)
RANGE = np.dtype([("low", "u8"), ("high", "u8")])
LOCAL = np.dtype(
    [
        ("name", "u4"),
        ("type", "i4"),
        ("flags", "u4"),
        ("origin", "u4"),  # name of the inlined function it comes from, else 0
        ("first_scope", "u4"),  # pc ranges of its lexical scope, in `ranges`; count 0: whole function
        ("scope_count", "u4"),
        ("first_location", "u4"),
        ("location_count", "u4"),  # 0: optimised out everywhere
        ("line", "u4"),
        ("_pad", "u4"),
    ]
)
LOCATION = np.dtype(
    [
        ("low", "u8"),  # pc range, link-time; 0..2**64-1: everywhere
        ("high", "u8"),
        ("expression", "u4"),  # offset into `expressions` (raw DWARF expression bytes)
        ("length", "u4"),
    ]
)
UNIT = np.dtype([("name", "u4"), ("directory", "u4"), ("producer", "u4"), ("language", "u4")])
LINE = np.dtype([("address", "u8"), ("file", "u4"), ("line", "u4")])  # sorted by address; line 0 ends a run

COLUMNS: dict[str, np.dtype[Any]] = {
    "types": TYPE,
    "members": MEMBER,
    "enumerators": ENUMERATOR,
    "variables": VARIABLE,
    "functions": FUNCTION,
    "ranges": RANGE,
    "locals": LOCAL,
    "locations": LOCATION,
    "units": UNIT,
    "lines": LINE,
    "strings": np.dtype("u1"),
    "expressions": np.dtype("u1"),
}
