"""The tool fails at every phase boundary and in the middle of each: exactly one version serves afterwards."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.witness import Witness, wait_until_stopped

from instar.testing.programs import Builder
from instar.testing.scenarios import TOOLCHAINS, Scenario
from instar.update.progress import PHASES

PROGRAMS = Path(__file__).parents[1] / "programs"
WHERE = ("before", "middle", "after")
POINTS = [(phase, where) for phase in PHASES for where in WHERE]
FAILURES = [(phase, where, "raise") for phase, where in POINTS] + [
    (phase, "middle", what) for phase in PHASES for what in ("oom", "enospc")
]
FAILURES += [("commit", "held", what) for what in ("raise", "oom", "enospc")]
CODES = {"raise": "internal", "oom": "out-of-memory", "enospc": "disk-full"}


@pytest.fixture
def programs(builder: Builder) -> tuple[Path, Path]:
    """Both versions of a program whose heap is retyped."""
    scenario = Scenario.load(PROGRAMS / "counting")
    return scenario.build("v1", TOOLCHAINS[0], builder), scenario.build("v2", TOOLCHAINS[0], builder)


@pytest.fixture
def witness(programs: tuple[Path, Path], start_service: StartService) -> Witness:
    """Version 1, filled and watched."""
    service = start_service(programs[0])
    assert service.ask("fill") == "ok v1"
    return Witness(service)


def _is_past_commit(phase: str, where: str) -> bool:
    return (phase, where) in (("commit", "after"), ("commit", "held"))


@pytest.mark.parametrize(("phase", "where"), POINTS)
def test_killed(witness: Witness, programs: tuple[Path, Path], phase: str, where: str) -> None:
    tool = witness.service.tool(programs[1], environment={"INSTAR_FAULT": f"{phase}:{where}:kill"})
    update = witness.watch(tool)
    assert update.status == -signal.SIGKILL, "the fault point was never reached"
    version = witness.settled()
    if phase != "commit":
        assert version == "v1"
    if _is_past_commit(phase, where):
        assert version == "v2"
    witness.updates_again(programs[1])


@pytest.mark.parametrize(("phase", "where", "what"), FAILURES)
def test_fails(witness: Witness, programs: tuple[Path, Path], phase: str, where: str, what: str) -> None:
    tool = witness.service.tool(programs[1], environment={"INSTAR_FAULT": f"{phase}:{where}:{what}"})
    update = witness.watch(tool)
    assert update.report is not None
    version = witness.settled()
    if _is_past_commit(phase, where):
        assert version == "v2"
        assert (update.status, update.outcome) == (0, "updated"), update.told()
        assert any(text.startswith("commit-unfinished") for text in update.report["warnings"])
    else:
        assert version == "v1"
        if update.report["pause_ms"]:
            assert (update.status, update.outcome) == (4, "rolled-back"), update.told()
            assert bool(update.report["error"]["details"]) == (what == "raise")
        assert update.outcome in ("refused", "rolled-back"), update.told()
        assert update.report["error"]["code"] == CODES[what], update.told()
    witness.updates_again(programs[1])


@pytest.mark.parametrize(("phase", "where"), POINTS[1:])
def test_the_guard_is_killed(witness: Witness, programs: tuple[Path, Path], phase: str, where: str) -> None:
    """The kernel lets the past go on; the update ends in a refusal, or is done already."""
    tool = witness.service.tool(programs[1], environment={"INSTAR_FAULT": f"{phase}:{where}:kill-guard"})
    update = witness.watch(tool)
    assert update.report is not None, update.stderr
    version = witness.settled()
    if update.outcome == "updated":
        assert version == "v2"
        assert phase == "commit", "nobody held it"
    else:
        assert version == "v1"
        assert update.outcome in ("refused", "rolled-back"), update.told()
        assert update.report["error"]["code"] == "guard-lost", update.told()
    witness.updates_again(programs[1])


_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# One at every phase, by turns, and each of them in the middle of the pause.
_INTERRUPTIONS = {(phase, _ENDING[index % 3]) for index, phase in enumerate(PHASES)}
_INTERRUPTIONS |= {("transfer", number) for number in _ENDING}


@pytest.mark.parametrize(
    ("phase", "number"), sorted(_INTERRUPTIONS), ids=lambda one: one if isinstance(one, str) else one.name
)
def test_interrupted(
    witness: Witness, programs: tuple[Path, Path], phase: str, number: signal.Signals
) -> None:
    """Ctrl-C and the like, while the tool stands still in the middle of a phase."""
    tool = witness.service.tool(programs[1], environment={"INSTAR_FAULT": f"{phase}:middle:stop"})
    wait_until_stopped(tool)
    os.kill(tool.pid, number)
    os.kill(tool.pid, signal.SIGCONT)
    update = witness.watch(tool)
    assert update.status == 128 + number, update.stderr
    assert witness.settled() == "v1"
    assert update.report is not None and update.report["error"]["code"] == "interrupted"
    paused = PHASES.index(phase) >= PHASES.index("quiesce")
    assert update.outcome == ("rolled-back" if paused else "refused")
    witness.updates_again(programs[1])


@pytest.mark.parametrize("phase", PHASES)
def test_killed_while_it_stands_still(witness: Witness, programs: tuple[Path, Path], phase: str) -> None:
    """The tool hangs, and is killed from outside after a while."""
    tool = witness.service.tool(programs[1], environment={"INSTAR_FAULT": f"{phase}:middle:stop"})
    wait_until_stopped(tool)
    tool.kill()
    tool.communicate()
    version = witness.settled()
    assert version == "v1" or phase == "commit"
    witness.updates_again(programs[1])


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_to_the_past_is_not_lost(witness: Witness, programs: tuple[Path, Path], phase: str) -> None:
    """It reaches the version that serves afterwards, exactly once; `check` counts."""
    service = witness.service
    assert service.ask("fill") == "ok v1"  # wants one signal from now on
    tool = service.tool(programs[1], environment={"INSTAR_FAULT": f"{phase}:middle:stop"})
    wait_until_stopped(tool)
    os.kill(service.pid, signal.SIGUSR1)
    os.kill(tool.pid, signal.SIGCONT)
    update = witness.watch(tool)
    assert update.outcome == "updated", update.told()
    assert witness.settled() == "v2"


@pytest.mark.parametrize("phase", PHASES)
def test_the_past_is_killed(witness: Witness, programs: tuple[Path, Path], phase: str) -> None:
    """Whoever kills the past before the commit has ended the service: no future comes instead of it."""
    service = witness.service
    tool = service.tool(programs[1], environment={"INSTAR_FAULT": f"{phase}:middle:stop"})
    wait_until_stopped(tool)
    os.kill(service.pid, signal.SIGKILL)
    os.kill(tool.pid, signal.SIGCONT)
    stdout, stderr = tool.communicate(timeout=60)
    assert stdout, stderr
    if phase == "commit" and service.processes():
        assert witness.settled() == "v2"
        return
    assert witness.is_gone()
    assert '"outcome": "updated"' not in stdout, "an update to a process that is not there"


@pytest.mark.parametrize("seed", range(12))
def test_killed_at_any_time(witness: Witness, programs: tuple[Path, Path], seed: int) -> None:
    """SIGKILL between the fault points too: spread over the time that an update takes."""
    service = witness.service
    tool = service.tool(programs[1])
    end = time.monotonic() + 0.1 + 0.12 * seed
    while time.monotonic() < end:
        assert service.ask("version") in ("ok v1", "ok v2")
    tool.kill()
    tool.communicate()
    witness.settled()
    witness.updates_again(programs[1])
