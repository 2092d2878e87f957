"""What every measurement shares: rows of the table, programs, updates, the floor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.memory import peak_of
from instar.process.memory import Memory

HERE = Path(__file__).parent
BUILD = HERE.parent / ".cache" / "bench"
INSTAR = Path(sys.executable).parent / "instar"


@dataclass(frozen=True)
class Row:
    """One line of the table: ``ratio`` is ``value / base``; ``limit`` is the greatest ratio that is good."""

    name: str
    value: float
    unit: str
    base: float | None = None
    base_name: str = ""
    limit: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Value in units of the base."""
        return self.value / self.base if self.base else None

    @property
    def good(self) -> bool | None:
        """Whether the ratio is within the limit; None when there is none."""
        if self.ratio is None or self.limit is None:
            return None
        return self.ratio <= self.limit


class UpdateError(Exception):
    """The update under measurement did not happen."""


@cache
def program(name: str, version: int) -> Path:
    """Build bench/programs/NAME.c."""
    BUILD.mkdir(parents=True, exist_ok=True)
    target = BUILD / f"{name}-{version}"
    source = HERE / "programs" / f"{name}.c"
    subprocess.run(
        ["gcc", "-O2", "-g", "-Wall", f"-DVERSION={version}", "-o", str(target), str(source)], check=True
    )
    return target


@dataclass(frozen=True)
class Update:
    """One run of `instar update`."""

    report: dict[str, Any]
    seconds: float

    @property
    def pause(self) -> float:
        """Milliseconds, by instar's own clock."""
        return float(self.report["pause_ms"])

    @property
    def new_pid(self) -> int:
        return int(self.report["new_pid"])


def update(pid: int, new: Path, *options: str) -> Update:
    """Update a process."""
    command = [*_command(pid, new), *options]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, _ = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        document, words = out.read(), err.read()
    if not document.strip():
        raise UpdateError(f"exit status {child.returncode}, no document: {words[-1500:]}")
    report = json.loads(document)
    if report["outcome"] != "updated":
        raise UpdateError(f"{report.get('error')} {words[-500:]}")
    return Update(report, seconds)


def peak_row(name: str, one: Store, new: Path) -> Row:
    """The memory that the tool needs for an update of its own: looking at it would lengthen a pause."""
    state = resident(one.pid)
    peak, document = peak_of(_command(one.pid, new))
    if json.loads(document or "{}").get("outcome") != "updated":
        raise UpdateError(document[:500])
    return Row(
        f"peak memory of the tool: {name}", peak / 2**20, "MB", (3 * state + 150e6) / 2**20,
        "3 x state + 150 MB", 1.0, "all of its processes together, what they share counted once",
    )  # fmt: skip


def _command(pid: int, new: Path) -> list[str]:
    options = ["--json", "--timeout", "120", "--max-pause", "60000"]
    return [str(INSTAR), "update", str(pid), str(new), *options]


def best_and_median(
    name: str, pauses: Sequence[float], base: float, base_name: str, limit: float
) -> list[Row]:
    """Two rows of several runs: the best tells what is possible, the median what other load makes of it."""
    note = ", ".join(f"{pause:.1f}" for pause in pauses)
    return [
        Row(f"{name}: best", min(pauses), "ms", base, base_name, limit),
        Row(f"{name}: median", median(pauses), "ms", base, base_name, limit, note),
    ]


class Store:
    """A program of bench/programs that takes commands on its standard input."""

    def __init__(self, name: str, version: int = 1) -> None:
        self._child = subprocess.Popen(
            [str(program(name, version))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.pid = self._child.pid
        self.ask("ping")

    def ask(self, command: str) -> str:
        """One answer."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(command.encode())
        self._child.stdin.flush()
        return self._child.stdout.readline().decode().strip()

    def stop(self) -> None:
        """End whoever serves."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.close()
        self._child.stdout.read()
        self._child.stdout.close()
        self._child.wait()


@contextmanager
def store(name: str, fill: str) -> Iterator[Store]:
    """A filled store."""
    one = Store(name)
    try:
        assert one.ask(f"fill {fill}") == "filled"
        yield one
    finally:
        one.stop()


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@cache
def floor(size: int, rounds: int = 5) -> float:
    """Milliseconds to read ``size`` bytes of one process and write them to another: the best of five."""
    buffer = np.zeros(size, np.uint8)
    with _mirror(size) as source, _mirror(size) as target:
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            source[0].read_into(source[1], buffer)
            target[0].write(target[1], buffer)
            times.append(time.perf_counter() - started)
    return min(times) * 1e3


@contextmanager
def _mirror(size: int) -> Iterator[tuple[Memory, int]]:
    with subprocess.Popen(
        [str(program("mirror", 1)), str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdin is not None
        yield Memory(child.pid), int(child.stdout.readline(), 16)
        child.stdin.close()
