"""Every scenario program is updated for real: state, refusals and their names, and a busy life afterwards.

Some of them: `make test TEST=tests/update PYTESTFLAGS='-k "list-head and gcc-O2"'`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.service import Update

from instar.testing.programs import Builder, Toolchain
from instar.testing.scenarios import TOOLCHAINS, Expectation, Scenario, load_scenarios

SCENARIOS = load_scenarios(Path(__file__).parents[1] / "programs")
# Warnings about the state: they must be announced by the scenario. Others depend on where the tests run.
STATE_WARNINGS = ("dangling-pointer", "assumed-pointer", "unexplained-word", "conflicting-types")


def _cases() -> list[object]:
    return [
        pytest.param(
            scenario,
            expectation,
            toolchain,
            id="-".join(filter(None, (scenario.name, str(toolchain), expectation.name))),
        )
        for scenario in SCENARIOS
        for toolchain in TOOLCHAINS
        for expectation in scenario.expectations
    ]


def _judge(update: Update, expected: Expectation) -> None:
    assert update.outcome in expected.outcome.split("-or-"), update.told()
    if update.outcome != "updated":
        assert update.report is not None
        error = update.report["error"]
        assert not expected.code or error["code"] == expected.code, update.told()
        missing = [text for text in expected.names if text not in update.told()]
        assert not missing, f"{missing} not in: {update.told()}"
        assert error["remedy"], "a refusal without a remedy"


def _judge_report(update: Update, expected: Expectation) -> None:
    assert update.report is not None
    warnings = update.report["warnings"]
    for text in expected.warnings:
        assert any(text in warning for warning in warnings), f"{text!r} not in {warnings}"
    state = [warning for warning in warnings if warning.startswith(STATE_WARNINGS)]
    surplus = [w for w in state if not any(text in w for text in expected.warnings)]
    assert not surplus, f"not announced by the scenario: {surplus}"
    if update.outcome == "updated":
        assert update.report["leaked"]["blocks"] == expected.leaked_blocks


@pytest.mark.parametrize(("scenario", "expected", "toolchain"), _cases())
def test_update(
    scenario: Scenario,
    expected: Expectation,
    toolchain: Toolchain,
    builder: Builder,
    start_service: StartService,
) -> None:
    old, new = (scenario.build(version, toolchain, builder) for version in ("v1", "v2"))
    service = start_service(old, arguments=scenario.arguments, environment=dict(scenario.environment))
    assert service.ask("fill") == "ok v1"
    assert service.ask("check") == "ok v1"
    update = service.update(new, *expected.arguments(scenario.directory))
    _judge(update, expected)
    serving = "v2" if update.outcome == "updated" else "v1"
    for command in ("check", "churn", "check"):
        assert service.ask(command) == f"ok {serving}", update.told()
    assert service.processes() == [service.pid]
    assert service.announced == (serving == "v2")
    _judge_report(update, expected)
