"""Which of several equal calls in a function a frame stands in.

Compilers copy code (rotated and peeled loops): one call in the source can be two in the program. A frame that
returns into the first copy runs the loop's set-up again, one that returns into the other does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import capstone
from capstone import x86

from instar.metadata.version import Version


@dataclass(frozen=True)
class CallSite:
    """A call that has not returned.

    Attributes:
        ordinal: Which of the equal calls of the function, from 0, by address.
        count: How many calls of the same thing the function has.
        line: Source line, 0 when unknown.
    """

    ordinal: int
    count: int
    line: int


def find_call_site(version: Version, function: int, return_pc: int) -> CallSite | None:
    """The call before a return address (link-time) of a function; None when no call ends there."""
    calls = _calls(version, function)
    here = next((target for end, target in calls if end == return_pc), None)
    if here is None:
        return None
    same = [end for end, target in calls if target == here]
    line = version.line_at(return_pc - 1)
    return CallSite(same.index(return_pc), len(same), line[1] if line else 0)


def _calls(version: Version, function: int) -> list[tuple[int, object]]:
    """(return address, what is called) of every call of a function, by address."""
    row = version.functions[function]
    pieces = [(int(row["low"]), int(row["high"]))]
    pieces += [(int(r["low"]), int(r["high"])) for r in version.ranges_of(function)]
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    found: dict[int, object] = {}
    for low, high in pieces:
        for instruction in decoder.disasm(version.elf.read(low, high - low), low):
            if instruction.id == x86.X86_INS_CALL:
                found[instruction.address + instruction.size] = _target(instruction)
    return sorted(found.items())


def _target(instruction: capstone.CsInsn) -> object:
    operand = instruction.operands[0]
    if operand.type == x86.X86_OP_IMM:
        return operand.imm
    if operand.type == x86.X86_OP_MEM and operand.mem.base == x86.X86_REG_RIP:
        return "memory", instruction.address + instruction.size + operand.mem.disp
    return "computed", instruction.op_str
