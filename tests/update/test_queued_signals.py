"""Signals that come in the pause reach the version that serves then: all, in order, with all they say."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.witness import Witness, wait_until_stopped

from instar.testing.programs import Builder
from instar.testing.scenarios import TOOLCHAINS, Scenario

SCENARIO = Scenario.load(Path(__file__).parents[1] / "programs" / "signals-queued")
_MANY = 600  # more than one look at the queue takes


def queue(pid: int, number: int, value: int) -> None:
    """sigqueue(3)."""
    if ctypes.CDLL(None, use_errno=True).sigqueue(pid, number, ctypes.c_void_p(value)):
        raise OSError(ctypes.get_errno(), "sigqueue")


def queue_many(pid: int) -> None:
    """What `check` of the program wants to have got after its second `fill`."""
    for value in range(_MANY):
        queue(pid, signal.SIGRTMIN + 1, value)
    queue(pid, signal.SIGRTMIN + 2, _MANY)


@pytest.fixture
def programs(builder: Builder) -> tuple[Path, Path]:
    return SCENARIO.build("v1", TOOLCHAINS[0], builder), SCENARIO.build("v2", TOOLCHAINS[0], builder)


@pytest.fixture
def witness(programs: tuple[Path, Path], start_service: StartService) -> Witness:
    service = start_service(programs[0])
    assert service.ask("fill") == service.ask("check") == service.ask("fill") == "ok v1"
    return Witness(service)


@pytest.mark.parametrize("phase", ["quiesce", "commit"])
def test_updated(witness: Witness, programs: tuple[Path, Path], phase: str) -> None:
    tool = witness.service.tool(programs[1], environment={"INSTAR_FAULT": f"{phase}:middle:stop"})
    wait_until_stopped(tool)
    queue_many(witness.service.pid)
    os.kill(tool.pid, signal.SIGCONT)
    update = witness.watch(tool)
    assert update.outcome == "updated", update.told()
    assert witness.settled() == "v2"


def test_rolled_back(witness: Witness, programs: tuple[Path, Path]) -> None:
    tool = witness.service.tool(programs[1], environment={"INSTAR_FAULT": "commit:middle:stop"})
    wait_until_stopped(tool)
    queue_many(witness.service.pid)
    os.kill(tool.pid, signal.SIGTERM)
    os.kill(tool.pid, signal.SIGCONT)
    assert witness.watch(tool).outcome == "rolled-back"
    assert witness.settled() == "v1"
    witness.updates_again(programs[1])
