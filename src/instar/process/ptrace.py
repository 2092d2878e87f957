"""ptrace(2) requests, one function each; errors are OSError with the kernel's errno.

All of them must be called by the thread that seized the tracee, while the tracee is stopped, except
``seize`` and ``interrupt``. Request numbers and structures: linux/ptrace.h.
"""

from __future__ import annotations

import ctypes
import os
import struct

from instar.process.registers import LAYOUT, Registers

_libc = ctypes.CDLL(None, use_errno=True)
_ptrace = _libc.ptrace
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_ptrace.restype = ctypes.c_long

CONT, SINGLESTEP, GETREGS, SETREGS, DETACH, SYSCALL = 7, 9, 12, 13, 17, 24
SETOPTIONS, GETREGSET, SEIZE, INTERRUPT, LISTEN = 0x4200, 0x4204, 0x4206, 0x4207, 0x4208
PEEKSIGINFO, GETSIGMASK, SETSIGMASK, GET_SYSCALL_INFO = 0x4209, 0x420A, 0x420B, 0x420E

O_TRACESYSGOOD, O_TRACEFORK, O_TRACEVFORK, O_TRACECLONE, O_TRACEEXEC = 0x1, 0x2, 0x4, 0x8, 0x10
O_TRACEEXIT, O_EXITKILL, O_SUSPEND_SECCOMP = 0x40, 1 << 20, 1 << 21

EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_VFORK_DONE, EVENT_EXIT = 1, 2, 3, 4, 5, 6
EVENT_STOP = 128

AUDIT_ARCH_X86_64 = 0xC000003E
SYSCALL_ENTRY = 1

SIGINFO_SIZE = 128
NT_X86_XSTATE, _XSTATE_ROOM = 0x202, 64 << 10
_SYSCALL_INFO = struct.Struct("<BxxxI16x7Q")


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


def get_signal_mask(pid: int) -> int:
    """The blocked signals; bit ``n - 1`` is signal ``n``."""
    mask = ctypes.c_uint64()
    request(GETSIGMASK, pid, 8, ctypes.addressof(mask))
    return mask.value


def set_signal_mask(pid: int, mask: int) -> None:
    """Replace the blocked signals (SIGKILL and SIGSTOP stay deliverable)."""
    value = ctypes.c_uint64(mask)
    request(SETSIGMASK, pid, 8, ctypes.addressof(value))


def get_syscall_info(pid: int) -> tuple[int, int, list[int]]:
    """Of ``struct ptrace_syscall_info`` (Linux 5.3): op, arch, and number and arguments or the result."""
    buffer = ctypes.create_string_buffer(_SYSCALL_INFO.size + 8)
    request(GET_SYSCALL_INFO, pid, len(buffer), ctypes.addressof(buffer))
    op, arch, *values = _SYSCALL_INFO.unpack_from(buffer)
    return op, arch, values


def peek_signals(pid: int, shared: bool, first: int = 0, room: int = 256) -> list[bytes]:
    """``siginfo_t`` of signals queued for the thread, or for the process (``shared``), from a place on."""
    buffer = ctypes.create_string_buffer(room * SIGINFO_SIZE)
    arguments = ctypes.create_string_buffer(struct.pack("<QIi", first, int(shared), room), 16)
    count = request(PEEKSIGINFO, pid, ctypes.addressof(arguments), ctypes.addressof(buffer))
    return [buffer.raw[at : at + SIGINFO_SIZE] for at in range(0, count * SIGINFO_SIZE, SIGINFO_SIZE)]


def set_options(pid: int, options: int) -> None:
    """Replace the PTRACE_O_* options."""
    request(SETOPTIONS, pid, None, options)


def get_extended_state(pid: int) -> bytes:
    """The XSAVE area (x87, SSE, AVX, ...) of the thread."""
    buffer = ctypes.create_string_buffer(_XSTATE_ROOM)
    vector = ctypes.create_string_buffer(struct.pack("<QQ", ctypes.addressof(buffer), _XSTATE_ROOM), 16)
    request(GETREGSET, pid, NT_X86_XSTATE, ctypes.addressof(vector))
    return buffer.raw[: int.from_bytes(vector.raw[8:], "little")]
