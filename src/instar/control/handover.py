"""The past's descriptors arrive in the future, during the pause."""

from __future__ import annotations

import fcntl
import os
import re
import select
import socket
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from instar.control.channel import get_descriptor, raised_limit
from instar.control.descriptors import Action, DescriptorPlan, match_rows, update_plan
from instar.control.observation import (
    Rows,
    close_all,
    compare_files,
    duplicate_all,
    is_among,
    read_epoll,
    read_flags,
    read_owners,
)
from instar.control.reopening import reopen_own
from instar.control.runtime import CLOEXEC, EPOLL_ITEM, LOCK, REPLACE, Runtime
from instar.errors import RefusedError
from instar.process.descriptors import list_numbers, open_pidfd, read_descriptor
from instar.process.failures import lost_process

STANDARD = (0, 1, 2)
_DELETE = 2  # EPOLL_CTL_DEL
_OWNER, _OWNER_GROUP = -1, -2  # in LOCK: signals of this descriptor go to the future, to its process group
_LOCK_LINE = re.compile(r"^\d+: POSIX\s+\S+\s+(READ|WRITE)\s+-?\d+ \S+ (\d+) (\d+|EOF)$")


@dataclass
class Fetched:
    """The past's descriptors in our hands.

    Attributes:
        plan: As of the pause; ``plan.observed`` has our duplicates.
        duplicates: All of them.
        epoll_groups: Numbers of the epoll sets; those that are one set are together.
        epoll_entries: First number of each group -> rows of ``EPOLL_ENTRY``.
        kept_entries: The same for registrations of the future that the past knows nothing of.
    """

    plan: DescriptorPlan
    duplicates: Rows
    epoll_groups: list[list[int]]
    epoll_entries: dict[int, Rows]
    kept_entries: dict[int, Rows] = field(default_factory=dict)

    def close(self) -> None:
        """Give up the duplicates. Before a past that is rolled back runs on, they must be gone."""
        close_all(self.duplicates)


def fetch_descriptors(plan: DescriptorPlan) -> Fetched:
    """Duplicate everything the stopped past has. Makes no ptrace call: may run in a thread of its own.

    Raises:
        RefusedError: There is a descriptor now that cannot be carried.
        HostError: "descriptor-limit".
    """
    pid = plan.pid
    with ThreadPoolExecutor(1) as reader:
        sets = reader.submit(_read_epolls, pid, plan.epolls)
        with open_pidfd(pid) as pidfd:
            rows = duplicate_all(pidfd, pid, _table_size(pid))
    try:
        position, same = match_rows(plan, rows)
        young = ~same
        young[same] = ~plan.settled[position[same]]
        part = rows[young]
        read_flags(pid, part)
        rows["flags"][young] = part["flags"]
        current = update_plan(plan, rows)
        current.require()
        groups, entries = (
            sets.result() if current.epolls == plan.epolls else _read_epolls(pid, current.epolls)
        )
        return Fetched(current, rows, groups, entries)
    except BaseException:
        close_all(rows)
        raise


def _read_epolls(pid: int, numbers: Sequence[int]) -> tuple[list[list[int]], dict[int, Rows]]:
    groups = group_same_files(pid, numbers)
    return groups, {group[0]: read_epoll(pid, group[0]) for group in groups}


def _table_size(pid: int) -> int:
    """Every descriptor number is below this."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError as error:
        raise lost_process(pid, error) from error
    return int(text.partition("FDSize:")[2].split(maxsplit=1)[0])


def hand_over(
    fetched: Fetched, runtime: Runtime, channel: socket.socket, *, given: Collection[int] = STANDARD
) -> None:
    """Give the parked future the past's descriptors under their numbers; epoll sets come empty.

    What the future has already (lent at its start-up) stays, likewise descriptors under numbers that the past
    does not use. Where both have something of the same kind the past's replaces it.

    Args:
        fetched: The past's descriptors.
        runtime: Of the parked future.
        channel: To it.
        given: Numbers under which the future was started with something of the tool's; replaced in any case.

    Raises:
        RefusedError: "descriptor-collision": the future uses a number for something else.
    """
    future, plan = runtime.tracee.pid, fetched.plan
    rows = plan.observed
    reopen_own(rows, [entry.descriptor for entry in plan.entries], plan.pid, future)
    present = is_among(rows["number"], list_numbers(future))
    _refuse_collisions(plan, present & ~is_among(rows["number"], given), future)
    rebuilt = np.array([entry.action is Action.REBUILD for entry in plan.entries], np.bool_)
    send = ~rebuilt & ~_is_there(rows, present, plan.pid, future)
    with raised_limit(future, plan.highest):
        _empty_epolls(fetched, runtime, set(rows["number"][present].tolist()))
        _import(runtime, channel, rows[send], present[send])
        for group in fetched.epoll_groups:
            _make_epoll(runtime, channel, rows[is_among(rows["number"], group)])


def _empty_epolls(fetched: Fetched, runtime: Runtime, present: Collection[int]) -> None:
    """Empty the sets that the future's start-up made, before its descriptors are replaced."""
    future = runtime.tracee.pid
    for group in fetched.epoll_groups:
        for number in [number for number in group if number in present][:1]:
            entries = read_epoll(future, number)
            items = np.zeros(len(entries), EPOLL_ITEM)
            items["epoll"], items["operation"] = number, _DELETE
            items["descriptor"], items["source"] = entries["descriptor"], -1
            runtime.control_epoll(items)
            own = ~is_among(entries["descriptor"], fetched.plan.observed["number"].tolist())
            fetched.kept_entries[group[0]] = entries[own]


