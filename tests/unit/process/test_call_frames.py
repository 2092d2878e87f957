"""Call frame information that is written here by hand, and what damage can make of it: a row, or none."""

from __future__ import annotations

import itertools
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.process.call_frames import FrameTable, Row, Rule
from instar.process.image_parts import Bytes, ImageParts, read_file, read_image
from instar.process.opcodes import OP, read_leb128

EH, DEBUG = 0x5000, 0
CODE = 0x1000
SIZE = 0x100


def entry(body: bytes, *, wide: bool = False) -> bytes:
    body += bytes(-len(body) % 8)
    return (
        b"\xff\xff\xff\xff" + struct.pack("<Q", len(body)) if wide else struct.pack("<I", len(body))
    ) + body


def eh_frame(program: bytes, common: bytes = b"\x0c\x07\x08\x90\x01", augmentation: bytes = b"zR\0") -> bytes:
    """A CIE (CFA: rsp+8, rip at -8) and one FDE for CODE to CODE + SIZE."""
    head = entry(struct.pack("<I", 0) + b"\x01" + augmentation + b"\x01\x78\x10\x01\x1b" + common)
    at = len(head) + 8
    relative = struct.pack("<i", CODE - EH - at)
    return head + entry(
        struct.pack("<I", len(head) + 4) + relative + struct.pack("<I", SIZE) + b"\0" + program
    )


def table(program: bytes, **more: bytes) -> FrameTable:
    return FrameTable(ImageParts((), None, Bytes(EH, eh_frame(program, **more)), None))


def plain(rule: Rule) -> object:
    """What a rule says, in few words."""
    if not rule.operations:
        return "same" if rule.same else "undefined"
    return [(OP(one.code).name, one.first - (1 << 64 if one.first >> 63 else 0)) for one in rule.operations]


def at_cfa(offset: int) -> object:
    return [("call_frame_cfa", 0), ("plus_uconst", offset)]


def row_of(program: bytes, address: int = CODE + 0x80, **more: bytes) -> Row:
    found = table(program, **more).row(address)
    assert found is not None
    return found


def test_what_nobody_says_is_the_calling_convention() -> None:
    row = row_of(b"")
    assert (row.start, row.end, row.return_register, row.signal_frame) == (CODE, CODE + SIZE, 16, False)
    assert [(one.first, one.second) for one in row.cfa.operations] == [(7, 8)]
    kept = [number for number, rule in enumerate(row.registers) if plain(rule) == "same"]
    assert kept == [3, 6, 12, 13, 14, 15]
    assert plain(row.registers[16]) == at_cfa(-8)
    assert plain(row.registers[7]) == [*at_cfa(0), ("stack_value", 0)]  # type: ignore[misc]
    assert plain(row.registers[0]) == "undefined"


def test_rows_go_from_step_to_step() -> None:
    program = b"\x41\x0e\x10\x02\x20\x0e\x18\x03\x30\x00\x0e\x20\x04\x40\x00\x00\x00\x0e\x28"
    bounds = [0, 1, 0x21, 0x51, 0x91, SIZE]
    for number, (low, high) in enumerate(itertools.pairwise(bounds)):
        for address in (CODE + low, CODE + high - 1):
            row = row_of(program, address)
            assert (row.start, row.end) == (CODE + low, CODE + high)
            assert row.cfa.operations[0].second == 8 * (number + 1)
    assert table(program).row(CODE - 1) is None and table(program).row(CODE + SIZE) is None


