"""Functions as bytes by hand: what may differ between the same code, and what may not."""

from __future__ import annotations

import struct

from instar.metadata.elf import RelocationKind
from instar.pairing.code import CodeComparison
from instar.pairing.mapping import TypePairing
from instar.pairing.strings import ContentPairing
from instar.pairing.symbols import pair_symbols
from instar.pairing.units import pair_units
from instar.testing.versions import VersionBuilder

TEXT, RODATA, DATA = 0x1000, 0x3000, 0x5000
RET = b"\xc3"


class Program:
    """A program whose .rodata comes first in its file."""

    def __init__(self, rodata: bytes = b"\0") -> None:
        self.b = VersionBuilder()
        self.b.data(RODATA, rodata)
        self.b.section(".rodata", RODATA, len(rodata))
        self.b.section(".text", TEXT, 0x1000, 6)
        self.b.section(".got", DATA + 0x800, 0x100, 3)

    def function(self, name: str, at: int, code: bytes, **more: object) -> int:
        return self.b.function(name, TEXT + at, code, **more)  # type: ignore[arg-type]

    def variable(self, name: str, at: int, size: int = 8) -> None:
        self.b.variable(name, self.b.array(self.b.c_char, size), DATA + at)


def relative(opcode: bytes, place: int, target: int, trailer: bytes = b"") -> bytes:
    """An instruction at `place` with a 32-bit field relative to its end."""
    end = place + len(opcode) + 4 + len(trailer)
    return opcode + struct.pack("<i", target - end) + trailer


def same(old: Program, new: Program, rows: tuple[int, int] = (0, 0)) -> bool:
    versions = (old.b.build(), new.b.build())
    symbols = pair_symbols(*versions, pair_units(*versions))
    content = ContentPairing(*versions, TypePairing(*versions), symbols)
    return CodeComparison(*versions, symbols, content).same(*rows)


def one(code: bytes, **more: object) -> Program:
    program = Program()
    program.function("f", 0, code, **more)
    return program


def test_equal_bytes_are_the_same_and_a_changed_constant_is_not() -> None:
    load = b"\xb8\x05\0\0\0"
    assert same(one(load + RET), one(load + RET))
    assert not same(one(load + RET), one(b"\xb8\x06\0\0\0" + RET))
    assert not same(one(load + RET), one(load + b"\x90" + RET))


def caller(callee: str, at: int, other: str = "other", other_at: int = 0x900) -> Program:
    program = Program()
    program.function("f", 0, relative(b"\xe8", TEXT, TEXT + at) + RET)
    program.function(callee, at, RET)
    program.function(other, other_at, RET)
    return program


def test_calls_must_reach_the_counterpart() -> None:
    assert same(caller("g", 0x100), caller("g", 0x200))
    assert not same(caller("g", 0x100), caller("h", 0x100))
    assert not same(caller("g", 0x100), caller("other", 0x100, "g", 0x900))


def test_a_jump_inside_keeps_its_displacement() -> None:
    assert same(one(b"\xeb\x01\x90\xc3"), one(b"\xeb\x01\x90\xc3"))
    assert not same(one(b"\xeb\x01\x90\xc3"), one(b"\xeb\x00\x90\xc3"))


def test_a_short_jump_may_leave_a_function() -> None:
    def program(at: int, name: str) -> Program:
        found = one(b"\xeb" + bytes([at - 2]))
        found.function(name, at, RET)
        return found

    assert same(program(0x10, "g"), program(0x20, "g"))
    assert not same(program(0x10, "g"), program(0x10, "h"))


def reader(name: str, at: int, offset: int = 0) -> Program:
    program = Program()
    program.function("f", 0, relative(b"\x8b\x05", TEXT, DATA + at + offset) + RET)
    program.variable(name, at, 16)
    return program


def test_variables_must_be_paired_and_the_offset_equal() -> None:
    assert same(reader("v", 0), reader("v", 64))
    assert same(reader("v", 0, 8), reader("v", 64, 8))
    assert not same(reader("v", 0), reader("v", 64, 8))
    assert not same(reader("v", 0), reader("w", 0))


def test_merged_constants_are_known_by_any_of_their_names() -> None:
    old, new = reader("v", 0), reader("w", 64)
    old.variable("w", 0, 16)
    assert same(old, new)


