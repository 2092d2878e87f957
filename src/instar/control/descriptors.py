"""What happens to each descriptor of the past: a plan, made while the past serves.

Nothing is duplicated before the past stands still. A duplicate of a socket would keep it open when the past
closes it: its peer would see no end, and an epoll set of the past would go on reporting it, with a cookie
that points at freed memory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from instar.control.observation import (
    NOT_READ,
    O_CLOEXEC,
    OBSERVED,
    Rows,
    is_anonymous,
    observe,
    reserve_table,
)
from instar.errors import RefusedError
from instar.process.descriptors import Descriptor, list_descriptors, list_numbers, read_descriptor

_REFUSALS = {
    "io_uring": "its rings belong to the memory of the process that made it",
    "unknown": "instar does not know this kind of file",
}
_KNOWN_UNKNOWN = {
    "anon_inode:[userfaultfd]": "it belongs to the memory of the process that made it",
    "anon_inode:[perf_event]": "it counts the process that made it",
    "anon_inode:[fanotify]": "answers to permission events could be lost",
    "anon_inode:bpf-map": "BPF objects are not carried",
    "anon_inode:bpf-prog": "BPF objects are not carried",
    "anon_inode:bpf_link": "BPF objects are not carried",
}


class Action(StrEnum):
    """What becomes of a descriptor."""

    CARRY = "carry"  #: the future gets a duplicate under the same number
    REBUILD = "rebuild"  #: an epoll set: the future gets one of its own with the same registrations
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Planned:
    """One descriptor and what becomes of it; ``reason`` says why it is refused."""

    descriptor: Descriptor
    action: Action
    reason: str = ""


@dataclass(frozen=True)
class DescriptorPlan:
    """All descriptors of a past.

    Attributes:
        pid: Of the past.
        entries: By number.
        observed: Rows of ``OBSERVED``, by number, as they were at the last look.
        settled: True where two looks saw the same file with the same flags.
    """

    pid: int
    entries: tuple[Planned, ...]
    observed: Rows
    settled: npt.NDArray[np.bool_]

    @property
    def problems(self) -> tuple[Planned, ...]:
        """What cannot be carried."""
        return tuple(entry for entry in self.entries if entry.action is Action.REFUSE)

    @property
    def epolls(self) -> tuple[int, ...]:
        """Numbers of the epoll sets."""
        return tuple(e.descriptor.number for e in self.entries if e.action is Action.REBUILD)

    @property
    def highest(self) -> int:
        """The highest number in use, -1 without any."""
        return self.entries[-1].descriptor.number if self.entries else -1

    @property
    def connections(self) -> int:
        """Sockets that have a peer (as far as the details were read)."""
        details = (entry.descriptor.socket for entry in self.entries)
        return sum(1 for found in details if found is not None and found.raw_peer)

    def require(self) -> None:
        """Raise RefusedError "descriptor-not-carried" when there is a problem, naming all of them."""
        problems = self.problems
        if not problems:
            return
        lines = [f"{p.descriptor.number}: {p.descriptor.target}: {p.reason}" for p in problems]
        more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
        raise RefusedError(
            "descriptor-not-carried",
            f"process {self.pid} has descriptor {lines[0]}{more}",
            "close it before the update, or restart the service instead",
            details=tuple(lines),
        )


def decide(descriptor: Descriptor) -> Planned:
    """What becomes of a descriptor, from what it is."""
    if descriptor.kind == "epoll":
        return Planned(descriptor, Action.REBUILD)
    if descriptor.kind in _REFUSALS:
        reason = _KNOWN_UNKNOWN.get(descriptor.target, _REFUSALS[descriptor.kind])
        return Planned(descriptor, Action.REFUSE, reason)
    return Planned(descriptor, Action.CARRY)


def plan_descriptors(pid: int) -> DescriptorPlan:
    """Look at all descriptors of a process (running or not). Changes nothing, refuses nothing yet."""
    found = list_descriptors(pid)
    entries = tuple(decide(descriptor) for descriptor in found)
    return DescriptorPlan(pid, entries, _rows_of(found), np.zeros(len(found), np.bool_))


def look_again(plan: DescriptorPlan) -> DescriptorPlan:
    """The plan as of now; to be called at least once more while the past serves, shortly before it stops.

    A descriptor that looks the same twice is settled: its close-on-exec flag, which only a slow way tells, is
    then not read again in the pause. (Programs set it right after they open a file.)
    """
    seen = observe(plan.pid, list_numbers(plan.pid))
    reserve_table(len(seen))
    return update_plan(plan, seen)


def match_rows(plan: DescriptorPlan, seen: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Where each row seen now stands in the plan, and whether it is the same file (for sockets; see below).

    All anonymous files have one inode: for them "the same" means "anonymous as well".
    """
    if not len(plan.observed):
        return np.zeros(len(seen), np.int64), np.zeros(len(seen), np.bool_)
    position = np.searchsorted(plan.observed["number"], seen["number"])
    position[position == len(plan.observed)] = 0
    old = plan.observed[position]
    same = (old["number"] == seen["number"]) & (old["inode"] == seen["inode"])
    return position, same & (old["device"] == seen["device"])


