"""Progress of an update: plain, live, silent."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from instar.cli import console
from instar.cli.console import LiveProgress, PlainProgress, open_progress, wants_colour
from instar.cli.wording import count_of, format_bytes, format_ms, printable


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_plain_lines_come_when_a_phase_is_over(clock: Clock) -> None:
    stream = io.StringIO()
    shown = PlainProgress(stream)
    shown.phase("plan")
    shown.step(objects=2000, bytes=3 << 20)
    assert stream.getvalue() == ""
    clock.now += 0.5
    shown.phase("start")
    assert stream.getvalue() == "plan: 500 ms, 2,000 objects, 3.0 MB\n"


def test_plain_lines_are_not_written_in_the_pause(clock: Clock) -> None:
    stream = io.StringIO()
    shown = PlainProgress(stream)
    shown.phase("quiesce")
    clock.now += 0.001
    shown.phase("transfer")
    shown.warning("odd word\x1b[0m")
    assert stream.getvalue() == ""
    clock.now += 0.01
    shown.close()
    assert stream.getvalue() == "quiesce: 1.0 ms\nwarning: odd word\\x1b[0m\ntransfer: 10.0 ms\n"


def test_live_view_shows_the_phases_and_rests_in_the_pause(clock: Clock) -> None:
    stream = io.StringIO()
    shown = LiveProgress(Console(file=stream, force_terminal=True, width=80, highlight=False))
    shown.phase("plan")
    drawn = len(stream.getvalue())
    shown.step(objects=1)
    assert len(stream.getvalue()) == drawn  # not again within a tenth of a second
    clock.now += 0.2
    shown.phase("quiesce")
    drawn = len(stream.getvalue())
    clock.now += 0.2
    shown.step(objects=5)
    assert len(stream.getvalue()) == drawn  # in the pause, and it is short
    clock.now += 0.2
    shown.step(objects=5)
    assert len(stream.getvalue()) > drawn
    shown.note("a note")
    shown.close()
    text = stream.getvalue()
    assert "10 objects" in text
    assert "a note" in text


@pytest.mark.parametrize(
    ("variables", "terminal", "expected"),
    [({}, True, True), ({}, False, False), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, True, False)],
)
def test_colour_only_on_a_terminal_that_wants_it(
    variables: dict[str, str], terminal: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    assert wants_colour(stream) is expected


@pytest.mark.parametrize(
    ("quiet", "to_stderr", "out", "err"),
    [(False, False, "plan: ", ""), (False, True, "", "plan: "), (True, False, "", "")],
)
def test_where_progress_goes(
    quiet: bool, to_stderr: bool, out: str, err: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_progress(quiet=quiet, to_stderr=to_stderr) as shown:
        shown.phase("plan")
        shown.step(bytes=1)
    streams = capsys.readouterr()
    assert (streams.out[:6], streams.err[:6]) == (out, err)


@pytest.mark.parametrize(
    ("call", "argument", "text"),
    [
        (format_bytes, 1, "1 byte"),
        (format_bytes, 1023, "1023 bytes"),
        (format_bytes, 1536, "1.5 KB"),
        (format_bytes, 5 << 30, "5.0 GB"),
        (format_ms, 0.4242, "0.42 ms"),
        (format_ms, 13.84, "13.8 ms"),
        (format_ms, 812.3, "812 ms"),
        (format_ms, 3210.0, "3.2 s"),
        (printable, "a\tb\u202e\udcff", "a\\tb\\u202e\\udcff"),
    ],
)
def test_wording(call: Any, argument: object, text: str) -> None:
    assert call(argument) == text


def test_counts() -> None:
    assert [count_of(n, "block") for n in (0, 1, 2000)] == ["0 blocks", "1 block", "2,000 blocks"]
