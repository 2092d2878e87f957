"""Probation: the past is kept for some time after the commit, and goes on when its successor fails."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.service import Service, Update

from instar.testing.programs import Builder, wait_until_gone
from instar.testing.scenarios import TOOLCHAINS

SOURCE = Path(__file__).parent / "trial" / "server.c"
PATIENCE_S = 20.0
LONG = "60"


class Client:
    """A connection to the server."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)

    def ask(self, line: str = "count") -> str:
        """What the server answers, "" when it has closed the connection."""
        self.socket.sendall(line.encode() + b"\n")
        return self.socket.recv(100).decode().strip()

    def close(self) -> None:
        self.socket.close()


class Trial:
    """The server under an update on probation."""

    def __init__(self, service: Service, program: Path) -> None:
        self.service, self.program = service, program
        self.past = service.pid
        self.port = int(self.state()[1])
        self.clients = [Client(self.port) for _ in range(3)]
        for number, client in enumerate(self.clients):
            assert client.ask() == f"v1 {number + 1}"
        self.tool: subprocess.Popen[str] | None = None

    def state(self) -> list[str]:
        """Version, port, clients, total."""
        return self.service.ask("check").split()

    def begin(self, seconds: str = LONG, **options: object) -> None:
        """Update; returns when the new version serves."""
        self.tool = self.service.tool(self.program, "--probation", seconds, **options)  # type: ignore[arg-type]
        end = time.monotonic() + PATIENCE_S
        while not (answer := self.clients[0].ask("who")).startswith("v2"):
            if not answer or time.monotonic() > end or self.tool.poll() is not None:
                self.tool.kill()
                raise AssertionError(f"{answer!r} {self.tool.communicate()}")
            time.sleep(0.005)  # two who only talk to each other leave the tool no processor
        (self.future,) = (pid for pid in self.service.processes() if pid != self.past)

    def say(self, line: str) -> None:
        """Something that is not answered."""
        assert self.service.program.process.stdin is not None
        self.service.program.process.stdin.write(line.encode() + b"\n")

    def end(self) -> Update:
        """What the tool reports in the end."""
        assert self.tool is not None
        stdout, stderr = self.tool.communicate(timeout=120)
        return self.service.finished(self.tool.returncode, stdout, stderr)

    def close(self) -> None:
        for client in self.clients:
            client.close()


