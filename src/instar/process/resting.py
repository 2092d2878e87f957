"""A thread in a blocking call: making the call again so that neither an EINTR nor a lost timeout shows.

A stop breaks a blocking call off. Most are made again by the kernel with nothing lost. Some (epoll_wait first
of all) would fail with EINTR, or forget how long they had waited: these are made again with the time that is
left.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence

from instar.errors import FaultError, InternalError
from instar.process.registers import MASK, SYSCALL_ARGUMENTS, signed
from instar.process.thread import Thread

RED_ZONE = 128
TIME_LEFT_BELOW = RED_ZONE + 80  # the stack pointer; the time that is left lies above this
MILLISECOND, SECOND = 10**6, 10**9
EINTR, ERESTARTSYS, ERESTARTNOHAND = -4, -512, -514
RESTARTS = (ERESTARTSYS, -513, ERESTARTNOHAND, -516)  # and ERESTARTNOINTR, ERESTART_RESTARTBLOCK

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
# The kernel would fail these with EINTR where it has stopped them; made again they wait anew. Others that
# block have done something by then (connect, open, ioctl, fsync): made again they would do it twice.
REPEATABLE = frozenset((
    232, 281, 441, 219, 7, 271, 23, 270, 43, 288, 0, 19, 17, 295, 327, 45, 47, 299, 1, 20, 18, 296, 328, 44,
    46, 307, 40, 275, 276, 278, 326, 35, 230, 202, 449, 455, 34, 130, 128, 61, 247, 208, 333, 426, 73, 72, 65,
    220, 70, 69, 243, 242, 318,
))  # fmt: skip
# Made again after a handler that was installed with SA_RESTART; the others fail with EINTR then.
_RESTARTED = frozenset(
    (0, 19, 45, 47, 43, 288, 61, 247)
)  # read, readv, recvfrom, recvmsg, accept, wait4, waitid

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


def rewind(thread: Thread) -> bool:
    """Make the call that a stop broke off go on when the thread is resumed; nothing else changes.

    At an entry stop there is nothing to do; in a group stop the EINTR comes from the stop signal and stays. A
    call that was about to fail with EINTR is turned into one that is made again, unless a signal with a
    handler is delivered first: then the program sees the EINTR that is its due.

    Returns:
        Whether the thread is in a system call that will be made again.
    """
    stop = thread.stop
    if stop is None or stop.ended:
        raise InternalError(f"process {thread.pid} does not stand")
    if stop.entry:
        return True
    registers = thread.registers()
    if not registers.in_syscall:
        return False
    if registers.result in RESTARTS:
        return True
    if registers.result == EINTR and registers.orig_rax in REPEATABLE and stop.kind == "event":
        thread.set_registers(registers.copy(rax=ERESTARTNOHAND))
        return True
    return False


def set_time_left(thread: Thread, ends_at_ns: int, write: Callable[[int, bytes], None]) -> None:
    """Have the call that will be made again wait until a moment of CLOCK_MONOTONIC."""
    left = max(0, ends_at_ns - time.monotonic_ns())
    registers = thread.registers()
    if registers.orig_rax not in TIMEOUTS:
        return
    index, unit = TIMEOUTS[registers.orig_rax]
    if unit == MS:
        value = min(-(-left // MILLISECOND), (1 << 31) - 1)
    else:
        # A copy, as the program may use its own again; the kernel reads it before anything else runs.
        value = (registers.rsp - TIME_LEFT_BELOW + 16) & ~15
        unit_ns = 1000 if unit == TIMEVAL else 1
        try:
            write(value, struct.pack("<qq", left // SECOND, left % SECOND // unit_ns))
        except FaultError:
            return
    thread.set_registers(registers.copy(**{SYSCALL_ARGUMENTS[index]: value}))


def restart_code(number: int) -> int:
    """What a call returns inside the kernel when a signal breaks it off while it waits."""
    return ERESTARTSYS if number in _RESTARTED else ERESTARTNOHAND
