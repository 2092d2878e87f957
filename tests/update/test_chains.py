"""Updates of what was updated: there and back again, with a busy life in between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.update.conftest import StartService

from instar.testing.programs import Builder, Toolchain
from instar.testing.scenarios import TOOLCHAINS, VERSIONS, Scenario, load_scenarios

PROGRAMS = Path(__file__).parents[1] / "programs"
CHAINED = [scenario for scenario in load_scenarios(PROGRAMS) if scenario.chain]
MOULTS = 10


@pytest.mark.parametrize("scenario", CHAINED, ids=lambda scenario: scenario.name)
def test_back_and_forth(scenario: Scenario, builder: Builder, start_service: StartService) -> None:
    """v1 -> v2 -> v1 -> v2: what a first update left is state like any other."""
    programs = [scenario.build(version, TOOLCHAINS[0], builder) for version in VERSIONS]
    service = start_service(programs[0], arguments=scenario.arguments, environment=dict(scenario.environment))
    assert service.ask("fill") == "ok v1"
    for index in (1, 0, 1):
        update = service.update(programs[index])
        assert update.outcome == "updated", update.told()
        for command in ("check", "churn", "check"):
            assert service.ask(command) == f"ok {VERSIONS[index]}"
        assert service.processes() == [service.pid]


@pytest.mark.parametrize("toolchain", TOOLCHAINS, ids=str)
def test_ten_moults(toolchain: Toolchain, builder: Builder, start_service: StartService) -> None:
    """State that grows between ten updates; descriptors and mappings must not grow with their number."""
    scenario = Scenario.load(PROGRAMS / "many-moults")
    programs = [scenario.build(version, toolchain, builder) for version in VERSIONS]
    service = start_service(programs[0])
    numbers = sorted(service.descriptors())
    mappings = []
    for moult in range(1, MOULTS + 1):
        assert service.ask("fill").startswith("ok")
        update = service.update(programs[moult % 2])
        assert update.outcome == "updated", f"moult {moult}: {update.told()}"
        serving = VERSIONS[moult % 2]
        for command in ("version", "check", "churn", "check"):
            assert service.ask(command) == f"ok {serving}", f"moult {moult}"
        assert service.processes() == [service.pid]
        assert sorted(service.descriptors()) == numbers
        mappings.append(len(Path(f"/proc/{service.pid}/maps").read_text().splitlines()))
    assert mappings[-1] < 2 * mappings[0] + 20, mappings


@pytest.mark.parametrize("name", ["pointer-to-member", "hash-table-chains", "inherited-blocks-freed"])
def test_update_to_itself(name: str, builder: Builder, start_service: StartService) -> None:
    """The same file again is allowed: a move to itself."""
    scenario = Scenario.load(PROGRAMS / name)
    program = scenario.build("v1", TOOLCHAINS[0], builder)
    service = start_service(program)
    assert service.ask("fill") == "ok v1"
    for _ in range(2):
        before = service.pid
        update = service.update(program)
        assert update.outcome == "updated", update.told()
        assert service.pid != before and Path(f"/proc/{service.pid}/exe").samefile(program)
        for command in ("check", "churn", "check"):
            assert service.ask(command) == "ok v1"


def test_the_new_process_has_the_same_place(builder: Builder, start_service: StartService) -> None:
    """Group, session, directory, umask and limits are those of the past."""
    scenario = Scenario.load(PROGRAMS / "pointer-base")
    old, new = (scenario.build(version, TOOLCHAINS[0], builder) for version in VERSIONS)
    service = start_service(old)
    assert service.ask("fill") == "ok v1"
    before = _place(service.pid)
    update = service.update(new)
    assert update.outcome == "updated", update.told()
    assert _place(service.pid) == before


def _place(pid: int) -> dict[str, object]:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    kept = ("Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "SigCgt", "CapEff", "NoNewPrivs")
    return {
        "group": os.getpgid(pid),
        "session": os.getsid(pid),
        "directory": str(Path(f"/proc/{pid}/cwd").readlink()),
        "limits": Path(f"/proc/{pid}/limits").read_text(),
        "arguments": Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:],
        "status": [line for line in status if line.partition(":")[0] in kept],
    }
