"""Invariants are checked in both versions; an update waits for the filters of its instar.toml."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.update.test_validation_faults import Table, programs, running

from instar.errors import UsageError
from instar.update.options import UpdateOptions
from instar.update.outcome import UpdateReport
from instar.update.progress import SilentProgress
from instar.update.transaction import Transaction

__all__ = ["programs"]


def _update(
    table: Table, new: Path, config: str, tmp_path: Path, *, timeout: float = 20
) -> tuple[UpdateReport, Transaction]:
    path = tmp_path / "instar.toml"
    path.write_text(config)
    options = UpdateOptions(config=path, timeout=timeout)
    update = Transaction(table.child.pid, new, options, SilentProgress())
    report = update.run()
    update.driver.channel.close()
    return report, update


HOLDING = """
[invariants]
counted = "len(list(leaves)) == count"
chained = "sum([len(list(c)) for c in chains]) == count"
owners = "all(leaf.owner.leaf == leaf.owner->leaf for leaf in list(leaves))"
named = "chains[1].name[0] == 110 and len(chains[1]->kind) > 2"
sorted = "all(p.first + p.second == 120 + 2 * 0 + 2 * (p.first - 50) for p in fixed)"
"""


def test_invariants_hold_in_both_versions(programs: list[Path], tmp_path: Path) -> None:
    with running(programs[0]) as table:
        report, _ = _update(table, programs[1], HOLDING, tmp_path)
        assert report.outcome == "updated", report.error
        assert table.ask("sum") == ["2", table.first[1]]


def test_broken_invariant_refuses_with_both_values(programs: list[Path], tmp_path: Path) -> None:
    with running(programs[0]) as table:
        report, _ = _update(table, programs[1], '[invariants]\nfew = "len(list(leaves)) < 100"\n', tmp_path)
        assert report.error is not None and report.error.code == "invariant-broken"
        assert "200 < 100" in report.error.cause and "old version" in report.error.cause
        assert table.ask("sum") == table.first


def test_name_that_only_one_version_has(programs: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "instar.toml"
    path.write_text('[invariants]\nword = "own_word == 5"\n')
    with running(programs[0]) as table:
        update = Transaction(table.child.pid, programs[1], UpdateOptions(config=path), SilentProgress())
        with pytest.raises(UsageError, match="own_word"):
            update.run()
        assert table.ask("sum") == table.first


def test_filter_is_waited_for(programs: list[Path], tmp_path: Path) -> None:
    with running(programs[0]) as table:
        later = threading.Timer(1.0, lambda: [table.ask("tick") for _ in range(3)])
        later.start()
        report, _ = _update(table, programs[1], '[filters]\nquiet = "fixed[0].second >= 73"\n', tmp_path)
        later.join()
        assert report.outcome == "updated", report.error
        assert table.ask("sum")[0] == "2"


def test_filter_that_never_holds(programs: list[Path], tmp_path: Path) -> None:
    with running(programs[0]) as table:
        text = '[filters]\nnever = "count == 0"\n'
        report, _ = _update(table, programs[1], text, tmp_path, timeout=3)
        assert report.error is not None and report.error.code == "filter-not-met"
        assert "200 == 0" in report.error.cause
        assert table.ask("sum") == table.first


@pytest.mark.parametrize("text", ["[invariants]\na = 3\n", "[invariants\n", '[filters]\na = "open(1)["\n'])
def test_unreadable_file(programs: list[Path], tmp_path: Path, text: str) -> None:
    path = tmp_path / "instar.toml"
    path.write_text(text)
    with running(programs[0]) as table:
        update = Transaction(table.child.pid, programs[1], UpdateOptions(config=path), SilentProgress())
        with pytest.raises(UsageError):
            update.run()
        assert table.ask("sum") == table.first
