"""Freed blocks that still look live: on the thread caches (tcache) and fast bins of glibc's malloc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from instar.errors import RefusedError
from instar.heap.arenas import Arena
from instar.heap.image import Addresses, Blocks, Bytes
from instar.heap.walk import Spans, remove_rows


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """`struct tcache_perthread_struct`: 16-bit counts of all bins, then the list heads."""

    bins: int
    counts_up: bool

    @property
    def size(self) -> int:
        """Bytes of the struct."""
        return 10 * self.bins

    @property
    def usable(self) -> tuple[int, ...]:
        """What malloc_usable_size may say of the block: a remainder of 16 bytes is not split off."""
        least = (self.size + 8 + 15) // 16 * 16 - 8
        return least, least + 16


CACHE_LAYOUTS = (CacheLayout(64, True), CacheLayout(76, False))
"""glibc 2.30 to 2.41; since 2.42 free places are counted, and twelve more bins cache larger blocks."""

_SMALL_BINS = 64


def cache_layout(usable: int) -> CacheLayout | None:
    """The layout that fits a block of this usable size."""
    return next((layout for layout in CACHE_LAYOUTS if usable in layout.usable), None)


def read_cache(
    data: Bytes, layout: CacheLayout, spans: Spans, blocks: Blocks, *, mangled: bool
) -> Addresses | None:
    """The cached blocks of one thread, or None when ``data`` is no thread cache.

    Args:
        data: The struct's bytes.
        layout: Its layout.
        spans: Copied heap.
        blocks: Chunks in use by address, those cached among them.
        mangled: Whether links are mangled.
    """
    counts = data[: 2 * layout.bins].view("<u2")
    heads = data[2 * layout.bins : layout.size].view("<u8")
    found: list[Addresses] = []
    for index in np.flatnonzero(heads).tolist():
        members = spans.chain(int(heads[index]), 0, mangled, 1 << 16)
        if members is None or (layout.counts_up and len(members) != int(counts[index])):
            return None
        if not _sizes_fit(members, index, blocks):
            return None
        found.append(members)
    if layout.counts_up and counts[heads == 0].any():
        return None
    return np.concatenate(found) if found else np.empty(0, np.uint64)


def _sizes_fit(members: Addresses, index: int, blocks: Blocks) -> bool:
    rows = _rows(members, blocks)
    if rows is None:
        return False
    sizes = blocks["size"][rows] + np.uint64(8)
    if index < _SMALL_BINS:
        return bool((sizes == 32 + 16 * index).all())
    return bool((sizes > 16 + 16 * _SMALL_BINS).all())


def _rows(addresses: Addresses, blocks: Blocks) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    """Rows of the blocks that begin at these addresses; None unless each does."""
    rows = np.searchsorted(blocks["address"], addresses)
    if len(addresses) and (rows.max() >= len(blocks) or (blocks["address"][rows] != addresses).any()):
        return None
    return rows


def fast_chunks(arena: Arena, spans: Spans, blocks: Blocks, *, mangled: bool) -> list[Addresses]:
    """User addresses of all chunks on an arena's fast bins."""
    found = []
    for index, head in enumerate(arena.fast_bins):
        chunks = spans.chain(head, 16, mangled, max(len(blocks), 1))
        members = None if chunks is None else chunks + np.uint64(16)
        rows = None if members is None else _rows(members, blocks)
        if members is None or rows is None or (blocks["size"][rows] != 24 + 16 * index).any():
            raise RefusedError(
                "heap-corrupt",
                f"the heap of the process is damaged: the fast bin {index} of the arena at {arena.address:#x}"
                " leads astray",
                "look for a use after free or a double free with valgrind or -fsanitize=address",
            )
        found.append(members)
    return found


def remove_dead(blocks: Blocks, dead: Sequence[Addresses]) -> Blocks:
    """Take the blocks at the given addresses out of the column, in place.

    Raises:
        RefusedError: "heap-corrupt": an address is given twice.
    """
    addresses = np.sort(np.concatenate(dead)) if dead else np.empty(0, np.uint64)
    twice = np.flatnonzero(addresses[1:] == addresses[:-1])
    if len(twice):
        raise RefusedError(
            "heap-corrupt",
            f"the heap of the process is damaged: the block at {int(addresses[twice[0]]):#x} is on two lists"
            " of free blocks",
            "look for a double free with valgrind or -fsanitize=address",
        )
    return remove_rows(blocks, np.searchsorted(blocks["address"], addresses))
