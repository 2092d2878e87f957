"""More of ptrace(2): what only a future is asked for or given."""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import NamedTuple

from instar.process.ptrace import NT_X86_XSTATE, SIGINFO_SIZE, request

GETEVENTMSG, GETSIGINFO, SETREGSET, GET_RSEQ = 0x4201, 0x4202, 0x4205, 0x420F


class SignalInfo(NamedTuple):
    """The start of a ``siginfo_t``; ``sender`` and ``uid`` mean something for codes <= 0 only."""

    signal: int
    code: int
    sender: int
    uid: int
    address: int
    raw: bytes

    @property
    def by_kernel(self) -> bool:
        """Whether the CPU or the kernel raised it for what the thread itself did (a fault, a trap)."""
        return self.code > 0


def set_extended_state(pid: int, state: bytes) -> None:
    """Put an XSAVE area back."""
    buffer = ctypes.create_string_buffer(state, len(state))
    vector = ctypes.create_string_buffer(struct.pack("<QQ", ctypes.addressof(buffer), len(state)), 16)
    request(SETREGSET, pid, NT_X86_XSTATE, ctypes.addressof(vector))


def parse_siginfo(raw: bytes) -> SignalInfo:
    """Read the start of a ``siginfo_t``."""
    signal, _, code = struct.unpack_from("<iii", raw)
    sender, uid = struct.unpack_from("<iI", raw, 16)
    (address,) = struct.unpack_from("<Q", raw, 16)
    return SignalInfo(signal, code, sender, uid, address, raw)


def get_siginfo(pid: int) -> SignalInfo:
    """What raised the signal of a signal-delivery-stop; EINVAL in a group-stop."""
    buffer = ctypes.create_string_buffer(SIGINFO_SIZE)
    request(GETSIGINFO, pid, None, ctypes.addressof(buffer))
    return parse_siginfo(buffer.raw)


def get_event_message(pid: int) -> int:
    """The message of an event stop: a new pid, an exit status."""
    message = ctypes.c_ulong()
    request(GETEVENTMSG, pid, None, ctypes.addressof(message))
    return message.value


def get_rseq(pid: int) -> tuple[int, int]:
    """Address and size of the thread's ``struct rseq``, (0, 0) when it has none or the kernel is too old."""
    buffer = ctypes.create_string_buffer(24)
    try:
        request(GET_RSEQ, pid, 24, ctypes.addressof(buffer))
    except OSError as error:
        if error.errno in (errno.EIO, errno.EINVAL):
            return 0, 0
        raise
    address, size, _, _, _ = struct.unpack("<QIIII", buffer.raw)
    return address, size
