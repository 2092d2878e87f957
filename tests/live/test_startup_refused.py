"""Starts that fail or go too far are refused by name, and nothing of them is left."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.live.running import Compile, Running, Start
from tests.live.startup_support import build, descriptors, free_port, start

from instar.errors import RefusedError


def refusal(pid: int, old: Path, new: Path, **options: Any) -> RefusedError:
    """The error with which a start is refused."""
    before, own = descriptors(pid), held()
    with pytest.raises(RefusedError) as caught:
        future = startup(pid, old, new, **options)
        future.abort()
    assert descriptors(pid) == before
    assert held() == own
    assert not children()
    return caught.value


startup = start


def held() -> int:
    """How many descriptors we hold, but for the files that the unwinder keeps open."""
    return sum(
        "program" not in target and ".so" not in target for target in descriptors(os.getpid()).values()
    )


def children() -> list[str]:
    """Our child processes that run a scenario as version 2 (none may be left)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "status").read_text().split("TracerPid:\t")[1].split()[0]
            except (OSError, IndexError):
                continue
            if words == str(os.getpid()):
                found.append(entry.name)
    return found


Behaviour = Callable[..., tuple[Path, Path, Running]]


@pytest.fixture
def behaviour(compile_c: Compile, start: Start) -> Behaviour:
    """Starts version 1 of the misbehaving program."""

    def start_past(*arguments: str, **options: object) -> tuple[Path, Path, Running]:
        old, new = build(compile_c, "behaviour")
        past = start(old, *arguments, **options)
        past.line()
        return old, new, past

    return start_past


@pytest.mark.parametrize(
    "mode",
    ["shm", "posix-shm", "mount", "hostname", "sysctl", "interface", "kill-all", "device"],
)
def test_forbidden(behaviour: Behaviour, mode: str, tmp_path: Path) -> None:
    old, new, past = behaviour(mode, cwd=tmp_path)
    error = refusal(past.pid, old, new)
    assert error.code == "startup-forbidden"
    assert "--allow startup-forbidden" in error.remedy
    assert "behave" in error.details[0] or "main" in error.details[0]
    assert not list(tmp_path.iterdir())


def test_allowed(behaviour: Behaviour, tmp_path: Path) -> None:
    old, new, past = behaviour("posix-shm")
    path = Path("/dev/shm/instar-test")
    future = startup(past.pid, old, new, allow=["startup-forbidden"])
    assert "shared memory" in future.warnings[0]
    assert path.exists()
    future.abort()
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("mode", ["kill", "kill-group", "ptrace"])
def test_other_processes_are_left_alone(behaviour: Behaviour, mode: str) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        try:
            old, new, past = behaviour(mode, str(other.pid))
            assert refusal(past.pid, old, new).code == "startup-forbidden"
            assert other.poll() is None
        finally:
            other.kill()


@pytest.mark.parametrize("mode", ["map", "read-back"])
def test_what_cannot_be_held_back(behaviour: Behaviour, mode: str, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(4096))
    old, new, past = behaviour(mode, str(path))
    assert refusal(past.pid, old, new).code == "startup-forbidden"
    assert path.read_bytes() == bytes(4096)


@pytest.mark.parametrize("mode", ["tcp", "udp", "unix"])
def test_nobody_is_talked_to(behaviour: Behaviour, mode: str, tmp_path: Path) -> None:
    family, kind = socket.AF_INET, socket.SOCK_DGRAM if mode == "udp" else socket.SOCK_STREAM
    if mode == "unix":
        family = socket.AF_UNIX
    with socket.socket(family, kind) as server:
        server.bind(str(tmp_path / "service") if mode == "unix" else ("127.0.0.1", 0))
        if mode != "udp":
            server.listen()
        server.settimeout(0.05)
        word = str(tmp_path / "service") if mode == "unix" else str(server.getsockname()[1])
        old, new, past = behaviour(mode, word)
        error = refusal(past.pid, old, new)
        assert error.code == "startup-connect"
        with pytest.raises(TimeoutError):
            server.recv(1) if mode == "udp" else server.accept()
        startup(past.pid, old, new, allow=["startup-connect"]).abort()


def test_exit_status_and_last_output(behaviour: Behaviour) -> None:
    old, new, past = behaviour("exit", "no licence")
    error = refusal(past.pid, old, new, arguments=["behaviour", "exit", "no licence"])
    assert error.code == "startup-failed"
    assert "status 9" in error.cause


def test_last_output_is_shown(behaviour: Behaviour) -> None:
    old, new, past = behaviour("exit", "no licence", stderr=subprocess.DEVNULL)
    error = refusal(past.pid, old, new)
    assert any("cannot start: no licence" in line for line in error.details)


@pytest.mark.parametrize(("mode", "signal"), [("crash", "SIGSEGV"), ("abort", "SIGABRT")])
def test_crash(behaviour: Behaviour, mode: str, signal: str) -> None:
    old, new, past = behaviour(mode)
    error = refusal(past.pid, old, new)
    assert error.code == "startup-crashed"
    assert signal in error.cause
    assert any("behave" in line for line in error.details)


def test_timeout_shows_where_it_is(behaviour: Behaviour) -> None:
    old, new, past = behaviour("spin")
    error = refusal(past.pid, old, new, timeout=0.7)
    assert error.code == "startup-timeout"
    assert "main > behave" in error.cause


def test_another_point(behaviour: Behaviour) -> None:
    old, new, past = behaviour("elsewhere")
    error = refusal(past.pid, old, new)
    assert error.code == "different-point"
    assert error.details[:2] == ("old: main > rest", "new: main > behave")


@pytest.mark.parametrize(("mode", "code"), [("thread", "multi-threaded"), ("child", "has-children")])
def test_more_than_one(behaviour: Behaviour, mode: str, code: str) -> None:
    old, new, past = behaviour(mode)
    assert refusal(past.pid, old, new).code == code


def test_a_function_of_the_chain_was_renamed(compile_c: Compile, start: Start) -> None:
    old = compile_c("startup_programs/epoll_server.c", "-DVERSION=1")
    new = compile_c("startup_programs/epoll_server.c", "-DVERSION=2", "-Dwait_for_events=wait_for_work")
    past = start(old, str(free_port()))
    error = refusal(past.pid, old, new)
    assert error.code == "different-point"
    assert error.details[:2] == ("old: main > wait_for_events", "new: main > wait_for_work")
