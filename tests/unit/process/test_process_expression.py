"""DWARF expressions: decoding, evaluation, and the answers that are no answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.errors import FaultError
from instar.process.expression import (
    Context,
    Place,
    PlaceKind,
    evaluate_operations,
    locate,
    locate_operations,
)
from instar.process.opcodes import OP, decode, read_leb128
from instar.process.unwind import Frame

MASK = (1 << 64) - 1


class FakeMemory:
    pid = 1

    def __init__(self, words: dict[int, int] | None = None) -> None:
        self.words = words or {}

    def read(self, address: int, size: int) -> bytes:
        if address not in self.words:
            raise FaultError(address, size, self.pid)
        return self.words[address].to_bytes(8, "little")[:size]


def uleb(value: int) -> bytes:
    out = b""
    while True:
        byte, value = value & 0x7F, value >> 7
        if not value:
            return out + bytes([byte])
        out += bytes([byte | 0x80])


def sleb(value: int) -> bytes:
    out = b""
    while True:
        byte, value = value & 0x7F, value >> 7
        if (value == 0 and not byte & 0x40) or (value == -1 and byte & 0x40):
            return out + bytes([byte])
        out += bytes([byte | 0x80])


def frame(**changes: object) -> Frame:
    values: dict[str, object] = {
        "index": 0, "pc": 0x5000, "link_pc": 0x1000, "lookup_pc": 0x1000, "cfa": 0x7000, "module": "/bin/x",
        "load_bias": 0x4000, "registers": {3: 33, 6: 0x6000, 7: 0x6F00, 16: 0x5000}, "saved_at": {},
    }  # fmt: skip
    return Frame(**{**values, **changes})  # type: ignore[arg-type]


def value(
    *code: int | bytes, memory: FakeMemory | None = None, registers: dict[int, int] | None = None
) -> int:
    expression = b"".join(part if isinstance(part, bytes) else bytes([part]) for part in code)
    context = Context(registers or {}, memory or FakeMemory())
    return evaluate_operations(decode(expression + bytes([OP.stack_value])), context)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ((OP.lit0 + 7, OP.lit0 + 5, OP.minus), 2),
        ((OP.lit0 + 5, OP.lit0 + 7, OP.minus), MASK - 1),
        ((OP.const1s, b"\xff"), MASK),
        ((OP.const2u, b"\xff\xff"), 0xFFFF),
        ((OP.const4s, b"\xfe\xff\xff\xff"), MASK - 1),
        ((OP.const1s, b"\xf9", OP.lit0 + 2, OP.div), (-3) & MASK),
        ((OP.const1s, b"\xf8", OP.lit0 + 1, OP.shra), (-4) & MASK),
        ((OP.const1s, b"\xf8", OP.lit0 + 1, OP.shr), (1 << 63) - 4),
        ((OP.lit0 + 17, OP.lit0 + 5, OP.mod), 2),
        ((OP.lit0 + 3, OP.neg, OP.abs), 3),
        ((OP.lit0 + 1, OP.lit0 + 2, OP.lit0 + 3, OP.rot, OP.drop, OP.minus), (3 - 1) & MASK),
        ((OP.lit0 + 4, OP.lit0 + 9, OP.over, OP.plus), 13),
        ((OP.lit0 + 4, OP.lit0 + 9, OP.swap, OP.minus), 5),
        ((OP.lit0 + 1, OP.lit0 + 2, OP.lit0 + 3, OP.pick, b"\x02"), 1),
        ((OP.const1s, b"\xff", OP.lit0 + 1, OP.lt), 1),
        ((OP.const1s, b"\xff", OP.lit0 + 1, OP.ge), 0),
        ((OP.lit0 + 1, OP.not_), MASK - 1),
        ((OP.lit0 + 1, OP.const1u, b"\x40", OP.shl), 0),
        ((OP.plus_uconst,), None),
        ((OP.lit0 + 1, OP.bra, b"\x01\x00", OP.lit0 + 9, OP.lit0 + 5), 5),
        ((OP.lit0, OP.bra, b"\x01\x00", OP.lit0 + 9), 9),
        ((OP.lit0 + 6, OP.skip, b"\x01\x00", OP.drop, OP.nop), 6),
        ((OP.constu, uleb(300), OP.consts, sleb(-300), OP.plus), 0),
    ],
)
def test_arithmetic_follows_the_standard(code: tuple[int | bytes, ...], expected: int | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="truncated"):
            value(*code)
    else:
        assert value(*code) == expected


def test_registers_memory_and_frame() -> None:
    memory = FakeMemory({0x6010: 0x1122334455667788})
    assert value(OP.breg0 + 6, sleb(16), OP.deref, memory=memory, registers={6: 0x6000}) == 0x1122334455667788
    assert value(OP.bregx, uleb(6), sleb(-16), registers={6: 0x6010}) == 0x6000
    assert (
        value(OP.breg0 + 6, sleb(16), OP.deref_size, b"\x02", memory=memory, registers={6: 0x6000}) == 0x7788
    )
    base = bytes([OP.call_frame_cfa])
    place = locate(bytes([OP.fbreg]) + sleb(-24), frame(), memory, base)
    assert place == Place(PlaceKind.MEMORY, address=0x7000 - 24)
    place = locate(bytes([OP.fbreg]) + sleb(8), frame(), memory, bytes([OP.reg0 + 6]))
    assert place == Place(PlaceKind.MEMORY, address=0x6008)
    assert locate(bytes([OP.addr]) + (0x1234).to_bytes(8, "little"), frame(), memory).address == 0x5234


def test_kinds_of_places() -> None:
    memory = FakeMemory()
    assert locate(bytes([OP.reg0 + 3]), frame(), memory) == Place(PlaceKind.REGISTER, register=3)
    assert locate(bytes([OP.implicit_value, 2]) + b"ab", frame(), memory).value == b"ab"
    stack_value = locate(bytes([OP.breg0 + 3, 1, OP.stack_value]), frame(), memory)
    assert (stack_value.kind, stack_value.value) == (PlaceKind.VALUE, (34).to_bytes(8, "little"))
    code = bytes([OP.reg0 + 3, OP.piece, 8, OP.piece, 4, OP.breg0 + 6, 8, OP.piece, 4])
    pieces = locate(code, frame(), memory).pieces
    assert [(piece.place.kind, piece.size) for piece in pieces] == [
        (PlaceKind.REGISTER, 64),
        (PlaceKind.UNKNOWN, 32),
        (PlaceKind.MEMORY, 32),
    ]
    bits = locate(bytes([OP.reg0 + 3, OP.bit_piece, 3, 5]), frame(), memory).pieces[0]
    assert (bits.size, bits.bit_offset) == (3, 5)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (b"", "optimized-out"),
        (bytes([OP.reg0 + 0]), "register-lost"),
        (bytes([OP.breg0 + 0, 0]), "register-lost"),
        (bytes([OP.reg0 + 17]), "register-lost"),
        (bytes([OP.breg0 + 6, 0, OP.deref]), "memory-fault"),
        (bytes([OP.entry_value, 1, OP.reg0 + 5, OP.stack_value]), "entry-value"),
        (bytes([OP.GNU_entry_value, 1, OP.reg0 + 5, OP.stack_value]), "entry-value"),
        (bytes([OP.GNU_parameter_ref, 0, 0, 0, 0, OP.stack_value]), "parameter-ref"),
        (bytes([OP.implicit_pointer, 0, 0, 0, 0, 0]), "implicit-pointer"),
        (bytes([OP.fbreg, 0]), "no-frame-base"),
        (bytes([OP.lit0, OP.form_tls_address]), "thread-local"),
        (bytes([OP.addrx, 1]), "address-index"),
        (bytes([OP.convert, 5]), "typed-operation"),
        (bytes([OP.call4, 0, 0, 0, 0]), "expression-call"),
        (bytes([OP.lit0 + 1, OP.lit0, OP.div]), "division-by-zero"),
        (bytes([OP.plus]), "malformed"),
        (bytes([OP.skip, 0xFD, 0xFF]), "malformed"),
        (bytes([0xC5]), "malformed"),
        (bytes([OP.addr, 1, 2]), "malformed"),
    ],
)
def test_what_cannot_be_settled_says_why(code: bytes, reason: str) -> None:
    place = locate(code, frame(), FakeMemory())
    assert (place.kind, place.reason) == (PlaceKind.UNKNOWN, reason)


def test_entry_values_that_are_certain() -> None:
    caller = frame(registers={3: 77, 6: 0x8000, 7: 0x7000})
    code = bytes([OP.entry_value, 1, OP.reg0 + 3, OP.stack_value])
    assert locate(code, frame(), FakeMemory(), caller=caller).value == (77).to_bytes(8, "little")
    code = bytes([OP.entry_value, 2, OP.breg0 + 7, 0, OP.stack_value])
    assert locate(code, frame(), FakeMemory()).value == (0x7000 - 8).to_bytes(8, "little")
    code = bytes([OP.entry_value, 1, OP.reg0 + 5, OP.stack_value])
    assert locate(code, frame(), FakeMemory(), caller=caller).kind is PlaceKind.UNKNOWN


@given(st.binary(max_size=40))
def test_any_bytes_end_in_a_place(code: bytes) -> None:
    place = locate(code, frame(), FakeMemory({0: 1, 8: 2}), bytes([OP.call_frame_cfa]))
    assert place.kind in PlaceKind
    assert place.kind is not PlaceKind.UNKNOWN or place.reason


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_leb128(number: int) -> None:
    data = sleb(number)
    assert read_leb128(data + b"\x55", 0, True) == (number & MASK, len(data))
    unsigned = uleb(number & MASK)
    assert read_leb128(unsigned, 0, False) == (number & MASK, len(unsigned))


def test_loops_end() -> None:
    operations = decode(bytes([OP.lit0 + 1, OP.bra]) + (-4 & 0xFFFF).to_bytes(2, "little"))
    assert locate_operations(operations, Context({}, FakeMemory())).reason == "malformed"
