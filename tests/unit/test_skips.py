"""In continuous integration nothing is left out unseen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.conftest import pytest_runtest_makereport

REASON = ("test_file.py", 7, "Skipped: needs root")
ARCHIVE = ("test_file.py", 7, "Skipped: NOT TESTED, no source of dnsmasq: unreachable")


def reported(longrepr: object, marker: str = "", outcome: str = "skipped", **more: object) -> Any:
    """The report after the hook, of a test with a marker."""
    item: Any = SimpleNamespace(
        nodeid="test_file.py::test", get_closest_marker=lambda name: name == marker or None
    )
    report: Any = SimpleNamespace(outcome=outcome, skipped=outcome == "skipped", longrepr=longrepr, **more)
    call: Any = None
    hook = pytest_runtest_makereport(item, call)
    next(hook)
    with pytest.raises(StopIteration) as end:
        hook.send(report)
    return end.value.value


def test_a_skip_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTAR_CI", "1")
    report = reported(REASON)
    assert report.outcome == "failed" and "needs root" in report.longrepr
    assert reported(ARCHIVE).outcome == "failed"
    assert reported(REASON, "real").outcome == "failed"


def test_what_is_no_such_skip_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTAR_CI", "1")
    assert reported(ARCHIVE, "real").outcome == "skipped"
    assert reported(REASON, wasxfail="reason").outcome == "skipped"
    assert reported(None, outcome="passed").outcome == "passed"
    monkeypatch.delenv("INSTAR_CI")
    assert reported(REASON).outcome == "skipped"
