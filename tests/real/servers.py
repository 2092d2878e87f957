"""Starts a server, watches it, updates it with the real command, ends it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

INSTAR = Path(sys.executable).parent / "instar"


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Ask again until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.01)


class Server:
    """One server process, followed through updates.

    Args:
        command: Program and arguments.
        pid_file: Where the server that goes into the background writes its PID; None when it stays in front.
        ready: Whether it answers.
    """

    def __init__(self, command: Sequence[str], pid_file: Path | None, ready: Callable[[], bool]) -> None:
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.pid = self._child.pid
        if pid_file is not None:
            assert self._child.wait(20) == 0
            until(lambda: pid_file.exists() and pid_file.read_text().strip().isdigit(), "the pid file")
            self.pid = int(pid_file.read_text())
        until(ready, "the server answers")

    def program(self) -> Path:
        """The file it runs."""
        return Path(f"/proc/{self.pid}/exe").readlink()

    def update(self, new: Path, *options: str, expect: str = "updated") -> dict[str, Any]:
        """Run `instar update`; afterwards ``pid`` is the process that serves."""
        return self._carry(
            new, "update", str(self.pid), str(new), "--max-pause", "30000", *options, expect=expect
        )

    def rollback(self, old: Path) -> dict[str, Any]:
        """Run `instar rollback`, which must lead to ``old``."""
        return self._carry(old, "rollback", str(self.pid), expect="updated")

    def _carry(self, new: Path, *command: str, expect: str) -> dict[str, Any]:
        done = subprocess.run([str(INSTAR), *command, "--json"], capture_output=True, text=True, timeout=120)
        assert done.stdout.strip(), f"no document, exit status {done.returncode}:\n{done.stderr}"
        report: dict[str, Any] = json.loads(done.stdout)
        assert report["outcome"] == expect, f"{json.dumps(report, indent=1)}\n{done.stderr}"
        if report["outcome"] == "updated":
            until(lambda: not alive(self.pid), "the old version is gone")
            self.pid = report["new_pid"]
            assert self.program() == new
        assert alive(self.pid)
        return report

    def stop(self) -> None:
        """End whoever serves."""
        if alive(self.pid):
            os.kill(self.pid, signal.SIGKILL)
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
