"""A copy of parts of a process that is brought up to date instead of read anew, and tells what changed.

The past is copied twice: while it serves, and when it is paused. The second time most bytes are the same:
they are read into a small buffer that stays in the processor's cache and compared with the copy, which costs
far less than filling fresh memory, and whoever used the first copy learns which pages to look at again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instar.errors import InternalError
from instar.native import load
from instar.process.memory import Memory
from instar.state.columns import CHANGE

Array = np.ndarray[Any, np.dtype[Any]]

PAGE = 4096
_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
_CHUNK = 4 << 20
_THREADS = 2
_STEP = 64 << 10  # bytes that are compared at once
_KEPT = 128  # changed pages of one chunk whose old bytes are kept; with more a new plan is cheaper anyway
_SPARE = 8  # a buffer has an eighth to spare: heaps grow


@dataclass(eq=False)
class Changes:
    """What differs between two copies.

    Attributes:
        rows: ``CHANGE`` rows: address and size, at most a page each.
        saved: The bytes before, one page for every row.
        pages: Addresses of the pages that differ, found apart: validation compares all that lies in them.
    """

    rows: Array = field(default_factory=lambda: np.zeros(0, dtype=CHANGE))
    saved: Array = field(default_factory=lambda: np.zeros((0, PAGE), dtype=np.uint8))
    pages: Array = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))


def join_changes(parts: Sequence[Changes]) -> Changes:
    """All in one."""
    if not parts:
        return Changes()
    columns = (np.concatenate([getattr(p, name) for p in parts]) for name in ("rows", "saved", "pages"))
    return Changes(*columns)


def merge(copy: Array, fresh: Array, address: int, limit: int | None = None) -> Changes | None:
    """Bring a copy of the bytes at an address up to date.

    Args:
        copy: Old bytes; receives the new ones.
        fresh: New bytes, as many.
        address: Of the first.
        limit: At most so many changed pages are told apart; None for all.

    Returns:
        What changed; None when more than ``limit`` pages did.
    """
    limit = len(copy) // PAGE + 2 if limit is None else limit
    pages = _unlike_pages(copy, fresh, address, limit)
    if not len(pages):
        return Changes()
    rows = np.empty(limit, dtype=CHANGE)
    saved = np.empty((limit, PAGE), dtype=np.uint8)
    function = load("kernels").instar_state_merge
    function.restype = ctypes.c_uint64
    count = function(
        ctypes.c_void_p(copy.ctypes.data),
        ctypes.c_void_p(fresh.ctypes.data),
        ctypes.c_uint64(address),
        ctypes.c_uint64(len(copy)),
        ctypes.c_void_p(rows.ctypes.data),
        ctypes.c_void_p(saved.ctypes.data),
        ctypes.c_uint64(limit),
    )
    _require_merged(copy, fresh, address, pages, rows[:count] if count <= limit else None)
    return Changes(rows[:count], saved[:count], pages) if count <= limit else None


def _require_merged(copy: Array, fresh: Array, address: int, pages: Array, rows: Array | None) -> None:
    """What changed is in the copy now, and noted: everything else is worked out and checked from it.

    Args:
        copy, fresh, address: As for ``merge``.
        pages: Addresses of the pages that differed.
        rows: ``CHANGE`` rows; None for more than are told apart.
    """
    if not _is_same(copy, fresh):
        raise InternalError(f"the copy of the old version from {address:#x} on is not what was read")
    if rows is None:
        return
    starts = np.maximum(pages, np.uint64(address))
    sizes = np.minimum(pages + np.uint64(PAGE), np.uint64(address + len(copy))) - starts
    if not np.array_equal(rows["address"], starts) or not np.array_equal(rows["size"], sizes):
        raise InternalError(f"{len(rows)} changes of {len(pages)} pages from {address:#x} on were noted")


def _unlike_pages(copy: Array, fresh: Array, address: int, limit: int) -> Array:
    """Addresses of the pages that differ, ascending, the first maybe before ``address``; not all of many."""
    found = [np.zeros(0, dtype=np.uint64)]
    count, start = 0, 0 if not _is_same(copy, fresh) else len(copy)
    places = copy.ctypes.data, fresh.ctypes.data
    while start < len(copy) and count <= limit:
        end = min((address + start) // _STEP * _STEP + _STEP - address, len(copy))
        if _memcmp(places[0] + start, places[1] + start, end - start):
            found.append(_unlike_in(copy[start:end], fresh[start:end], address + start))
            count += len(found[-1])
        start = end
    return np.concatenate(found)


def _unlike_in(one: Array, other: Array, address: int) -> Array:
    """The same for a few pages."""
    first, last = address // PAGE, (address + len(one) - 1) // PAGE
    unit = 1 if (address | len(one)) & 7 else 8
    if unit == 8:
        one, other = one.view(np.uint64), other.view(np.uint64)
    differs = np.zeros((last + 1 - first) * PAGE // unit, dtype=bool)
    np.not_equal(one, other, out=differs[(address - first * PAGE) // unit :][: len(one)])
    unlike = np.flatnonzero(differs.reshape(-1, PAGE // unit).any(axis=1))
    pages: Array = (unlike + first).astype(np.uint64) * np.uint64(PAGE)
    return pages


def _is_same(one: Array, other: Array) -> bool:
    return int(_memcmp(one.ctypes.data, other.ctypes.data, len(one))) == 0


@dataclass(eq=False)
class _Piece:
    """A range that was copied: ``valid`` bytes of the buffer from ``start`` on hold what was read last."""

    start: int
    buffer: Array
    valid: int


class Mirror:
    """The copy of a process's ranges: use ``read`` in place of a plain read, ``begin`` before each round.

    Attributes:
        round: Number of the present one, or the last: changes are told against the one before.
    """

    def __init__(self) -> None:
        self._pieces: list[_Piece] = []
        self._parts: list[Changes | None] = []
        self._known: dict[int, int] = {}
        self._complete = False
        self.round = 0
        self._scratch: list[Array] = []
        self._pool = ThreadPoolExecutor(_THREADS)

    def begin(self) -> None:
        """Forget what changed before: from here on changes are told against the copy as it is.

        Until ``end`` the process must stand still: what was read is not read again. After a round that did
        not come to its end nobody knows what changed since the one before.
        """
        self._parts, self._known = [] if self._complete else [None], {}
        self._complete = False
        self.round += 1

    def end(self) -> Changes | None:
        """The copy is whole; returns ``changes``."""
        self._complete = True
        self._scratch.clear()
        return self.changes()

    def prepare(self, memory: Memory) -> None:
        """Have memory ready for the next round: touching it first would cost as much as a tenth of that."""
        self._make_scratch(memory)
        for scratch in self._scratch:
            scratch[::PAGE] = 0

    def _make_scratch(self, memory: Memory) -> None:
        while len(self._scratch) < _THREADS:
            self._scratch.append(memory.room(_CHUNK))

    def warm(self, memory: Memory, ranges: Iterable[tuple[int, int]]) -> None:
        """Copy ranges (start, end) of a process that runs: a first guess, made true by the next ``read``."""
        for start, end in ranges:
            self.read(memory, start, end - start)
        self._complete = False

    def read(self, memory: Memory, address: int, size: int) -> Array:
        """The bytes of a range as they are now; valid until the same range is read again."""
        piece = self._piece(memory, address, size)
        at = address - piece.start
        if self._known.get(address, 0) >= size:
            return piece.buffer[at : at + size]
        self._known[address] = size
        known = max(min(piece.valid - at, size), 0)
        if known < size:
            memory.read_into(address + known, piece.buffer[at + known : at + size])
            piece.valid = max(piece.valid, at + size) if piece.valid >= at else 0
            self._parts.append(None)
        if known:
            self._parts.extend(self._update(memory, address, piece.buffer[at : at + known]))
        return piece.buffer[at : at + size]

    def changes(self) -> Changes | None:
        """What changed since the round before, as far as it was read.

        None when something was read for the first time, much changed, or the round before did not end.
        """
        parts = [part for part in self._parts if part is not None]
        return join_changes(parts) if len(parts) == len(self._parts) else None

    def _piece(self, memory: Memory, address: int, size: int) -> _Piece:
        for piece in self._pieces:
            room = piece.start + len(piece.buffer)
            if piece.start <= address <= piece.start + piece.valid and address + size <= room:
                return piece
        kept = [p for p in self._pieces if p.start + p.valid <= address or p.start >= address + size]
        piece = _Piece(address, memory.room(size + size // _SPARE), 0)
        self._pieces = [*kept, piece]
        return piece

    def _update(self, memory: Memory, address: int, copy: Array) -> Iterator[Changes | None]:
        """Read in chunks that stay in the cache, on both processors, and merge each."""
        starts = list(_chunks(address, len(copy)))
        self._make_scratch(memory)

        def work(number: int) -> list[Changes | None]:
            scratch = self._scratch[number]
            found = []
            for start, size in starts[number::_THREADS]:
                memory.read_into(start, scratch[:size])
                own = copy[start - address : start - address + size]
                found.append(merge(own, scratch[:size], start, _KEPT))
            return found

        if len(starts) < 2 * _THREADS:
            yield from (part for number in range(_THREADS) for part in work(number))
            return
        running = [self._pool.submit(work, number) for number in range(_THREADS)]
        wait(running)  # also when one of them fails: nobody may still read when the caller goes on
        for one in running:
            yield from one.result()


def _chunks(address: int, size: int) -> Iterator[tuple[int, int]]:
    at = address
    while at < address + size:
        end = min((at // _CHUNK + 1) * _CHUNK, address + size)
        yield at, end - at
        at = end
