"""How long a system call is to wait, read from its arguments."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from instar.process.registers import MASK, signed

MILLISECOND, SECOND = 10**6, 10**9

# System call -> which argument is its relative timeout, and how it is told (0 and negative: for ever).
MS, TIMESPEC, TIMEVAL = "ms", "timespec", "timeval"
TIMEOUTS = {
    232: (3, MS), 281: (3, MS), 441: (3, TIMESPEC),  # epoll_wait, epoll_pwait, epoll_pwait2
    7: (2, MS), 271: (2, TIMESPEC), 23: (4, TIMEVAL), 270: (4, TIMESPEC),  # poll, ppoll, select, pselect6
    35: (0, TIMESPEC), 230: (2, TIMESPEC), 202: (3, TIMESPEC),  # nanosleep, clock_nanosleep, futex
    128: (2, TIMESPEC), 208: (4, TIMESPEC), 333: (4, TIMESPEC),  # rt_sigtimedwait, io_getevents, io_pgetev...
    220: (3, TIMESPEC),  # semtimedop
}  # fmt: skip
_CLOCK_NANOSLEEP, _FUTEX, _FUTEX_COMMAND = 230, 202, 0x7F

Reader = Callable[[int, int], bytes]


def timeout_ns(number: int, arguments: Sequence[int], read: Reader) -> int | None:
    """How long a call is to wait at most, from when it is made; None: for ever, or until an absolute time.

    Raises FaultError when the structure cannot be read.
    """
    if number not in TIMEOUTS or (number == _CLOCK_NANOSLEEP and arguments[1] & 1):
        return None
    if number == _FUTEX and arguments[1] & _FUTEX_COMMAND:
        return None  # all but FUTEX_WAIT take an absolute time
    index, unit = TIMEOUTS[number]
    value = arguments[index]
    if unit == MS:
        wait = signed(value << 32 & MASK) >> 32
        return None if wait < 0 else wait * MILLISECOND
    if value == 0:
        return None
    seconds, fraction = struct.unpack("<qq", read(value, 16))
    return int(seconds * SECOND + fraction * (1000 if unit == TIMEVAL else 1))
