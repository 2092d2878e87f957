"""Small values of the process layer: deadlines, registers, signal information."""

from __future__ import annotations

import math
import struct

import pytest

from instar.process.deadline import Deadline, DeadlineError
from instar.process.numbering import DWARF_NAMES, by_number
from instar.process.ptrace_state import parse_siginfo
from instar.process.registers import LAYOUT, Registers, signed


def test_registers_survive_packing() -> None:
    data = bytes(range(216))
    registers = Registers.parse(data)
    assert registers.pack() == data
    assert LAYOUT.size == 216
    assert registers.copy(rax=-1).rax == (1 << 64) - 1
    assert registers.copy().pack() == data
    assert by_number(registers)[7] == registers.rsp and by_number(registers)[16] == registers.rip
    assert len(DWARF_NAMES) == 17


@pytest.mark.parametrize(("number", "inside"), [(-1, False), (0, True), (232, True)])
def test_in_syscall(number: int, inside: bool) -> None:
    assert Registers().copy(orig_rax=number).in_syscall is inside


def test_signed() -> None:
    assert [signed(value) for value in (0, 5, (1 << 63) - 1, 1 << 63, (1 << 64) - 4)] == [
        0, 5, (1 << 63) - 1, -(1 << 63), -4,
    ]  # fmt: skip
    assert Registers(rax=(1 << 64) - 514).result == -514


def test_deadlines() -> None:
    assert not Deadline.never().expired
    assert Deadline.never().remaining() == math.inf
    passed = Deadline(0)
    assert passed.expired and passed.remaining() == 0
    with pytest.raises(DeadlineError) as caught:
        passed.check("the thing")
    assert caught.value.code == "deadline" and "the thing" in caught.value.cause
    assert Deadline(100).within(1).remaining() <= 1
    assert Deadline(1).within(100).remaining() <= 1


def test_siginfo() -> None:
    raw = struct.pack("<iiiiiI", 34, 0, -1, 0, 777, 1000) + bytes(104)
    info = parse_siginfo(raw)
    assert (info.signal, info.code, info.sender, info.uid, info.by_kernel) == (34, -1, 777, 1000, False)
    fault = parse_siginfo(struct.pack("<iiiiQ", 11, 0, 1, 0, 0xDEADBEEF000) + bytes(104))
    assert (fault.address, fault.by_kernel) == (0xDEADBEEF000, True)
