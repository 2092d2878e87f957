"""Wrong decisions about variables and lost changes show, though what was done comes back as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.update.test_validation_faults import Faulty, build, programs, running

from instar.pairing.mapping import Relation, TypePairing
from instar.state.columns import Fate, ObjectKind
from instar.state.image import Image
from instar.transfer.plan import KeptRange, TransferPlan
from instar.transfer.planner import Planner
from instar.transfer.refresh import refresh_plan
from instar.transfer.stack import FramePair
from instar.update import carry
from instar.validation.validator import Validator

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


def test_types_that_are_refused_for_no_reason_are_found(
    programs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the campaign: what is refused is not converted, and somebody must have been asked."""
    relation = TypePairing.relation

    def refused(pairing: TypePairing, old_type: int, new_type: int) -> Relation:
        found = relation(pairing, old_type, new_type)
        return Relation.REFUSED if found is Relation.CONVERTIBLE else found

    monkeypatch.setattr(TypePairing, "relation", refused)
    with running(programs[0]) as table:
        update = Faulty(table, programs[1], lambda _: None, "pause", "sum")
        report = update.run()
        update.driver.channel.close()
        assert report.error is not None and report.error.code == "validation-difference", report.error
        assert "never converted" in str(report.error) + "".join(report.error.details)
        assert table.ask("sum")[0] == "1"


@pytest.mark.parametrize("name", ["counterpart", "relation", "stays_in_place"])
def test_types_that_are_taken_for_gone_or_unchanged_are_found(
    programs: list[Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by turning conditions round: plan and comparison both go by the pairing of types."""
    wrong = {"counterpart": None, "relation": Relation.IDENTICAL, "stays_in_place": True}[name]
    monkeypatch.setattr(TypePairing, name, lambda *arguments: wrong)
    with running(programs[0]) as table:
        update = Faulty(table, programs[1], lambda _: None, "pause", "sum")
        report = update.run()
        update.driver.channel.close()
        assert report.error is not None and report.error.code == "validation-difference", report.error
        assert "never converted" in str(report.error) + "".join(report.error.details)
        assert table.ask("sum")[0] == "1"


STREAM = Path(__file__).parent / "validation" / "stream.c"


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build(STREAM, tmp_path_factory.mktemp("journal"))


@pytest.mark.parametrize("decision", ["copied", "another", "right"])
def test_a_stream_that_is_not_the_new_versions_own_is_found(
    journals: list[Path], decision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes come back as they were, and lead into the old version's libc."""
    decide, streams = Planner._decide, list[int]()

    def decide_wrongly(planner: Planner) -> Any:
        table, objects = decide(planner), planner.state.objects
        (row,) = np.flatnonzero(np.isin(objects["address"], list(planner.streams)) & (objects["kind"] == 0))
        assert objects["fate"][row] == Fate.REPLACE
        streams.append(int(row))
        if decision == "copied":
            objects["fate"][row] = Fate.STAY
        if decision == "another":
            objects["new_address"][row] += 16
        return table

    monkeypatch.setattr(Planner, "_decide", decide_wrongly)
    with running(journals[0]) as table:
        update = Faulty(table, journals[1], lambda _: None, "pause", "add")
        report = update.run()
        update.driver.channel.close()
        assert streams
        version, last = table.ask("add")
        size, lines = divmod(int(last), 1000)
        assert lines == 3 if decision == "right" else lines in (2, 3)  # found before the pause, or in it
        assert size == len("line 1\n") * lines
        if decision == "right":
            assert report.error is None and version == "2"
        else:
            assert report.error is not None and report.error.code == "validation-difference", report.error
            assert "it is a stream" in report.error.cause and version == "1"


@pytest.mark.parametrize("unwritten", [False, True], ids=["read-again", "pages-unwritten-since"])
def test_a_change_that_was_lost_is_found(
    programs: list[Path], unwritten: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program works between the two copies; what it did is in the second, but not noted as changed.

    Where the kernel says that nobody has written a page of the new version since, it is not read again.
    """
    refreshed: list[int] = []

    def refresh(planner: Planner, plan: TransferPlan, past: Image, pairs: Sequence[FramePair]) -> Any:
        assert past.changes is not None and len(past.changes.rows)
        past.changes = replace(past.changes, rows=past.changes.rows[:0], saved=past.changes.saved[:0])
        found = refresh_plan(planner, plan, past, pairs)
        refreshed.append(found is not None)
        return found

    monkeypatch.setattr(carry, "refresh_plan", refresh)
    if unwritten:
        monkeypatch.setattr(Validator, "_compare_unchanged", lambda *_: None)
    with running(programs[0]) as table:
        update = Faulty(table, programs[1], lambda _: None, "pause", "tick")
        report = update.run()
        update.driver.channel.close()
        assert refreshed == [True], "planned anew: nothing was lost"
        assert report.error is not None and report.error.code == "validation-difference", report.error
        assert table.ask("sum")[0] == "1"


MAPPINGS = Path(__file__).parent / "validation" / "mappings.c"


@pytest.fixture(scope="module")
def mappings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build(MAPPINGS, tmp_path_factory.mktemp("mappings"))


@pytest.mark.parametrize(("wanted", "protection"), [(3, 3), (3, 1), (3, 7), (0, 3)])
def test_memory_that_may_be_used_in_other_ways_is_found(
    mappings: list[Path], wanted: int, protection: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it holds is the same."""
    assemble = Planner.assemble

    def assemble_wrongly(planner: Planner, kept: tuple[KeptRange, ...], arena: KeptRange | None) -> Any:
        own = [one for one in kept if one.plain and one.protection == wanted]
        assert own
        wrong = tuple(replace(one, protection=protection) if one is own[0] else one for one in kept)
        return assemble(planner, wrong, arena)

    monkeypatch.setattr(Planner, "assemble", assemble_wrongly)
    with running(mappings[0]) as table:
        update = Faulty(table, mappings[1], lambda _: None, "pause", "sum")
        report = update.run()
        update.driver.channel.close()
        if protection == wanted:
            assert report.outcome == "updated"
            return
        assert report.error is not None and report.error.code == "validation-difference", report.error
        assert "the mapping at" in report.error.cause
        assert table.ask("sum")[0] == "1"
