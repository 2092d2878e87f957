"""Which process came from which: the journal read as chains of updates.

A process is known by its id, its start time and the boot, so that an id that was used anew is no confusion.
A rollback takes back the last update of a chain; what is left is the way back from where the chain stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instar.errors import HostError
from instar.process.surroundings import start_time
from instar.update.outcome import VersionId

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process of one boot; ``started`` in clock ticks after boot."""

    pid: int
    started: int
    boot: str

    @property
    def is_alive(self) -> bool:
        """Whether it is still there."""
        return identify(self.pid) == self


def identify(pid: int) -> ProcessId | None:
    """Who has this id now; None when nobody has."""
    try:
        return ProcessId(pid, start_time(pid), _BOOT.read_text().strip())
    except (HostError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class Step:
    """One committed update or rollback.

    Attributes:
        old, new: The processes.
        old_version, new_version: What they run.
        steps: 0 for an update; how many updates a rollback took back.
        handlers: Build of the handler file that was used, "" for none.
        time: When, as in the journal.
    """

    old: ProcessId
    new: ProcessId
    old_version: VersionId
    new_version: VersionId
    steps: int
    handlers: str
    time: str


@dataclass(frozen=True, slots=True)
class Chain:
    """How a process came to be.

    Attributes:
        process: The last one.
        steps: All of them, oldest first.
        ways: The updates that can be taken back, the last one last.
    """

    process: ProcessId
    steps: tuple[Step, ...] = ()
    ways: tuple[Step, ...] = ()


def parse_step(document: dict[str, Any]) -> Step | None:
    """A step from a line of the journal; None for what was not committed, or tells too little."""
    report, processes = document.get("report"), document.get("processes")
    if not isinstance(report, dict) or not isinstance(processes, dict) or report.get("outcome") != "updated":
        return None
    try:
        boot = str(processes["boot"])
        return Step(
            ProcessId(int(report["old_pid"]), int(processes["old_started"]), boot),
            ProcessId(int(report["new_pid"]), int(processes["new_started"]), boot),
            VersionId(str(report["old"]["path"]), str(report["old"]["build_id"])),
            VersionId(str(report["new"]["path"]), str(report["new"]["build_id"])),
            int(processes.get("steps", 0)),
            str(processes.get("handlers", "")),
            str(document["time"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def find_chain(process: ProcessId, steps: Iterable[Step]) -> Chain:
    """The chain that leads to a process; ``steps`` in any order."""
    by_result = {step.new: step for step in steps}
    found: list[Step] = []
    current = process
    while (step := by_result.pop(current, None)) is not None:
        found.append(step)
        current = step.old
    found.reverse()
    ways: list[Step] = []
    for step in found:
        if step.steps:
            del ways[-step.steps :]
        else:
            ways.append(step)
    return Chain(process, tuple(found), tuple(ways))


def living_chains(steps: Iterable[Step]) -> list[Chain]:
    """The chains whose last process is alive, by process id."""
    known = list(steps)
    living = {step.new for step in known if step.new.is_alive}
    return sorted((find_chain(process, known) for process in living), key=lambda chain: chain.process.pid)
