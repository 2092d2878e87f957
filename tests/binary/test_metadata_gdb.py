"""The walker against gdb: variables, layouts and lines of the test program and of our own native library."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.binary.metadata_support import COMPILERS, LEVELS, Workshop

from instar.metadata.model import TypeFlag, TypeKind
from instar.metadata.version import Version

ORACLE = Path(__file__).parent / "gdb_oracle.py"
KINDS = {
    TypeKind.VOID: "void",
    TypeKind.INTEGER: "integer",
    TypeKind.FLOAT: "float",
    TypeKind.POINTER: "pointer",
    TypeKind.STRUCT: "struct",
    TypeKind.UNION: "union",
    TypeKind.ENUM: "enum",
    TypeKind.ARRAY: "array",
    TypeKind.FUNCTION: "function",
    TypeKind.OPAQUE: "other",
}


def ask_gdb(program: Path, pcs: list[int], directory: Path) -> dict[str, Any]:
    places = directory / "pcs.json"
    places.write_text(json.dumps(pcs))
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-x", str(ORACLE), str(program)],
        env={**os.environ, "PCS": str(places)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return answer


def kind_of(version: Version, row: int) -> str:
    row = version.strip(row)
    return "void" if row < 0 else KINDS[TypeKind(int(version.types[row]["kind"]))]


def layouts(version: Version) -> dict[str, list[Any]]:
    """As gdb_oracle.note_type writes them."""
    found: dict[str, list[Any]] = {}
    for row, one in enumerate(version.types):
        if not one["name"] or one["flags"] & TypeFlag.INCOMPLETE:
            continue
        if one["kind"] == TypeKind.ENUM:
            layout: list[Any] = [
                [version.text(e["name"]), int(e["value"])] for e in version.enumerators_of(row)
            ]
        elif one["kind"] in (TypeKind.STRUCT, TypeKind.UNION):
            layout = [
                [
                    version.text(m["name"]),
                    int(m["bit_offset"]),
                    int(m["bit_size"]),
                    version.size_of(int(m["type"])),
                    kind_of(version, int(m["type"])),
                ]
                for m in version.members_of(row)
            ]
        else:
            continue
        found.setdefault(f"{version.type_name(row)} {one['size']}", []).append(layout)
    return found


@pytest.mark.parametrize("dwarf", ["-gdwarf-4", "-gdwarf-5"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_walker_agrees_with_gdb(
    workshop: Workshop, tmp_path: Path, compiler: str, level: str, dwarf: str
) -> None:
    version = workshop.load(workshop.build(compiler, level, dwarf))
    pcs = version.lines["address"][version.lines["line"] > 0].tolist()
    gdb = ask_gdb(version.path, pcs, tmp_path)
    compare_variables(version, gdb)
    compare_layouts(version, gdb)
    compare_lines(version, gdb)


def compare_variables(version: Version, gdb: dict[str, Any]) -> None:
    theirs = {(name, address, size, kind) for name, address, size, kind, _ in gdb["variables"]}
    ours = {
        (
            version.text(v["name"]),
            int(v["address"]),
            version.size_of(int(v["type"])),
            kind_of(version, int(v["type"])),
        )
        for v in version.variables
        if not v["tls"]
    }
    assert len(theirs) > 15
    assert not theirs - ours
    # gdb finds no block of clang's nameless functions, in which statics of inlined functions are
    assert {one[0] for one in ours - theirs} <= {"serial"}


def compare_layouts(version: Version, gdb: dict[str, Any]) -> None:
    ours = layouts(version)
    assert len(gdb["types"]) > 10
    for key, theirs in gdb["types"].items():
        assert all(layout in ours[key] for layout in theirs), key


def compare_lines(version: Version, gdb: dict[str, Any]) -> None:
    """gdb leaves out rows that are no statement starts, so it may name a line of the same place earlier."""
    agreed = 0
    for pc, (file, line) in gdb["lines"].items():
        ours = version.line_at(int(pc))
        assert ours is not None
        agreed += (os.path.realpath(ours[0]), ours[1]) == (os.path.realpath(file), line)
    assert agreed >= 0.85 * len(gdb["lines"]), (agreed, len(gdb["lines"]))


@pytest.mark.parametrize("level", LEVELS)
def test_every_row_of_the_line_table_is_readelfs(workshop: Workshop, level: str) -> None:
    version = workshop.load(workshop.build("gcc", level))
    dump = subprocess.run(
        ["readelf", "--debug-dump=decodedline", str(version.path)], capture_output=True, text=True, check=True
    ).stdout
    last: dict[int, int] = {}
    for words in (line.split() for line in dump.splitlines()):
        if len(words) >= 3 and words[0].endswith((".c", ".h")):
            address = int(words[2], 16)
            if words[1] == "-":  # the end of a run; rows there are empty
                last.pop(address, None)
            else:
                last[address] = int(words[1])
    assert len(last) > 50
    for address, line in last.items():
        found = version.line_at(address)
        assert found is not None and found[1] == line, hex(address)


@pytest.mark.parametrize("level", LEVELS)
def test_locals_have_the_places_that_gdb_names(workshop: Workshop, level: str) -> None:
    version = workshop.load(workshop.build("gcc", level))
    for function in ("main", "visit", "make_later"):
        row = version.find_function(function)
        assert row is not None
        said = subprocess.run(
            [
                "gdb",
                "-nx",
                "-batch",
                "-ex",
                f"info scope *{int(version.functions[row]['low']):#x}",
                str(version.path),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        arguments = {version.text(one["name"]): one for one in version.locals_of(row) if one["flags"] == 1}
        assert arguments
        for name, one in arguments.items():
            place = said.partition(f"Symbol {name} is ")[2].partition("Symbol ")[0]
            ranges = re.findall(r"Range (0x[0-9a-f]+-0x[0-9a-f]+)", place)
            theirs = [tuple(int(end, 16) for end in one.split("-")) for one in ranges]
            theirs = [(low, high) for low, high in theirs if low < high]  # gdb shows empty ones too
            ours = [(int(w["low"]), int(w["high"])) for w in version.locations_of(one)]
            assert ours == (theirs or [(0, 2**64 - 1)]), (function, name, said)
