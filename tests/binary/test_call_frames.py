"""Call frame information is what readelf makes of it, in programs of both compilers and in the C library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.binary.metadata_support import Workshop, run

from instar.process.call_frames import FrameTable, Rule
from instar.process.image_parts import read_file
from instar.process.opcodes import OP

LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6")
NAMES = dict(
    enumerate(
        ["rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)), "ra"]
    )
)
NUMBERS = {name: number for number, name in NAMES.items()}
DEBUG_ONLY = ("-fno-asynchronous-unwind-tables", "-fno-unwind-tables")


@pytest.mark.parametrize(
    "build",
    [
        ("gcc", "-O0"),
        ("gcc", "-O2"),
        ("clang", "-O2"),
        ("gcc", "-O2", *DEBUG_ONLY),
        ("gcc", "-O2", "-gz", *DEBUG_ONLY),
        ("gcc", "-O2", "-Wl,--no-eh-frame-hdr"),
    ],
    ids=" ".join,
)
def test_rows_of_a_program(workshop: Workshop, build: tuple[str, ...]) -> None:
    assert compare(workshop.build(*build)) > 10


def test_rows_of_the_c_library() -> None:
    assert compare(LIBC) > 10_000


def compare(path: Path) -> int:
    """Each row at its first byte; returns how many there are."""
    parts = read_file(str(path))
    assert parts is not None
    table, count = FrameTable(parts), 0
    for section, address, cfa, rules in rows_of(path):
        if section == ".debug_frame" and parts.eh_frame is not None and table.row(address) is None:
            continue
        row = table.row(address)
        assert row is not None, hex(address)
        if cfa != "exp":
            (operation,) = row.cfa.operations
            register, offset = re.fullmatch(r"(\w+)([+-]\d+)", cfa).groups()  # type: ignore[union-attr]
            assert (operation.first, operation.second) == (NUMBERS[register], int(offset)), hex(address)
        for name, text in rules.items():
            assert matches(row.registers[NUMBERS[name]], text), (hex(address), name, text)
        count += 1
    return count


def matches(rule: Rule, text: str) -> bool:
    """A rule, and a column of readelf's."""
    codes = [operation.code for operation in rule.operations]
    if text in "us":  # readelf knows no calling convention, by which rsp is the frame address
        return not codes or codes == [OP.call_frame_cfa, OP.plus_uconst, OP.stack_value]
    if text in ("exp", "vexp"):
        return codes[0] == OP.call_frame_cfa and (codes[-1] == OP.stack_value) == (text == "vexp")
    added = rule.operations[1].first
    value = added - (1 << 64) if added >> 63 else added
    return codes == [OP.call_frame_cfa, OP.plus_uconst] and text == f"c{value:+d}"


def rows_of(path: Path) -> Iterator[tuple[str, int, str, dict[str, str]]]:
    """(section, address, frame address, register -> rule) of every row of every function."""
    section, columns, end, in_function = "", list[str](), 0, False
    for line in run("readelf", "--debug-dump=frames-interp,no-follow-links", path).splitlines():
        words = line.split()
        if line.startswith("Contents of the "):
            section = words[3].replace(".z", ".")
        elif "FDE" in words:
            bounds = words[-1].removeprefix("pc=").split("..")
            end, in_function = int(bounds[1], 16), int(bounds[0], 16) < int(bounds[1], 16)
        elif "CIE" in words:
            in_function = False
        elif words[:1] == ["LOC"]:
            columns = words[2:]
        elif in_function and _is_row(words, columns) and int(words[0], 16) < end:
            yield section, int(words[0], 16), words[1], dict(zip(columns, words[2:], strict=True))


def _is_row(words: list[str], columns: list[str]) -> bool:
    return len(words) == len(columns) + 2 and len(words[0]) == 16
