"""Putting a duplicate of one of our descriptors into a stopped process, without any right of its own.

pidfd_getfd inside the new version fails once it has changed its user; a socket pair and SCM_RIGHTS always
work.
"""

from __future__ import annotations

import os
import socket
import struct

from instar.control.channel import get_descriptor, raised_limit
from instar.errors import HostError
from instar.process.descriptors import list_numbers
from instar.process.injection import RED_ZONE, Surgery
from instar.process.syscalls import NUMBERS
from instar.process.tracee import Tracee

_O_CLOEXEC = 0o2000000
_MSG_CMSG_CLOEXEC, _MSG_DONTWAIT = 0x40000000, 0x40
_SCRATCH = 256
_CONTROL_SIZE = 24  # CMSG_SPACE(sizeof(int))


def put_descriptor(tracee: Tracee, number: int, descriptor: int, *, cloexec: bool) -> None:
    """Make ``number`` in a stopped process a duplicate of our ``descriptor``; what was there is closed.

    Raises HostError "cannot-lend" when a step fails; the number is then as it was.
    """
    highest = max([*list_numbers(tracee.pid), number]) + 4
    with raised_limit(tracee.pid, highest), tracee.surgery() as surgery:
        stack = scratch_address(tracee)
        memory = tracee.memory
        saved = memory.read(stack, _SCRATCH)
        try:
            ends = _make_pair(surgery, tracee, stack)
            try:
                received = _receive(surgery, tracee, stack, ends, descriptor)
            finally:
                for end in ends:
                    surgery.syscall(NUMBERS["close"], end)
            _check(surgery.syscall(NUMBERS["dup3"], received, number, _O_CLOEXEC if cloexec else 0), "dup3")
            surgery.syscall(NUMBERS["close"], received)
        finally:
            memory.write(stack, saved)


def move_descriptor(tracee: Tracee, number: int, target: int, *, cloexec: bool) -> None:
    """Give a descriptor of a stopped process another number, which must be free."""
    with raised_limit(tracee.pid, target), tracee.surgery() as surgery:
        flags = _O_CLOEXEC if cloexec else 0
        _check(surgery.syscall(NUMBERS["dup3"], number, target, flags), "dup3")
        surgery.syscall(NUMBERS["close"], number)


def scratch_address(tracee: Tracee) -> int:
    """Memory below the stack that a stopped thread does not use; ``_SCRATCH`` bytes, 16-byte aligned."""
    return (tracee.registers().rsp - RED_ZONE - _SCRATCH) & ~15


def _make_pair(surgery: Surgery, tracee: Tracee, stack: int) -> tuple[int, int]:
    kind = socket.SOCK_DGRAM | _O_CLOEXEC
    _check(surgery.syscall(NUMBERS["socketpair"], socket.AF_UNIX, kind, 0, stack), "socketpair")
    first, second = struct.unpack("<ii", tracee.memory.read(stack, 8))
    return first, second


def _receive(surgery: Surgery, tracee: Tracee, stack: int, ends: tuple[int, int], descriptor: int) -> int:
    """Send our descriptor to one end of the pair, and have the process take it; its number there."""
    pidfd = os.pidfd_open(tracee.pid)
    try:
        with socket.socket(fileno=get_descriptor(pidfd, ends[1])) as sender:
            socket.send_fds(sender, [b"d"], [descriptor])
    finally:
        os.close(pidfd)
    control, data = stack + 96, stack + 160
    header = struct.pack("<QIIQQQQQ", 0, 0, 0, stack + 80, 1, control, _CONTROL_SIZE, 0)
    tracee.memory.write(stack, header)
    tracee.memory.write(stack + 80, struct.pack("<QQ", data, 1)[:16])
    flags = _MSG_CMSG_CLOEXEC | _MSG_DONTWAIT
    _check(surgery.syscall(NUMBERS["recvmsg"], ends[0], stack, flags), "recvmsg")
    length, level, kind, received = struct.unpack("<QiiI", tracee.memory.read(control, 20))
    if (level, kind) != (socket.SOL_SOCKET, socket.SCM_RIGHTS) or length < 20:
        raise HostError(
            "cannot-lend",
            f"process {tracee.pid} did not get the descriptor (too many in flight?)",
            "see `ulimit -n` of the new version",
        )
    return int(received)


def _check(result: int, name: str) -> None:
    if result < 0:
        raise HostError(
            "cannot-lend",
            f"the new version cannot be given a descriptor: {name}: {os.strerror(-result)}",
            f"see whether it may call {name} (limits, a seccomp filter)",
        )
