"""Registers by the numbers that debug information has for them, and what a C call does with them."""

from __future__ import annotations

from instar.process.registers import Registers

# DWARF number -> field (System V ABI AMD64, figure 3.36).
DWARF_NAMES = (
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip",
)  # fmt: skip
DWARF_RBX, DWARF_RBP, DWARF_RSP, DWARF_RIP = 3, 6, 7, 16
# The registers a called function gives back unchanged.
CALLEE_SAVED = (DWARF_RBX, DWARF_RBP, 12, 13, 14, 15)
# The registers that carry the arguments of a C call.
CALL_ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")


def by_number(registers: Registers) -> dict[int, int]:
    """The values by DWARF register number (0-15 and 16, the program counter)."""
    return {number: getattr(registers, name) for number, name in enumerate(DWARF_NAMES)}
