"""Fixtures that compile small C programs and start them; a line on stdout says that one is ready."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.live.running import Compile, Running, Start

DIRECTORY = Path(__file__).parent


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compiles a C file (path under tests/live) once per set of flags; gives the program."""
    built: dict[tuple[str, ...], Path] = {}

    def compile_(source: str, *flags: str, compiler: str = "gcc") -> Path:
        key = (source, compiler, *flags)
        if key not in built:
            target = tmp_path_factory.mktemp("program") / Path(source).stem
            command = [
                compiler,
                "-g",
                "-Wall",
                *flags,
                "-o",
                str(target),
                str(DIRECTORY / source),
                "-lpthread",
            ]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            built[key] = target
        return built[key]

    return compile_


@pytest.fixture
def start(compile_c: Compile) -> Iterator[Start]:
    """Starts a program (a path, or a C file to compile) and waits for its first line, "ready ..."."""
    running: list[Running] = []

    def start_(program: str | Path, *arguments: str, flags: Sequence[str] = (), **options: object) -> Running:
        path = compile_c(program, *flags) if isinstance(program, str) else program
        process = Running([str(path), *arguments], **options)
        running.append(process)
        first = process.line()
        assert first.startswith("ready"), first
        process.ready = first.split()[1:]
        return process

    yield start_
    for process in running:
        process.close()