@pytest.fixture
def trial(builder: Builder, start_service: StartService) -> Iterator[Trial]:
    """Version 1 with three clients."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    built = [
        builder.build({"server.c": SOURCE}, TOOLCHAINS[0], flags=[f'-DVERSION="v{n}"', *extra])
        for n, extra in ((1, []), (2, ["-DSECOND"]))
    ]
    service = start_service(built[0], environment={"TRIAL_PORT": str(port)})
    trial = Trial(service, built[1])
    yield trial
    trial.close()


def check_old_serves(trial: Trial, update: Update, text: str) -> None:
    """The past goes on with the state and the connections it had."""
    assert (update.outcome, update.status) == ("rolled-back", 4), update.told()
    assert update.report is not None and update.report["error"]["code"] == "probation-failed"
    assert text in update.told()
    assert trial.service.processes() == [trial.past]
    assert "TracerPid:\t0\n" in Path(f"/proc/{trial.past}/status").read_text()
    assert trial.clients[0].ask() == "v1 4"
    assert trial.clients[1].ask() == "v1 5"
    fresh = Client(trial.port)
    assert fresh.ask() == "v1 6"
    fresh.close()


@pytest.mark.parametrize(
    ("command", "text"), [("crash", "SIGSEGV"), ("exit 1", "exited with 1"), ("exit 77", "exited with 77")]
)
def test_the_future_fails(trial: Trial, command: str, text: str) -> None:
    trial.begin()
    trial.say(command)
    check_old_serves(trial, trial.end(), text)
    again = trial.service.update(trial.program)
    assert again.outcome == "updated", again.told()


def test_the_future_is_killed(trial: Trial) -> None:
    trial.begin()
    os.kill(trial.future, signal.SIGKILL)
    check_old_serves(trial, trial.end(), "SIGKILL")


def test_the_listener_never_closes(trial: Trial) -> None:
    """Who connects in the moment of the failure waits and is served."""
    trial.begin()
    os.kill(trial.future, signal.SIGSTOP)
    waiting = Client(trial.port)
    waiting.socket.sendall(b"count\n")
    os.kill(trial.future, signal.SIGKILL)
    assert waiting.socket.recv(100).decode().startswith("v1")
    waiting.close()
    assert trial.end().outcome == "rolled-back"


def test_a_deliberate_end_is_no_failure(trial: Trial) -> None:
    trial.begin()
    trial.say("exit 0")
    assert trial.tool is not None
    stdout, stderr = trial.tool.communicate(timeout=120)
    assert trial.tool.returncode == 0, stderr
    assert '"updated"' in stdout and "by itself with status 0" in stdout
    assert wait_until_gone(trial.past)
    assert trial.service.processes() == []


def test_the_time_is_over(trial: Trial) -> None:
    trial.begin("0.5")
    update = trial.end()
    assert (update.outcome, update.status) == ("updated", 0), update.told()
    assert update.report is not None
    *before, probation = update.report["phases"]
    assert probation["name"] == "probation" and probation["ms"] >= 500
    assert update.report["pause_ms"] <= sum(phase["ms"] for phase in before)  # of which it is no part
    assert trial.service.processes() == [trial.future]
    assert trial.clients[2].ask().startswith("v2")


def test_interrupted(trial: Trial) -> None:
    """Ctrl-C ends the probation for good, in favour of the new version."""
    trial.begin()
    assert trial.tool is not None
    trial.tool.send_signal(signal.SIGINT)
    update = trial.end()
    assert (update.outcome, update.status) == ("updated", 0), update.told()
    assert trial.service.processes() == [trial.future]
    assert trial.clients[2].ask().startswith("v2")


def test_the_tool_is_killed(trial: Trial) -> None:
    """The past must not wake up beside its successor."""
    trial.begin()
    assert trial.tool is not None
    trial.tool.kill()
    trial.tool.communicate()
    assert wait_until_gone(trial.past)
    assert trial.service.processes() == [trial.future]
    assert trial.clients[2].ask().startswith("v2")


def test_the_past_is_killed(trial: Trial) -> None:
    trial.begin()
    os.kill(trial.past, signal.SIGKILL)
    assert trial.tool is not None
    stdout, stderr = trial.tool.communicate(timeout=120)
    assert trial.tool.returncode == 0, stderr
    assert "was killed meanwhile" in stdout
    assert trial.clients[2].ask().startswith("v2")
    assert trial.service.processes() == [trial.future]


def test_another_update_meanwhile_is_refused(trial: Trial) -> None:
    trial.begin()
    trial.service.pid = trial.future
    refused = trial.service.update(trial.program)
    assert (refused.outcome, refused.status) == ("refused", 3)
    assert refused.report is not None and refused.report["error"]["code"] == "on-probation"
    (status,) = trial.service.status(str(trial.future))
    assert 0 < status["probation_s"] <= float(LONG)
    trial.service.pid = trial.past
    trial.say("crash")
    check_old_serves(trial, trial.end(), "SIGSEGV")


def test_what_the_future_closes_is_closed_for_the_client(trial: Trial) -> None:
    """The past holds a duplicate; it is given up, and the past learns of it when it goes on."""
    trial.begin()
    leaving = trial.clients.pop()
    leaving.socket.sendall(b"leave\n")
    ready, _, _ = select.select([leaving.socket], [], [], PATIENCE_S)
    assert ready, "the client never sees the end of its connection"
    assert leaving.socket.recv(100) == b""
    leaving.close()
    trial.say("crash")
    check_old_serves(trial, trial.end(), "1 connections that the new version closed")
    fresh = Client(trial.port)
    assert fresh.ask() == "v1 7"
    assert trial.state()[:3] == ["v1", str(trial.port), "3"], "the closed connection is still a client"
    fresh.close()


def test_connections_that_came_in_since_are_counted(trial: Trial) -> None:
    trial.begin()
    young = Client(trial.port)
    assert young.ask().startswith("v2")
    time.sleep(0.3)  # the tool looks every 100 ms, and counts what it saw last
    trial.say("crash")
    update = trial.end()
    assert "1 connections that came in since are lost" in update.told()
    assert young.ask() == ""
    young.close()
    check_old_serves(trial, update, "SIGSEGV")


@pytest.mark.parametrize("where", ["before", "middle", "after"])
def test_the_tool_fails_in_the_probation(trial: Trial, where: str) -> None:
    """Killed by itself at the commit or in the probation: exactly one version serves."""
    phase = "commit" if where == "middle" else "probation"
    tool = trial.service.tool(
        trial.program, "--probation", "0.2", environment={"INSTAR_FAULT": f"{phase}:{where}:kill"}
    )
    tool.communicate(timeout=60)
    assert tool.returncode == -signal.SIGKILL
    serving = trial.clients[0].ask()
    assert serving.startswith("v1" if where == "middle" else "v2"), serving
    end = time.monotonic() + PATIENCE_S
    while len(trial.service.processes()) > 1:
        assert time.monotonic() < end
    assert trial.clients[1].ask().startswith(serving.split()[0])


def test_what_fails_after_the_commit_does_not_keep_the_new_version_from_serving(trial: Trial) -> None:
    trial.begin("0.2", environment={"INSTAR_FAULT": "commit:held:raise"})
    update = trial.end()
    assert (update.outcome, update.status) == ("updated", 0), update.told()
    assert update.report is not None
    assert any("commit-unfinished: what was held back" in text for text in update.report["warnings"])
    assert trial.service.processes() == [trial.future]
    assert trial.clients[2].ask().startswith("v2")
