"""The tutorial is true: its files are built, its commands run, its outputs come."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.M | re.S)


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    """(file name, text) of the blocks in these languages, in order."""
    for language, name, text in BLOCK.findall(PAGE):
        if language in languages:
            yield name, text


def _command(name: str, text: str) -> str:
    """Commands as they are; a file that is written on the way."""
    return f"cat > {name} <<'END'\n{text}END" if name else text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, text in blocks("c", "diff"):
        (tmp_path / name).write_text(text)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


def test_tutorial(directory: Path) -> None:
    commands = "\n".join(_command(name, text) for name, text in blocks("sh", "python"))
    # what an update has replaced is gone already
    guard = "set -e -o pipefail; trap 'kill $server 2>/dev/null || :' EXIT"
    script = f"{guard}\n{commands}\nexec 3>&-\n".replace("7000", str(free_port()))
    environment = {**os.environ, "XDG_STATE_HOME": str(directory / "state")}
    output = directory / "output"  # a file: the successor keeps its standard output open
    with output.open("w") as stream:
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            timeout=120,
            check=False,
        )
    text = output.read_text()
    successors = re.findall(r"^[a-z ]+: process \d+ -> (\d+),", text, re.M)
    with suppress(ProcessLookupError):  # the trap of the shell has ended it by the last number it knew
        if successors:
            os.kill(int(successors[-1]), 9)
    assert done.returncode == 0, text
    expected = [line for _, block in blocks("text") for line in block.splitlines()]
    assert expected
    assert [line for line in text.splitlines() if line.startswith("hello")] == expected
    assert "everything is automatic" in text and "exit status 3" in text
    assert 'pair("struct guest.number", "struct guest.ticket")' in text
