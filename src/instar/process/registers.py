"""The general registers of an x86-64 thread, as the kernel's ``struct user_regs_struct`` has them."""

from __future__ import annotations

import dataclasses
import struct
from dataclasses import dataclass

LAYOUT = struct.Struct("<27Q")
MASK = (1 << 64) - 1
DIRECTION_FLAG = 1 << 10
TRAP_FLAG = 1 << 8

# The registers that carry the arguments of a system call.
SYSCALL_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")


@dataclass(slots=True)
class Registers:
    """``struct user_regs_struct`` (sys/user.h), field by field; all values are unsigned 64-bit.

    ``orig_rax`` is the number of the system call the thread is in, or 2**64 - 1 when it is in none.
    """

    r15: int = 0
    r14: int = 0
    r13: int = 0
    r12: int = 0
    rbp: int = 0
    rbx: int = 0
    r11: int = 0
    r10: int = 0
    r9: int = 0
    r8: int = 0
    rax: int = 0
    rcx: int = 0
    rdx: int = 0
    rsi: int = 0
    rdi: int = 0
    orig_rax: int = MASK
    rip: int = 0
    cs: int = 0
    eflags: int = 0
    rsp: int = 0
    ss: int = 0
    fs_base: int = 0
    gs_base: int = 0
    ds: int = 0
    es: int = 0
    fs: int = 0
    gs: int = 0

    @classmethod
    def parse(cls, data: bytes) -> Registers:
        """Registers from the bytes of a ``struct user_regs_struct``."""
        return cls(*LAYOUT.unpack(data))

    def pack(self) -> bytes:
        """The bytes of the ``struct user_regs_struct``."""
        return LAYOUT.pack(*(getattr(self, name) & MASK for name in self.__slots__))

    def copy(self, **changes: int) -> Registers:
        """A copy with some fields changed (values are taken modulo 2**64)."""
        return dataclasses.replace(self, **{name: value & MASK for name, value in changes.items()})

    @property
    def in_syscall(self) -> bool:
        """Whether the thread is in (or is just returning from) a system call."""
        return self.orig_rax <= MASK >> 1

    @property
    def result(self) -> int:
        """``rax`` as the signed result of a system call."""
        return signed(self.rax)

    def syscall_arguments(self) -> tuple[int, ...]:
        """The six arguments of the present system call, unsigned."""
        return (self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9)


def signed(value: int) -> int:
    """The signed reading of an unsigned 64-bit value."""
    return value - (1 << 64) if value >> 63 else value
