"""What `--tainted` makes of a plan: abort refuses what else is carried, allow lets single places pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from instar.errors import UsageError
from instar.pairing.problems import Problem
from instar.transfer.plan import Figures, TransferPlan
from instar.validation.taint import TaintPolicy

CLEAN = TransferPlan((), None, (), {}, (), ("local-not-carried: x",), Figures({}, 0, 0, 0, 0, 0))
WILD = Problem("wild-pointer", "first->next", "first->next = 0x10000 leads nowhere", "")


def test_abort_refuses_dangling_pointers_by_name() -> None:
    warning = "dangling-pointer: 2 lead to nothing that lives: a->b"
    plan = TaintPolicy.parse("abort").apply(replace(CLEAN, warnings=(*CLEAN.warnings, warning)))
    (problem,) = plan.problems
    assert (problem.code, problem.cause) == ("tainted-state", warning)
    assert problem.remedy


def test_abort_refuses_all_kinds_at_once() -> None:
    owners = replace(WILD, code="conflicting-types")
    tainted = replace(
        CLEAN,
        problems=(WILD, owners),
        warnings=("dangling-pointer: 1",),
        figures=Figures({}, 0, 0, 0, 3, 96),
    )
    plan = TaintPolicy.parse("abort").apply(tainted)
    codes = [problem.code for problem in plan.problems]
    assert codes == ["wild-pointer", "conflicting-types", "tainted-state", "tainted-state"]
    assert "3 blocks (96 bytes)" in plan.problems[3].cause


def test_abort_lets_a_clean_state_pass() -> None:
    assert TaintPolicy.parse("abort").apply(CLEAN) is CLEAN
    tainted = replace(CLEAN, warnings=("dangling-pointer: 1",))
    assert TaintPolicy().apply(tainted) is tainted


def test_a_named_place_passes_and_is_listed() -> None:
    plan = TaintPolicy.parse("allow=first->next, other").apply(replace(CLEAN, problems=(WILD,)))
    assert not plan.problems
    assert plan.warnings[-1] == f"wild-pointer: {WILD.cause}"


@pytest.mark.parametrize("text", ["", "abort=x", "allow=", "allow", "repair=", "everything"])
def test_what_is_none_of_the_three_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--tainted"):
        TaintPolicy.parse(text)
