"""Services of a manager: it hears of the new main process before the old one ends, and of no other."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.service import Service

from instar.testing.programs import Builder
from instar.testing.scenarios import TOOLCHAINS

HERE = Path(__file__).parent / "supervised"
HEADER = Path(__file__).parents[1] / "programs" / "scenario.h"

Versions = tuple[Path, Path]


@pytest.fixture
def versions(builder: Builder) -> Versions:
    def build(version: str) -> Path:
        flags = (f'-DVERSION="{version}"',)
        return builder.build({"program.c": HERE / "program.c"}, TOOLCHAINS[0], headers=[HEADER], flags=flags)

    return build("v1"), build("v2")


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    """Where a service manager listens for messages; they come with their sender."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + address[1:] if address[0] == "@" else address)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.setblocking(False)
        yield listener


def messages(listener: socket.socket) -> list[tuple[int, str]]:
    """(sender, text) of what has come."""
    found: list[tuple[int, str]] = []
    while True:
        try:
            data, rights, _, _ = listener.recvmsg(4096, 128)
        except BlockingIOError:
            return found
        (sender, _, _) = struct.unpack("<3i", rights[0][2])
        found.append((sender, data.decode()))


def start(start_service: StartService, program: Path, address: str) -> Service:
    """Under a shell, so that the program can be given its own PID."""
    words = ["-c", f'export WATCHDOG_PID=$$ NOTIFY_SOCKET="{address}"; exec "{program}"']
    service = start_service(Path("/bin/sh"), arguments=words)
    assert service.ask("fill") == "ok v1"
    return service


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_manager_hears_of_the_new_main_process(
    versions: Versions, start_service: StartService, tmp_path: Path, kind: str
) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@instar-test-{os.getpid()}-{tmp_path.name}"
    with manager(address) as listener:
        service = start(start_service, versions[0], address)
        past = service.pid
        assert messages(listener) == [(past, f"READY=1\nMAINPID={past}")] * 2
        assert service.update(versions[1], "--rehearse").outcome == "rehearsed"
        assert messages(listener) == []
        for _ in range(2 if kind == "path" else 1):
            update = service.update(versions[1])
            assert update.outcome == "updated", update.told()
            assert messages(listener) == [(past, f"MAINPID={service.pid}")]
            assert service.ask("check") == "ok v2"  # it outlives the tool, its parent
            past = service.pid


def test_a_manager_that_is_gone_is_a_warning(
    versions: Versions, start_service: StartService, tmp_path: Path
) -> None:
    with manager(str(tmp_path / "notify")):
        service = start(start_service, versions[0], str(tmp_path / "notify"))
    update = service.update(versions[1])
    assert update.outcome == "updated", update.told()
    assert any(text.startswith("service-manager") for text in update.whole["warnings"]), update.report
    assert service.ask("check") == "ok v2"


def test_a_terminal_that_would_end_with_its_session(
    versions: Versions, start_service: StartService, tmp_path: Path
) -> None:
    """Refused by name; who allows it gets what the kernel does."""
    master, slave = pty.openpty()
    code = "import os, sys; os.setsid(); os.set_inheritable(os.open(sys.argv[1], os.O_RDWR), True); "
    words = ["-c", code + "os.execv(sys.argv[2], sys.argv[2:])", os.ttyname(slave), str(versions[0])]
    service = start_service(Path(sys.executable), arguments=words)
    os.close(slave)
    try:
        assert service.ask("fill") == "ok v1"
        refused = service.update(versions[1])
        assert refused.outcome == "refused" and refused.whole["error"]["code"] == "session-terminal"
        assert service.ask("check") == "ok v1"
        update = service.update(versions[1], "--allow", "session-terminal")
        assert update.outcome == "updated", update.told()
        assert service.ask("check") == "ok v2"
    finally:
        os.close(master)


def test_a_failed_probation_gives_the_unit_back(
    versions: Versions, start_service: StartService, tmp_path: Path
) -> None:
    with manager(str(tmp_path / "notify")) as listener:
        service = start(start_service, versions[0], str(tmp_path / "notify"))
        past = service.pid
        messages(listener)
        tool = service.tool(versions[1], "--probation", "20")
        select.select([listener], [], [], 20)
        ((sender, text),) = messages(listener)
        assert sender == past and text.startswith("MAINPID=")
        os.kill(int(text.removeprefix("MAINPID=")), signal.SIGKILL)
        assert tool.wait(30) == 4
        assert messages(listener) == [(past, f"MAINPID={past}")]
        assert service.ask("check") == "ok v1"
