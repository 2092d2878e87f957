"""What cannot be a version is refused with its code, its cause and the remedy."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from tests.binary.metadata_support import Workshop, run

from instar.errors import HostError, InstarError
from instar.metadata.elf_reader import read_elf
from instar.metadata.version import load_version


def refusal(path: Path, tmp_path: Path) -> InstarError:
    with pytest.raises(InstarError) as caught:
        load_version(path, cache=tmp_path / "cache", debug_roots=(tmp_path / "roots",))
    assert str(path) in caught.value.cause and "\n" not in caught.value.cause
    assert caught.value.remedy and caught.value.target == "untouched"
    return caught.value


@pytest.fixture
def source(workshop: Workshop) -> Path:
    return workshop.source / "split.c"


def test_no_debug_information(source: Path, tmp_path: Path) -> None:
    program = tmp_path / "prog"
    run("gcc", source, "-o", program)
    error = refusal(program, tmp_path)
    assert error.code == "no-debug-info" and "-g" in error.remedy
    assert any("roots/.build-id" in line for line in error.details)


def test_debug_information_without_any_die(tmp_path: Path) -> None:
    program, text = tmp_path / "prog", tmp_path / "empty.s"
    text.write_text(
        ".globl main\nmain: ret\n.section .note.GNU-stack\n"
        ".section .debug_abbrev\n.byte 1,0x11,0,0,0,0\n"
        ".section .debug_info\n.long 2f-1f\n1: .value 4\n.long 0\n.byte 8,1\n2:\n"
    )
    run("gcc", text, "-o", program)
    assert refusal(program, tmp_path).code == "empty-debug-info"


@pytest.mark.parametrize(
    ("compiler", "option"),
    [
        ("gcc", "-g1"),
        ("gcc", "-ggdb1"),
        ("clang", "-g1"),
        ("clang", "-gline-tables-only"),
        ("clang", "-gmlt"),
    ],
)
def test_a_file_without_types_and_variables(compiler: str, option: str, tmp_path: Path) -> None:
    """The state of such a file would go over as bytes, into whatever the new version makes of them."""
    (tmp_path / "main.c").write_text("int step(int); int main(void) { return step(1); }\n")
    (tmp_path / "part.c").write_text(
        "#include <stdlib.h>\nstatic struct { long a, b; } *list;\n"
        "int step(int n) { list = calloc(n, sizeof *list); return list == 0; }\n"
    )
    for name, flag in (("main", "-g"), ("part", option)):
        run(compiler, "-O2", "-c", flag, tmp_path / f"{name}.c", "-o", tmp_path / f"{name}.o")
    program = tmp_path / "prog"
    run(compiler, tmp_path / "main.o", tmp_path / "part.o", "-o", program)
    error = refusal(program, tmp_path)
    assert error.code == "reduced-debug-info" and "part.c" in error.cause and "-g1" in error.remedy


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_last_option_counts(compiler: str, source: Path, tmp_path: Path) -> None:
    program = tmp_path / "prog"
    run(compiler, "-g1", "-g", source, "-o", program)
    assert len(load_version(program, cache=tmp_path / "cache").types)
    run(compiler, "-g", "-g1", source, "-o", program)
    assert refusal(program, tmp_path).code in ("reduced-debug-info", "empty-debug-info")


def test_unknown_version_of_dwarf(workshop: Workshop, tmp_path: Path) -> None:
    program = workshop.copy(workshop.build("gcc", "-O2"), "dwarf6")
    section = read_elf(program).section(".debug_info")
    assert section is not None
    with program.open("r+b") as file:
        file.seek(section.offset + 4)
        file.write(b"\x06")
    error = refusal(program, tmp_path)
    assert error.code == "dwarf-version" and "6" in error.cause


def test_other_kinds_of_file(source: Path, tmp_path: Path) -> None:
    flags = {
        "relocatable-object": ["-c"],
        "shared-library": ["-shared", "-fPIC"],
        "statically-linked": ["-static"],
    }
    for code, options in flags.items():
        target = tmp_path / code
        run("gcc", "-g", *options, source, "-o", target)
        assert refusal(target, tmp_path).code == code
    static_pie = tmp_path / "static-pie"
    run("gcc", "-g", "-static-pie", source, "-o", static_pie)
    assert refusal(static_pie, tmp_path).code == "statically-linked"


def test_wrong_architecture(workshop: Workshop, tmp_path: Path) -> None:
    program = workshop.copy(workshop.build("gcc", "-O2"), "arm")
    for place, value, name in ((18, 183, "AArch64"), (4, 1, "32 bits")):
        copy = tmp_path / name.split()[0]
        shutil.copy(program, copy)
        with copy.open("r+b") as file:
            file.seek(place)
            file.write(bytes([value]))
        error = refusal(copy, tmp_path)
        assert error.code == "wrong-architecture" and name in error.cause


def test_not_programs_at_all(tmp_path: Path) -> None:
    script, text, empty = tmp_path / "script", tmp_path / "text", tmp_path / "empty"
    script.write_text("#!/bin/sh\necho hello\n")
    text.write_text("no program\n")
    empty.write_bytes(b"")
    error = refusal(script, tmp_path)
    assert error.code == "script" and "/bin/sh" in error.cause
    assert refusal(text, tmp_path).code == refusal(empty, tmp_path).code == "not-elf"


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path, Path("/dev/null")):
        error = refusal(path, tmp_path)
        assert isinstance(error, HostError) and error.code == "unreadable-file"


def test_core_file(workshop: Workshop, tmp_path: Path) -> None:
    program = workshop.copy(workshop.build("gcc", "-O2"), "core")
    with program.open("r+b") as file:
        file.seek(16)
        file.write(b"\x04")
    assert refusal(program, tmp_path).code == "core-file"


def test_a_full_disk_is_only_a_warning(
    workshop: Workshop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = workshop.build("gcc", "-O2")
    nowhere = tmp_path / "file"
    nowhere.write_text("a file where the directory should be")
    with caplog.at_level(logging.WARNING):
        version = load_version(program, cache=nowhere)
    assert len(version.types) and "not written" in caplog.text
    assert nowhere.read_text().startswith("a file")


def test_a_replaced_program_is_read_through_proc(workshop: Workshop, tmp_path: Path) -> None:
    """/proc/PID/exe names the old file even when another one has taken its path."""
    program = tmp_path / "prog"
    shutil.copy(workshop.build("gcc", "-O2"), program)
    with program.open("rb") as file:
        magic = Path(f"/proc/self/fd/{file.fileno()}")
        program.unlink()
        program.write_text("something else")
        assert load_version(magic, cache=tmp_path / "cache").find_type("struct node") is not None
