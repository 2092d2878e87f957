"""Watches a service through an update that goes wrong: one version serves, nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tests.update.service import TOOL_S, Service, Update

from instar.testing.programs import TalkError

SETTLE_S = 10.0
_PACE_S = 0.002  # between a client's commands
VERSIONS = ("v1", "v2")


class Witness:
    """Remembers what a service was like; afterwards tells whether anything is lost or left over.

    Args:
        service: Version 1, filled.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self._past = service.pid
        self._descriptors = service.descriptors()
        self._files = self._listing()

    def _listing(self) -> set[str]:
        """Files that an update could leave behind; the tool's cache and journal are meant to stay."""
        found = {str(path) for place in ("run", "tmp") for path in (self.service.home / place).glob("*")}
        if "PYTEST_XDIST_WORKER" not in os.environ:  # else other tests have files there too
            found |= {str(path) for path in Path("/dev/shm").glob("*instar*")}
        return found

    def watch(self, tool: subprocess.Popen[str]) -> Update:
        """Be a client while the tool runs: every command is answered, v1 first and then, perhaps, v2."""
        end = time.monotonic() + TOOL_S
        answers = []
        while tool.poll() is None:
            assert time.monotonic() < end, "the tool does not end"
            answers.append(self.service.ask("version"))
            time.sleep(_PACE_S)
        stdout, stderr = tool.communicate()
        update = self.service.finished(tool.returncode, stdout, stderr)
        assert set(answers) <= {"ok v1", "ok v2"}, set(answers)
        assert answers == sorted(answers), "version 1 served again after version 2"
        return update

    def settled(self) -> str:
        """Exactly one process is left, it serves with its whole state, and nothing else is there.

        Returns:
            Its version.
        """
        processes = self._wait_for_one()
        assert len(processes) == 1, f"{len(processes)} processes are left: {processes}"
        self.service.pid = processes[0]
        answer = self.service.ask("version")
        version = answer.removeprefix("ok ")
        assert version in VERSIONS, answer
        assert (self.service.pid == self._past) == (version == "v1")
        for command in ("check", "churn", "check"):
            assert self.service.ask(command) == f"ok {version}"
        self._check_leftovers()
        if version == "v1":
            assert not self.service.announced, "a version that never served printed something"
        return version

    def _wait_for_one(self) -> list[int]:
        """Processes that die with the tool need a moment."""
        end = time.monotonic() + SETTLE_S
        while len(processes := self.service.processes()) > 1 and time.monotonic() < end:
            time.sleep(0.01)
        return processes

    def _check_leftovers(self) -> None:
        assert self.service.descriptors() == self._descriptors
        end = time.monotonic() + SETTLE_S
        while not self._listing() <= self._files:  # what cleans up after a killed tool needs a moment
            assert time.monotonic() < end, "files are left behind"
            time.sleep(0.01)
        status = Path(f"/proc/{self.service.pid}/status").read_text()
        assert "TracerPid:\t0\n" in status
        assert Path(f"/proc/{self.service.pid}/stat").read_text().rpartition(")")[2].split()[0] in "SR"

    def updates_again(self, program: Path) -> None:
        """The next update works, whichever version serves now."""
        update = self.service.update_churning(program)
        assert update.outcome == "updated", update.told()
        assert self.service.ask("check") == "ok v2"
        assert self.service.processes() == [self.service.pid]

    def is_gone(self) -> bool:
        """Whether no process is left at all, after a moment."""
        end = time.monotonic() + SETTLE_S
        while self.service.processes() and time.monotonic() < end:
            time.sleep(0.01)
        return not self.service.processes()


def wait_until_stopped(tool: subprocess.Popen[str]) -> None:
    """Wait until the tool stands still at its fault point "stop" (state T); fails when it ends before."""
    end = time.monotonic() + TOOL_S
    while _state(tool.pid) != "T":
        assert tool.poll() is None, f"the tool never came to its fault point: {tool.communicate()}"
        assert time.monotonic() < end
        time.sleep(0.002)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


__all__ = ["TalkError", "Witness", "wait_until_stopped"]