def _import(runtime: Runtime, channel: socket.socket, rows: Rows, present: npt.NDArray[np.bool_]) -> None:
    runtime.import_descriptors(
        channel, rows["number"].tolist(), rows["own"].tolist(), _import_flags(rows, present)
    )


def _import_flags(rows: Rows, present: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    cloexec = (rows["flags"] & os.O_CLOEXEC) != 0
    flags: npt.NDArray[np.uint32] = (np.where(cloexec, CLOEXEC, 0) | np.where(present, REPLACE, 0)).astype(
        np.uint32
    )
    return flags


def _is_there(rows: Rows, present: npt.NDArray[np.bool_], past: int, future: int) -> npt.NDArray[np.bool_]:
    """Where the future has the same open file with the same close-on-exec flag already."""
    there = np.zeros(len(rows), np.bool_)
    numbers = rows["number"][present]
    same = compare_files(past, numbers, future, numbers)
    if same is None:
        return there
    for index, number, equal in zip(np.flatnonzero(present), numbers.tolist(), same.tolist(), strict=True):
        if equal:
            found = read_descriptor(future, number)
            there[index] = found is not None and found.cloexec == bool(rows["flags"][index] & os.O_CLOEXEC)
    return there


def _refuse_collisions(plan: DescriptorPlan, present: npt.NDArray[np.bool_], future: int) -> None:
    for index in np.flatnonzero(present).tolist():
        descriptor = plan.entries[index].descriptor
        found = read_descriptor(future, descriptor.number)
        if found is not None and found.kind != descriptor.kind:
            raise RefusedError(
                "descriptor-collision",
                f"descriptor {descriptor.number} is {descriptor.target} in the old version and "
                f"{found.target} in the new one, which opened it at its start",
                "let the new version open what is new after everything that the old version has",
            )


def _make_epoll(runtime: Runtime, channel: socket.socket, rows: Rows) -> None:
    """One epoll set under all its numbers: the one that the future's start-up made there, or a new one."""
    future = runtime.tracee.pid
    found = {number: read_descriptor(future, number) for number in rows["number"].tolist()}
    owned = [number for number, descriptor in found.items() if descriptor is not None]
    with open_pidfd(future) as pidfd:
        source = get_descriptor(pidfd, owned[0]) if owned else _new_epoll()
    try:
        _import(
            runtime,
            channel,
            np.array([(*row.tolist()[:3], source, *row.tolist()[4:]) for row in rows], rows.dtype),
            is_among(rows["number"], owned),
        )
    finally:
        os.close(source)


def group_same_files(pid: int, numbers: npt.ArrayLike) -> list[list[int]]:
    """Descriptors of a process by open file; each on its own where the kernel cannot tell."""
    groups: list[list[int]] = []
    for number in np.asarray(numbers).tolist():
        for group in groups:
            same = compare_files(pid, [group[0]], pid, [number])
            if same is not None and same[0]:
                group.append(number)
                break
        else:
            groups.append([number])
    return groups


def _new_epoll() -> int:
    with select.epoll() as made:
        return os.dup(made.fileno())


# --------------------------------------------------------------------------------- what the gate takes over


def plan_locks(fetched: Fetched) -> Rows:
    """Rows of ``LOCK``: what belongs to the past as a process and is the future's when it is gone.

    Record locks (fcntl F_SETLK; flock and open file description locks come with the descriptor), and whom a
    descriptor signals. A lock is taken through a descriptor that is open in the mode it needs.
    """
    found: dict[tuple[int, int, int, int, int], int] = {}
    for entry in fetched.plan.entries:
        descriptor = entry.descriptor
        for line in descriptor.locks:
            match = _LOCK_LINE.match(line)
            if match is None:
                continue
            kind = fcntl.F_WRLCK if match[1] == "WRITE" else fcntl.F_RDLCK
            start, length = int(match[2]), 0 if match[3] == "EOF" else int(match[3]) - int(match[2]) + 1
            needed = os.O_WRONLY if kind == fcntl.F_WRLCK else os.O_RDONLY
            if descriptor.flags & os.O_ACCMODE in (os.O_RDWR, needed):
                key = (descriptor.device, descriptor.inode, kind, start, length)
                found.setdefault(key, descriptor.number)
    rows = [(number, kind, 0, start, length) for (_, _, kind, start, length), number in found.items()]
    rows += [(number, kind, 0, 0, 0) for number, kind in _signalled(fetched)]
    return np.array(rows, LOCK)


def _signalled(fetched: Fetched) -> list[tuple[int, int]]:
    """Descriptors whose signals (SIGIO, SIGURG, a broken lease) go to the past or to its process group."""
    rows = fetched.plan.observed
    owners = read_owners(rows)
    kinds = {fetched.plan.pid: _OWNER, -os.getpgid(fetched.plan.pid): _OWNER_GROUP}
    found = np.flatnonzero(is_among(owners, kinds))
    return [(int(rows["number"][at]), kinds[int(owners[at])]) for at in found.tolist()]
