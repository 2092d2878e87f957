"""What removes files that a start has made, when whoever began it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from instar.control import leftovers
from instar.control.janitor import Janitor


def _line(path: Path, *, verb: str = "name", other: bool = False) -> bytes:
    facts = path.lstat()
    words = [verb, bytes(path).hex(), str(facts.st_dev), str(facts.st_ino + other)]
    return " ".join(words if verb == "name" else words[:2]).encode() + b"\n"


def _run(*lines: bytes) -> None:
    command = [sys.executable, "-I", "-S", str(leftovers.__file__)]
    subprocess.run(command, input=b"".join(lines), check=True, timeout=60)


@pytest.fixture
def made(tmp_path: Path) -> list[Path]:
    """A directory, a file in it, a socket's name, a link that leads nowhere; odd names."""
    directory = tmp_path / "a b\n"
    directory.mkdir()
    (directory / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    return [directory, directory / "file", tmp_path / "link", tmp_path / "pipe"]


def test_everything_is_removed_newest_first(made: list[Path]) -> None:
    _run(*map(_line, made))
    assert not any(os.path.lexists(path) for path in made)


@pytest.mark.parametrize("last", [b"done\n", None], ids=["all is well", "not its own any more"])
def test_what_stays(made: list[Path], last: bytes | None) -> None:
    _run(*(_line(path, other=last is None) for path in made), last or b"")
    assert all(os.path.lexists(path) for path in made)


def test_what_was_removed_already_or_has_something_in_it_stays(made: list[Path]) -> None:
    (made[0] / "another").touch()
    _run(*map(_line, made), _line(made[2], verb="gone"))
    assert [os.path.lexists(path) for path in made] == [True, False, True, False]


@pytest.mark.parametrize("torn", [b"name 2f", b"pid ", b"pid 1", b"do"])
def test_a_line_that_was_cut_off_changes_nothing(made: list[Path], torn: bytes) -> None:
    _run(*map(_line, made), torn)
    assert not any(os.path.lexists(path) for path in made)


def test_it_waits_for_the_end_of_those_who_made_them(made: list[Path]) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as maker:
        janitor = Janitor()
        janitor.tell_process(maker.pid)
        for path in made:
            facts = path.lstat()
            janitor.tell_name(str(path), (facts.st_dev, facts.st_ino))
        assert janitor._process.stdin is not None
        janitor._process.stdin.close()  # as the kernel does when the tool is killed
        assert janitor._process.poll() is None and made[1].exists()
        assert maker.stdin is not None
        maker.stdin.close()
        maker.wait()
        janitor.dismiss()
    assert not any(os.path.lexists(path) for path in made)


def test_it_survives_what_ends_the_tool(made: list[Path]) -> None:
    janitor = Janitor()
    for path in made:
        facts = path.lstat()
        janitor.tell_name(str(path), (facts.st_dev, facts.st_ino))
    assert os.getsid(janitor._process.pid) == janitor._process.pid
    assert Path(f"/proc/{janitor._process.pid}/cwd").readlink() == Path("/")
    while not _ignores(janitor._process.pid):
        os.sched_yield()
    for number in leftovers._IGNORED:
        janitor._process.send_signal(number)
    janitor.dismiss()
    assert janitor._process.returncode == 0 and made[1].exists()


def _ignores(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    ignored = next(line for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
