"""Memory that the guard and its peer share: room for what is copied, and how a request is cut to fit."""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from instar.errors import HostError

Array = np.ndarray[Any, np.dtype[np.uint8]]
Words = npt.NDArray[np.uint64]

BOUNCE = 4 << 20
_SPANS = 1024


def split_spans(starts: Words, sizes: Words, most: int) -> tuple[Words, Words]:
    """Cut spans that are longer."""
    if not len(sizes) or int(sizes.max()) <= most:
        return starts, sizes
    pieces = [
        (start + at, min(most, size - at))
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
        for at in range(0, size, most)
    ]
    cut = np.array(pieces, np.uint64)
    return cut[:, 0], cut[:, 1]


def batch_spans(sizes: Words, most: int) -> Iterator[tuple[int, int, int]]:
    """(first, last, bytes before) of runs of spans that fit into one request."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        begin = int(ends[first - 1]) if first else 0
        fits = int(np.searchsorted(ends, begin + most, side="right"))
        last = min(max(fits, first + 1), first + _SPANS)
        yield first, last, begin
        first = last


def _no_room(size: int) -> HostError:
    return HostError("out-of-memory", f"no room for {size} bytes of shared memory", "raise `ulimit -v`")


class Shared:
    """Memory into which the guard copies: room for arrays, which is given back when they are gone.

    Attributes:
        base: Its address here.
        bounce: Whoever has it may use the first ``BOUNCE`` bytes.
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, 0)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self.bounce = threading.Lock()
        self._free = [(BOUNCE, len(self._memory) - BOUNCE)]

    def share_out(self) -> tuple[int, int]:
        """Keep the lower half: the bounds of the upper one, of which somebody else disposes from now on."""
        end = len(self._memory)
        half = end // 2 // mmap.PAGESIZE * mmap.PAGESIZE
        self._free = [(BOUNCE, half - BOUNCE)]
        return half, end

    def take(self, bounds: tuple[int, int]) -> None:
        """Dispose of this part only, which ``share_out`` told in another process."""
        self._free = [(bounds[0], bounds[1] - bounds[0])]

    def view(self, offset: int, size: int) -> Array:
        """Bytes of it; raises ValueError outside of it."""
        if not 0 <= offset <= offset + size <= len(self._memory):
            raise ValueError(f"{size} bytes at {offset} are not in the shared memory")
        return np.frombuffer(self._memory, np.uint8, size, offset)

    def offset_of(self, local: int, size: int) -> int | None:
        """Where an address here is in the shared memory; None when it is not there."""
        offset = local - self.base
        return offset if offset >= 0 and offset + size <= len(self._memory) else None

    def array(self, size: int) -> Array:
        """Room for so many bytes."""
        room = -(-max(size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        found = [(i, part) for i, part in enumerate(self._free) if part[1] >= room]
        if not found:
            raise _no_room(size)
        index, (start, free) = found[0]
        self._free[index] = start + room, free - room
        array = np.frombuffer(self._memory, np.uint8, size, start)
        weakref.finalize(array, self._give_back, start, room)
        return array

    def _give_back(self, start: int, room: int) -> None:
        with suppress(ValueError, OSError):
            self._memory.madvise(mmap.MADV_REMOVE, start, room)
        at = bisect_right(self._free, (start, 0))
        self._free.insert(at, (start, room))
        if at + 1 < len(self._free) and start + room == self._free[at + 1][0]:
            self._free[at : at + 2] = [(start, room + self._free[at + 1][1])]
        if at and sum(self._free[at - 1]) == start:
            self._free[at - 1 : at + 1] = [(self._free[at - 1][0], self._free[at - 1][1] + self._free[at][1])]
