"""What only looks at files and runs handlers does so without rights, and hands back data or an error."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from instar.errors import InternalError, RefusedError
from instar.pairing.problems import Problem
from instar.process.forking import fork
from instar.update import confined, sandbox
from instar.update.confined import compute
from instar.update.exchange import GarbageError, Wire
from instar.update.worker import WorkerLostError


@dataclass(frozen=True)
class Answer:
    words: tuple[str, ...]
    number: int | None


def test_data_comes_back() -> None:
    assert compute(lambda: Answer(("a", "b"), None), Answer) == Answer(("a", "b"), None)
    assert compute(lambda: ("text", 3), tuple[str, int]) == ("text", 3)
    assert compute(list, list[Problem]) == []


def test_an_error_comes_back() -> None:
    def refuse() -> None:
        raise RefusedError("handlers-not-loaded", "why", "what to do", details=("one", "two"))

    with pytest.raises(RefusedError) as refused:
        compute(refuse, int)
    assert (refused.value.code, refused.value.cause) == ("handlers-not-loaded", "why")
    assert refused.value.details == ("one", "two")
    with pytest.raises(InternalError):
        compute(lambda: 1 // 0, int)


def test_another_type_is_garbage() -> None:
    with pytest.raises(GarbageError):
        compute(lambda: "text", int)


def test_its_end_is_told() -> None:
    with pytest.raises(WorkerLostError, match="SIGKILL"):
        compute(lambda: os.kill(os.getpid(), signal.SIGKILL), int)
    with pytest.raises(WorkerLostError, match="has ended"):
        compute(lambda: os._exit(0), int)


def test_a_closed_channel_is_no_hiding_place() -> None:
    def hide() -> None:
        os.closerange(3, 1 << 10)
        signal.pause()

    with pytest.raises(WorkerLostError, match="says nothing more"):
        compute(hide, int)


def test_little_at_a_time_is_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, all of them never."""

    def drip(wire: Wire, *_values: object) -> None:
        while True:
            wire.channel.send(b"\0")
            time.sleep(0.05)

    monkeypatch.setattr(Wire, "send", drip)
    monkeypatch.setattr("instar.update.exchange._HEAD", struct.Struct("<4096x"))
    with pytest.raises(WorkerLostError, match="does not come to an end"):
        compute(lambda: 1, int, seconds=0.4)


def test_an_interruption_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left behind."""
    read, write = os.pipe()
    before = _children()

    def interrupted(_wire: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("instar.update.exchange.Wire.receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compute(lambda: os.read(read, 1), bytes, (read,))
    os.close(read)
    os.close(write)
    assert _children() == before


def test_an_interruption_at_its_birth_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anybody knows its number."""
    read, write = os.pipe()
    before = _children()

    def forked() -> int:
        pid = fork()
        if pid:
            os.kill(os.getpid(), signal.SIGINT)
        return pid

    monkeypatch.setattr(confined, "fork", forked)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            compute(lambda: os.read(read, 1), bytes, (read,))
    finally:
        signal.signal(signal.SIGINT, handler)
        os.close(read)
        os.close(write)
    assert _children() == before
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _children() -> set[str]:
    return {word for path in Path("/proc/self/task").glob("*/children") for word in path.read_text().split()}


def _attempt(deeds: dict[str, Callable[[], object]]) -> list[str]:
    possible = []
    for name, deed in deeds.items():
        try:
            deed()
        except OSError:
            continue
        possible.append(name)
    return possible


def _peek(pid: int, room: int) -> None:
    """process_vm_readv."""
    here = (ctypes.c_uint64 * 2)(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
    there = (ctypes.c_uint64 * 2)(room, 8)
    if ctypes.CDLL(None, use_errno=True).syscall(310, pid, here, 1, there, 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _others(tool: int, room: int) -> dict[str, Callable[[], object]]:
    """Ways to look into another process."""
    return {
        "memory": lambda: Path(f"/proc/{tool}/mem").open("rb"),
        "mappings": lambda: Path(f"/proc/{tool}/maps").read_text(),
        "environment": lambda: Path(f"/proc/{tool}/environ").read_bytes(),
        "descriptor": lambda: os.open(f"/proc/{tool}/fd/0", os.O_RDONLY),
        "peek": lambda: _peek(tool, room),
        "signal": lambda: os.kill(tool, 0),
    }


def test_it_may_read_files_and_nothing_else(tmp_path: Path) -> None:
    present, tool = tmp_path / "present", os.getpid()
    present.write_text("read me")
    kept, closed = os.open(present, os.O_RDONLY), os.open(present, os.O_RDWR)
    room = ctypes.addressof(ctypes.create_string_buffer(8))
    deeds: dict[str, Callable[[], object]] = {
        "write": lambda: present.write_text("changed"),
        "create": lambda: (tmp_path / "new").write_text("x"),
        "remove": present.unlink,
        "a descriptor": lambda: os.fsync(closed),  # of the file; of /dev/null it fails
        "connect": lambda: socket.socket(socket.AF_INET),
        "fork": os.fork,
        **_others(tool, room),
    }
    try:
        assert compute(lambda: _attempt(deeds), list[str]) == []
        assert compute(lambda: os.pread(kept, 7, 0), bytes, (kept,)) == b"read me"
        assert compute(present.read_text, str) == "read me"
    finally:
        os.close(kept)
        os.close(closed)


def test_without_landlock_nobody_is_looked_into(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user namespace keeps it from others of the same user; where there is none either, that is told."""

    def absent(_own: object) -> None:
        raise OSError(errno.ENOSYS, "not in this kernel")

    monkeypatch.setattr(sandbox, "_landlock", absent)
    missing = sandbox.try_confinement()
    assert any(name.startswith("landlock") for name in missing)
    deeds = _others(os.getpid(), ctypes.addressof(ctypes.create_string_buffer(8)))
    deeds["create"] = lambda: (tmp_path / "new").write_text("x")
    possible = compute(lambda: _attempt(deeds), list[str])
    told = any(name.startswith(sandbox.LOOKING_BOUND) for name in missing)
    assert told or possible == []
    assert not {"create", "peek", "signal"} & set(possible)


def test_without_both_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def unshare(self, _flags: int) -> int:
            ctypes.set_errno(errno.EPERM)
            return -1

        def __getattr__(self, name: str) -> object:
            return getattr(ctypes.CDLL(None, use_errno=True), name)

    def absent(_own: object) -> None:
        raise OSError(errno.ENOSYS, "not in this kernel")

    monkeypatch.setattr(sandbox, "_landlock", absent)
    monkeypatch.setattr(sandbox, "_libc", Refusing())
    from instar.update.host import _confinement

    finding = _confinement()
    assert finding.verdict == "note"
    assert "read the old version's memory" in finding.text
