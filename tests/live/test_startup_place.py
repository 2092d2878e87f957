"""The new version's program file comes to lie where the old one's lies."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.control.startup_place import place_program
from instar.process.maps import Mapping, read_maps
from instar.process.tracee import Tracee

SOURCE = """
#include <stdio.h>
#include <unistd.h>
static const char *const names[] = {"one", "two"};
static char zeros[300000];
static int (*const call)(const char *) = puts;
int main(int argc, char **argv) {
    char byte;
    for (int i = 0; i < 2; i++) printf("%s %s\\n", names[i], argv[argc - 1]);
    printf("%p\\n", (void *)names);
    call(zeros[argc] ? "bad" : "good");
    fflush(stdout);
    return read(0, &byte, 1) > 0;
}
"""


def compile_program(directory: Path, name: str, *flags: str) -> Path:
    source, target = directory / f"{name}.c", directory / name
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-O1", "-g", *flags, "-o", str(target), str(source)], check=True)
    return target


class Running:
    """The old version, which waits."""

    def __init__(self, program: Path) -> None:
        self.child = subprocess.Popen([str(program), "old"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.child.stdout is not None
        self.lines = [self.child.stdout.readline() for _ in range(4)]

    def stop(self) -> None:
        self.child.communicate()


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Running]:
    running = Running(compile_program(tmp_path, "old"))
    yield running
    running.stop()


def base(pid: int, program: Path) -> int:
    return min(mapping.start for mapping in mappings(pid, program))


def mappings(pid: int, program: Path) -> list[Mapping]:
    return [mapping for mapping in read_maps(pid) if mapping.file == str(program)]


def run_on(tracee: Tracee, reader: int) -> list[bytes]:
    """Let it go; what it prints."""
    tracee.detach()
    with os.fdopen(reader, "rb") as lines:
        return lines.read().splitlines(keepends=True)


def launch(program: Path) -> tuple[Tracee, int]:
    from instar.process.launch import Preparation

    reader, writer = os.pipe()
    null = os.open(os.devnull, os.O_RDONLY)
    tracee = Tracee.launch(
        [str(program), "new"], {}, executable=program,
        prepare=Preparation(descriptors={0: null, 1: writer, 2: 2}),
    )  # fmt: skip
    os.close(writer)
    os.close(null)
    return tracee, reader


def test_same_place_and_it_works(old: Running, tmp_path: Path) -> None:
    new = compile_program(tmp_path, "new")
    tracee, reader = launch(new)
    assert place_program(tracee, old.child.pid)
    assert base(tracee.pid, new) == base(old.child.pid, tmp_path / "old")
    assert run_on(tracee, reader) == [b"one new\n", b"two new\n", old.lines[2], b"good\n"]


def test_larger_program_moves_too(old: Running, tmp_path: Path) -> None:
    new = compile_program(tmp_path, "new", "-O0", "-DEXTRA")
    tracee, reader = launch(new)
    before = len(mappings(tracee.pid, new))
    assert place_program(tracee, old.child.pid)
    assert len(mappings(tracee.pid, new)) == before
    assert run_on(tracee, reader)[-1] == b"good\n"


@pytest.mark.parametrize("which", ["old", "new"])
def test_fixed_program_stays(tmp_path: Path, which: str) -> None:
    """A program that is not position-independent cannot move, and nothing is done."""
    flags = ("-no-pie",)
    running = Running(compile_program(tmp_path, "old", *(flags if which == "old" else ())))
    new = compile_program(tmp_path, "new", *(flags if which == "new" else ()))
    tracee, reader = launch(new)
    where = base(tracee.pid, new)
    assert not place_program(tracee, running.child.pid)
    assert base(tracee.pid, new) == where
    assert run_on(tracee, reader)[-1] == b"good\n"
    running.stop()
