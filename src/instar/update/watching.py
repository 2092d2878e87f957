"""Watches what is written in the parked future, so that the pause need not read all of it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from instar.process.descriptors import duplicate
from instar.process.maps import Mapping, read_maps
from instar.process.status import read_status
from instar.process.syscalls import NUMBERS
from instar.process.tracee import Tracee
from instar.process.written import FLAGS, WrittenPages
from instar.transfer.plan import KeptRange

Bytes = np.ndarray[Any, np.dtype[Any]]


def watch_future(tracee: Tracee, ranges: Sequence[KeptRange]) -> WrittenPages | None:
    """Begin to watch private anonymous memory among the ranges; None where the kernel cannot.

    The descriptor that does it is the tool's alone: with the tool, or when it is closed, all is as before.
    """
    if read_status(tracee.pid).seccomp:
        return None  # the call might be the future's end
    number = tracee.inject_syscall(NUMBERS["userfaultfd"], FLAGS)
    if number < 0:
        return None
    try:
        own = duplicate(tracee.pid, number)
    finally:
        tracee.inject_syscall(NUMBERS["close"], number)
    try:
        written = WrittenPages(tracee.pid, own)
    except OSError:
        return None
    maps = [mapping for mapping in read_maps(tracee.pid) if is_private_memory(mapping)]
    written.watch(
        (max(kept.start, mapping.start), min(kept.start + kept.size, mapping.end))
        for kept in ranges
        for mapping in maps
        if max(kept.start, mapping.start) < min(kept.start + kept.size, mapping.end)
    )
    return written


def is_private_memory(mapping: Mapping) -> bool:
    """Whether all that changes in it is written by somebody into this very mapping."""
    anonymous = not mapping.path or mapping.path == "[heap]" or mapping.path.startswith("[anon:")
    return anonymous and not mapping.shared and mapping.readable
