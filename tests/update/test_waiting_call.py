"""After an update the program waits for what it waited for before, not for what its start-up waited for."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "waiting" / "wait.c"
PATIENCE_S = 20.0
KINDS = ("poll", "ppoll", "select", "epoll")


class Waiter:
    """A running wait.c, whichever version serves at the moment."""

    def __init__(self, program: Path, kind: str) -> None:
        self.process = subprocess.Popen(
            [program, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.pid = self.process.pid
        self._rest = b""

    def line(self) -> str:
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
            assert ready, "no answer"
            self._rest += os.read(self.process.stdout.fileno(), 4096)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def answer(self) -> str:
        """The next line that is not the greeting of a new version's start-up."""
        while (line := self.line()) == "ready":
            pass
        return line

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")

    def update(self, program: Path) -> None:
        command = [sys.executable, "-m", "instar", "update", "--json", str(self.pid), str(program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self.process.wait()
        self.pid = json.loads(done.stdout)["new_pid"]

    def close(self) -> None:
        if self.pid != self.process.pid:
            os.kill(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="session", params=["-O0", "-O2"])
def versions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two builds of the program; the second differs in nothing that matters."""
    directory = tmp_path_factory.mktemp("waiting")
    built = []
    for name, flags in (("v1", []), ("v2", ["-DNDEBUG", "-fno-plt"])):
        path = directory / name
        subprocess.run(["gcc", "-g", request.param, *flags, "-o", path, SOURCE], check=True)
        built.append(path)
    return built[0], built[1]


@pytest.fixture
def start(
    versions: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[str], Waiter]]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    running: list[Waiter] = []

    def begin(kind: str) -> Waiter:
        waiter = Waiter(versions[0], kind)
        running.append(waiter)
        assert waiter.line() == "ready"
        return waiter

    yield begin
    for waiter in running:
        waiter.close()


@pytest.mark.parametrize("kind", KINDS)
def test_descriptors_that_came_after_start_up(
    kind: str, start: Callable[[str], Waiter], versions: tuple[Path, Path], tmp_path: Path
) -> None:
    waiter = start(kind)
    fifos = [tmp_path / f"fifo{number}" for number in range(3)]
    for fifo in fifos:
        os.mkfifo(fifo)
        waiter.say(f"open {fifo}")
        assert waiter.answer() == f"{kind}: open {fifo}"
    for program in (versions[1], versions[0], versions[1]):
        waiter.update(program)
        for fifo in reversed(fifos):
            with fifo.open("w") as stream:
                stream.write("hello\n")
            assert waiter.answer() == f"{kind}: hello"


@pytest.mark.parametrize("kind", KINDS)
def test_timeout_that_start_up_did_not_have(
    kind: str, start: Callable[[str], Waiter], versions: tuple[Path, Path]
) -> None:
    waiter = start(kind)
    waiter.say("tick")
    assert waiter.answer() == f"{kind}: tick"
    waiter.update(versions[1])
    assert waiter.answer() == f"{kind}: time"
