"""The whole life of an update on the example server, with its clients connected all the time."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.service import Service, Update

from instar.testing.programs import Builder, Toolchain, wait_until_gone

HALLWAY = Path(__file__).parents[2] / "examples" / "hallway"
CLIENTS = 12


class Guest:
    """A client that knows what the server must answer on its one connection."""

    def __init__(self, port: int, number: int) -> None:
        self.number, self.commands, self.value = number, 0, "first"
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._lines = self.connection.makefile("r")
        self.session = int(self.ask(f"HELLO guest-{number}").rpartition(" ")[2])
        assert self.ask(f"JOIN room-{number % 3}").startswith(f"joined room-{number % 3}, ")
        self.store("first")

    def ask(self, command: str) -> str:
        self.commands += 1
        self.connection.sendall(command.encode() + b"\n")
        return self._lines.readline().rstrip("\n")

    def store(self, value: str) -> None:
        self.value = value
        assert self.ask(f"SET key-{self.number} {value}") == "stored"

    def look(self, version: str) -> None:
        """Its session, its data and what only version 2 knows; then it stores something new."""
        whoami = self.ask("WHOAMI")
        room = f"room-{self.number % 3}"
        assert whoami == f"guest-{self.number}, session {self.session}, {self.commands} commands, room {room}"
        assert self.ask(f"GET key-{self.number}") == f"value {self.value}"
        info = self.ask(f"INFO key-{self.number}")
        assert info.startswith("info ") if version == "v2" else info == "error unknown command"
        self.store(f"of {version} after {self.commands}")


@pytest.fixture
def programs(builder: Builder) -> list[Path]:
    return [
        builder.build({"hallway.c": HALLWAY / version / "hallway.c"}, Toolchain()) for version in ("v1", "v2")
    ]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def service(
    programs: list[Path], port: int, start_service: StartService, tmp_path: Path
) -> Iterator[Service]:
    service = start_service(programs[0], arguments=(str(port), str(tmp_path / "hallway.log")))
    yield service
    os.kill(service.pid, signal.SIGTERM)
    assert wait_until_gone(service.pid)


@pytest.fixture
def guests(service: Service, port: int) -> Iterator[list[Guest]]:
    with ExitStack() as stack:
        found = [Guest(port, number) for number in range(CLIENTS)]
        for guest in found:
            stack.enter_context(guest.connection)
        yield found


def test_rehearsed_updated_rolled_back_and_updated_again(
    service: Service, guests: list[Guest], programs: list[Path]
) -> None:
    steps: tuple[tuple[str, str, Callable[[], Update]], ...] = (
        ("rehearsed", "v1", lambda: service.update(programs[1], "--rehearse")),
        ("updated", "v2", lambda: service.update(programs[1])),
        ("updated", "v1", service.rollback),
        ("updated", "v2", lambda: service.update(programs[1])),
    )
    for outcome, version, step in steps:
        done = step()
        assert done.outcome == outcome, done.told()
        assert done.report is not None and done.report["validation"]["objects"] >= CLIENTS
        assert done.report["connections"] == CLIENTS
        for guest in guests:
            guest.look(version)


# Handlers of every step -----------------------------------------------------------------------------------

HANDLER = """
import os
from instar.ext import transform

@transform("struct session.{new}", from_="struct session.{old}")
def finer(count: int) -> int:
    return count * 10

@finer.backward
def coarser(count: int) -> int:
    if os.path.exists({forbidden!r}):
        raise ValueError("not now")
    return count // 10
"""
UNITS = ("commands", "tenths", "hundredths")


@pytest.fixture
def finer(builder: Builder, tmp_path: Path) -> list[tuple[Path, Path]]:
    """Three versions that count commands in finer units each time, and the handlers that lead to them."""
    source, found = (HALLWAY / "v1" / "hallway.c").read_text(), []
    for number, unit in enumerate(UNITS):
        text = source.replace("    unsigned commands;", f"    unsigned {unit};", 1)
        text = re.sub(r"s->commands(?!\+)", f"s->{unit} / {10**number}", text)
        text = text.replace("s->commands++", f"s->{unit} += {10**number}")
        path, handlers = tmp_path / f"{unit}.c", tmp_path / f"{unit}.py"
        path.write_text(text)
        old = UNITS[max(number - 1, 0)]
        handlers.write_text(HANDLER.format(old=old, new=unit, forbidden=str(tmp_path / f"no-{unit}")))
        found.append((builder.build({"hallway.c": path}, Toolchain()), handlers))
    return found


def _look_all(guests: list[Guest]) -> None:
    for guest in guests:
        guest.look("v1")


def test_two_steps_back_by_the_handlers_of_each(
    service: Service, guests: list[Guest], finer: list[tuple[Path, Path]], tmp_path: Path
) -> None:
    def forward(first: int) -> None:
        for program, handlers in finer[first:]:
            done = service.update(program, "--handlers", str(handlers))
            assert done.outcome == "updated", done.told()

    forward(1)
    _look_all(guests)
    # What is known beforehand to stop a later step is refused before the first.
    versions, before = service.home / "state" / "instar" / "versions", service.pid
    first = next(
        path for path in versions.glob("handlers-*.py") if '"struct session.tenths"' in path.read_text()
    )
    first.rename(tmp_path / "away.py")
    refused = service.rollback("--steps", "2")
    assert refused.report is not None and refused.report["error"]["code"] == "no-kept-version"
    assert service.pid == before
    (tmp_path / "away.py").rename(first)
    # What only the state tells leaves the version between, whole.
    (tmp_path / "no-tenths").touch()
    partly = service.rollback("--steps", "2")
    assert partly.outcome == "refused" and partly.report is not None, partly.told()
    assert partly.report["error"]["code"] == "handler-failed"
    assert any("1 of 2 updates were taken back" in text for text in partly.report["warnings"])
    assert service.pid != before
    _look_all(guests)
    (status,) = service.status(str(service.pid))
    assert [kept["steps"] for kept in status["kept"]] == [1]
    (tmp_path / "no-tenths").unlink()
    forward(2)
    before = service.pid
    done = service.rollback("--steps", "2")
    assert done.outcome == "updated" and done.report is not None, done.told()
    assert done.report["old_pid"] == before and done.report["kind"] == "rollback"
    _look_all(guests)
    (status,) = service.status(str(service.pid))
    assert status["kept"] == []
    assert service.processes() == [service.pid]
