"""The journal: whole lines whoever writes, damaged ones skipped, an update never failed."""

import errno
import json
import multiprocessing
import os
import resource
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.errors import RefusedError
from instar.update import journal
from instar.update.outcome import Leaked, UpdateReport, VersionId

REPORT = UpdateReport(
    "updated",
    10,
    11,
    old=VersionId("/v1", "aa"),
    new=VersionId("/v2", "bb"),
    pause_ms=1.5,
    leaked=Leaked(2, 64),
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "state" / "instar" / "journal.jsonl"


@pytest.fixture
def full_disk(place: Path) -> Iterator[int]:
    """A file that may not grow past 600 bytes (RLIMIT_FSIZE: a write beyond it is short, then fails)."""
    room = 600
    place.parent.mkdir(parents=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    yield room
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_what_is_recorded_is_read_back(place: Path) -> None:
    assert journal.record(REPORT, place) is None
    refused = UpdateReport.from_error(12, RefusedError("no-debug-info", "no", "build with -g"))
    assert journal.record(refused, place) is None
    history = journal.read_history(path=place)
    assert history.damaged == 0
    assert [entry.report for entry in history.entries] == [
        {name: value for name, value in report.to_json().items() if name not in journal.DETAILS}
        for report in (REPORT, refused)
    ]
    assert journal.read_history(1, place).entries == history.entries[1:]
    assert oct(place.stat().st_mode & 0o777) == "0o600"


def test_an_absent_journal_is_empty(place: Path) -> None:
    assert journal.read_history(path=place) == journal.History((), 0)


def _record_often(place: Path) -> None:
    for _ in range(50):
        assert journal.record(REPORT, place) is None


def test_several_writers_keep_whole_lines(place: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_record_often, args=(place,)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    history = journal.read_history(path=place)
    assert (len(history.entries), history.damaged) == (200, 0)


def test_a_full_disk_is_a_warning_and_leaves_no_half_line(place: Path, full_disk: int) -> None:
    place.write_bytes(b"")
    line = json.dumps(REPORT.to_json())
    assert len(line) * 2 > full_disk
    warnings = [journal.record(REPORT, place) for _ in range(3)]
    assert warnings[0] is None
    assert all(warning and os.strerror(errno.ENOSPC) in warning for warning in warnings[1:])
    history = journal.read_history(path=place)
    assert (len(history.entries), history.damaged) == (1, 0)


@pytest.mark.parametrize("kind", ["directory", "fifo", "link", "file-in-the-way", "/dev/full"])
def test_an_odd_place_is_a_warning(place: Path, kind: str, tmp_path: Path) -> None:
    if kind == "file-in-the-way":
        (tmp_path / "state").write_text("")
    else:
        place.parent.mkdir(parents=True)
    match kind:
        case "directory":
            place.mkdir()
        case "fifo":
            os.mkfifo(place)
        case "link":
            place.symlink_to(tmp_path / "elsewhere")
        case "/dev/full":
            place = Path(kind)
    warning = journal.record(REPORT, place)
    assert warning is not None
    assert str(place) in warning
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_that_is_never_released_is_a_warning(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    monkeypatch.setattr(journal, "_LOCK_S", 0.02)
    assert journal.record(REPORT, place) is None
    with place.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert journal.record(REPORT, place) is not None
    assert journal.record(REPORT, place) is None


def test_a_line_cut_short_spoils_no_other(place: Path) -> None:
    journal.record(REPORT, place)
    whole = place.read_bytes()
    place.write_bytes(whole + whole[:40])
    assert journal.record(REPORT, place) is None
    history = journal.read_history(path=place)
    assert (len(history.entries), history.damaged) == (2, 1)


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"schema":1,"time":5,"user":"u","instar":"1","report":{}}',
        b'{"schema":1,"time":"2025-01-01","user":"u","instar":"1","report":{"outcome":"updated","old_pid":1}}',
        b'{"schema":1,"time":"2025-01-01T00:00:00Z","user":"u","instar":"1","report":"outcome old_pid"}',
        b'{"schema":9,"time":"2025-01-01T00:00:00Z","user":"u","instar":"1",'
        b'"report":{"outcome":"updated","old_pid":1}}',
        b'{"schema":1,"time":"2025-01-01T00:00:00Z","user":"u","instar":"1",'
        b'"report":{"outcome":"exploded","old_pid":1}}',
        b'{"schema":1,"time":"2025-01-01T00:00:00Z","user":"u","instar":"1",'
        b'"report":{"outcome":["updated"],"old_pid":1}}',
    ],
)
def test_lines_that_are_not_entries(line: bytes, place: Path) -> None:
    assert journal.parse_entry(line) is None


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_damage_is_survived(noise: bytes, at: int) -> None:
    entry = journal.Entry(datetime.now(UTC), "u", "1", REPORT.to_json())
    line = json.dumps(entry.to_json()).encode()
    journal.parse_entry(line[:at] + noise + line[at + len(noise) :])


def test_many_warnings_are_shortened(place: Path) -> None:
    report = UpdateReport("updated", 1, 2, warnings=tuple(f"w{n}" for n in range(1000)))
    journal.record(report, place)
    (entry,) = journal.read_history(path=place).entries
    assert entry.report["warnings"][-2:] == ["w19", "and 980 more"]


def test_where_the_journal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/some/state")
    assert journal.journal_path() == Path("/some/state/instar/journal.jsonl")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert journal.journal_path() == Path("/var/lib/instar/journal.jsonl")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/anna")
    assert journal.journal_path() == Path("/home/anna/.local/state/instar/journal.jsonl")


def test_who_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "anna")
    journal.record(REPORT, place)
    monkeypatch.delenv("SUDO_USER")
    journal.record(REPORT, place)
    monkeypatch.setattr(os, "getuid", lambda: 123456)
    journal.record(REPORT, place)
    assert [entry.user for entry in journal.read_history(path=place).entries] == ["anna", "root", "123456"]


def test_it_has_a_bound_and_is_read_whole(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put aside comes first; the one before is given up."""
    monkeypatch.setattr(journal, "_LARGEST", 2000)
    sizes, counts = [], []
    for number in range(40):
        report = UpdateReport.from_error(number, RefusedError("no-debug-info", "no", "build with -g"))
        assert journal.record(report, place) is None
        pids = [entry.report["old_pid"] for entry in journal.read_history(path=place).entries]
        assert pids == list(range(number - len(pids) + 1, number + 1)), "a gap, or one twice"
        files = sorted(place.parent.iterdir())
        sizes.append(sum(path.stat().st_size for path in files))
        counts.append(len(pids))
        assert files in ([place], [place, journal.aside(place)])
    assert max(sizes) <= 4000
    assert min(counts[10:]) >= 3, "the last ones are there whenever it is put aside"
    assert oct(journal.aside(place).stat().st_mode & 0o777) == "0o600"


def _record_many(place: Path, first: int) -> None:
    journal._LARGEST = 40_000
    for number in range(first, first + 25):
        report = UpdateReport.from_error(number, RefusedError("no-debug-info", "no", "build with -g"))
        assert journal.record(report, place) is None


def test_several_put_it_aside_at_once(place: Path) -> None:
    """No line is lost that two files have room for."""
    place.parent.mkdir(parents=True)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_record_many, args=(place, 100 * n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    history = journal.read_history(path=place)
    assert not history.damaged and journal.aside(place).exists()
    assert sorted(entry.report["old_pid"] for entry in history.entries) == [
        100 * n + i for n in range(4) for i in range(25)
    ]
