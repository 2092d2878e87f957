"""Words in pointer slots that lead nowhere and provably are no pointers. Pure.

Programs keep digests and numbers where they declare pointers, and allocate arrays of pointers of which they
use the first few. Two kinds of word can be told from a pointer gone wrong:

- a value that no address of a program can have, and none of whose parts is the address of anything (a pointer
  may be kept beside tags in its upper or lower 16 bits);
- the link of a free list that the allocator left in the block (glibc's PROTECT_PTR, malloc/malloc.c: a
  pointer exclusive-or'ed with its place divided by 4096): the program has not written there since it got
  the block.

All others stay wild: what is unmapped may be an encoded pointer to something that moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_USER_END = 1 << 47
_TAG_BITS = 16
_LINK_SHIFT = 12
_ALIGNMENT = 16


class NoPointers:
    """Tells words that are no pointers from wild ones.

    Args:
        known: ``(n, 2)`` u64, everything that is mapped, by address.
        heap: Ranges with blocks of the allocator.
    """

    def __init__(self, known: Array, heap: Sequence[tuple[int, int]]) -> None:
        self._known, self._heap = known, heap

    def is_none(self, place: int, value: int) -> bool:
        """Whether the word ``value`` at the address ``place`` is provably no pointer."""
        return self._is_beyond(value) or self._is_link(place, value)

    def _is_beyond(self, value: int) -> bool:
        if value < _USER_END:
            return False
        return not any(self._is_mapped(part) for part in (value % _USER_END, value >> _TAG_BITS))

    def _is_link(self, place: int, value: int) -> bool:
        target = value ^ place >> _LINK_SHIFT
        if place % _ALIGNMENT or target % _ALIGNMENT or not self._is_in_heap(place):
            return False
        return target == 0 or self._is_in_heap(target)

    def _is_in_heap(self, address: int) -> bool:
        return any(start <= address < end for start, end in self._heap)

    def _is_mapped(self, address: int) -> bool:
        return bool(((self._known[:, 0] <= address) & (address < self._known[:, 1])).any())
