"""Wrong decisions about a variable show, though what was decided comes back as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.update.test_validation_faults import Faulty, programs, running

from instar.state.columns import Fate, ObjectKind
from instar.transfer.planner import Planner

__all__ = ["programs"]


def _dropped(planner: Planner, entry: Any) -> None:
    entry["fate"] = Fate.DROP


def _kept(planner: Planner, entry: Any) -> None:
    entry["fate"] = Fate.REPLACE


def _left_alone(planner: Planner, entry: Any) -> None:
    entry["mapping"] = -1


def _elsewhere(planner: Planner, entry: Any) -> None:
    entry["new_address"] += 8


@pytest.mark.parametrize("fault", [_dropped, _kept, _left_alone, _elsewhere], ids=lambda f: f.__name__[1:])
def test_it_is_found(
    programs: list[Path],
    fault: Callable[[Planner, Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decide = Planner._decide

    def decide_wrongly(planner: Planner) -> Any:
        table = decide(planner)
        variable = planner.old.find_variable("fixed")
        rows = [row for row in range(len(planner.state.objects)) if planner.state.origin(row) == variable]
        row = next(row for row in rows if planner.state.objects["kind"][row] == ObjectKind.STATIC)
        fault(planner, planner.state.objects[row])
        return table

    monkeypatch.setattr(Planner, "_decide", decide_wrongly)
    with running(programs[0]) as table:
        table.ask("tick")
        update = Faulty(table, programs[1], lambda _: None, "pause", "sum")
        report = update.run()
        update.driver.channel.close()
        assert report.error is not None and report.error.code == "validation-difference", report.error
        assert "variable fixed: " in report.error.cause
        assert table.ask("sum")[0] == "1"
