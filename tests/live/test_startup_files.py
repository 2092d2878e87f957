"""Files: what is not the new version's own is left alone until commit; what it made goes away on abort."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.live.running import Compile, Running, Start
from tests.live.startup_support import build, future_of, has_ended, wait_until

ROOT = Path(__file__).parents[2]


def names(directory: Path) -> list[str]:
    """What is in a directory."""
    return sorted(path.name for path in directory.iterdir())


MODES = ("append", "rewrite", "rotate", "replace", "create")


def snapshot(directory: Path) -> dict[str, object]:
    """Every name below a directory with its inode, mode, owner and content."""
    found: dict[str, object] = {}
    for path in sorted(directory.rglob("*")):
        try:
            facts = path.lstat()
        except FileNotFoundError:  # being cleaned up
            continue
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(directory))] = (
            facts.st_ino,
            facts.st_mode,
            facts.st_uid,
            facts.st_gid,
            content,
        )
    return found


def is_as(directory: Path, before: dict[str, object]) -> bool:
    """Whether a snapshot is the same again; what is being removed meanwhile cannot be listed."""
    try:
        return snapshot(directory) == before
    except FileNotFoundError:
        return False


PastOf = Callable[[str], tuple[Path, Path, Running]]


@pytest.fixture
def past_of(compile_c: Compile, start: Start, tmp_path: Path) -> PastOf:
    """Starts the past for a mode."""

    def start_past(mode: str) -> tuple[Path, Path, Running]:
        old, new = build(compile_c, "files")
        return old, new, start(old, str(tmp_path), mode)

    return start_past


@pytest.mark.parametrize("mode", MODES)
def test_abort_leaves_everything_as_it_was(past_of: PastOf, tmp_path: Path, mode: str) -> None:
    old, new, past = past_of(mode)
    before = snapshot(tmp_path)
    with future_of(past.pid, old, new):
        now = snapshot(tmp_path)
        assert {name: now[name] for name in before} == before
        if mode == "append":
            assert now == before
    assert snapshot(tmp_path) == before


def committed(past_of: PastOf, mode: str) -> None:
    old, new, past = past_of(mode)
    with future_of(past.pid, old, new) as future:
        past.process.kill()
        past.process.wait()
        assert future.commit_held() == []


def test_commit_appends_to_the_shared_log(past_of: PastOf, tmp_path: Path) -> None:
    committed(past_of, "append")
    assert (tmp_path / "log").read_text() == "v1 starts\nv2 starts\n"


def test_commit_rewrites(past_of: PastOf, tmp_path: Path) -> None:
    committed(past_of, "rewrite")
    assert (tmp_path / "data").read_text() == "New"
    assert (tmp_path / "stale").read_text() == "STa"
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o640
    facts = (tmp_path / "stale").stat()
    assert (facts.st_uid, facts.st_gid) == (12, 34)


def test_commit_rotates(past_of: PastOf, tmp_path: Path) -> None:
    committed(past_of, "rotate")
    assert (tmp_path / "log.1").read_text() == "v1 starts\n"
    assert (tmp_path / "log").read_text() == "fresh\n"
    assert not [name for name in names(tmp_path) if name.startswith(".instar")]


def test_commit_replaces(past_of: PastOf, tmp_path: Path) -> None:
    committed(past_of, "replace")
    assert (tmp_path / "data").read_text() == "replaced"
    assert (tmp_path / "stale").read_text() == "again"
    assert names(tmp_path) == ["data", "log", "old", "stale"]


def test_commit_keeps_what_was_made(past_of: PastOf, tmp_path: Path) -> None:
    old, new, past = past_of("create")
    with future_of(past.pid, old, new) as future:
        past.process.kill()
        past.process.wait()
        assert future.commit_held() == []
    assert names(tmp_path / "made") == ["fifo", "hard", "link", "renamed", "socket"]
    assert (tmp_path / "made" / "link").read_text() == "content more"
    assert (tmp_path / "data.link").read_text() == "0123456789"


@pytest.mark.parametrize("mode", ["create", "rotate", "replace"])
def test_nothing_is_left_when_the_tool_is_killed(past_of: PastOf, tmp_path: Path, mode: str) -> None:
    old, new, past = past_of(mode)
    before = snapshot(tmp_path)
    command = [sys.executable, "-m", "tests.live.start_and_die", str(past.pid), str(old), str(new)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as tool:
        assert tool.stdout is not None
        future = int(tool.stdout.readline())
        assert snapshot(tmp_path) != before
        tool.kill()
    wait_until(lambda: has_ended(future), "the new version outlived the tool")
    wait_until(lambda: is_as(tmp_path, before), "something is left")
    assert past.state() in "S"