@pytest.mark.parametrize(
    ("program", "register", "expected"),
    [
        (b"\x83\x02", 3, at_cfa(-16)),
        (b"\x05\x03\x03", 3, at_cfa(-24)),
        (b"\x11\x03\x7f", 3, at_cfa(8)),
        (b"\x2f\x03\x01", 3, at_cfa(8)),
        (b"\x07\x03", 3, "undefined"),
        (b"\x08\x00", 0, "same"),
        (b"\x09\x00\x0c", 0, [("regx", 12)]),
        (b"\x14\x03\x02", 3, [*at_cfa(-16), ("stack_value", 0)]),  # type: ignore[misc]
        (b"\x15\x03\x7e", 3, [*at_cfa(16), ("stack_value", 0)]),  # type: ignore[misc]
        (b"\x10\x03\x02\x23\x05", 3, [("call_frame_cfa", 0), ("plus_uconst", 5)]),
        (b"\x16\x03\x02\x23\x05", 3, [("call_frame_cfa", 0), ("plus_uconst", 5), ("stack_value", 0)]),
        (b"\x83\x02\x0a\x83\x03\x0b", 3, at_cfa(-16)),
        (b"\x83\x02\xc3", 3, "same"),
        (b"\x90\x05\xd0", 16, at_cfa(-8)),
        (b"\x83\x02\x06\x03", 3, "same"),
        (b"\x2e\x10\x83\x02", 3, at_cfa(-16)),
        (b"\x00\x83\x02", 3, at_cfa(-16)),
        (b"\x05\x40\x03", 3, "same"),  # of a vector register
    ],
)
def test_every_rule(program: bytes, register: int, expected: object) -> None:
    assert plain(row_of(program).registers[register]) == expected


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (b"\x0c\x06\x10", ("bregx", 6, 16)),
        (b"\x0d\x06", ("bregx", 6, 8)),
        (b"\x0e\x20", ("bregx", 7, 32)),
        (b"\x12\x06\x7e", ("bregx", 6, 16)),
        (b"\x13\x7d", ("bregx", 7, 24)),
        (b"\x0f\x02\x77\x08", ("breg0", 8, 0)),
    ],
)
def test_every_frame_address(program: bytes, expected: tuple[str, int, int]) -> None:
    (operation,) = row_of(program).cfa.operations
    code = OP.breg0 if 0x70 <= operation.code <= 0x8F else OP(operation.code)
    assert (code.name, operation.first, operation.second) == expected


@pytest.mark.parametrize(
    "program",
    {
        "unknown": b"\x3f",
        "no state": b"\x0b",
        "cut": b"\0\0\x83",
        "long": b"\x0f\x7f",
        "operation": b"\x10\x03\x01\xff",
        "step": b"\0\0\x02",
        "place": b"\x01" + bytes(8),
        "offset": b"\x0f\x00\x0e\x08",
        "number": b"\x83" + b"\x80" * 4000,
        "states": b"\x0a" * 5000,
        "size": b"\x83\x01" * (1 << 20),
    }.values(),
    ids=lambda program: program[:4].hex(),
)
def test_what_is_malformed_is_not_there(program: bytes) -> None:
    assert table(program).row(CODE + 0x80) is None


def test_a_signal_frame() -> None:
    assert row_of(b"", augmentation=b"zRS\0").signal_frame


def test_the_other_section_is_asked_then() -> None:
    """DWARF 4 in 64 bits, addresses as they are."""
    head = entry(
        struct.pack("<Q", (1 << 64) - 1) + b"\x04\0\x08\0\x01\x78\x10\x0c\x07\x10\x90\x01", wide=True
    )
    frame = entry(struct.pack("<QQQ", 0, 0x9000, SIZE), wide=True)
    parts = ImageParts((), None, Bytes(EH, eh_frame(b"")), Bytes(DEBUG, head + frame))
    row = FrameTable(parts).row(0x9010)
    assert row is not None and row.cfa.operations[0].second == 16
    assert FrameTable(parts).row(CODE) is not None


def test_the_sorted_table_is_not_believed() -> None:
    data = eh_frame(b"")
    place = EH + len(data) - len(eh_frame(b"")) + 4 + int.from_bytes(data[:4], "little")

    def search(start: int, at: int, count: int = 1) -> FrameTable:
        head = b"\x01\x1b\x03\x3b" + bytes(4) + struct.pack("<Iii", count, start - 0x4000, at - 0x4000)
        return FrameTable(ImageParts((), Bytes(0x4000, head), Bytes(EH, data), None))

    assert search(CODE, place).row(CODE + 1) is not None
    assert search(CODE, place).row(CODE - 1) is None
    assert search(CODE, place).row(1 << 50) is None
    for start, at in ((CODE, EH), (CODE, EH - 8), (CODE, EH + len(data)), (0x800, place)):
        assert search(start, at).row(0x900) is None
    assert search(CODE, place, count=1 << 31).row(CODE + 1) is not None  # only what is there is looked at


