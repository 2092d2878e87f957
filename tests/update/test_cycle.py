"""The whole life of an update on the example server, with its clients connected all the time."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.service import Service

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
    steps = (
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
