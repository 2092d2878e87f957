"""Exactly one version serves after a commit, whoever is killed at whatever step."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.live.obedient import build

ROOT = Path(__file__).parents[2]
STEPS = 10
COMMIT = 5  # the step after which the past can only exit


class Service:
    """A past of obey.c behind two pipes, which its future will use too."""

    def __init__(self) -> None:
        self.program = build("obey")
        self.stdin, self.to = os.pipe()
        self.from_, self.stdout = os.pipe()
        self.past = subprocess.Popen([str(self.program)], stdin=self.stdin, stdout=self.stdout)
        assert self.line() == "ready"
        self.future = 0
        self.log: list[str] = []

    def line(self, seconds: float = 15.0) -> str:
        got = b""
        while not got.endswith(b"\n"):
            if not select.select([self.from_], [], [], seconds)[0]:
                raise TimeoutError(repr(got))
            got += os.read(self.from_, 1)
        return got.decode().strip()

    def ask(self, text: str, seconds: float = 15.0) -> str:
        os.write(self.to, text.encode() + b"\n")
        return self.line(seconds)

    def commit(self, step: int, victim: str, number: int = signal.SIGKILL) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.live.commit_steps",
            str(self.past.pid),
            str(self.program),
            str(step),
            victim,
            str(int(number)),
        ]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=self.stdin, stdout=self.stdout, stderr=subprocess.PIPE, text=True
        ) as tool:
            assert tool.stderr is not None
            self.log = tool.stderr.read().splitlines()
        self.future = int(next(line for line in self.log if line.startswith("future ")).split()[1])

    def close(self) -> None:
        self.past.kill()
        self.past.wait()
        if self.future:
            with suppress(ProcessLookupError):
                os.kill(self.future, signal.SIGKILL)
        for descriptor in (self.stdin, self.to, self.from_, self.stdout):
            os.close(descriptor)


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()
    yield found
    found.close()


def wait_until_gone(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ready = select.select([pidfd], [], [], 15)[0]
    os.close(pidfd)
    assert ready, f"process {pid} lives on"


def test_a_commit_hands_over_without_a_trace(service: Service) -> None:
    for _ in range(41):
        service.ask("echo x")
    service.commit(0, "nobody")
    assert service.log[-2:] == ["committed", "end"]
    assert service.ask("echo hello") == f"hello {service.future}"
    assert service.past.wait(10) == 0  # its own exit_group(0)
    # The future's own frame goes on, nothing but the standard descriptors is left, scratch memory is gone.
    assert service.ask("sum") == "2"
    assert sorted(path.name for path in Path(f"/proc/{service.future}/fd").iterdir()) == ["0", "1", "2"]


@pytest.mark.parametrize("step", range(STEPS))
def test_the_tool_is_killed(service: Service, step: int) -> None:
    service.commit(step, "tool")
    serving, gone = (
        (service.past.pid, service.future) if step < COMMIT else (service.future, service.past.pid)
    )
    wait_until_gone(gone)
    assert service.ask("echo a") == f"a {serving}"
    assert service.ask("echo b") == f"b {serving}"


@pytest.mark.parametrize("step", range(STEPS))
def test_the_guard_is_killed(service: Service, step: int) -> None:
    service.commit(step, "guard")
    committed = step >= COMMIT
    wait_until_gone(service.past.pid if committed else service.future)
    assert service.ask("echo a") == f"a {service.future if committed else service.past.pid}"


@pytest.mark.parametrize("step", range(2, STEPS))
def test_the_past_is_killed_while_the_future_is_ready(service: Service, step: int) -> None:
    service.commit(step, "past")
    wait_until_gone(service.past.pid)
    assert service.ask("echo a") == f"a {service.future}"
    assert service.past.wait(10) in (0, -signal.SIGKILL)


@pytest.mark.parametrize("step", range(COMMIT - 1))
def test_the_future_is_killed_before_the_commit(service: Service, step: int) -> None:
    service.commit(step, "future")
    wait_until_gone(service.future)
    assert service.log[-2].startswith("failed "), service.log
    assert service.ask("echo a") == f"a {service.past.pid}"
    assert service.past.poll() is None


@pytest.mark.parametrize("step", [0, 2, 4])
def test_a_signal_interrupts_the_call_as_it_would_have(service: Service, step: int) -> None:
    """SIGUSR1 has a handler without SA_RESTART: the read of the future's quiescent point fails with EINTR."""
    service.commit(step, "future", signal.SIGUSR1)
    assert service.log[-2:] == ["committed", "end"]
    assert service.line() == "interrupted"
    assert service.ask("signals") == "1"


def test_a_restarting_signal_is_handled_and_the_call_goes_on(service: Service) -> None:
    service.commit(2, "future", signal.SIGUSR2)
    assert service.ask("signals") == "1"
    assert service.ask("echo a") == f"a {service.future}"
