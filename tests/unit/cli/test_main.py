"""The command line: which modules are loaded, what errors become."""

import argparse
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

import instar
from instar.cli import main as command
from instar.cli.failures import as_instar_error, error_lines, exit_status
from instar.errors import (
    DamagedError,
    FaultError,
    HostError,
    InternalError,
    RefusedError,
    RolledBackError,
    UsageError,
)

Verb = Callable[[argparse.Namespace], int]


@pytest.fixture
def stub_verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Verb], None]:
    """Replaces what every verb does."""

    def install(run: Verb) -> None:
        module = SimpleNamespace(prepare_parser=lambda parser: None, run=run)
        monkeypatch.setattr(command, "load_verb", lambda name: module)

    return install


def raising(error: BaseException) -> Verb:
    def run(arguments: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["history", "--help"]])
def test_help_loads_neither_numpy_nor_rich(words: list[str]) -> None:
    program = (
        "import sys\nfrom instar.cli.main import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'numpy', 'rich', 'capstone', 'ctypes', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_of_the_program_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(f"    {verb} " in text for verb in command.VERBS)


@pytest.mark.parametrize("verb", command.VERBS)
def test_help_of_every_verb_has_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main([verb, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert f"instar {verb}" in text.partition("examples:")[2]
    assert "--json" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--version"])
    assert capsys.readouterr().out == f"instar {instar.__version__}\n"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InternalError("x"), 1),
        (KeyError("x"), 1),
        (UsageError("usage", "x", "y"), 2),
        (RefusedError("c", "x", "y"), 3),
        (FaultError(16, 8, 1), 3),
        (RolledBackError("c", "x", "y"), 4),
        (DamagedError("c", "x", "y"), 5),
        (HostError("c", "x", "y"), 6),
        (MemoryError(), 6),
        (OSError(errno.ENOSPC, "full"), 6),
        (OSError(errno.EMFILE, "many"), 6),
        (OSError(errno.EIO, "odd"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_status(
    error: BaseException,
    status: int,
    stub_verb: Callable[[Verb], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    stub_verb(raising(error))
    assert command.main(["history"]) == status
    cause, remedy = capsys.readouterr().err.splitlines()
    assert cause.startswith("instar: ")
    assert cause.endswith("]")
    assert remedy.startswith("  ")


def test_error_as_json(stub_verb: Callable[[Verb], None], capsys: pytest.CaptureFixture[str]) -> None:
    stub_verb(raising(RolledBackError("pause-exceeded", "too long", "try later", details=("a", "b"))))
    assert command.main(["update", "--json"]) == 4
    streams = capsys.readouterr()
    assert json.loads(streams.out) == {
        "schema": 1,
        "error": {
            "code": "pause-exceeded",
            "cause": "too long",
            "remedy": "try later",
            "target": "rolled-back",
            "details": ["a", "b"],
        },
    }
    assert streams.err == "instar: too long [pause-exceeded]\n  try later\n  | a\n  | b\n"


@pytest.mark.parametrize(
    "words", [[], ["nonsense"], ["--wrong"], ["history", "--limit", "x"], ["update", "1"]]
)
def test_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*words, "--json"]) == 2
    streams = capsys.readouterr()
    assert json.loads(streams.out)["error"]["code"] == "usage"
    assert "--help" in streams.err


def test_a_bug_names_its_place_and_shows_the_traceback_only_when_asked(
    stub_verb: Callable[[Verb], None], capsys: pytest.CaptureFixture[str]
) -> None:
    from instar.update.journal import record

    stub_verb(lambda arguments: record(None) is None)  # type: ignore[arg-type]
    assert command.main(["history"]) == 1
    plain = capsys.readouterr().err
    assert "AttributeError" in plain
    assert "update/journal.py:" in plain
    assert "Traceback" not in plain
    assert command.main(["history", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_termination_unwinds(
    number: signal.Signals, stub_verb: Callable[[Verb], None], capsys: pytest.CaptureFixture[str]
) -> None:
    undone = []

    def run(arguments: argparse.Namespace) -> int:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            undone.append(True)
        return 0

    stub_verb(run)
    assert command.main(["update"]) == 128 + number
    assert undone == [True]
    assert "[interrupted]" in capsys.readouterr().err
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_reader_that_goes_away_is_no_error() -> None:
    program = "import sys\nfrom instar.cli.main import main\nsys.exit(main(['history', '--limit', '0']))"
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as broken:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=broken, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 128 + signal.SIGPIPE
    assert done.stderr == b""


def test_terminal_sequences_in_messages_are_harmless() -> None:
    lines = error_lines(RefusedError("c", "member \x1b[2Jx", "line\nbreak"))
    assert lines == ["instar: member \\x1b[2Jx [c]", "  line\\nbreak"]


def test_statuses_of_errors_that_are_made_from_others() -> None:
    assert exit_status(as_instar_error(ValueError("a\nb"))) == 1
    assert as_instar_error(ValueError("a\nb")).cause == "ValueError: a b"


@pytest.mark.parametrize("words", [["inspect"], ["inspect", "head"], ["check"], ["diff", "/bin/true"]])
def test_a_process_that_is_not_there_is_told_as_such(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *rest = words
    assert command.main([verb, str((1 << 31) - 1), *rest]) == 6
    assert "there is no process 2147483647 [no-such-process]" in capsys.readouterr().err
