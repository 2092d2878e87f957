"""Which addresses a program takes, found in its bytes, against a program whose source says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.binary.metadata_support import run

from instar.metadata.elf_reader import read_elf
from instar.metadata.taken import TakenAddresses

SOURCE = """
#define KEPT static __attribute__((noinline, noipa, used))
KEPT int called(int x) { return x + 1; }
KEPT int in_code(int x) { return x + 2; }
KEPT int in_table(int x) { return x + 3; }
int everybodys(int x) { return x + 4; }
static int read_only_here = 5, pointed_at = 6, inside[8];
int (*table[])(int) = {0, in_table};
int *volatile place;
int (*volatile method)(int);
int main(int count, char **words)
{
    place = count > 1 ? &pointed_at : &inside[3];
    method = in_code;
    read_only_here += count;
    return called(read_only_here) + method(*place) + table[1](2) + everybodys(1) + (words == 0);
}
"""
TAKEN = {
    "called": False,
    "read_only_here": False,
    "in_code": True,
    "in_table": True,
    "pointed_at": True,
    "inside": True,
}


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize(
    "options", [("-O2",), ("-O0",), ("-O2", "-no-pie", "-fno-pie"), ("-O2", "-Wl,-z,pack-relative-relocs")]
)
def test_what_is_taken(tmp_path: Path, compiler: str, options: tuple[str, ...]) -> None:
    source = tmp_path / "taken.c"
    source.write_text(SOURCE)
    run(compiler, "-w", *options, source, "-o", tmp_path / "taken", cwd=tmp_path)
    elf = read_elf(tmp_path / "taken")
    taken = TakenAddresses(elf)
    assert taken.is_conclusive
    found = {}
    for name in TAKEN:
        (row,) = elf.find_symbols(name)
        low, size = int(elf.symbols["value"][row]), int(elf.symbols["size"][row])
        found[name] = taken.reaches(low, low + size)
        assert taken.is_private(low)
    if elf.is_pie:
        assert found == TAKEN
    else:  # a number may stand there by chance, or because it is read by its address
        assert all(found[name] for name, is_taken in TAKEN.items() if is_taken)
        assert not found["called"]


def test_what_others_may_take(tmp_path: Path) -> None:
    source = tmp_path / "taken.c"
    source.write_text(SOURCE)
    run("gcc", "-w", "-O2", "-rdynamic", source, "-o", tmp_path / "taken", cwd=tmp_path)
    elf = read_elf(tmp_path / "taken")
    taken = TakenAddresses(elf)
    rows = elf.find_symbols("everybodys")
    low = int(elf.symbols["value"][rows[0]])
    assert not taken.is_private(low)
    assert taken.reaches(low, low + 1)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_code_that_works_from_the_offset_table_proves_nothing(tmp_path: Path, compiler: str) -> None:
    source = tmp_path / "taken.c"
    source.write_text(SOURCE)
    run(compiler, "-w", "-O2", "-fPIE", "-mcmodel=large", source, "-o", tmp_path / "taken", cwd=tmp_path)
    assert not TakenAddresses(read_elf(tmp_path / "taken")).is_conclusive
