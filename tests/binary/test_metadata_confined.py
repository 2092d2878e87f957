"""A version that a process without rights has read is the same; what it says is not believed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.binary.metadata_support import Workshop, facts, run

from instar.errors import RefusedError
from instar.metadata.version import load_version
from instar.metadata.walker import walk_program
from instar.update import reading
from instar.update.reading import walk_confined

Columns = dict[str, np.ndarray[Any, np.dtype[Any]]]


def _plain(workshop: Workshop, _directory: Path) -> Path:
    return workshop.build("gcc", "-O2")


def _compressed(workshop: Workshop, directory: Path) -> Path:
    run("objcopy", "--compress-debug-sections=zstd", workshop.build("gcc", "-O2"), directory / "prog")
    return directory / "prog"


def _separate(workshop: Workshop, directory: Path) -> Path:
    whole, program, debug = workshop.build("gcc", "-O2"), directory / "prog", directory / "prog.debug"
    run("objcopy", "--only-keep-debug", whole, debug)
    run("objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", whole, program)
    return program


def _split(workshop: Workshop, directory: Path) -> Path:
    sources = [workshop.source / name for name in ("main.c", "other.c")]
    run("clang", "-w", "-g", "-gsplit-dwarf", "-fcommon", *sources, "-o", "prog", cwd=directory)
    return directory / "prog"


def _package(workshop: Workshop, directory: Path) -> Path:
    program = _split(workshop, directory)
    run("llvm-dwp", "-e", "prog", "-o", "prog.dwp", cwd=directory)
    for dwo in directory.glob("*.dwo"):
        dwo.unlink()
    return program


@pytest.mark.parametrize("build", [_plain, _compressed, _separate, _split, _package])
def test_the_same_version(
    workshop: Workshop, tmp_path: Path, build: Callable[[Workshop, Path], Path]
) -> None:
    """The first confined, so that the cache has what came from there; the second reads itself."""
    program = build(workshop, tmp_path)
    found = load_version(program, cache=tmp_path / "confined", walk=walk_confined)
    itself = load_version(program, cache=tmp_path / "itself")
    assert facts(found) == facts(itself)
    (first,), (second,) = ((tmp_path / name).iterdir() for name in ("confined", "itself"))
    assert first.read_bytes() == second.read_bytes()


def test_from_the_cache_nobody_reads(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = workshop.build("gcc", "-O2")
    load_version(program, cache=tmp_path, walk=walk_confined)
    monkeypatch.setattr(reading, "compute", None)
    assert len(load_version(program, cache=tmp_path, walk=walk_confined).types)


@pytest.mark.parametrize(
    ("column", "field", "value"),
    [("types", "target", 1 << 24), ("variables", "name", 1 << 30), ("functions", "first_local", 1 << 20),
     ("locals", "type", -7), ("locations", "expression", 1 << 30)],
)  # fmt: skip
def test_what_refers_outside_is_refused(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, field: str, value: int
) -> None:
    def lie(*files: Any, **options: Any) -> Columns:
        columns: Columns = walk_program(*files, **options)
        columns[column][field][-1] = value
        return columns

    monkeypatch.setattr(reading, "walk_program", lie)
    with pytest.raises(RefusedError) as refused:
        load_version(workshop.build("gcc", "-O2"), cache=tmp_path / "cache", walk=walk_confined)
    assert refused.value.code == "damaged-debug-info"
    assert not (tmp_path / "cache").exists()  # nothing of it is kept


def test_who_may_not_open_a_file_reads_it(workshop: Workshop, tmp_path: Path) -> None:
    """As the child may not open another program's /proc/PID/exe: the files come as descriptors."""
    program = workshop.build("gcc", "-O2")
    descriptor = os.open(program, os.O_RDONLY)
    try:
        missing = tmp_path / "missing"
        columns = walk_program(missing, beside=tmp_path, opened={missing: descriptor})
        assert columns["types"].tobytes() == walk_program(program)["types"].tobytes()
        os.fstat(descriptor)  # stays open
    finally:
        os.close(descriptor)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(workshop: Workshop, tmp_path: Path) -> None:
    """The debug information names its .dwo files; nobody ever writes into this one."""
    program = _split(workshop, tmp_path)
    for dwo in list(tmp_path.glob("*.dwo")):
        dwo.unlink()
        os.mkfifo(dwo)
    with pytest.raises(RefusedError) as refused:
        load_version(program, cache=tmp_path / "cache", walk=walk_confined)
    assert refused.value.code == "split-debug-missing"
