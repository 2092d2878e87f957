"""Reads the debug information of a program in a process without rights: neither file nor libdw are trusted.

The child gives its rights up before it looks at the first byte (``update.confined``), and hands back columns,
which are checked like those of the cache. What is in the cache needs no child.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from instar.errors import HostError, RefusedError
from instar.metadata.cache import Columns
from instar.metadata.debug_files import DebugFiles
from instar.metadata.model import COLUMNS
from instar.metadata.version import Version, load_version
from instar.metadata.walker import walk_program
from instar.update.confined import compute
from instar.update.exchange import GarbageError, WorkerLostError

Array = np.ndarray[Any, np.dtype[Any]]

LONGEST_S = 600.0  # nothing is held meanwhile
_LEAST_ROOM, _ROOM_RATIO = 1 << 30, 64  # bytes of memory for reading, and for each byte of the files


def load_confined(path: Path) -> Version:
    """The version in a program file (see ``metadata.version.load_version``), read by who has no rights.

    Raises:
        HostError: unreadable-file, out-of-memory.
        RefusedError: What ``load_version`` refuses; reader-lost.
    """
    return load_version(path, walk=walk_confined)


def walk_confined(files: DebugFiles) -> Columns:
    """The columns of a program's debug information, read in a process that may only compute and read files.

    Raises:
        HostError: unreadable-file, out-of-memory.
        RefusedError: What ``walk_program`` refuses; reader-lost: that process crashes, or comes to no end, or
            answers something else.
    """
    with _opened(files) as opened:
        sizes = sum(os.fstat(number).st_size for number in opened.values())
        try:
            raw = compute(
                lambda: _walk(files, opened),
                list[Array],
                tuple(opened.values()),
                seconds=LONGEST_S,
                memory=_LEAST_ROOM + _ROOM_RATIO * sizes,
            )
            return _columns(raw)
        except (WorkerLostError, GarbageError) as error:
            raise _lost(files.debug, error) from error


def _walk(files: DebugFiles, opened: dict[Path, int]) -> list[Array]:
    """In the child: the bytes of all columns in their order."""
    columns = walk_program(
        files.debug, beside=files.beside, alternate=files.alternate, package=files.package, opened=opened
    )
    return [columns[name].view(np.uint8) for name in COLUMNS]


def _columns(raw: list[Array]) -> Columns:
    """The columns that these bytes are, each an array of its own; raises GarbageError."""
    if len(raw) != len(COLUMNS):
        raise GarbageError(f"{len(raw)} columns")
    columns: Columns = {}
    for (name, dtype), data in zip(COLUMNS.items(), raw, strict=True):
        if data.dtype != np.uint8 or data.ndim != 1 or len(data) % dtype.itemsize:
            raise GarbageError(f"{data.shape} {data.dtype} as column {name}")
        columns[name] = data.copy().view(dtype)  # it came unaligned
    return columns


@contextmanager
def _opened(files: DebugFiles) -> Iterator[dict[Path, int]]:
    """The files, opened by who has the right to: another program's /proc/PID/exe is closed to the child."""
    with ExitStack() as stack:
        opened: dict[Path, int] = {}
        for path in (files.debug, files.alternate, files.package):
            if path is not None and path not in opened:
                opened[path] = _open(path)
                stack.callback(os.close, opened[path])
        yield opened


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(
            "unreadable-file", f"{path}: {error.strerror}", "check the path and its permissions"
        ) from error


def _lost(path: Path, error: WorkerLostError | GarbageError) -> RefusedError:
    how = error.how if isinstance(error, WorkerLostError) else f"says what is no answer: {error.what}"
    return RefusedError(
        "reader-lost",
        f"the process that reads the debug information of {path} {how}",
        "the file is damaged or made to do harm: build the program again; else report it",
    )
