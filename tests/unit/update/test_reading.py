"""Debug information is read by a process without rights; whatever becomes of it is a refusal by name.

What a hostile file would make of libdw is played by a function in the place of the walker.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import pytest

from instar.errors import HostError, InstarError, RefusedError
from instar.metadata.debug_files import DebugFiles
from instar.metadata.elf import ElfFile
from instar.metadata.model import COLUMNS
from instar.update import reading
from instar.update.exchange import Wire
from instar.update.reading import walk_confined

NOTHING = {name: np.zeros(1 if name == "strings" else 0, dtype) for name, dtype in COLUMNS.items()}
Walker = Callable[..., Any]


@pytest.fixture
def files(tmp_path: Path) -> DebugFiles:
    program = tmp_path / "program"
    program.write_bytes(b"the bytes of a program")
    return DebugFiles(program, cast(ElfFile, None), tmp_path, None, None)


@pytest.fixture
def refusal(files: DebugFiles, monkeypatch: pytest.MonkeyPatch) -> Callable[[Walker], InstarError]:
    """What is said when this is done in the place of walking; nothing is left behind."""

    def attempt(walker: Walker) -> InstarError:
        before = _left()
        monkeypatch.setattr(reading, "walk_program", walker)
        with pytest.raises((RefusedError, HostError)) as refused:
            walk_confined(files)
        assert _left() == before
        assert str(files.debug) in refused.value.cause or refused.value.code == "out-of-memory"
        return refused.value

    return attempt


def _left() -> tuple[set[str], set[str]]:
    """Children and descriptors of this process."""
    children = {word for at in Path("/proc/self/task").glob("*/children") for word in at.read_text().split()}
    return children, {path.name for path in Path("/proc/self/fd").iterdir()}


def test_columns_come_back(files: DebugFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row, from another process; unaligned bytes between them do no harm."""
    columns = {**NOTHING, "strings": np.frombuffer(b"\0odd\0", np.uint8)}
    columns["types"] = np.zeros(3, COLUMNS["types"])
    columns["types"]["size"] = os.getpid(), 2, 3

    def walk(debug: Path, **_options: object) -> dict[str, Any]:
        assert debug.read_bytes() == b"the bytes of a program"
        columns["types"]["size"][1] = os.getpid()
        return columns

    monkeypatch.setattr(reading, "walk_program", walk)
    found = walk_confined(files)
    assert {name: column.dtype for name, column in found.items()} == dict(COLUMNS)
    assert all(column.flags.aligned for column in found.values())
    assert found["strings"].tobytes() == b"\0odd\0"
    here, there, last = found["types"]["size"].tolist()
    assert (here, last) == (os.getpid(), 3) and there not in (2, os.getpid())


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_is_a_refusal(refusal: Callable[[Walker], InstarError], number: signal.Signals) -> None:
    def crash(*_files: object, **_options: object) -> NoReturn:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # pytest's faulthandler would write a report
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        raise AssertionError

    found = refusal(crash)
    assert found.code == "reader-lost" and number.name in found.cause


def test_an_end_without_an_answer_is_a_refusal(refusal: Callable[[Walker], InstarError]) -> None:
    assert refusal(lambda *_files, **_options: os._exit(0)).code == "reader-lost"


def test_what_does_not_end_is_ended(
    refusal: Callable[[Walker], InstarError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LONGEST_S", 0.2)
    found = refusal(lambda *_files, **_options: time.sleep(3600))
    assert found.code == "reader-lost" and "does not come to an end" in found.cause


def test_memory_without_end_is_not_had(refusal: Callable[[Walker], InstarError]) -> None:
    """A file of a few bytes that wants eight gigabytes: what it may have goes by its size."""
    assert refusal(lambda *_files, **_options: np.zeros(8 << 30, np.uint8)).code == "out-of-memory"


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [np.zeros(3, np.uint8)] * (len(COLUMNS) + 1),
        [np.zeros(3, np.uint8)] * len(COLUMNS),  # no whole rows
        [np.zeros(0, np.uint16)] * len(COLUMNS),
        [np.zeros((0, 1), np.uint8)] * len(COLUMNS),
        "columns",
        {"types": [1, 2]},
    ],
    ids=["none", "more", "cut", "words", "planes", "text", "mapping"],
)
def test_rubbish_is_a_refusal(files: DebugFiles, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    monkeypatch.setattr(reading, "_walk", lambda *_arguments: answer)
    with pytest.raises(RefusedError) as refused:
        walk_confined(files)
    assert refused.value.code == "reader-lost" and "no answer" in refused.value.cause


def test_bytes_without_end_are_not_taken(files: DebugFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """It claims more than it may have memory for: nothing is set aside here."""

    def claim(wire: Wire, *_values: object) -> None:
        wire.channel.sendall((4).to_bytes(4, "little") + (7 << 30).to_bytes(8, "little") + b"null")

    monkeypatch.setattr(Wire, "send", claim)  # the parent never sends
    with pytest.raises(RefusedError) as refused:
        walk_confined(files)
    assert refused.value.code == "reader-lost" and "no answer" in refused.value.cause


def test_an_error_of_the_walker_stays_what_it_is(refusal: Callable[[Walker], InstarError]) -> None:
    def refuse(debug: Path, **_options: object) -> NoReturn:
        raise RefusedError("dwarf-version", f"{debug} has an unknown version of DWARF", "what to do")

    assert refusal(refuse).code == "dwarf-version"


def test_an_interruption_leaves_nothing_behind(files: DebugFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_wire: object) -> NoReturn:
        raise KeyboardInterrupt

    before = _left()
    monkeypatch.setattr(reading, "walk_program", lambda *_files, **_options: time.sleep(3600))
    monkeypatch.setattr("instar.update.exchange.Wire.receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        walk_confined(files)
    assert _left() == before


def test_a_file_that_cannot_be_opened_is_named(files: DebugFiles) -> None:
    files.debug.unlink()
    with pytest.raises(HostError) as refused:
        walk_confined(files)
    assert refused.value.code == "unreadable-file" and str(files.debug) in refused.value.cause


def test_reading_has_no_rights(files: DebugFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    present, tool, libc = tmp_path / "present", os.getpid(), ctypes.CDLL(None)
    present.write_text("as it was")
    deeds: dict[str, Callable[[], object]] = {
        "socket": lambda: socket.socket(socket.AF_INET),
        "local socket": lambda: socket.socket(socket.AF_UNIX),
        "create": lambda: (tmp_path / "new").write_text("x"),
        "write": lambda: present.write_text("x"),
        "program": lambda: os.execv("/bin/true", ["true"]),
        "fork": os.fork,
        "signal": lambda: os.kill(tool, 0),
        "memory": lambda: os.open(f"/proc/{tool}/mem", os.O_RDONLY),
        "descriptors": lambda: os.open(f"/proc/{tool}/fd/0", os.O_RDONLY),
        "trace": lambda: _checked(libc.ptrace(0x4206, tool, 0, 0)),
    }

    def walk(*_files: object, **_options: object) -> NoReturn:
        possible = []
        for name, deed in deeds.items():
            try:
                deed()
            except OSError:
                continue
            possible.append(name)
        raise RefusedError("dwarf-version", f"possible: {possible}", "nothing")

    monkeypatch.setattr(reading, "walk_program", walk)
    with pytest.raises(RefusedError) as refused:
        walk_confined(files)
    assert refused.value.cause == "possible: []"
    assert present.read_text() == "as it was"


def _checked(result: int) -> None:
    if result < 0:
        raise OSError("refused")
