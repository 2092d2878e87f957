"""A slice of the campaign of faults (`make faults`), and what the whole campaign has found."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.campaign import perform, plan_faults, rows
from faults.kernels import UNITS
from faults.outcome import BAD, OUTCOMES, judge
from tests.update.test_validation_faults import Faulty, programs, running

from instar.process.numbering import DWARF_NAMES
from instar.state.columns import Fate
from instar.transfer.planner import Planner
from instar.transfer.statics import Statics
from instar.update.driver import Driver

__all__ = ["programs"]

SLICE = 26
#: What no check can find without the user's help (docs/promises.md).
UNKNOWABLE = ("unchecked and allowed", "input: DWARF")


def test_a_seed_says_everything() -> None:
    names = ["tables", "hallway"]
    assert plan_faults(7, 90, [], names) == plan_faults(7, 90, [], names)
    assert plan_faults(7, 90, [], names) != plan_faults(8, 90, [], names)
    assert {fault.row for fault in plan_faults(7, 90, [], names)} == {name for name, _ in rows()}


def test_nothing_escapes_a_slice_of_the_campaign() -> None:
    wanted = [
        name for name, _ in rows() if not name.endswith(UNKNOWABLE) and name not in ("loop stuck", "no fault")
    ]
    faults = plan_faults(20131, SLICE, wanted, ["tables", "hallway"])
    results = perform(faults, 2, quiet=True)
    assert len(results) == SLICE
    escaped = [result for result in results if result.outcome in BAD]
    assert not escaped, escaped
    assert len({result.outcome for result in results}) >= 3, "the faults do nothing"


def test_without_a_fault_the_program_is_updated() -> None:
    """Else everything would be detected."""
    results = perform(plan_faults(1, 2, ["no fault"], ["tables", "hallway"]), 1, quiet=True)
    assert [(result.outcome, result.status) for result in results] == [("no effect", 0)] * 2


@pytest.mark.parametrize(
    ("committed", "lost", "complaints", "alive", "outcome"),
    [
        (True, 0, ["wrong"], True, "silent"),
        (False, 0, ["wrong"], True, "damaged"),
        (False, 0, [], False, "old lost"),
        (True, 0, [], False, "silent"),
        (False, 1, [], True, "connections lost"),
        (True, 0, [], True, "no effect"),
        (False, 0, [], True, "crash"),
    ],
)
def test_what_clients_say_decides(
    committed: bool, lost: int, complaints: list[str], alive: bool, outcome: str
) -> None:
    found = judge(-9, None, committed=committed, lost=lost, complaints=complaints, alive=alive)
    assert found == outcome and found in OUTCOMES


def _leave_behind(planner: Planner, done: list[str]) -> None:
    """A block that lives is taken for a leak, after it was decided what moves."""
    objects = planner.state.objects
    leaf = planner.old.find_types("struct leaf")
    rows = np.flatnonzero(np.isin(objects["type"], leaf) & (objects["fate"] == Fate.STAY))
    objects["flags"][rows[40]] &= ~np.uint32(1)
    done.append("left")


def test_a_living_block_that_is_left_behind_is_found(
    programs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the campaign: its bytes lie in a page that is copied anyway, the slot was called dangling."""
    done: list[str] = []
    pair = Planner._pair_blocks

    def paired(planner: Planner) -> Any:
        result = pair(planner)
        _leave_behind(planner, done)
        return result

    monkeypatch.setattr(Planner, "_pair_blocks", paired)
    _is_found(programs, "left behind")
    assert done


def test_a_changed_variable_that_is_not_carried_is_found(
    programs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody ever changed keeps what the new program has: nothing of it comes back."""
    keep = Statics.keep_untouched

    def kept(statics: Statics) -> None:
        keep(statics)
        (variable,) = statics.old.find_variables("count")
        address = int(statics.old.variables["address"][variable]) + statics.past.subject.load_bias
        row = statics.state.find(address)
        assert statics.state.objects["fate"][row] == Fate.MOVE
        statics.state.objects["fate"][row] = Fate.REPLACE

    monkeypatch.setattr(Statics, "keep_untouched", kept)
    _is_found(programs, "count: keeps what the new program has, but the old version has changed it")


def _without_a_block(plan: Any) -> Any:
    from dataclasses import replace

    kept = plan.kept[0]
    return replace(plan, kept=(replace(kept, blocks=np.delete(kept.blocks, 7, axis=0)), *plan.kept[1:]))


def test_a_block_that_the_runtime_is_not_told_of_is_found(
    programs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the campaign: everything is right until the new version frees it."""
    assemble: Callable[..., Any] = Planner.assemble
    monkeypatch.setattr(Planner, "assemble", lambda *arguments: _without_a_block(assemble(*arguments)))
    _is_found(programs, "is not told")


@pytest.mark.parametrize("change", [lambda value: value + 8, lambda value: 0])
def test_an_argument_of_the_waiting_call_that_is_off_is_found(
    programs: list[Path], monkeypatch: pytest.MonkeyPatch, change: Callable[[int], int]
) -> None:
    """Found by the campaign: the buffer of a read lay eight bytes too far."""
    from dataclasses import replace

    assemble: Callable[..., Any] = Planner.assemble
    number = DWARF_NAMES.index("rsi")

    def assembled(*arguments: Any) -> Any:
        plan = assemble(*arguments)
        return replace(plan, registers={**plan.registers, number: change(plan.registers[number])})

    monkeypatch.setattr(Planner, "assemble", assembled)
    _is_found(programs, "argument 2 of read")


@pytest.mark.parametrize(
    ("number", "at_the_gate"),
    [(signal.SIGSEGV, False), (signal.SIGSTOP, False), (signal.SIGSEGV, True)],
)
def test_a_new_version_with_a_deadly_signal_never_serves(
    programs: list[Path], number: signal.Signals, at_the_gate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the campaign: a parked process is ended by what was sent to it only once it goes on."""
    owner, name = (Driver, "enter_gate") if at_the_gate else (Faulty, "_validate")
    step = getattr(owner, name)

    def signalled(one: Any, *arguments: Any) -> None:
        step(one, *arguments)
        os.kill(one.pid if at_the_gate else one.driver.pid, number)

    monkeypatch.setattr(owner, name, signalled)
    with running(programs[0]) as table:
        report = Faulty(table, programs[1], lambda _: None, "pause", "tick").run()
        assert report.outcome == "rolled-back"
        assert report.error is not None and report.error.code == "gate-signalled", report.error
        assert table.ask("sum")[0] == "1"


def _is_found(programs: list[Path], text: str) -> None:
    with running(programs[0]) as table:
        report = Faulty(table, programs[1], lambda _: None, "pause", "tick").run()
        assert report.error is not None and report.error.code == "validation-difference", report.error
        assert text in report.error.cause, report.error.cause
        assert table.ask("sum")[0] == "1"


def test_every_kernel_of_the_forward_transfer_gets_faults() -> None:
    others = {"compare.c", "leads.c", "reverse.c", "descriptors.c", "glibc_heap.c", "layout.c"}
    kernels = Path(__file__).parents[2] / "native" / "kernels"
    assert {path.name for path in kernels.glob("*.c")} == {*UNITS, *others}
    assert not others & set(UNITS)
