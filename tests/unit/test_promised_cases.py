"""Every promised case is shown by something that runs, and docs/cases.md says the same."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from tests.update import test_scenarios

from instar.testing.cases import TEST, Case, load_groups, render
from instar.testing.programs import Toolchain
from instar.testing.scenarios import Expectation, Scenario, load_scenarios

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "tests" / "programs"
GROUPS = load_groups(PROGRAMS / "CASES.toml")
CASES = [case for group in GROUPS for case in group.cases]
SCENARIOS = {scenario.name: scenario for scenario in load_scenarios(PROGRAMS)}
TOOLCHAINS = {(compiler, level) for compiler in ("gcc", "clang") for level in ("-O0", "-O2")}


@cache
def runs() -> dict[str, set[tuple[str, str]]]:
    """With what each scenario is run, as the test itself has it."""
    marks: list[pytest.Mark] = test_scenarios.test_update.pytestmark  # type: ignore[attr-defined]
    (mark,) = [mark for mark in marks if mark.name == "parametrize"]
    found: dict[str, set[tuple[str, str]]] = {}
    for case in mark.args[1]:
        scenario, expectation, toolchain = case.values
        assert isinstance(scenario, Scenario) and isinstance(toolchain, Toolchain)
        assert isinstance(expectation, Expectation) and not case.marks
        found.setdefault(scenario.name, set()).add((toolchain.compiler, toolchain.optimisation))
    return found


@cache
def functions_of(path: Path) -> set[str]:
    """The test functions of a file."""
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def complaints(case: Case) -> list[str]:
    """What is wrong with a case."""
    wrong = [] if case.shown_by else ["nothing shows it"]
    outcomes: set[str] = set()
    for name in case.shown_by:
        path, is_test, function = name.partition(TEST)
        if is_test:
            known = (ROOT / path).is_file() and function in functions_of(ROOT / path)
            wrong += [] if known else [f"there is no {name}"]
            wrong += [] if case.why else [f"{name} is no scenario, and no reason is given"]
        elif name not in SCENARIOS:
            wrong.append(f"there is no scenario {name}")
        else:
            missing = TOOLCHAINS - runs().get(name, set())
            wrong += [f"{name} is not run with {missing}"] if missing else []
            for expectation in SCENARIOS[name].expectations:
                outcomes |= set(expectation.outcome.split("-or-"))
    if outcomes and ("refused" if case.refused else "updated") not in outcomes:
        wrong.append(f"{', '.join(case.shown_by)}: ends {' or '.join(sorted(outcomes))} only")
    return wrong


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text)
def test_shown(case: Case) -> None:
    assert complaints(case) == []


def test_a_case_is_there_once() -> None:
    texts = [(group.title, case.text) for group in GROUPS for case in group.cases]
    assert len(texts) == len(set(texts)) and len(texts) > 100


@pytest.mark.parametrize(
    ("case", "complaint"),
    [
        (Case("something", ()), "nothing shows it"),
        (Case("something", ("no-such-scenario",)), "there is no scenario no-such-scenario"),
        (Case("something", ("tests/unit/test_layers.py::test_nothing",), "why"), "there is no tests/unit"),
        (Case("something", ("tests/unit/test_promised_cases.py::test_shown",)), "no reason is given"),
        (Case("something else: refused", ("member-added",)), "ends updated only"),
        (Case("something", ("member-renamed",)), "ends refused only"),
    ],
)
def test_what_is_not_shown_is_noticed(case: Case, complaint: str) -> None:
    assert complaint in " ".join(complaints(case))


def test_a_scenario_that_is_not_run_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runs(), "member-added", {("gcc", "-O2")})
    assert "is not run with" in " ".join(complaints(Case("something", ("member-added",))))


def test_the_page_is_made_of_the_cases() -> None:
    page = (ROOT / "docs" / "cases.md").read_text()
    assert page == render(GROUPS, SCENARIOS.values()), "run scripts/cases.py"
