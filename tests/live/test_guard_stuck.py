"""A guard that loops in C, or stands still: the process that it holds goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.live.holding import SOON, hold

from instar.guard import client
from instar.guard.client import GuardLostError
from instar.testing.programs import Builder, Program, Toolchain

ANSWERS = """
#include <stdio.h>
int main(void)
{
    char line[64];
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin))
        if (printf("again %s", line) < 0 || fflush(stdout))
            return 1;
    return 0;
}
"""
STUCK = """
import itertools, sys
sys.path[:0] = [{source!r}]
from instar.guard import __main__ as guard
guard._GRACE_S = 0.2
guard.Holder.release = lambda holder: sum(itertools.repeat(0))
guard.main()
"""


@pytest.fixture
def program(builder: Builder, tmp_path: Path) -> Iterator[Program]:
    """Answers every line."""
    source = tmp_path / "answers.c"
    source.write_text(ANSWERS)
    running = Program([builder.build({"answers.c": source}, Toolchain("gcc", "-O2"))])
    assert running.ask("first") == "again first"
    yield running
    running.close()


def _is_free(pid: int) -> bool:
    end = time.monotonic() + SOON
    while "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_a_guard_that_never_comes_back_is_killed_by_the_kernel(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else is there: its peer says nothing."""
    stuck = tmp_path / "stuck.py"
    stuck.write_text(STUCK.format(source=str(Path(client.__file__).parents[2])))
    monkeypatch.setattr(client, "_PROGRAM", stuck)
    past = hold(program.pid, 3.0)
    try:
        assert _is_free(program.pid)
        assert past._process.wait(SOON) == -signal.SIGALRM
        assert program.ask("second") == "again second"
    finally:
        past.close()


@pytest.mark.parametrize("ends", ["release", "close"])
def test_a_guard_that_does_not_answer_is_killed(
    program: Program, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands still, as in a loop of its own; its peer lets the process go."""
    monkeypatch.setattr(client, "_RELEASE_S", 0.2)
    past = hold(program.pid)
    past._process.send_signal(signal.SIGSTOP)
    try:
        getattr(past, ends)()
        assert _is_free(program.pid)
        assert program.ask("second") == "again second"
    finally:
        if ends == "release":
            past.close()
    assert past._process.returncode == -signal.SIGKILL


def test_a_question_without_an_answer_has_an_end(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    past = hold(program.pid)
    past._until = 0.0
    past._process.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(client, "_ANSWER_S", 0.2)
    try:
        with pytest.raises(GuardLostError):
            past.signal_mask()
        assert program.ask("second") == "again second"
    finally:
        past.close()
