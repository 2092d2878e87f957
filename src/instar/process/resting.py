"""A thread in a blocking call: making the call again so that neither an EINTR nor a lost timeout shows.

A stop breaks a blocking call off. Most are made again by the kernel with nothing lost. Some (epoll_wait first
of all) would fail with EINTR, or forget how long they had waited: these are made again with the time that is
left.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import NamedTuple

from instar.errors import FaultError, InternalError
from instar.process.registers import SYSCALL_ARGUMENTS
from instar.process.thread import Thread

RED_ZONE = 128
TIME_LEFT_BELOW = RED_ZONE + 80  # the stack pointer; the time that is left lies above this
EINTR, ERESTARTSYS, ERESTARTNOHAND = -4, -512, -514
RESTARTS = (ERESTARTSYS, -513, ERESTARTNOHAND, -516)  # and ERESTARTNOINTR, ERESTART_RESTARTBLOCK
# The kernel would fail these with EINTR where it has stopped them; made again they wait anew. Others that
# block have done something by then (connect, open, ioctl, fsync): made again they would do it twice.
REPEATABLE = frozenset((
    232, 281, 441, 219, 7, 271, 23, 270, 43, 288, 0, 19, 17, 295, 327, 45, 47, 299, 1, 20, 18, 296, 328, 44,
    46, 307, 40, 275, 276, 278, 326, 35, 230, 202, 449, 455, 34, 130, 128, 61, 247, 208, 333, 426, 73, 72, 65,
    220, 70, 69, 243, 242, 318,
))  # fmt: skip
# select, pselect6, ppoll: the kernel itself writes what is left to where the program has its timeout.
WRITTEN_BACK = frozenset((23, 270, 271))
# Made again after a handler that was installed with SA_RESTART; the others fail with EINTR then:
# read, readv, recvfrom, recvmsg, accept, accept4, wait4, waitid.
_RESTARTED = frozenset((0, 19, 45, 47, 43, 288, 61, 247))


_MILLISECOND, _SECOND = 10**6, 10**9


class Rest(NamedTuple):
    """What is left of a wait.

    Attributes:
        ends_at_ns: The moment of CLOCK_MONOTONIC at which it ends.
        argument: Which one of the call tells how long it waits.
        unit_ns: 10**6: in milliseconds; else it is the address of seconds and so many nanoseconds each.
        place: Instruction and stack pointer of the call: a handler may wait for something of its own first.
    """

    ends_at_ns: int
    argument: int
    unit_ns: int
    place: tuple[int, int]


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
    if not registers.in_syscall or registers.result in RESTARTS:
        return registers.in_syscall
    if registers.result == EINTR and registers.orig_rax in REPEATABLE and stop.kind == "event":
        thread.set_registers(registers.copy(rax=ERESTARTNOHAND))
        return True
    return False


def set_time_left(thread: Thread, rest: Rest, write: Callable[[int, bytes], None]) -> None:
    """Have the call that will be made again wait for the rest, if it is the one."""
    registers = thread.registers()
    if (registers.rip, registers.rsp) != rest.place:
        return
    left = max(0, rest.ends_at_ns - time.monotonic_ns())
    if rest.unit_ns == _MILLISECOND:
        value = min(-(-left // _MILLISECOND), (1 << 31) - 1)
    else:
        # A copy, as the program may use its own again; the kernel reads it before anything else runs.
        value = (registers.rsp - TIME_LEFT_BELOW + 16) & ~15
        if registers.orig_rax in WRITTEN_BACK:
            value = registers.syscall_arguments()[rest.argument]
        try:
            write(value, struct.pack("<qq", left // _SECOND, left % _SECOND // rest.unit_ns))
        except FaultError:
            return
    thread.set_registers(registers.copy(**{SYSCALL_ARGUMENTS[rest.argument]: value}))


def restart_code(number: int) -> int:
    """What a call returns inside the kernel when a signal breaks it off while it waits."""
    return ERESTARTSYS if number in _RESTARTED else ERESTARTNOHAND
