"""What a rollback of several steps reports as one."""

from __future__ import annotations

from dataclasses import replace

from instar.cli.rollback import _join
from instar.errors import RefusedError
from instar.update.outcome import UpdateReport, VersionId

REFUSED = UpdateReport.from_error(11, RefusedError("handler-failed", "why", "what to do"))
FIRST = UpdateReport("updated", 10, 11, VersionId("v3", "c"), VersionId("v2", "b"), pause_ms=5, total_ms=50)
LAST = UpdateReport("updated", 11, 12, VersionId("v2", "b"), VersionId("v1", "a"), pause_ms=7, total_ms=60)


def test_all_steps_are_one_way() -> None:
    report = _join([FIRST.with_warning("first"), LAST.with_warning("last")], 2)
    assert (report.old_pid, report.new_pid, report.outcome) == (10, 12, "updated")
    assert report.old == FIRST.old and report.new == LAST.new
    assert (report.pause_ms, report.total_ms) == (12, 110)
    assert report.warnings[:2] == ("first", "last") and "2 updates were taken back" in report.warnings[2]


def test_the_last_step_was_refused() -> None:
    report = _join([FIRST, REFUSED], 3)
    assert (report.outcome, report.old_pid) == ("refused", 11)
    assert report.warnings == ("one-by-one: 1 of 3 updates were taken back, process 11 serves",)


def test_the_first_step_was_refused_or_rehearsed() -> None:
    assert _join([REFUSED], 2) == REFUSED
    rehearsed = replace(FIRST, outcome="rehearsed", new_pid=None)
    assert _join([rehearsed], 2).warnings == ("one-by-one: only the first of 2 steps was rehearsed",)
