"""Heap blocks that only a library's own data lead to: stdio buffers, locale, time zone, resolver.

The future's library has its own; such blocks are neither state nor leaks. A process's libraries are looked at
conservatively: every aligned word of their writable data and of the thread control block may be a pointer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from instar.errors import FaultError
from instar.metadata.distinct import distinct
from instar.state.capture import Subject
from instar.state.columns import ObjectFlag
from instar.state.kernel import Span, State
from instar.transfer.targets import loaded_files

Array = np.ndarray[Any, np.dtype[Any]]

_LARGEST = 64 << 20
_THREAD_AREA = 0x2000


def library_words(subject: Subject, program: str, heap: Sequence[Span]) -> Array:
    """Words of library data that lie in a heap range (u8, sorted, each once)."""
    found = [np.zeros(0, dtype=np.uint64)]
    for start, end in _library_data(subject, program):
        try:
            words = np.frombuffer(subject.memory.read(start, (end - start) & ~7), dtype=np.uint64)
        except FaultError:
            continue  # guard pages and the like hold no pointers
        for span in heap:
            found.append(words[(words >= span.start) & (words < span.end)])
    return distinct(np.concatenate(found))


def _library_data(subject: Subject, program: str) -> list[tuple[int, int]]:
    files = [f for f in loaded_files(subject, program).values() if not f.path.startswith("[")]
    found, pointer = [], subject.thread_pointer
    for mapping in subject.maps:
        if not mapping.writable or mapping.shared:
            continue
        home = next((f for f in files if f.start <= mapping.start < f.end), None)
        if home is not None and min(mapping.end, home.end) - mapping.start <= _LARGEST:
            found.append((mapping.start, min(mapping.end, home.end)))
        if pointer is not None and pointer in mapping:
            low = max(mapping.start, pointer - _THREAD_AREA)
            found.append((low & ~7, min(mapping.end, pointer + _THREAD_AREA)))
    return found


def mark_library_blocks(state: State, words: Array) -> Array:
    """Reach what only libraries reach; returns a mask of these objects (flagged REACHED until given back)."""
    flags = state.objects["flags"]
    before = (flags & ObjectFlag.REACHED) != 0
    new = [row for row in library_rows(state, words, stream_rows(state)) if not before[row]]
    if new:
        flags[new] |= np.uint32(ObjectFlag.REACHED)
        state.reach()
    mask: Array = ((state.objects["flags"] & ObjectFlag.REACHED) != 0) & ~before
    return mask


def stream_rows(state: State) -> Array:
    """The ``FILE`` objects in the heap."""
    return np.flatnonzero(state.objects["flags"] & ObjectFlag.LIBRARY)


def library_rows(state: State, words: Array, streams: Array) -> set[int]:
    """The objects that libraries, and streams (rows) in the heap, lead to at once."""
    words = np.concatenate([words, _words_of(state, streams)])
    return {row for word in words.tolist() if (row := _find_block(state, word)) is not None}


def _find_block(state: State, word: int) -> int | None:
    """The block a library's word leads to; the allocator's own links lead to chunk headers, not to blocks."""
    row = state.find(word)
    if row is None:
        return None
    offset = word - int(state.objects["address"][row])
    return row if offset < max(int(state.objects["size"][row]) - 8, 1) else None


def _words_of(state: State, streams: Array) -> Array:
    """What the ``FILE`` objects in the heap hold: their buffers and locks are libc's too."""
    found = [np.zeros(0, dtype=np.uint64)]
    for row in streams.tolist():
        address, size = int(state.objects["address"][row]), int(state.objects["size"][row])
        data = state.bytes_at(address, size & ~7)
        if data is not None:
            found.append(np.frombuffer(data, dtype=np.uint64))
    return np.concatenate(found)
