"""What a start-up wrote is there if, and only if, the new version serves, whoever is killed."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.service import Service
from tests.update.witness import Witness

from instar.testing.programs import Builder
from instar.testing.scenarios import TOOLCHAINS, Scenario

PROGRAM = Path(__file__).parents[1] / "programs" / "pid-file"
PATIENCE_S = 20.0


@pytest.fixture
def programs(builder: Builder) -> tuple[Path, Path]:
    """Both versions of a program that writes its PID, a log and a file under a second name."""
    scenario = Scenario.load(PROGRAM)
    return scenario.build("v1", TOOLCHAINS[0], builder), scenario.build("v2", TOOLCHAINS[0], builder)


def traces(service: Service) -> dict[str, str]:
    """What the directory of a service holds."""
    return {path.name: path.read_text() for path in (service.home / "run").iterdir()}


def expected(service: Service, *versions: str) -> dict[str, str]:
    """What is there when these versions have served, the last of them now."""
    log = "".join(f"started {version}\n" for version in versions)
    return {
        "scenario.pid": f"{service.pid}\n",
        "scenario.log": log,
        "scenario.version": versions[-1],
    }


def wait_until_written(service: Service) -> None:
    """Until the last of what version 2 does at its start is done."""
    end = time.monotonic() + PATIENCE_S
    while traces(service)["scenario.version"] != "v2" and time.monotonic() < end:
        time.sleep(0.01)


def test_the_new_version_has_its_files(programs: tuple[Path, Path], start_service: StartService) -> None:
    service = start_service(programs[0])
    assert service.ask("fill") == "ok v1"
    assert traces(service) == expected(service, "v1")
    update = service.update(programs[1])
    assert update.outcome == "updated", update.told()
    assert traces(service) == expected(service, "v1", "v2")


@pytest.mark.parametrize(
    "where", ["start:after", "validate:after", "commit:middle", "commit:held", "commit:after"]
)
def test_the_tool_is_killed(programs: tuple[Path, Path], start_service: StartService, where: str) -> None:
    service = start_service(programs[0])
    assert service.ask("fill") == "ok v1"
    witness = Witness(service)
    tool = service.tool(programs[1], environment={"INSTAR_FAULT": f"{where}:kill"})
    assert witness.watch(tool).status == -signal.SIGKILL, "the fault point was never reached"
    if where == "commit:held":  # whoever does it needs a moment after the tool's death
        wait_until_written(service)
    version = witness.settled()
    if where in ("commit:held", "commit:after"):
        assert version == "v2"
    assert traces(service) == expected(service, "v1", *(["v2"] if version == "v2" else []))