def test_equal_bytes_that_mean_something_else_are_not_the_same() -> None:
    old, new = reader("v", 0), reader("w", 0)
    new.variable("v", 64, 16)
    assert not same(old, new)


def test_an_immediate_after_the_displacement_is_not_taken_for_it() -> None:
    def writer(at: int, value: bytes) -> Program:
        program = Program()
        program.function("f", 0, relative(b"\xc7\x05", TEXT, DATA + at, value) + RET)
        program.variable("v", at)
        return program

    assert same(writer(0, b"\1\0\0\0"), writer(64, b"\1\0\0\0"))
    assert not same(writer(0, b"\1\0\0\0"), writer(64, b"\2\0\0\0"))


def literal(rodata: bytes, at: int, opcode: bytes = b"\x48\x8d\x3d") -> Program:
    program = Program(rodata)
    program.function("f", 0, relative(opcode, TEXT, RODATA + at) + RET)
    return program


def test_strings_must_have_equal_content() -> None:
    assert same(literal(b"hello\0", 0), literal(b"more\0hello\0", 5))
    assert not same(literal(b"hello\0", 0), literal(b"hellO\0", 0))


def test_unnamed_tables_are_compared_whole_even_if_they_begin_like_text() -> None:
    assert same(literal(b"A\0\0\0B\0\0\0", 0), literal(b"xxxxA\0\0\0B\0\0\0", 4))
    assert not same(literal(b"A\0\0\0B\0\0\0", 0), literal(b"A\0\0\0C\0\0\0", 0))


def test_constants_are_compared_by_as_many_bytes_as_are_read() -> None:
    movsd = b"\xf2\x0f\x10\x05"
    assert same(literal(bytes(range(16)), 0, movsd), literal(b"x" + bytes(range(8)), 1, movsd))
    assert not same(literal(bytes(range(16)), 0, movsd), literal(bytes(range(1, 17)), 0, movsd))


def imported(name: str, slot: int) -> Program:
    program = Program()
    program.function("f", 0, relative(b"\xff\x15", TEXT, DATA + 0x800 + slot) + RET)
    symbol = program.b.symbol(name, 0, section=0, dynamic=True)
    program.b.relocation(DATA + 0x800 + slot, 0, RelocationKind.SYMBOLIC, symbol)
    return program


def test_imports_are_compared_by_name() -> None:
    assert same(imported("read", 0), imported("read", 16))
    assert not same(imported("read", 0), imported("write", 0))


def switch(order: tuple[int, ...], table_at: int, filler: int = 0) -> Program:
    """A function with two cases whose jump table lies in .rodata."""
    targets = [TEXT + filler + 8, TEXT + filler + 9]
    table = b"".join(struct.pack("<i", targets[i] - RODATA - table_at) for i in order)
    program = Program(b"z" * table_at + table + b"\0\0\0\0")
    code = relative(b"\x48\x8d\x05", TEXT + filler, RODATA + table_at) + b"\x90" + RET + RET
    program.b.function("f", TEXT + filler, code)
    return program


def test_jump_tables_must_lead_to_the_same_places() -> None:
    assert same(switch((0, 1, 0), 0), switch((0, 1, 0), 8, 0x40))
    assert not same(switch((0, 1, 0), 0), switch((0, 1, 1), 8, 0x40))


def split(cold_at: int, cold_code: bytes) -> Program:
    program = Program()
    place = TEXT + cold_at
    program.b.data(place, cold_code)
    code = relative(b"\x0f\x84", TEXT, place) + RET
    program.function("f", 0, code, ranges=[(place, place + len(cold_code))])
    program.function("far", 0xF00, RET)
    return program


def test_cold_parts_are_compared_too() -> None:
    assert same(split(0x200, b"\x90\xc3"), split(0x300, b"\x90\xc3"))
    assert not same(split(0x200, b"\x90\xc3"), split(0x200, b"\xcc\xc3"))


def test_bytes_that_are_no_code_are_not_the_same() -> None:
    assert not same(one(b"\x06\x06"), one(b"\x06\x06"))


def test_the_thread_pointer_is_only_understood_while_thread_locals_stay() -> None:
    def program(at: int) -> Program:
        found = one(b"\x64\x48\x8b\x04\x25\0\0\0\0" + RET)
        found.b.variable("t", found.b.c_int, at, tls=True)
        return found

    assert same(program(0), program(0))
    assert not same(program(0), program(8))
