"""Calls the comparison kernel over pieces of the future's memory, on two processors."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.errors import FaultError
from instar.native import load
from instar.state.kernel import State
from instar.validation.columns import DIFFERENCE, LEAD, Count
from instar.validation.counterparts import Counterparts
from instar.validation.inverse import InversePool

Array = np.ndarray[Any, np.dtype[Any]]
# Fills a contiguous u1 array from an address of the future.
ReadInto = Callable[[int, Array], None]

_PIECE = 1 << 20
_GAP = 1 << 16
_DIFFERENCES = 4096
_LEADS = 1 << 14
_LEADS_SEEN = 4096  # LEADS_SEEN of native/kernels/validation.h
_THREADS = 2
_SPARE = 64
_UNTOLD = 64
_ROWS = 1 << 16  # at a time: columns of all objects would be as large as their contents


class _CCompare(ctypes.Structure):
    _fields_ = [
        ("state", ctypes.c_void_p),
        ("fixed", ctypes.c_void_p),
        ("fixed_count", ctypes.c_uint64),
        ("fixed_mappings", ctypes.c_void_p),
        ("counterparts", ctypes.c_void_p),
        ("extras", ctypes.c_void_p),
        ("mappings", ctypes.c_void_p),
        ("moves", ctypes.c_void_p),
        ("bits", ctypes.c_void_p),
        ("enums", ctypes.c_void_p),
        ("enum_values", ctypes.c_void_p),
        ("offset_maps", ctypes.c_void_p),
        ("inners", ctypes.c_void_p),
        ("masks", ctypes.c_void_p),
        ("mask_bits", ctypes.c_void_p),
        ("pointees", ctypes.c_void_p),
        ("words", ctypes.c_void_p),
        ("word_count", ctypes.c_uint64),
        ("scratch", ctypes.c_void_p),
        ("scratch_size", ctypes.c_uint64),
        ("differences", ctypes.c_void_p),
        ("difference_count", ctypes.c_uint64),
        ("difference_capacity", ctypes.c_uint64),
        ("image_start", ctypes.c_uint64),
        ("image_end", ctypes.c_uint64),
        ("leads_seen", ctypes.c_void_p),
        ("leads", ctypes.c_void_p),
        ("lead_count", ctypes.c_uint64),
        ("lead_capacity", ctypes.c_uint64),
        ("counts", ctypes.c_uint64 * len(Count)),
    ]


@dataclass(frozen=True, eq=False)
class Compared:
    """What a comparison found.

    Attributes:
        differences: ``DIFFERENCE`` rows, the first ones.
        count: How many there are.
        counts: See ``Count``.
        leads: ``LEAD`` rows: what of the program the slots lead to, about one per kind of slot and target.
    """

    differences: Array
    count: int
    counts: dict[Count, int]
    leads: Array


@dataclass(frozen=True)
class Piece:
    """Rows (a slice of an array) whose counterparts lie in one stretch of the future."""

    rows: Array
    start: int
    size: int


class Comparison:
    """The kernel bound to one planned transfer.

    Args:
        state: The past's.
        fixed: ``FIXED`` rows, and ``fixed_mappings`` their inverse mappings.
        counterparts: Per object.
        inverse: The mappings that they refer to.
        pointees: i4 per type of the past: its counterpart.
        words: ``WORD`` rows by object that must have been rewritten.
        image: First address of the past's program and the one behind it, to collect leads into it.
    """

    def __init__(
        self,
        state: State,
        fixed: Array,
        fixed_mappings: Array,
        counterparts: Counterparts,
        inverse: InversePool,
        pointees: Array,
        words: Array,
        image: tuple[int, int] = (0, 0),
    ) -> None:
        self._library = load("kernels")
        self._state, self._counterparts = state, counterparts
        columns, extras = inverse.columns(), counterparts.extras()
        self._keep = (fixed, fixed_mappings, pointees, words, columns, extras)
        reversed_rows = counterparts.rows["mapping"] >= 0
        self._scratch = int(state.objects["size"].max(where=reversed_rows, initial=0)) + _SPARE
        self._arguments = {
            "state": ctypes.addressof(state.c_state),
            "fixed": fixed.ctypes.data,
            "fixed_count": len(fixed),
            "fixed_mappings": fixed_mappings.ctypes.data,
            "counterparts": counterparts.rows.ctypes.data,
            "extras": extras.ctypes.data,
            "mappings": columns["mappings"].ctypes.data,
            "moves": columns["moves"].ctypes.data,
            "bits": columns["bits"].ctypes.data,
            "enums": columns["enums"].ctypes.data,
            "enum_values": columns["values"].ctypes.data,
            "offset_maps": columns["offsets"].ctypes.data,
            "inners": columns["inners"].ctypes.data,
            "masks": columns["masks"].ctypes.data,
            "mask_bits": columns["mask_bits"].ctypes.data,
            "pointees": pointees.ctypes.data,
            "words": words.ctypes.data,
            "word_count": len(words),
            "image_start": image[0],
            "image_end": image[1],
        }

    def compare(self, rows: Array, read: ReadInto) -> Compared:
        """Compare objects, given by their place in the future, with what ``read`` gives of it."""
        batches = (rows[at : at + _ROWS] for at in range(0, len(rows), _ROWS))
        pieces = [piece for batch in batches for piece in self._pieces(batch)]
        if len(pieces) < 2 * _THREADS:
            return self._compare(pieces, read)
        with ThreadPoolExecutor(_THREADS) as pool:
            parts = list(pool.map(lambda n: self._compare(pieces[n::_THREADS], read), range(_THREADS)))
        return join_compared(parts)

    def same_words(self, past: Array, future: Array) -> Array:
        """Per word: do both lead to the same, or hold the same number?"""
        past, future = (np.ascontiguousarray(words, dtype=np.uint64) for words in (past, future))
        same = np.zeros(len(past), dtype=np.uint8)
        c = _CCompare(**self._arguments)
        self._library.instar_compare_words(
            ctypes.byref(c),
            ctypes.c_void_p(past.ctypes.data),
            ctypes.c_void_p(future.ctypes.data),
            ctypes.c_uint64(len(past)),
            ctypes.c_void_p(same.ctypes.data),
        )
        return same.astype(bool)

    def untold(self, wanted: Array, tables: Sequence[Array]) -> Array:
        """The first rows whose counterparts are in no table, or there with another size.

        Args:
            wanted: Per object, bool: is it to be looked for?
            tables: (n, 2) u8 each, contiguous: address and size of blocks by address, each a range.
        """
        tables = sorted(
            (np.ascontiguousarray(table, np.uint64) for table in tables if len(table)),
            key=lambda table: int(table[0, 0]),
        )
        told = np.array([(table.ctypes.data, len(table)) for table in tables], np.uint64).reshape(-1, 2)
        missing = np.empty(_UNTOLD, dtype=np.int64)
        c = _CCompare(**self._arguments)
        function = self._library.instar_compare_told
        function.restype = ctypes.c_uint64
        count = function(
            ctypes.byref(c),
            ctypes.c_void_p(np.ascontiguousarray(wanted).ctypes.data),
            ctypes.c_void_p(told.ctypes.data),
            ctypes.c_uint64(len(told)),
            ctypes.c_void_p(missing.ctypes.data),
            ctypes.c_uint64(len(missing)),
        )
        return missing[: min(int(count), len(missing))]

    def _pieces(self, rows: Array, gap: int = _GAP) -> list[Piece]:
        """Cut rows into stretches of about a megabyte without large holes."""
        starts = self._counterparts.places(rows)
        ends = starts + self._counterparts.sizes(rows)
        breaks = np.append(np.flatnonzero(starts[1:] > ends[:-1] + np.uint64(gap)) + 1, len(rows))
        pieces = []
        at = 0
        while at < len(rows):
            stop = int(np.searchsorted(starts, starts[at] + np.uint64(_PIECE)))
            stop = min(max(stop, at + 1), int(breaks[np.searchsorted(breaks, at, side="right")]))
            end = int(ends[at:stop].max())
            pieces.append(Piece(rows[at:stop], int(starts[at]), end - int(starts[at])))
            at = stop
        return pieces

    def _readable(
        self, pieces: Sequence[Piece], buffer: Array, read: ReadInto
    ) -> Iterator[tuple[Piece, Array]]:
        """Pieces with their bytes; where pages between two objects are not mapped, cut at every hole."""
        for piece in pieces:
            data = buffer[: piece.size]
            try:
                read(piece.start, data)
            except FaultError:
                parts = self._pieces(piece.rows, gap=0)
                if len(parts) == 1:
                    raise
                for part in parts:
                    data = buffer[: part.size]
                    read(part.start, data)
                    yield part, data
            else:
                yield piece, data

    def _compare(self, pieces: Sequence[Piece], read: ReadInto) -> Compared:
        scratch = np.zeros(self._scratch, dtype=np.uint8)
        differences = np.zeros(_DIFFERENCES, dtype=DIFFERENCE)
        c = _CCompare(**self._arguments)
        c.scratch, c.scratch_size = scratch.ctypes.data, len(scratch)
        c.differences, c.difference_capacity = differences.ctypes.data, len(differences)
        seen, leads = np.zeros(_LEADS_SEEN, dtype=np.uint64), np.zeros(_LEADS, dtype=LEAD)
        c.leads_seen, c.leads, c.lead_capacity = seen.ctypes.data, leads.ctypes.data, len(leads)
        buffer = np.empty(max((piece.size for piece in pieces), default=0), dtype=np.uint8)
        for piece, data in self._readable(pieces, buffer, read):
            rows = np.ascontiguousarray(piece.rows, dtype=np.int64)
            self._library.instar_compare_rows(
                ctypes.byref(c),
                ctypes.c_void_p(rows.ctypes.data),
                ctypes.c_uint64(len(rows)),
                ctypes.c_uint64(piece.start),
                ctypes.c_uint64(piece.size),
                ctypes.c_void_p(data.ctypes.data),
            )
        count = int(c.difference_count)
        counts = {one: int(c.counts[one]) for one in Count}
        leads = leads[: min(int(c.lead_count), _LEADS)].copy()
        return Compared(differences[: min(count, _DIFFERENCES)], count, counts, leads)


def join_compared(parts: Sequence[Compared]) -> Compared:
    """All of several."""
    return Compared(
        np.concatenate([np.zeros(0, DIFFERENCE), *(part.differences for part in parts)]),
        sum(part.count for part in parts),
        {one: sum(part.counts.get(one, 0) for part in parts) for one in Count},
        np.concatenate([np.zeros(0, LEAD), *(part.leads for part in parts)]),
    )


def first_unlike(future: Array, past: Array, address: int, patches: Array) -> int | None:
    """Offset of the first byte of the future that is not the past's with patches put in.

    Args:
        future, past: u1, the same length.
        address: Of the first byte.
        patches: ``PATCH`` rows by address, of words that touch these bytes.
    """
    function = load("kernels").instar_compare_patched
    function.restype = ctypes.c_int64
    patches = np.ascontiguousarray(patches)
    at = function(
        ctypes.c_void_p(future.ctypes.data),
        ctypes.c_void_p(past.ctypes.data),
        ctypes.c_uint64(address),
        ctypes.c_uint64(len(future)),
        ctypes.c_void_p(patches.ctypes.data),
        ctypes.c_uint64(len(patches)),
    )
    return None if at < 0 else int(at)
