"""`instar history`."""

import json
from pathlib import Path

import pytest

from instar.cli.main import main
from instar.errors import RolledBackError
from instar.update import journal
from instar.update.outcome import UpdateReport, VersionId

UPDATED = UpdateReport(
    "updated",
    10,
    11,
    old=VersionId("/srv/v1", "ab" * 20),
    new=VersionId("/srv/v2", "cd" * 20),
    pause_ms=13.84,
)
FAILED = UpdateReport.from_error(12, RolledBackError("pause-too-long", "x", "y"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "instar" / "journal.jsonl"


def test_nothing_yet(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history"]) == 0
    assert capsys.readouterr().out == f"no updates in {place}\n"


def test_table(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal.record(UPDATED)
    journal.record(FAILED)
    assert main(["history"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "when"
    assert first.endswith("10 -> 11  13.8 ms  /srv/v2 (abababababab -> cdcdcdcdcdcd)")
    assert "rolled-back [pause-too-long]" in second
    assert second.endswith("  12        -        -")


def test_a_rollback_is_told_as_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal.record(UPDATED.as_kind("rollback"))
    assert main(["history"]) == 0
    assert "  taken back  " in capsys.readouterr().out


def test_limit_and_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        journal.record(UPDATED)
    journal.record(FAILED)
    assert main(["history", "--limit", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [update["report"]["outcome"] for update in document["updates"]] == ["updated", "rolled-back"]
    assert main(["history", "--limit", "0", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["updates"]) == 4


def test_damaged_lines_are_told_and_odd_ones_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal.record(UPDATED)
    with place.open("a") as file:
        file.write("rubbish\n")
        odd = {"outcome": "updated", "old_pid": 1, "pause_ms": "long", "new": {"path": "\x1b[2J"}, "error": 5}
        file.write(
            json.dumps(
                {"schema": 1, "time": "2026-01-01T00:00:00Z", "user": "u", "instar": "1", "report": odd}
            )
        )
    assert main(["history"]) == 0
    streams = capsys.readouterr()
    assert len(streams.out.splitlines()) == 3
    assert "\x1b" not in streams.out
    assert "1 damaged lines" in streams.err


def test_a_journal_that_may_not_be_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.mkdir(parents=True)
    assert main(["history"]) == 6
    assert "[journal-unreadable]" in capsys.readouterr().err
