"""The scenario programs are right: each version fills and checks its own state, without an update."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from instar.testing.programs import Builder, Program, TalkError, Toolchain
from instar.testing.scenarios import TOOLCHAINS, VERSIONS, Scenario, load_scenarios

SCENARIOS = load_scenarios(Path(__file__).parents[1] / "programs")


@pytest.mark.parametrize("toolchain", TOOLCHAINS, ids=str)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_selfcheck(
    scenario: Scenario, version: str, toolchain: Toolchain, builder: Builder, tmp_path: Path
) -> None:
    program = Program(
        [scenario.build(version, toolchain, builder), *scenario.arguments],
        environment={**os.environ, **dict(scenario.environment)},
        directory=tmp_path,
    )
    try:
        for command in ("fill", "check", "churn", "check"):
            assert program.ask(command) == f"ok {version}"
    finally:
        program.close()
    assert program.process.returncode == 0


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_an_empty_state_is_not_right(scenario: Scenario, builder: Builder, tmp_path: Path) -> None:
    """Every check can fail: before `fill` nothing is as it should be."""
    program = Program(
        [scenario.build("v2", TOOLCHAINS[0], builder), *scenario.arguments],
        environment={**os.environ, **dict(scenario.environment)},
        directory=tmp_path,
    )
    try:
        try:
            answer = program.ask("check")
        except TalkError:
            return  # it fell over the state that is not there: not right either
        assert answer.startswith("bad v2 ")
    finally:
        program.close()
