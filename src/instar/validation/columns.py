"""The columns of the validation kernels; mirrors of native/kernels/validation.h."""

from __future__ import annotations

from enum import IntEnum, IntFlag

import numpy as np


class CounterpartFlag(IntFlag):
    """See ``enum instar_counterpart_flag``."""

    PLACED = 1
    COMPARED = 2
    WORDS = 4
    LISTED = 8
    LEFT = 16
    REGISTER = 32


class DifferenceKind(IntEnum):
    """See ``enum instar_difference_kind``."""

    DATA = 0
    POINTER = 1
    FRESH = 2
    MISSING = 3
    ASSUMED = 4
    BEYOND = 5
    LEFT = 6
    STALE = 7


class Count(IntEnum):
    """See ``enum instar_compare_count``."""

    OBJECTS = 0
    BYTES = 1
    SLOTS = 2
    NULL = 3
    LITERAL = 4
    ASSUMED = 5
    REVERSED = 6
    FRESH = 7


COUNTERPART = np.dtype(
    [
        ("mapping", "i4"),
        ("flags", "u4"),
    ]
)
EXTRA = np.dtype([("baseline", "u8"), ("baseline_size", "u8"), ("place", "u8"), ("register_size", "u8")])
EXTRA_SHIFT = 8
MASK = np.dtype([("keep", "u8"), ("fresh", "u8"), ("tail_keep", "u8")])
LEAD = np.dtype([("object", "i4"), ("fixed", "u4"), ("offset", "u8")])
DIFFERENCE = np.dtype(
    [
        ("past", "u8"),
        ("reversed", "u8"),
        ("offset", "u8"),
        ("object", "i4"),
        ("pointee", "i4"),
        ("kind", "u4"),
        ("size", "u4"),
    ]
)
