"""The thread pointers of a process, found in its memory when nobody stopped its threads to read fs_base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from instar.errors import FaultError
from instar.process.maps import Mapping
from instar.process.memory import Memory

_TID = 0x2D0  # struct pthread.tid on x86-64 since glibc 2.4
_WINDOW = 1 << 16


def find_thread_pointers(memory: Memory, maps: Sequence[Mapping]) -> list[int]:
    """Addresses of the thread control blocks of the threads of a process.

    A control block begins with a pointer to itself, repeats it at offset 16 and holds the kernel's thread id.
    Only the first and last 64 KiB of each anonymous mapping are looked at: the loader puts the first thread's
    there, pthread_create the others' at the end of their stacks. The result may lack a thread.
    """
    tids = {int(entry.name) for entry in Path(f"/proc/{memory.pid}/task").iterdir()}
    found: dict[int, int] = {}
    for mapping in maps:
        if mapping.writable and mapping.readable and not mapping.shared and not mapping.file:
            for start, end in _windows(mapping):
                for address, tid in _scan(memory, start, end):
                    if tid in tids:
                        found[tid] = address
    return [found[tid] for tid in sorted(found)]


def _windows(mapping: Mapping) -> list[tuple[int, int]]:
    if mapping.path.startswith("[") and not mapping.path.startswith("[anon"):
        return []
    if mapping.size <= 2 * _WINDOW:
        return [(mapping.start, mapping.end)]
    return [(mapping.start, mapping.start + _WINDOW), (mapping.end - _WINDOW, mapping.end)]


def _scan(memory: Memory, start: int, end: int) -> list[tuple[int, int]]:
    try:
        words = np.frombuffer(memory.read(start, end - start), "<u8")
    except FaultError:
        return []
    addresses = np.arange(len(words), dtype=np.uint64) * np.uint64(8) + np.uint64(start)
    same = words == addresses
    same[:-2] &= words[2:] == addresses[:-2]
    result = []
    for index in np.flatnonzero(same[:-2]).tolist():
        tid_index = index + _TID // 8
        if tid_index < len(words):
            result.append((int(addresses[index]), int(words[tid_index]) & 0xFFFFFFFF))
    return result
