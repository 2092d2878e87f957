"""What the program closes is closed, for its peer and its epoll set, also while it is updated.

A duplicate in any other process (instar's own, the version that ends) keeps a connection open: the epoll set
goes on reporting it, under a number that is the next client's by then.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.guard.client import Past
from instar.process.deadline import Deadline
from instar.process.syscalls import NUMBERS
from instar.update.guard import Ending

SOURCE = Path(__file__).parent / "closing" / "close.c"
PATIENCE_S = 20.0
CLIENTS = 2
BETWEEN_S = 0.002
MUCH = 100 << 20


class Hammer:
    """Clients that come, ask, and wait for the answer and the end of the connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.failures: list[Exception] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> Hammer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def ask(self) -> str:
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as client:
            client.sendall(b"count\n")
            client.shutdown(socket.SHUT_WR)  # readable for ever: whoever keeps it open hears of it
            answer = b""
            while part := client.recv(100):
                answer += part
            return answer.decode()

    def _run(self) -> None:
        while not self._over.wait(BETWEEN_S):
            try:
                assert "strange events" in self.ask()
            except (OSError, AssertionError) as error:
                self.failures.append(error)


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path]:
    built = []
    for name, flags in (("v1", []), ("v2", ["-DNEXT"])):
        built.append(tmp_path / name)
        subprocess.run(["gcc", "-g", "-O2", *flags, "-o", built[-1], SOURCE], check=True)
    return built[0], built[1]


@pytest.fixture
def hammer(versions: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Hammer, int]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv("PORT", str(port))
    process = subprocess.Popen([versions[0]])
    hammer = Hammer(port)
    while True:
        try:
            hammer.ask()
            break
        except ConnectionError:
            assert process.poll() is None
    yield hammer, process.pid
    process.kill()
    process.wait()


def test_no_event_comes_for_what_was_closed(
    versions: tuple[Path, Path], hammer: tuple[Hammer, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    clients, pid = hammer
    with clients:
        command = [sys.executable, "-m", "instar", "update", "--json", str(pid), str(versions[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    try:
        assert not [text for text in report["warnings"] if text.startswith("commit-unfinished")]
        assert clients.failures == []
        assert clients.ask() == "0 strange events, version 2\n"
    finally:
        os.kill(report["new_pid"], signal.SIGKILL)


class Sleeper:
    """A process with much memory and one end of a pipe, waiting."""

    def __init__(self) -> None:
        self.end, other = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"import os; a = b'x' * {MUCH}; os.write({other}, b'.'); os.read(0, 1)"],
            stdin=subprocess.PIPE, pass_fds=[other],
        )  # fmt: skip
        os.close(other)
        assert os.read(self.end, 1) == b"."

    def is_open(self) -> bool:
        """Whether somebody still has the other end."""
        poll = select.poll()
        poll.register(self.end, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self.end)


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    one = Sleeper()
    yield one
    one.close()


def test_the_old_version_has_nothing_open_when_the_new_one_serves(sleeper: Sleeper) -> None:
    """Its memory goes first, which takes its time."""
    past = Past(sleeper.process.pid)
    try:
        past.connect()
        past.seize(PATIENCE_S)
        past.stop(PATIENCE_S)
        past.step(PATIENCE_S, NUMBERS.values())
        past.hold(PATIENCE_S)
        past.prepare_end()
        ending = Ending(past)
        ending.commit()
        ending.run(Deadline(PATIENCE_S))
        assert sleeper.is_open()
        ending.release(PATIENCE_S)
        assert not sleeper.is_open()
    finally:
        past.close()
