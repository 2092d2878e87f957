"""Descriptors through which the past looks at itself: the future gets those that look at the future."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Sequence

import numpy as np

from instar.control.observation import Rows, compare_files
from instar.errors import RefusedError
from instar.process.descriptors import Descriptor

_OF_OPEN = ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_NOCTTY)


def looks_at(descriptor: Descriptor, pid: int) -> bool:
    """Whether a descriptor is a pidfd of a process, or a file of its directory in /proc."""
    if descriptor.kind == "pidfd":
        return descriptor.pid == pid
    return descriptor.kind in ("file", "directory") and _inside(descriptor.target, pid) is not None


def reopen_own(rows: Rows, descriptors: Sequence[Descriptor], past: int, future: int) -> None:
    """Put the future's own into the rows in place of duplicates of what looks at the past.

    Args:
        rows: Of ``OBSERVED``, with our duplicates; those are closed where another takes their place.
        descriptors: What the rows are, in the same order.
        past: PID of the old version.
        future: PID of the new one.

    Raises:
        RefusedError: "descriptor-not-carried": the future has no such file, or it may not be opened.
    """
    made: list[tuple[int, int]] = []
    no_sockets = (rows["mode"] & np.uint32(0o170000)) != stat.S_IFSOCK  # there may be thousands of those
    for index in np.flatnonzero(no_sockets & (rows["own"] >= 0)).tolist():
        descriptor = descriptors[index]
        if not looks_at(descriptor, past):
            continue
        twin = _twin(past, descriptor.number, [number for number, _ in made])
        source = os.dup(made[twin][1]) if twin is not None else _open(descriptor, past, future)
        os.close(int(rows["own"][index]))
        rows["own"][index] = source
        made.append((descriptor.number, source))


def _twin(past: int, number: int, others: list[int]) -> int | None:
    """Which of the others is the same open file of the past."""
    same = compare_files(past, [number] * len(others), past, others) if others else None
    return int(np.argmax(same)) if same is not None and same.any() else None


def _inside(target: str, pid: int) -> str | None:
    """The path below the process's directory ("." for itself)."""
    match = re.match(rf"/proc/{pid}(?:/task/{pid})?(?:/(.*))?$", target)
    return None if match is None else match[1] or "."


def _open(descriptor: Descriptor, past: int, future: int) -> int:
    try:
        if descriptor.kind == "pidfd":
            return os.pidfd_open(future, descriptor.flags & os.O_NONBLOCK)
        task = f"/task/{future}" if descriptor.target.startswith(f"/proc/{past}/task/") else ""
        path = f"/proc/{future}{task}/{_inside(descriptor.target, past)}"
        opened = os.open(path, (descriptor.flags & _OF_OPEN) | os.O_CLOEXEC)
    except OSError as error:
        raise RefusedError(
            "descriptor-not-carried",
            f"descriptor {descriptor.number} ({descriptor.target}) looks at the old version itself, and that "
            f"of the new one cannot be opened: {error.strerror}",
            "close it before the update",
        ) from error
    with contextlib.suppress(OSError):  # some cannot seek
        os.lseek(opened, descriptor.offset, os.SEEK_SET)
    return opened
