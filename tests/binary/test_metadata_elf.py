"""What ElfFile says, against readelf."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.binary.metadata_support import COMPILERS, Workshop, run

from instar.metadata.elf import RelocationKind, SymbolBind, SymbolKind
from instar.metadata.elf_reader import RELOCATION_KINDS, read_elf, read_program

KINDS = {
    "R_X86_64_64": 1, "R_X86_64_COPY": 5, "R_X86_64_GLOB_DAT": 6, "R_X86_64_JUMP_SLOT": 7,
    "R_X86_64_RELATIVE": 8,
    "R_X86_64_DTPMOD64": 16, "R_X86_64_DTPOFF64": 17, "R_X86_64_TPOFF64": 18, "R_X86_64_IRELATIVE": 37,
}  # fmt: skip


@pytest.fixture(params=[(c, *o) for c in COMPILERS for o in (("-O2",), ("-O0", "-no-pie"))], ids="".join)
def program(request: pytest.FixtureRequest, workshop: Workshop) -> Path:
    return workshop.build(*request.param)


def test_symbols(program: Path) -> None:
    elf = read_elf(program)
    ours = [
        (int(s["value"]), int(s["size"]), int(s["kind"]), int(s["bind"]), elf.text(s["name"]))
        for s in elf.symbols
    ]
    theirs = []
    for line in run("readelf", "-sW", program).splitlines():
        words = line.split()
        if len(words) >= 7 and words[0].rstrip(":").isdigit():
            kind = {"NOTYPE": 0, "OBJECT": 1, "FUNC": 2, "SECTION": 3, "FILE": 4, "COMMON": 5, "TLS": 6}[
                words[3]
            ]
            bind = {"LOCAL": 0, "GLOBAL": 1, "WEAK": 2}[words[4]]
            name = words[7].split("@")[0] if len(words) > 7 and kind != 3 else ""
            theirs.append((int(words[1], 16), int(words[2], 0), kind, bind, name))
    assert len(theirs) > 50
    assert [one[:4] for one in ours] == [one[:4] for one in theirs]
    assert [one[4].split("@")[0] for one in ours] == [one[4] for one in theirs]


def test_relocations(program: Path) -> None:
    elf = read_elf(program)
    theirs = []
    for line in run("readelf", "-rW", program).splitlines():
        found = re.match(r"([0-9a-f]{16})  [0-9a-f]{16} (R_X86_64_\w+) +(.*)", line)
        if found:
            address, kind, rest = found.groups()
            named = re.match(r"([0-9a-f]{16}) ([\w.]+)\S* \+ ([0-9a-f]+)", rest)
            addend = int(named[3] if named else rest, 16)
            theirs.append(
                (int(address, 16), RELOCATION_KINDS[KINDS[kind]], named[2] if named else "", addend)
            )
    ours = [
        (
            int(r["address"]),
            RelocationKind(int(r["kind"])),
            symbol_name(elf, int(r["symbol"])),
            int(r["addend"]),
        )
        for r in elf.relocations
    ]
    assert len(theirs) > 5 and ours == theirs


def symbol_name(elf: object, row: int) -> str:
    return "" if row < 0 else elf.text(elf.symbols["name"][row])  # type: ignore[attr-defined]


def test_packed_relative_relocations(workshop: Workshop) -> None:
    """-z pack-relative-relocs says the same in DT_RELR as the tables say without."""
    plain = read_elf(workshop.build("gcc", "-O2"))
    packed = read_elf(workshop.build("gcc", "-O2", "-Wl,-z,pack-relative-relocs"))

    def relative(elf: object) -> list[tuple[str, int]]:
        rows = elf.relocations  # type: ignore[attr-defined]
        chosen = rows[(rows["kind"] == RelocationKind.RELATIVE)]
        names = {int(s["value"]): elf.text(s["name"]) for s in elf.symbols if s["kind"] == SymbolKind.OBJECT}  # type: ignore[attr-defined]
        return sorted((names.get(int(r["address"]), ""), int(r["addend"]) % 16) for r in chosen)

    assert packed.section(".relr.dyn") is not None
    assert relative(packed) == relative(plain)


def test_segments_sections_and_identity(program: Path) -> None:
    elf = read_program(program)
    note = run("readelf", "-n", program)
    assert elf.build_id == re.search(r"Build ID: ([0-9a-f]+)", note)[1]  # type: ignore[index]
    header = run("readelf", "-hW", program)
    assert elf.is_pie == ("DYN" in header)
    assert elf.entry == int(re.search(r"Entry point address: +(0x[0-9a-f]+)", header)[1], 16)  # type: ignore[index]
    assert elf.interpreter == "/lib64/ld-linux-x86-64.so.2" and elf.needed == ("libc.so.6",)
    listed = run("readelf", "-SW", program)
    for section in elf.sections[1:]:
        assert re.search(
            rf"\] {re.escape(section.name)} +\w+ +{section.address:016x} {section.offset:06x}", listed
        )
    text = elf.section(".text")
    assert text is not None and elf.section_at(text.address) == text
    raw = program.read_bytes()
    assert elf.read(text.address, text.size) == raw[text.offset : text.offset + text.size]


def test_zero_in_bss_and_bounds(program: Path) -> None:
    elf = read_elf(program)
    bss, data = elf.section(".bss"), elf.section(".data")
    assert bss is not None and data is not None
    assert elf.read(bss.address, bss.size) == bytes(bss.size)
    assert elf.read(data.address + data.size - 4, 8)[4:] == bytes(4)  # across the end of the file's part
    assert not elf.contains(0) or elf.is_pie
    with pytest.raises(ValueError):
        elf.read(bss.address + 0x100000, 1)


def test_canonical_addresses_of_library_functions(workshop: Workshop) -> None:
    """Without PIE, `&puts` is an address in the program: an undefined symbol with a value."""
    source = workshop.source / "address.c"
    source.write_text(
        '#include <stdio.h>\nint (*f)(const char *);\nint main(void) { f = puts; return f(""); }\n'
    )
    elf = read_elf(workshop.build("gcc", "-O0", "-no-pie", "-fno-pie", files=("address.c",)))
    rows = [elf.symbols[row] for row in elf.find_symbols("puts") if elf.symbols["dynamic"][row]]
    assert len(rows) == 1 and rows[0]["section"] == 0 and rows[0]["value"]
    assert rows[0]["kind"] == SymbolKind.FUNCTION and rows[0]["bind"] == SymbolBind.GLOBAL
    assert int(elf.find_symbols("puts")[0]) in elf.symbols_at(int(rows[0]["value"]))


def test_symbols_by_address(program: Path) -> None:
    elf = read_elf(program)
    names = {elf.text(elf.symbols[row]["name"]) for row in elf.find_symbols("main")}
    main = elf.symbols[elf.find_symbols("main")[0]]
    assert names == {"main"}
    assert "main" in {elf.text(elf.symbols[row]["name"]) for row in elf.symbols_at(int(main["value"]))}
    assert not elf.symbols_at(int(main["value"]) + 1) and not elf.find_symbols("no_such_name")