def image(eh: bytes, *, sections: bool = True, debug: bytes = b"", flags: int = 0) -> bytes:
    """An ELF image with one segment at 0, .eh_frame at its address, and perhaps .debug_frame."""
    names = b"\0.eh_frame\0.debug_frame\0.names\0"
    body = bytes(EH) + eh
    parts = [
        (1, 0, EH, EH, len(eh)),
        (11, flags, 0, len(body), len(debug)),
        (24, 0, 0, len(body + debug), len(names)),
    ]
    table_at = len(body + debug + names)
    rows = bytes(64) + b"".join(
        struct.pack("<IIQQQQIIQQ", name, 1, flag, address, offset, size, 0, 0, 1, 0)
        for name, flag, address, offset, size in parts
    )
    fields = (table_at, 0, 64, 56, 1, 64, 4, 3) if sections else (0, 0, 64, 56, 1, 0, 0, 0)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, *fields)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, EH + len(eh), EH + len(eh), 4096)
    whole = bytearray(body + debug + names + rows)
    whole[: len(header + segment)] = header + segment
    return bytes(whole)


def test_parts_of_an_image(tmp_path: Path) -> None:
    whole = image(eh_frame(b""))
    parts = read_image(whole)
    assert parts is not None and parts.eh_frame == Bytes(EH, eh_frame(b""))
    assert [tuple(one) for one in parts.segments] == [
        (0, 0, EH + len(eh_frame(b"")), EH + len(eh_frame(b"")), 5)
    ]
    (tmp_path / "image").write_bytes(whole)
    assert read_file(str(tmp_path / "image")) == parts
    without = read_image(image(eh_frame(b""), sections=False))
    assert without is not None and without.eh_frame is None and without.segments == parts.segments


@pytest.mark.parametrize("good", [True, False])
def test_a_compressed_section(good: bool) -> None:
    data = bytes(1000) + b"end"
    packed = struct.pack("<IIQQ", 1, 0, len(data), 8) + (
        zlib.compress(data) if good else b"nothing of the kind"
    )
    parts = read_image(image(eh_frame(b""), debug=packed, flags=0x800))
    assert parts is not None and parts.debug_frame == Bytes(0, data if good else b"")


def test_a_compressed_section_is_no_longer_than_it_says() -> None:
    packed = struct.pack("<IIQQ", 1, 0, 100, 8) + zlib.compress(bytes(1 << 24))
    parts = read_image(image(eh_frame(b""), debug=packed, flags=0x800))
    assert parts is not None and parts.debug_frame is not None and len(parts.debug_frame.data) == 100


def test_what_is_no_image(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, tmp_path / "missing", Path("/dev/null")):
        assert read_file(str(path)) is None
    for data in (b"", b"\x7fELF", b"#!/bin/sh\n" * 20, b"\x7fELF\x01\x01" + bytes(100)):
        assert read_image(data) is None


def _flip(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _number(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) - 8)
    data[at : at + 4] = struct.pack(
        "<I", chance.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0])
    )


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


@pytest.mark.parametrize("damage", [_flip, _number, _cut])
def test_damage_comes_to_a_row_or_none(damage: Callable[[bytearray, random.Random], None]) -> None:
    chance = random.Random(7)
    whole = image(
        eh_frame(b"\x41\x0e\x10\x83\x02\x0a\x44\x0e\x18\x0b\x10\x06\x02\x77\x08\x16\x0c\x02\x23\x05")
    )
    found = 0
    for _ in range(1500):
        data = bytearray(whole[EH:] if chance.random() < 0.7 else whole)
        damage(data, chance)
        parts = read_image(bytes(data) if len(data) > EH else whole[:EH] + bytes(data))
        if parts is not None:
            found += FrameTable(parts).row(CODE + chance.randrange(SIZE)) is not None
    assert found or damage is _cut  # the table of sections is at the end


def test_a_number_has_an_end() -> None:
    assert read_leb128(b"\x85" + b"\x80" * 9 + b"\x00", 0, False) == (5, 11)
    with pytest.raises(ValueError, match="truncated"):
        read_leb128(b"\x80" * (1 << 20), 0, False)
