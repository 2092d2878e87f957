"""Where a report goes: asked before, whole or not at all, and nobody else's file."""

from __future__ import annotations

import argparse
import os
import resource
import signal
from pathlib import Path

import pytest

from instar.cli.page import document
from instar.cli.report_file import ReportFile, find_report
from instar.errors import HostError, UsageError
from instar.update.outcome import UpdateReport

REPORT = UpdateReport("updated", 10, 11)


def options(place: str | None, *, as_json: bool = False) -> argparse.Namespace:
    return argparse.Namespace(report=place, json=as_json)


def left(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_new_file(tmp_path: Path) -> None:
    place = tmp_path / "report.html"
    file = ReportFile(str(place))
    assert left(tmp_path) == []  # asking leaves nothing behind
    assert file.write(REPORT) is REPORT
    assert left(tmp_path) == ["report.html"]
    assert place.read_text().startswith("<!doctype html>")
    mask = os.umask(0)
    os.umask(mask)
    assert place.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_report_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    place = tmp_path / "report.html"
    ReportFile(str(place)).write(UpdateReport("updated", 10, 999))
    place.chmod(0o640)
    before = place.stat().st_ino
    ReportFile(str(place)).write(REPORT)
    assert "999" not in place.read_text() and place.stat().st_ino != before
    assert place.stat().st_mode & 0o777 == 0o640


def test_an_empty_file_may_be_replaced(tmp_path: Path) -> None:
    place = tmp_path / "report.html"
    place.touch()
    assert ReportFile(str(place)).write(REPORT).warnings == ()


@pytest.mark.parametrize("kind", ["program", "link", "directory", "pipe", "empty name"])
def test_what_is_not_a_report_stays(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "thing"
    target = tmp_path / "target"
    target.write_bytes(b"<!doctype html>")
    if kind == "program":
        place.write_bytes(b"\x7fELF and more")
    elif kind == "link":
        place.symlink_to(target)
    elif kind == "directory":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    name = "" if kind == "empty name" else str(place)
    before = left(tmp_path)
    with pytest.raises(UsageError):
        ReportFile(name)
    assert left(tmp_path) == before and target.read_bytes() == b"<!doctype html>"


@pytest.mark.parametrize("name", ["absent/report.html", "file/report.html", "x" * 300, "a\0b"])
def test_what_cannot_be_written_is_told_before(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError) as caught:
        ReportFile(str(tmp_path / name))
    assert caught.value.code == "report-unwritable"
    assert left(tmp_path) == ["file"]


def test_a_full_disk_later_is_a_warning(tmp_path: Path) -> None:
    place = tmp_path / "report.html"
    file = ReportFile(str(place))
    ReportFile(str(place)).write(UpdateReport("updated", 10, 999))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        told = file.write(REPORT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    (warning,) = told.warnings
    assert warning.startswith("report-not-written: ") and "File too large" in warning
    assert told.outcome == "updated"
    assert "999" in place.read_text() and left(tmp_path) == ["report.html"]  # the old one, whole


@pytest.mark.parametrize("what", ["gone", "link", "pipe"])
def test_what_came_in_between_is_a_warning(tmp_path: Path, what: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    file = ReportFile(str(home / "report.html"))
    other = tmp_path / "other"
    other.write_text("precious")
    if what == "gone":
        home.rmdir()
    elif what == "link":
        (home / "report.html").symlink_to(other)
    else:
        os.mkfifo(home / "report.html")
    assert file.write(REPORT).warnings[0].startswith("report-not-written: ")
    assert other.read_text() == "precious"


def test_a_page_that_cannot_be_made_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise MemoryError

    file = ReportFile(str(tmp_path / "report.html"))
    monkeypatch.setattr(document, "render_page", fail)
    (warning,) = file.write(REPORT).warnings
    assert warning.startswith("report-not-written: ") and warning.endswith("MemoryError")
    assert left(tmp_path) == []


def test_relative_names_are_of_the_directory_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    file = ReportFile("report.html")
    monkeypatch.chdir(tmp_path / "other")
    file.write(REPORT)
    assert left(tmp_path) == ["other", "report.html"]


def test_standard_output_takes_one_document(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with pytest.raises(UsageError):
        find_report(options("-", as_json=True))
    assert find_report(options(None)) is None
    file = find_report(options("-"))
    assert file is not None and file.write(REPORT) is REPORT
    assert capfdbinary.readouterr().out.startswith(b"<!doctype html>")