def update_plan(plan: DescriptorPlan, seen: Rows) -> DescriptorPlan:
    """The plan with what was seen now; details are read for what is new, and for files (they may have locks).

    Args:
        plan: The plan so far.
        seen: Rows of ``OBSERVED`` by number. Rows without flags get those of the plan.
    """
    position, same = match_rows(plan, seen)
    settled = changed = np.zeros(len(seen), np.bool_)
    if len(plan.observed):
        flags = plan.observed["flags"][position]
        seen["flags"] = np.where(same & (seen["flags"] == NOT_READ), flags, seen["flags"])
        settled = same & (flags == seen["flags"])
        changed = same & ~settled
    entries: list[Planned | None] = [plan.entries[at] for at in position.tolist()] if plan.entries else []
    entries += [None] * (len(seen) - len(entries))
    anonymous = is_anonymous(seen)
    files = (seen["mode"] & 0o170000) == stat.S_IFREG
    for index in np.flatnonzero(~same | files | anonymous | changed).tolist():
        entry = entries[index] if same[index] and not files[index] else None
        number = int(seen["number"][index])
        if (
            entry is not None
            and anonymous[index]
            and not _is_still(plan.pid, number, entry.descriptor.target)
        ):
            entry = None
        entry = entry or _read_entry(plan.pid, number)
        entries[index] = None if entry is None else _with_flags(entry, int(seen["flags"][index]))
    found = tuple(entry for entry in entries if entry is not None)
    if len(found) < len(seen):  # closed in this moment
        keep = np.array([entry is not None for entry in entries], np.bool_)
        seen, settled = seen[keep], settled[keep]
    return DescriptorPlan(plan.pid, found, seen, settled)


def _is_still(pid: int, number: int, target: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}") == target  # noqa: PTH115 (in the pause)
    except OSError:
        return False


def _read_entry(pid: int, number: int) -> Planned | None:
    descriptor = read_descriptor(pid, number)
    return None if descriptor is None else decide(descriptor)


def _with_flags(entry: Planned, flags: int) -> Planned:
    cloexec = bool(flags & O_CLOEXEC)
    if flags == NOT_READ or entry.descriptor.cloexec == cloexec:
        return entry
    return replace(entry, descriptor=replace(entry.descriptor, cloexec=cloexec))


def _rows_of(descriptors: Iterable[Descriptor]) -> Rows:
    return np.array(
        [
            (d.device, d.inode, d.number, -1, d.mode, d.flags | (O_CLOEXEC if d.cloexec else 0))
            for d in descriptors
        ],
        OBSERVED,
    )
