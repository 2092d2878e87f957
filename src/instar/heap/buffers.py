"""Memory that is used again: the first touch of a fresh page costs more than copying it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


def _references(buffers: Sequence[Bytes]) -> list[int]:
    """How often each is referred to, counted the same way whatever the interpreter adds."""
    return [sys.getrefcount(buffer) for buffer in buffers]


_UNUSED = _references([np.empty(1, np.uint8)])[0]


class BufferPool:
    """Hands out byte arrays, and those again that nobody refers to any more (nor to a view of them)."""

    def __init__(self) -> None:
        self._buffers: list[Bytes] = []

    def take(self, size: int) -> Bytes:
        """A contiguous u1 array of ``size`` bytes with any content."""
        counts = _references(self._buffers)
        wide = 4 * size + (1 << 20)  # no small array may hold a large one
        free = [
            index
            for index, count in enumerate(counts)
            if count == _UNUSED and size <= self._buffers[index].nbytes <= wide
        ]
        if free:
            return self._buffers[min(free, key=lambda index: self._buffers[index].nbytes)][:size]
        fresh = np.empty(max(size, 1), np.uint8)
        self._buffers.append(fresh)
        return fresh[:size]

    def shrink(self) -> None:
        """Give back what is not in use."""
        counts = _references(self._buffers)
        self._buffers = [
            buffer for buffer, count in zip(self._buffers, counts, strict=True) if count != _UNUSED
        ]
