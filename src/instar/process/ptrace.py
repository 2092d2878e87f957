"""ptrace(2) requests, one function each; errors are OSError with the kernel's errno.

All of them must be called by the thread that seized the tracee, while the tracee is stopped, except
``seize`` and ``interrupt``. Request numbers and structures: linux/ptrace.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

from instar.process.registers import LAYOUT, Registers

_libc = ctypes.CDLL(None, use_errno=True)
_ptrace = _libc.ptrace
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_ptrace.restype = ctypes.c_long

CONT, KILL, SINGLESTEP, GETREGS, SETREGS, DETACH, SYSCALL = 7, 8, 9, 12, 13, 17, 24
SETOPTIONS, GETEVENTMSG, GETSIGINFO, SETSIGINFO, GETREGSET, SETREGSET = (
    0x4200, 0x4201, 0x4202, 0x4203, 0x4204, 0x4205,
)  # fmt: skip
SEIZE, INTERRUPT, LISTEN, PEEKSIGINFO, GETSIGMASK, SETSIGMASK, GET_SYSCALL_INFO, GET_RSEQ = (
    0x4206, 0x4207, 0x4208, 0x4209, 0x420A, 0x420B, 0x420E, 0x420F,
)  # fmt: skip

O_TRACESYSGOOD, O_TRACEFORK, O_TRACEVFORK, O_TRACECLONE, O_TRACEEXEC = 0x1, 0x2, 0x4, 0x8, 0x10
O_TRACEVFORKDONE, O_TRACEEXIT, O_EXITKILL, O_SUSPEND_SECCOMP = 0x20, 0x40, 1 << 20, 1 << 21

EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_VFORK_DONE, EVENT_EXIT = 1, 2, 3, 4, 5, 6
EVENT_STOP = 128

NT_X86_XSTATE = 0x202
XSTATE_ROOM = 64 * 1024
AUDIT_ARCH_X86_64 = 0xC000003E
SYSCALL_NONE, SYSCALL_ENTRY, SYSCALL_EXIT, SYSCALL_SECCOMP = 0, 1, 2, 3

_SYSCALL_INFO = struct.Struct("<BxxxIQQ7Q")
_SIGINFO_SIZE = 128


class SyscallInfo(NamedTuple):
    """``struct ptrace_syscall_info``: ``values`` is nr and six arguments at entry, or the result at exit."""

    op: int
    arch: int
    instruction_pointer: int
    stack_pointer: int
    values: tuple[int, ...]


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


def request(number: int, pid: int, address: int | None = None, data: object = None) -> int:
    """One ptrace(2) request; raises OSError."""
    result: int = _ptrace(number, pid, address, data)
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def seize(pid: int, options: int) -> None:
    """Become the tracer of a thread without stopping it."""
    request(SEIZE, pid, None, options)


def interrupt(pid: int) -> None:
    """Ask a seized thread to stop (PTRACE_EVENT_STOP)."""
    request(INTERRUPT, pid)


def resume(how: int, pid: int, signal: int = 0) -> None:
    """CONT, SYSCALL, SINGLESTEP, LISTEN or DETACH."""
    request(how, pid, None, signal)


def get_registers(pid: int) -> Registers:
    """The general registers."""
    buffer = ctypes.create_string_buffer(LAYOUT.size)
    request(GETREGS, pid, None, ctypes.addressof(buffer))
    return Registers.parse(buffer.raw)


def set_registers(pid: int, registers: Registers) -> None:
    """Replace the general registers."""
    buffer = ctypes.create_string_buffer(registers.pack(), LAYOUT.size)
    request(SETREGS, pid, None, ctypes.addressof(buffer))


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def get_extended_state(pid: int) -> bytes:
    """The XSAVE area (x87, SSE, AVX, ...) of the thread."""
    buffer = ctypes.create_string_buffer(XSTATE_ROOM)
    vector = _Iovec(ctypes.addressof(buffer), XSTATE_ROOM)
    request(GETREGSET, pid, NT_X86_XSTATE, ctypes.addressof(vector))
    return buffer.raw[: vector.length]


def set_extended_state(pid: int, state: bytes) -> None:
    """Put an XSAVE area back."""
    buffer = ctypes.create_string_buffer(state, len(state))
    vector = _Iovec(ctypes.addressof(buffer), len(state))
    request(SETREGSET, pid, NT_X86_XSTATE, ctypes.addressof(vector))


def get_signal_mask(pid: int) -> int:
    """The blocked signals; bit ``n - 1`` is signal ``n``."""
    mask = ctypes.c_uint64()
    request(GETSIGMASK, pid, 8, ctypes.addressof(mask))
    return mask.value


def set_signal_mask(pid: int, mask: int) -> None:
    """Replace the blocked signals (SIGKILL and SIGSTOP stay deliverable)."""
    value = ctypes.c_uint64(mask)
    request(SETSIGMASK, pid, 8, ctypes.addressof(value))


def parse_siginfo(raw: bytes) -> SignalInfo:
    """Read the start of a ``siginfo_t``."""
    signal, _, code = struct.unpack_from("<iii", raw)
    sender, uid = struct.unpack_from("<iI", raw, 16)
    (address,) = struct.unpack_from("<Q", raw, 16)
    return SignalInfo(signal, code, sender, uid, address, raw)


def get_siginfo(pid: int) -> SignalInfo:
    """What raised the signal of a signal-delivery-stop; EINVAL in a group-stop."""
    buffer = ctypes.create_string_buffer(_SIGINFO_SIZE)
    request(GETSIGINFO, pid, None, ctypes.addressof(buffer))
    return parse_siginfo(buffer.raw)


def peek_signals(pid: int, shared: bool, limit: int = 256) -> list[SignalInfo]:
    """The queued, not yet delivered signals of the thread, or of the process (``shared``)."""
    found: list[SignalInfo] = []
    room = 32
    buffer = ctypes.create_string_buffer(room * _SIGINFO_SIZE)
    while len(found) < limit:
        arguments = ctypes.create_string_buffer(struct.pack("<QIi", len(found), int(shared), room), 16)
        count = request(PEEKSIGINFO, pid, ctypes.addressof(arguments), ctypes.addressof(buffer))
        raw = buffer.raw
        found += [parse_siginfo(raw[i * _SIGINFO_SIZE : (i + 1) * _SIGINFO_SIZE]) for i in range(count)]
        if count < room:
            break
    return found


def get_event_message(pid: int) -> int:
    """The message of an event stop: a new pid, an exit status."""
    message = ctypes.c_ulong()
    request(GETEVENTMSG, pid, None, ctypes.addressof(message))
    return message.value


def get_syscall_info(pid: int) -> SyscallInfo:
    """Where in a system call the thread stands (Linux 5.3)."""
    buffer = ctypes.create_string_buffer(_SYSCALL_INFO.size + 8)
    request(GET_SYSCALL_INFO, pid, len(buffer), ctypes.addressof(buffer))
    op, arch, ip, sp, *values = _SYSCALL_INFO.unpack_from(buffer)
    return SyscallInfo(op, arch, ip, sp, tuple(values))


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


def set_options(pid: int, options: int) -> None:
    """Replace the PTRACE_O_* options."""
    request(SETOPTIONS, pid, None, options)
