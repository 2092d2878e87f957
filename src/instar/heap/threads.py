"""The thread pointers of a process, found in its memory when nobody stopped its threads to read fs_base."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from instar.errors import FaultError, RefusedError
from instar.process.access import read_proc
from instar.process.maps import Mapping
from instar.process.memory import Memory

_TID = 0x2D0  # struct pthread.tid on x86-64 since glibc 2.4
_WINDOW = 1 << 16
_PAGE = 4096


def find_thread_pointers(memory: Memory, maps: Sequence[Mapping]) -> list[int]:
    """Addresses of the thread control blocks of the threads of a process.

    A control block begins with a pointer to itself, repeats it at offset 16 and holds the kernel's thread id.
    The first and last 64 KiB of each anonymous mapping are looked at first (the loader puts the first
    thread's there, pthread_create the others' at the end of their stacks), the rest only if one is missing.

    Raises:
        RefusedError: "thread-unknown": a thread has no such block.
    """
    tids = {int(name) for name in read_proc(memory.pid, "task").split()}
    found: dict[int, int] = {}
    private = [m for m in maps if m.writable and m.readable and not m.shared and _anonymous(m)]
    for cut in (_windows, _everything):
        for start, end in (window for mapping in private for window in cut(mapping)):
            found.update({tid: address for address, tid in _scan(memory, start, end) if tid in tids})
        if len(found) == len(tids):
            return [found[tid] for tid in sorted(found)]
    raise RefusedError(
        "thread-unknown",
        f"thread {min(tids - found.keys())} has no control block of glibc's in memory",
        "threads that were made without pthread_create (clone) are not supported",
    )


def _anonymous(mapping: Mapping) -> bool:
    return not mapping.path or mapping.path.startswith("[anon")


def _windows(mapping: Mapping) -> list[tuple[int, int]]:
    if mapping.size <= 2 * _WINDOW:
        return [(mapping.start, mapping.end)]
    return [(mapping.start, mapping.start + _WINDOW), (mapping.end - _WINDOW, mapping.end)]


def _everything(mapping: Mapping) -> list[tuple[int, int]]:
    """The whole mapping in pieces that overlap by one control block."""
    step = 1 << 20
    return [
        (start, min(start + step + _WINDOW, mapping.end)) for start in range(mapping.start, mapping.end, step)
    ]


def _scan(memory: Memory, start: int, end: int) -> list[tuple[int, int]]:
    try:
        words = np.frombuffer(memory.read(start, end - start), "<u8")
    except FaultError as fault:  # a guard inside a mapping
        before = _scan(memory, start, fault.address) if fault.address > start else []
        after = (fault.address // _PAGE + 1) * _PAGE
        return before + (_scan(memory, after, end) if after < end else [])
    addresses = np.arange(len(words), dtype=np.uint64) * np.uint64(8) + np.uint64(start)
    same = words == addresses
    same[:-2] &= words[2:] == addresses[:-2]
    result = []
    for index in np.flatnonzero(same[:-2]).tolist():
        tid_index = index + _TID // 8
        if tid_index < len(words):
            result.append((int(addresses[index]), int(words[tid_index]) & 0xFFFFFFFF))
    return result
