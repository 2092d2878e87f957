"""Rehearsals: everything is done but the last step, and clients notice no more than a pause."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.service import INSTAR, Service
from tests.update.witness import Witness

from instar.testing.programs import Builder
from instar.testing.scenarios import TOOLCHAINS, Scenario

PROGRAMS = Path(__file__).parents[1] / "programs"
TOOLCHAIN = TOOLCHAINS[0]
COUNTING = Scenario.load(PROGRAMS / "counting")


@pytest.fixture
def next_version(builder: Builder) -> Path:
    """Version 2 of the service."""
    return COUNTING.build("v2", TOOLCHAIN, builder)


@pytest.fixture
def witness(builder: Builder, start_service: StartService) -> Witness:
    """Version 1, filled and watched."""
    service = start_service(COUNTING.build("v1", TOOLCHAIN, builder))
    assert service.ask("fill") == "ok v1"
    return Witness(service)


def test_the_past_serves_on(witness: Witness, next_version: Path) -> None:
    for _ in range(2):
        update = witness.watch(witness.service.tool(next_version, "--rehearse"))
        assert (update.outcome, update.status) == ("rehearsed", 0), update.told()
        assert update.report is not None
        assert update.report["kind"] == "rehearsal"
        assert update.report["pause_ms"] > 0 and update.report["pointers"] > 0
        assert [phase["name"] for phase in update.report["phases"]][-1] == "validate"
        assert witness.settled() == "v1"
    witness.updates_again(next_version)


def test_the_journal_tells_rehearsals_apart(witness: Witness, next_version: Path) -> None:
    witness.service.update(next_version, "--rehearse")
    journal = witness.service.home / "state" / "instar" / "journal.jsonl"
    (line,) = journal.read_text().splitlines()
    report = json.loads(line)["report"]
    assert (report["kind"], report["outcome"], report["new_pid"]) == ("rehearsal", "rehearsed", None)


def test_what_would_be_refused_is_refused(witness: Witness, builder: Builder) -> None:
    faulty = Scenario(PROGRAMS / "faulty-start", "new versions that go wrong at start", ())
    update = witness.watch(witness.service.tool(faulty.build("exits", TOOLCHAIN, builder), "--rehearse"))
    assert (update.outcome, update.status) == ("refused", 3), update.told()
    assert update.report is not None and update.report["kind"] == "rehearsal"
    assert witness.settled() == "v1"


def test_hold_needs_a_rehearsal(witness: Witness, next_version: Path) -> None:
    tool = witness.service.tool(next_version, "--hold")
    assert tool.wait(60) == 2
    assert witness.settled() == "v1"


class Holding:
    """A rehearsal that keeps the future."""

    def __init__(self, service: Service, program: Path, *options: str) -> None:
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(service.home / "cache")}
        self.service = service
        self.tool = subprocess.Popen(
            [str(INSTAR), "update", str(service.pid), str(program), "--rehearse", "--hold", *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**self.environment, "XDG_STATE_HOME": str(service.home / "state")},
        )  # fmt: skip
        assert self.tool.stderr is not None
        told: list[str] = []
        for line in self.tool.stderr:
            told.append(line)
            if "is kept as process" in line:
                self.future = int(line.partition("as process ")[2].partition(":")[0])
                return
        raise AssertionError("".join(told))

    def inspect(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Look at the future."""
        return subprocess.run(
            [str(INSTAR), "inspect", str(self.future), *words],
            capture_output=True, text=True, env=self.environment, check=False,
        )  # fmt: skip

    def ended(self) -> int:
        """Wait for its end without saying anything."""
        status = self.tool.wait(60)
        self.tool.communicate()
        return status

    def finish(self) -> tuple[int, str]:
        """Press Enter; the exit status and what was printed."""
        out, _ = self.tool.communicate("\n", timeout=60)
        return self.tool.returncode, out


def test_the_future_is_looked_at(witness: Witness, next_version: Path) -> None:
    holding = Holding(witness.service, next_version)
    try:
        assert witness.service.ask("check") == "ok v1"
        census = holding.inspect()
        assert census.returncode == 0, census.stderr
        assert "heap" in census.stdout
        again = holding.inspect("--json")
        assert again.returncode == 0 and json.loads(again.stdout)["heap"]["blocks"] > 0
        assert "= 999" in holding.inspect("items->id").stdout
        assert witness.service.ask("churn") == "ok v1"
        assert list(Path(f"/proc/{holding.future}/fd").iterdir()) == []
    finally:
        status, out = holding.finish()
    assert status == 0 and "rehearsed: process" in out
    assert witness.settled() == "v1"
    witness.updates_again(next_version)


def test_a_hold_ends_with_its_time_by_a_signal_and_with_the_future(
    witness: Witness, next_version: Path
) -> None:
    timed = Holding(witness.service, next_version, "0.3")
    assert timed.ended() == 0
    assert witness.settled() == "v1"
    interrupted = Holding(witness.service, next_version)
    interrupted.tool.send_signal(signal.SIGINT)
    assert interrupted.ended() == 0
    assert witness.settled() == "v1"
    killed = Holding(witness.service, next_version)
    os.kill(killed.future, signal.SIGKILL)
    assert killed.ended() == 0
    assert witness.settled() == "v1"


def test_a_killed_tool_leaves_nothing_behind(witness: Witness, next_version: Path) -> None:
    holding = Holding(witness.service, next_version)
    holding.tool.kill()
    holding.tool.communicate()
    assert witness.settled() == "v1"
    witness.updates_again(next_version)


def test_a_process_that_a_debugger_holds_is_not_believed(witness: Witness, next_version: Path) -> None:
    """An answer counts only when it comes from the process's own tracer."""
    import socket

    from instar.process.held import find_held

    with socket.socket(socket.AF_UNIX) as liar:
        liar.bind(f"\0instar-held-{witness.service.pid}")
        liar.listen()
        assert find_held(witness.service.pid) is None
