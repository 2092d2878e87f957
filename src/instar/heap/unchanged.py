"""Whether a heap that was walked before still has the same blocks, although some of its bytes changed. Pure.

A walk depends on few words: the heads of chunks, the size in front of the chunk behind a free one, the
thread caches and the links of what waits in them. Where none of these changed, nor malloc's own records, a
walk would find the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.heap.arenas import Arena
from instar.heap.image import Addresses, HeapImage, HeapRegion
from instar.heap.mapped import Counters
from instar.process.maps import Mapping

Array = np.ndarray[Any, np.dtype[Any]]

#: ((address, size) rows, bytes before) of what changed; None when that is not known.
Changed = Callable[[], tuple[Array, Array] | None]

_PREVIOUS_IN_USE = np.uint64(1)


@dataclass(frozen=True, eq=False)
class Basis:
    """What an image of a heap was made from, apart from the bytes of its regions.

    Attributes:
        arenas, counters: malloc's own records.
        maps: Of the process.
        exclude: Ranges in which no mapped block was looked for.
        threads: (threads, n) u8: words of libc's thread-locals, one of which leads to the thread's cache.
        image: What was found.
        dead: Addresses of the chunks in use that wait in thread caches and fast bins, ascending.
    """

    arenas: tuple[Arena, ...]
    counters: Counters
    maps: tuple[Mapping, ...]
    exclude: tuple[tuple[int, int], ...]
    threads: Addresses
    image: HeapImage
    dead: Addresses

    def is_like(self, other: Basis) -> bool:
        """Whether it comes to the same if the bytes of the regions do.

        With one arena in one piece all chunks lie one behind the other, so that no head is unknown. A thread
        without a cache may have one that was not recognised.
        """
        main = self.arenas[0]
        return (
            len(self.arenas) == 1
            and len(self.image.library) == len(self.threads)
            and (main.contiguous or main.unused)
            and self.arenas == other.arenas
            and self.counters == other.counters
            and self.exclude == other.exclude
            and np.array_equal(self.threads, other.threads)
            and self.maps == other.maps
        )


def changed_words(rows: Array, saved: Array, regions: Sequence[HeapRegion]) -> tuple[Addresses, Addresses]:
    """The words of heap regions that differ.

    Args:
        rows: (address, size) of pieces of memory that changed, a page at most each; aligned to words.
        saved: (n, page) u1: the bytes before.
        regions: With the bytes now.

    Returns:
        Their addresses, and the words behind them as they are now (0 behind the end of a region).
    """
    addresses, behind = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    for region in regions:
        now = region.data[: region.size & ~7].view("<u8")
        inside = (rows["address"] >= region.start) & (rows["address"] < region.end)
        for index in np.flatnonzero(inside).tolist():
            first = (int(rows["address"][index]) - region.start) // 8
            count = min(int(rows["size"][index]) // 8, len(now) - first)
            old = saved[index, : 8 * count].view("<u8")
            places = first + np.flatnonzero(old != now[first : first + count])
            addresses.append(np.uint64(region.start) + np.uint64(8) * places.astype(np.uint64))
            following = now[np.minimum(places + 1, len(now) - 1)]
            behind.append(np.where(places + 1 < len(now), following, 0).astype(np.uint64))
    return np.concatenate(addresses), np.concatenate(behind)


def has_same_blocks(basis: Basis, words: Addresses, behind: Addresses) -> bool:
    """Whether none of the changed words decides about blocks.

    Args:
        basis: Of the walk.
        words: Addresses of changed words, all in regions of the image.
        behind: For each the word behind it, as it is now.
    """
    if not len(words):
        return True
    image, dead = basis.image, basis.dead
    blocks = image.blocks
    starts, sizes = blocks["address"], blocks["size"]
    decisive = np.isin(words, [region.start + 8 for region in image.regions])
    decisive |= _is_in(words + np.uint64(8), starts) | _is_in(words + np.uint64(8), dead)
    decisive |= _is_in(words + np.uint64(8), image.library) | _is_in(words, dead)
    for own in image.library.tolist():
        decisive |= (words >= own) & (words < _end_of(image, own))
    before = np.searchsorted(starts, words, side="right") - 1
    if len(blocks):
        decisive |= (before >= 0) & (starts[before] + sizes[before] == words)
    return not bool((decisive | _is_size_before(basis, words, behind)).any())


def _end_of(image: HeapImage, block: int) -> int:
    """The end of the chunk of a block, whose head has not changed."""
    region = image.region_of(block)
    if region is None:
        return block
    place = block - region.start
    return block + int(region.data[place - 8 : place].view("<u8")[0] & ~np.uint64(7)) - 16


def _is_size_before(basis: Basis, words: Addresses, behind: Addresses) -> Array:
    """Words right in front of a chunk's head: the size of a free chunk there, else data of the one before.

    A mapped chunk, before which there is none, has no such bit either: there it is the distance from the
    start of its mapping.
    """
    places, image = words + np.uint64(16), basis.image
    chunk = _is_in(places, image.blocks["address"]) | _is_in(places, basis.dead)
    chunk |= _is_in(places, image.library)
    result: Array = chunk & ((behind & _PREVIOUS_IN_USE) == 0)
    return result


def _is_in(wanted: Addresses, ascending: Addresses) -> Array:
    """np.isin for a long sorted column and few values."""
    if not len(ascending):
        return np.zeros(len(wanted), dtype=bool)
    rows = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    result: Array = ascending[rows] == wanted
    return result
