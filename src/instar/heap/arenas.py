"""Finds and checks the `struct malloc_state` of every arena of glibc's malloc.

libc is stripped nearly everywhere, so `main_arena` is recognised by what it must be: its bins are empty and
point at themselves or lead to chunks that point back, its `next` leads around a ring of arenas, its top
chunk lies where arenas live. Exactly one place in libc's data may fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from instar.errors import FaultError, RefusedError
from instar.process.memory import Memory

NONCONTIGUOUS = 2
_BINS = 127
_MAX_ARENAS = 4096


@dataclass(frozen=True, slots=True)
class ArenaLayout:
    """Offsets of the members of `struct malloc_state`."""

    top: int
    fast_bins: int

    @property
    def bins(self) -> int:
        """Offset of `bins`."""
        return self.top + 16

    @property
    def next(self) -> int:
        """Offset of `next`."""
        return self.bins + 16 * _BINS + 16

    @property
    def size(self) -> int:
        """Bytes of the whole struct."""
        return self.next + 40


LAYOUTS = (ArenaLayout(96, 10), ArenaLayout(8, 0))
"""glibc 2.27 to 2.42; since 2.43 there are no fast bins."""


@dataclass(frozen=True, slots=True)
class Arena:
    """One arena's own record."""

    address: int
    layout: ArenaLayout
    locked: bool
    flags: int
    fast_bins: tuple[int, ...]
    top: int
    system_memory: int

    @property
    def contiguous(self) -> bool:
        """Whether all its memory came from the break in one piece."""
        return not self.flags & NONCONTIGUOUS

    @property
    def unused(self) -> bool:
        """Whether no memory was ever obtained: its top chunk is the arena's own empty bin."""
        return self.top in (0, self.address + self.layout.top)


class _NoArenaError(Exception):
    """This place holds no arena."""


def read_arena(memory: Memory, address: int, layout: ArenaLayout) -> tuple[Arena, int]:
    """Read one arena and check it; returns it and the address of the next in the ring."""
    words = np.frombuffer(memory.read(address, layout.size), "<u8")
    mutex, flags = int(words[0]) & 0xFFFFFFFF, int(words[0]) >> 32
    tail = [int(word) for word in words[layout.next // 8 :]]
    following, _, attached, system, maximum = tail
    top = int(words[layout.top // 8])
    _require(mutex <= 2 and flags <= 7 and (not layout.fast_bins or (int(words[1]) & 0xFFFFFFFF) <= 1))
    _require(attached < 1 << 22 and system <= maximum)
    _check_bins(memory, address, layout, words, pristine=top == 0)
    fast = tuple(int(word) for word in words[2 : 2 + layout.fast_bins])
    arena = Arena(address, layout, mutex != 0, flags, fast, top, system)
    _require(arena.unused == (system == 0) and (arena.unused or top % 16 == 0))
    _require(all(head % 16 == 0 for head in fast))
    return arena, following


def _require(condition: bool) -> None:
    if not condition:
        raise _NoArenaError


def _check_bins(
    memory: Memory, address: int, layout: ArenaLayout, words: npt.NDArray[np.uint64], *, pristine: bool
) -> None:
    first = layout.bins // 8
    pairs = words[first : first + 2 * _BINS].reshape(_BINS, 2)
    if pristine:
        _require(not pairs.any())
        return
    heads = np.arange(_BINS, dtype=np.uint64) * np.uint64(16) + np.uint64(address + layout.bins - 16)
    empty = (pairs == heads[:, None]).all(axis=1)
    used = ~empty
    _require(bool((pairs[used] % 16 == 0).all() and pairs[used].all()))
    if used.any():
        _require(bool((_words(memory, pairs[used, 0] + np.uint64(24)) == heads[used]).all()))
        _require(bool((_words(memory, pairs[used, 1] + np.uint64(16)) == heads[used]).all()))


def _words(memory: Memory, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    return memory.read_spans(addresses, np.full(len(addresses), 8, np.uint64)).view(np.uint64)


def follow_arenas(memory: Memory, main: Arena, library: tuple[int, int]) -> list[Arena]:
    """All arenas as they are now, main first, of a process whose main arena was found before."""
    arenas = _follow_ring(memory, main.address, main.layout, library)
    if arenas is None:
        raise RefusedError(
            "heap-corrupt",
            f"malloc's own record of the main arena at {main.address:#x} is not consistent",
            "look for a buffer overflow with valgrind or -fsanitize=address",
        )
    return arenas


def find_arenas(memory: Memory, start: int, size: int) -> list[Arena]:
    """All arenas, main first.

    Args:
        memory: Of the process.
        start: Address of libc's writable segment.
        size: Its bytes.

    Raises:
        RefusedError: "unknown-allocator" when no place, or more than one, fits.
    """
    words = np.frombuffer(memory.read(start, size & ~7), "<u8")
    rings = [
        ring
        for layout in LAYOUTS
        for address in _candidates(words, start, layout)
        if (ring := _follow_ring(memory, address, layout, (start, start + size))) is not None
    ]
    if len(rings) != 1:
        found = "no arena" if not rings else f"{len(rings)} possible arenas"
        raise RefusedError(
            "unknown-allocator",
            f"libc's data holds {found} of a layout known here",
            "run the program with the distribution's glibc (2.31 or later) and its malloc",
        )
    return rings[0]


def _candidates(words: npt.NDArray[np.uint64], start: int, layout: ArenaLayout) -> list[int]:
    """Places that could be an arena judging by single words, before anything is followed."""
    count = len(words) - layout.size // 8 + 1
    if count <= 0:
        return []

    def column(offset: int) -> npt.NDArray[np.uint64]:
        return words[offset // 8 : offset // 8 + count]

    address = np.arange(count, dtype=np.uint64) * np.uint64(8) + np.uint64(start)
    zeros = np.concatenate([[0], np.cumsum(words == 0)])
    first = layout.bins // 8
    linked = zeros[first : first + count] == zeros[first + 2 * _BINS : first + 2 * _BINS + count]
    pristine = (column(layout.next) == address) & (column(layout.top) == 0) & (column(layout.next + 16) == 1)
    system = column(layout.next + 24)
    fits = (linked | pristine) & (column(layout.next) != 0) & (system <= column(layout.next + 32))
    fits &= ((column(0) & np.uint64(0xFFFFFFFF)) <= 2) & (column(0) >> np.uint64(32) <= 7)
    fits &= column(layout.next + 16) < 1 << 22
    return [start + 8 * int(index) for index in np.flatnonzero(fits)]


def _follow_ring(
    memory: Memory, main: int, layout: ArenaLayout, library: tuple[int, int]
) -> list[Arena] | None:
    arenas: list[Arena] = []
    address = main
    try:
        while not arenas or address != main:
            if len(arenas) == _MAX_ARENAS:
                return None
            arena, address = read_arena(memory, address, layout)
            _require(arena.unused or not library[0] <= arena.top < library[1])
            arenas.append(arena)
    except (FaultError, _NoArenaError):
        return None
    ordered = sorted(arena.address for arena in arenas)
    return None if any(a == b for a, b in pairwise(ordered)) else arenas
