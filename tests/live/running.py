"""A started program with its standard input and output in our hands."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from instar.process.blocking import CALLS, RESTARTED
from instar.process.syscalls import NUMBERS

Compile = Callable[..., Path]
Start = Callable[..., "Running"]
PATIENCE_S = 20.0


class Running:
    """A started program with its standard input and output in our hands."""

    def __init__(self, arguments: Sequence[str], **options: object) -> None:
        self.process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            **options,  # type: ignore[call-overload]
        )
        self.pid: int = self.process.pid
        self.ready: list[str] = []  # the words of its first line, once `start` has read that
        self._rest = b""

    def line(self, timeout: float = PATIENCE_S) -> str:
        """The next line it prints; fails when there is none in time or it ends."""
        end = time.monotonic() + timeout
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"process {self.pid} printed nothing for {timeout} s"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"process {self.pid} closed its output, status {self.process.wait()}"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def silent(self, seconds: float) -> bool:
        """Whether it prints nothing for a while."""
        return not self._rest and not select.select([self.process.stdout], [], [], seconds)[0]

    def send(self, text: str) -> None:
        """Write a line to its standard input."""
        self.process.stdin.write(text.encode() + b"\n")

    def wait_until_blocked(self, *names: str) -> None:
        """Wait until its main thread sleeps in one of these system calls (any that blocks, without names)."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            words = Path(f"/proc/{self.pid}/syscall").read_text().split()
            if len(words) == 9 and self._waits_in(int(words[0]), names):
                return
        raise AssertionError(f"process {self.pid} never slept in {names}: {words}")

    @staticmethod
    def _waits_in(number: int, names: tuple[str, ...]) -> bool:
        if number not in CALLS:
            return False
        restarted = number == NUMBERS["restart_syscall"] and any(NUMBERS[name] in RESTARTED for name in names)
        return not names or CALLS[number].name in names or restarted

    def state(self) -> str:
        """The state letter of /proc/PID/stat."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def wait_for_state(self, letters: str) -> None:
        """Wait until the state is one of these letters."""
        end = time.monotonic() + PATIENCE_S
        while self.state() not in letters:
            assert time.monotonic() < end, f"process {self.pid} is {self.state()}, not {letters}"

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
