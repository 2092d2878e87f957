"""By whom a process is reached: by this one itself, or by another that holds it and reads it for us."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Access(Protocol):
    """Somebody with the right to reach one process."""

    def copy(self, starts: npt.NDArray[np.uint64], sizes: npt.NDArray[np.uint64], local: int) -> None:
        """Read spans of it, one after the other, to an address here; raises as ``Memory`` does."""

    def duplicate(self, numbers: Iterable[int]) -> dict[int, int]:
        """Number there -> duplicate here; those that are closed are left out."""

    def room(self, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """An array of bytes into which it is read without another copy."""


# What /proc/PID/NAME holds: so many bytes from an offset, -1 for all.
ProcReader = Callable[[int, str, int, int], bytes]
LINKS, FOLDERS = ("exe",), ("task",)

_others: dict[int, Access] = {}
_proc_readers: list[ProcReader] = []


def reach_through(pid: int, access: Access | None) -> None:
    """From now on a process is reached through somebody else; None: by this process again."""
    if access is None:
        _others.pop(pid, None)
    else:
        _others[pid] = access


def access_to(pid: int) -> Access | None:
    """Who reaches a process for us; None: this process itself."""
    return _others.get(pid)


def look_through(reader: ProcReader) -> None:
    """From now on somebody else looks at /proc/PID for us, whatever the process."""
    _proc_readers[:] = [reader]


def read_proc(pid: int, name: str, size: int = -1, offset: int = 0) -> bytes:
    """What a file of /proc/PID holds: where "exe" leads, the names in "task"; raises OSError."""
    if _proc_readers:
        return _proc_readers[0](pid, name, size, offset)
    path = Path(f"/proc/{pid}/{name}")
    if name in LINKS:
        return os.fsencode(path.readlink())
    if name in FOLDERS:
        return b"\n".join(os.fsencode(entry.name) for entry in path.iterdir())
    if size < 0:
        return path.read_bytes()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)
