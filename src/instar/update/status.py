"""What is known of a process that was updated: versions, since when, and the way back."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from instar.errors import HostError, InstarError
from instar.metadata.cache import digest
from instar.metadata.elf_reader import read_program
from instar.process.failures import explain_absence
from instar.process.status import executable, executable_name, read_status
from instar.update.attempt import read_steps
from instar.update.kept_versions import is_kept
from instar.update.lineage import Chain, ProcessId, find_chain, identify, living_chains
from instar.update.marker import find_probation

STATUS_SCHEMA = 1


@dataclass(frozen=True)
class KeptWay:
    """A version that the process can be taken back to.

    Attributes:
        steps: For ``instar rollback --steps``.
        kept: Whether its program file is there.
    """

    steps: int
    path: str
    build_id: str
    kept: bool


@dataclass(frozen=True)
class ProcessStatus:
    """One process.

    Attributes:
        since: When this version began to serve.
        updates: How often it was carried over so far, rollbacks included.
        rollbacks: How many of these were rollbacks.
        ways: The last version first.
        probation: Seconds left of its probation; None when it is on none.
    """

    pid: int
    name: str
    path: str
    build_id: str
    since: datetime
    updates: int
    rollbacks: int
    ways: tuple[KeptWay, ...]
    probation: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "pid": self.pid,
            "name": self.name,
            "path": self.path,
            "build_id": self.build_id,
            "since": self.since.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "updates": self.updates,
            "rollbacks": self.rollbacks,
            "kept": [
                {"steps": way.steps, "path": way.path, "build_id": way.build_id, "kept": way.kept}
                for way in self.ways
            ],
            "probation_s": None if self.probation is None else round(self.probation, 1),
        }


def status_of(pid: int) -> ProcessStatus:
    """One process, updated or not; raises HostError when there is none, OSError for the journal."""
    absent = explain_absence(pid)
    process = identify(pid)
    if absent is not None or process is None:
        raise absent or HostError("no-such-process", f"there is no process {pid}", "look with `pidof`")
    return _describe(find_chain(process, read_steps()))


def status_of_all() -> list[ProcessStatus]:
    """Every living process that was updated, as far as the journal knows; raises OSError for the journal."""
    found = []
    for chain in living_chains(read_steps()):
        try:
            found.append(_describe(chain))
        except (InstarError, OSError):
            continue  # it has just ended
    return found


def _describe(chain: Chain) -> ProcessStatus:
    pid = chain.process.pid
    ways = tuple(
        KeptWay(number, way.old_version.path, way.old_version.build_id, is_kept(way.old_version.build_id))
        for number, way in enumerate(reversed(chain.ways), 1)
    )
    last = chain.steps[-1] if chain.steps else None
    since = datetime.fromisoformat(last.time) if last is not None else _started(chain.process)
    return ProcessStatus(
        pid,
        read_status(pid).name,
        executable_name(pid),
        last.new_version.build_id if last is not None else _build_id(pid),
        since.astimezone(UTC),
        len(chain.steps),
        sum(1 for step in chain.steps if step.steps),
        ways,
        find_probation(pid),
    )


def _build_id(pid: int) -> str:
    """ "" for what is not ours to read or no program that can be updated."""
    try:
        elf = read_program(Path(executable(pid)))
        return elf.build_id or digest(elf.image).hex()
    except (InstarError, OSError):
        return ""


def _started(process: ProcessId) -> datetime:
    up = float(Path("/proc/uptime").read_text().split()[0])
    ago = up - process.started / os.sysconf("SC_CLK_TCK")
    return datetime.fromtimestamp(time.time() - ago, UTC)
