"""The operations of DWARF expressions and their encoding (DWARF 5, section 7.7.1; GNU extensions)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class OP(IntEnum):
    """DW_OP_*; ``lit0`` stands for lit0 to lit31 where only the first is named, likewise reg and breg."""

    addr = 0x03
    deref = 0x06
    const1u = 0x08
    const1s = 0x09
    const2u = 0x0A
    const2s = 0x0B
    const4u = 0x0C
    const4s = 0x0D
    const8u = 0x0E
    const8s = 0x0F
    constu = 0x10
    consts = 0x11
    dup = 0x12
    drop = 0x13
    over = 0x14
    pick = 0x15
    swap = 0x16
    rot = 0x17
    xderef = 0x18
    abs = 0x19
    and_ = 0x1A
    div = 0x1B
    minus = 0x1C
    mod = 0x1D
    mul = 0x1E
    neg = 0x1F
    not_ = 0x20
    or_ = 0x21
    plus = 0x22
    plus_uconst = 0x23
    shl = 0x24
    shr = 0x25
    shra = 0x26
    xor = 0x27
    bra = 0x28
    eq = 0x29
    ge = 0x2A
    gt = 0x2B
    le = 0x2C
    lt = 0x2D
    ne = 0x2E
    skip = 0x2F
    lit0 = 0x30
    lit31 = 0x4F
    reg0 = 0x50
    reg31 = 0x6F
    breg0 = 0x70
    breg31 = 0x8F
    regx = 0x90
    fbreg = 0x91
    bregx = 0x92
    piece = 0x93
    deref_size = 0x94
    xderef_size = 0x95
    nop = 0x96
    push_object_address = 0x97
    call2 = 0x98
    call4 = 0x99
    call_ref = 0x9A
    form_tls_address = 0x9B
    call_frame_cfa = 0x9C
    bit_piece = 0x9D
    implicit_value = 0x9E
    stack_value = 0x9F
    implicit_pointer = 0xA0
    addrx = 0xA1
    constx = 0xA2
    entry_value = 0xA3
    const_type = 0xA4
    regval_type = 0xA5
    deref_type = 0xA6
    xderef_type = 0xA7
    convert = 0xA8
    reinterpret = 0xA9
    GNU_push_tls_address = 0xE0
    GNU_uninit = 0xF0
    GNU_implicit_pointer = 0xF2
    GNU_entry_value = 0xF3
    GNU_const_type = 0xF4
    GNU_regval_type = 0xF5
    GNU_deref_type = 0xF6
    GNU_convert = 0xF7
    GNU_reinterpret = 0xF9
    GNU_parameter_ref = 0xFA
    GNU_addr_index = 0xFB
    GNU_const_index = 0xFC
    GNU_variable_value = 0xFD


class Operation(NamedTuple):
    """One operation; operands are unsigned 64-bit, signed ones in two's complement.

    Attributes:
        offset: Where it begins in the expression.
        end: Where it ends.
        block: Bytes operand of entry_value, implicit_value, const_type.
    """

    code: int
    first: int = 0
    second: int = 0
    offset: int = 0
    end: int = 0
    block: bytes = b""

    @property
    def target(self) -> int:
        """Where skip and bra go to."""
        displacement = self.first & 0xFFFF
        return self.end + (displacement - 0x10000 if displacement & 0x8000 else displacement)


# u/s + bytes: fixed size; U/S: LEB128; B: LEB128 length and block; b: one-byte length and block.
_OPERANDS: dict[int, str] = {
    OP.addr: "u8", OP.const1u: "u1", OP.const1s: "s1", OP.const2u: "u2", OP.const2s: "s2", OP.const4u: "u4",
    OP.const4s: "s4", OP.const8u: "u8", OP.const8s: "s8", OP.constu: "U", OP.consts: "S", OP.pick: "u1",
    OP.plus_uconst: "U", OP.bra: "s2", OP.skip: "s2", OP.regx: "U", OP.fbreg: "S", OP.bregx: "U S",
    OP.piece: "U", OP.deref_size: "u1", OP.xderef_size: "u1",
    OP.call2: "u2", OP.call4: "u4", OP.call_ref: "u4",
    OP.bit_piece: "U U", OP.implicit_value: "B", OP.implicit_pointer: "u4 S", OP.addrx: "U", OP.constx: "U",
    OP.entry_value: "B", OP.const_type: "U b", OP.regval_type: "U U", OP.deref_type: "u1 U",
    OP.xderef_type: "u1 U", OP.convert: "U", OP.reinterpret: "U", OP.GNU_implicit_pointer: "u4 S",
    OP.GNU_entry_value: "B", OP.GNU_const_type: "U b", OP.GNU_regval_type: "U U", OP.GNU_deref_type: "u1 U",
    OP.GNU_convert: "U", OP.GNU_reinterpret: "U", OP.GNU_parameter_ref: "u4", OP.GNU_addr_index: "U",
    OP.GNU_const_index: "U", OP.GNU_variable_value: "u4",
}  # fmt: skip
_PLAIN = frozenset(
    {int(code) for code in OP} | set(range(OP.lit0, OP.lit31 + 1)) | set(range(OP.reg0, OP.reg31 + 1))
) - set(_OPERANDS)
_MASK = (1 << 64) - 1


def decode(expression: bytes) -> list[Operation]:
    """The operations of an expression (32-bit DWARF, 8-byte addresses); ValueError when malformed."""
    found: list[Operation] = []
    position = 0
    while position < len(expression):
        begin = position
        code = expression[position]
        position += 1
        numbers: list[int] = []
        block = b""
        for form in _forms(code):
            if form in "Bb":
                block, position = _block(expression, position, form)
            else:
                value, position = _number(expression, position, form)
                numbers.append(value)
        first, second = (*numbers, 0, 0)[:2]
        found.append(Operation(code, first, second, begin, position, block))
    return found


def _forms(code: int) -> list[str]:
    if OP.breg0 <= code <= OP.breg31:
        return ["S"]
    forms = _OPERANDS.get(code)
    if forms is None:
        if code not in _PLAIN:
            raise ValueError(f"unknown operation {code:#x}")
        return []
    return forms.split()


def _number(data: bytes, position: int, form: str) -> tuple[int, int]:
    if form in "US":
        return read_leb128(data, position, form == "S")
    size = int(form[1])
    piece = data[position : position + size]
    if len(piece) < size:
        raise ValueError("truncated expression")
    return int.from_bytes(piece, "little", signed=form[0] == "s") & _MASK, position + size


def _block(data: bytes, position: int, form: str) -> tuple[bytes, int]:
    length, position = _number(data, position, "U" if form == "B" else "u1")
    block = data[position : position + length]
    if len(block) < length:
        raise ValueError("truncated expression")
    return block, position + length


def read_leb128(data: bytes, position: int, is_signed: bool) -> tuple[int, int]:
    """A LEB128 number (modulo 2**64) and the position after it; raises ValueError when it is truncated."""
    value = shift = 0
    while True:
        if position >= len(data):
            raise ValueError("truncated LEB128")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    if is_signed and byte & 0x40:
        value -= 1 << shift
    return value & _MASK, position
