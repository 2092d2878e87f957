"""The state of one process as columns, and the C kernels that work on them.

A ``State`` is built from copied memory; no kernel touches a process. Rows of ``objects``: heap blocks first,
sorted by address, then the objects of every other region, each region's together and sorted.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instar.metadata.distinct import distinct
from instar.native import load
from instar.state.columns import INSIDE, NO_CLAIM, OBJECT, REGION, ObjectFlag, ObjectKind, Strength
from instar.state.mapped import Mapped
from instar.state.slots import TypeTable

Array = np.ndarray[Any, np.dtype[Any]]

GRANULE = 16
_UNKNOWN_CAPACITY = 4096
_CLAIM_CAPACITY = 1 << 16


@dataclass(eq=False)
class Span:
    """A piece of copied memory and the objects in it.

    Attributes:
        start: Address in the process.
        data: Its bytes (u1).
        objects: ``OBJECT`` rows inside, sorted by address, not overlapping.
        origins: Per object a row number of its own kind (variable, local), -1 for none.
        granular: Objects lie on 16-byte boundaries (heaps); lookups then cost one load.
        blocks: In place of ``objects``: rows that begin with address and size; laid out by the state.
        mapped: Set when the program mapped it itself: one block over all of it.
    """

    start: int
    data: Array
    objects: Array
    origins: Array
    granular: bool = False
    blocks: Array | None = None
    mapped: Mapped | None = None

    @property
    def count(self) -> int:
        """How many objects lie inside."""
        return len(self.objects) if self.blocks is None else len(self.blocks)

    @property
    def end(self) -> int:
        """First address behind the span."""
        return self.start + len(self.data)


class _CState(ctypes.Structure):
    _fields_ = [
        ("objects", ctypes.c_void_p),
        ("object_count", ctypes.c_uint64),
        ("regions", ctypes.c_void_p),
        ("region_count", ctypes.c_uint64),
        ("types", ctypes.c_void_p),
        ("type_count", ctypes.c_uint64),
        ("slots", ctypes.c_void_p),
        ("queue", ctypes.c_void_p),
        ("queue_head", ctypes.c_uint64),
        ("queue_tail", ctypes.c_uint64),
        ("queued", ctypes.c_uint64),
        ("verdicts", ctypes.c_void_p),
        ("verdict_count", ctypes.c_uint64),
        ("unknown_pairs", ctypes.c_void_p),
        ("unknown_count", ctypes.c_uint64),
        ("unknown_capacity", ctypes.c_uint64),
        ("retyped", ctypes.c_uint64),
        ("bitmaps", ctypes.c_void_p),
        ("bitmap_first", ctypes.c_void_p),
        ("claims", ctypes.c_void_p),
        ("claim_count", ctypes.c_uint64),
        ("claim_capacity", ctypes.c_uint64),
    ]


def make_objects(count: int, kind: ObjectKind) -> Array:
    """``count`` opaque OBJECT rows of one kind."""
    rows = np.zeros(count, dtype=OBJECT)
    rows["parent"] = rows["type"] = rows["mapping"] = -1
    rows["out"] = NO_CLAIM
    rows["count"] = 1
    rows["kind"] = kind
    return rows


@dataclass(eq=False)
class State:
    """Objects, regions and types of one process, laid out for the kernels.

    Attributes:
        table: The version's types.
        spans: Copied memory, sorted by address.
        objects: ``OBJECT`` rows of all spans.
    """

    table: TypeTable
    spans: list[Span]
    objects: Array = field(init=False)
    verdicts: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.spans = sorted(self.spans, key=lambda span: span.start)
        self._lay_out()
        self._library = load("kernels")
        self._waiting: Array | None = None
        self._claims = np.zeros(2 * _CLAIM_CAPACITY, dtype=np.int32)
        self._unknown = np.zeros(2 * _UNKNOWN_CAPACITY, dtype=np.int32)
        self.c_state = self._bind()

    def _lay_out(self) -> None:
        """One column of objects, and for every span where its rows are."""
        order = [span for span in self.spans if span.granular] + [s for s in self.spans if not s.granular]
        total = sum(span.count for span in order)
        self.objects = np.empty(total, dtype=OBJECT)
        self._granular = sum(span.count for span in order if span.granular)
        self._origins = np.full(total - self._granular, -1, dtype=np.int32)
        firsts: dict[int, int] = {}
        row = 0
        for span in order:
            firsts[span.start] = row
            self._take(span, row)
            row += span.count
        self._ranks: list[Array] = []  # the regions point into them
        self.regions = np.zeros(len(self.spans), dtype=REGION)
        for region, span in zip(self.regions, self.spans, strict=True):
            first = firsts[span.start]
            region["start"], region["end"] = span.start, span.end
            region["data"] = span.data.ctypes.data
            region["first"], region["last"] = first, first + span.count
            region["single"] = first if span.granular and span.count == 1 else -1
            span.objects = self.objects[first : first + span.count]
            region["granular"] = span.granular
            if span.granular and span.count != 1:
                region["begins"], region["ranks"] = self._rank(span, first)

    def _take(self, span: Span, row: int) -> None:
        """Put a span's objects into their place in the column."""
        if span.blocks is None:
            self.objects[row : row + span.count] = span.objects
            if not span.granular:
                first = row - self._granular
                self._origins[first : first + span.count] = span.origins
            return
        blocks = np.ascontiguousarray(span.blocks)
        load("kernels").instar_state_make_blocks(
            ctypes.c_void_p(self.objects.ctypes.data + row * OBJECT.itemsize),
            ctypes.c_void_p(blocks.ctypes.data),
            ctypes.c_uint64(blocks.dtype.itemsize),
            ctypes.c_uint64(len(blocks)),
        )

    def _rank(self, span: Span, first: int) -> tuple[int, int]:
        """Where the columns are that make a lookup one load; (0, 0) where objects lie too close for them."""
        words = (len(span.data) // GRANULE + 2) // 64 + 1
        begins, ranks = np.zeros(words, dtype=np.uint64), np.empty(words, dtype=np.uint32)
        function = load("kernels").instar_state_rank
        function.restype = ctypes.c_int
        if not function(
            ctypes.c_void_p(self.objects.ctypes.data),
            ctypes.c_int64(first),
            ctypes.c_int64(first + len(span.objects)),
            ctypes.c_uint64(span.start),
            ctypes.c_void_p(begins.ctypes.data),
            ctypes.c_void_p(ranks.ctypes.data),
            ctypes.c_uint64(words),
        ):
            return 0, 0
        self._ranks += [begins, ranks]
        return begins.ctypes.data, ranks.ctypes.data

    def _bind(self) -> _CState:
        return _CState(
            objects=self.objects.ctypes.data,
            object_count=len(self.objects),
            regions=self.regions.ctypes.data,
            region_count=len(self.regions),
            types=self.table.types.ctypes.data,
            type_count=len(self.table.types),
            slots=self.table.slots.ctypes.data,
            unknown_pairs=self._unknown.ctypes.data,
            unknown_capacity=_UNKNOWN_CAPACITY,
            bitmaps=self.table.bitmaps.ctypes.data,
            bitmap_first=self.table.bitmap_first.ctypes.data,
            claims=self._claims.ctypes.data,
            claim_capacity=_CLAIM_CAPACITY,
        )

    @contextmanager
    def _queue(self) -> Iterator[None]:
        """Room for every object that waits to be followed; kept only while some do."""
        state = self.c_state
        if self._waiting is None:
            self._waiting = np.empty(max(len(self.objects), 1), dtype=np.int32)
            state.queue, state.queue_head, state.queue_tail = self._waiting.ctypes.data, 0, 0
        yield
        if not state.queued:
            self._waiting = state.queue = None

    def claims(self) -> Array | None:
        """(n, 2) i4: object and type of every claim inside an untyped block; None: too many to note."""
        count = int(self.c_state.claim_count)
        if count > _CLAIM_CAPACITY:
            return None
        pairs: Array = np.unique(self._claims[: 2 * count].reshape(-1, 2), axis=0)
        return pairs

    def trace(self, strength: Strength) -> list[tuple[int, int]]:
        """Follow typed pointers to the fixpoint; returns pairs of claims that no verdict covers yet."""
        flat = np.array([[*pair, winner] for pair, winner in self.verdicts.items()], dtype=np.int32).reshape(
            -1
        )
        self.c_state.verdicts = flat.ctypes.data if len(flat) else None
        self.c_state.verdict_count = len(self.verdicts)
        self.c_state.unknown_count = 0
        with self._queue():
            self._library.instar_state_trace(ctypes.byref(self.c_state), ctypes.c_int32(strength))
        pairs = self._unknown[: 2 * self.c_state.unknown_count].reshape(-1, 2)
        return [(int(a), int(b)) for a, b in pairs]

    def trace_unions(self) -> None:
        """Type blocks that only a union's pointer member explains."""
        with self._queue():
            self._library.instar_state_trace_unions(ctypes.byref(self.c_state))

    def inside(self, ranges: Array) -> Array:
        """``INSIDE`` rows: what typed pointers say lies in ranges (sorted), or is reached from there."""
        flat = np.ascontiguousarray(ranges, dtype=np.uint64)
        function = self._library.instar_state_inside
        function.restype = ctypes.c_uint64
        capacity = _UNKNOWN_CAPACITY
        while True:
            found = np.empty(capacity, dtype=INSIDE)
            count = function(
                ctypes.byref(self.c_state),
                ctypes.c_void_p(flat.ctypes.data),
                ctypes.c_uint64(len(flat)),
                ctypes.c_void_p(found.ctypes.data),
                ctypes.c_uint64(capacity),
            )
            if count <= capacity:
                return found[:count]
            if count == (1 << 64) - 1:
                raise MemoryError
            capacity = max(8 * capacity, int(count))

    def reach(self) -> None:
        """Mark every object that any word of the state could point into."""
        with self._queue():
            self._library.instar_state_reach(ctypes.byref(self.c_state))

    def infer(self, rows: Array, type_row: int) -> None:
        """Give blocks an inferred type; the next trace follows them."""
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        with self._queue():
            self._library.instar_state_infer(
                ctypes.byref(self.c_state),
                ctypes.c_void_p(rows.ctypes.data),
                ctypes.c_uint64(len(rows)),
                ctypes.c_int32(type_row),
            )

    def plausible(self, rows: Array, type_row: int, known: Array) -> Array:
        """Per block: do all pointer slots of the type hold something valid there?"""
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        results = np.zeros(len(rows), dtype=np.uint8)
        self._library.instar_state_plausible(
            ctypes.byref(self.c_state),
            ctypes.c_void_p(rows.ctypes.data),
            ctypes.c_uint64(len(rows)),
            ctypes.c_int32(type_row),
            ctypes.c_void_p(known.ctypes.data),
            ctypes.c_uint64(len(known)),
            ctypes.c_void_p(results.ctypes.data),
        )
        return results.astype(bool)

    def find(self, address: int) -> int | None:
        """Row of the object that contains an address."""
        function = self._library.instar_state_find
        function.restype = ctypes.c_int64
        row = int(function(ctypes.byref(self.c_state), ctypes.c_uint64(address)))
        return None if row < 0 else row

    def rows_in(self, starts: Array, size: int) -> Array:
        """Rows of the objects that lie at least partly in pieces of memory, ascending.

        Args:
            starts: Addresses (u8).
            size: Bytes of each piece.
        """
        starts = np.sort(starts)
        found = [np.zeros(0, dtype=np.int64)]
        for region in self.regions:
            first, low, high = int(region["first"]), int(region["start"]), int(region["end"])
            begin, end = np.searchsorted(starts, (max(low - size + 1, 0), high))
            own = self.objects["address"][first : int(region["last"])]
            for start in starts[begin:end].tolist():
                at = max(bisect_right(own, start) - 1, 0)  # numpy would copy the column
                found.append(np.arange(first + at, first + bisect_left(own, start + size)))
        return distinct(np.concatenate(found))

    def origin(self, row: int) -> int:
        """The row of an object's variable or local, -1 for none."""
        return -1 if row < self._granular else int(self._origins[row - self._granular])

    def span_of(self, address: int) -> Span | None:
        """The span that holds an address."""
        index = int(np.searchsorted(self.regions["start"], address, side="right")) - 1
        if index < 0 or address >= self.regions["end"][index]:
            return None
        return self.spans[index]

    def bytes_at(self, address: int, size: int) -> bytes | None:
        """Copied bytes, None where nothing (or not all) was copied."""
        span = self.span_of(address)
        if span is None or address + size > span.end:
            return None
        return span.data[address - span.start : address - span.start + size].tobytes()

    def word(self, address: int) -> int | None:
        """The u64 at an address, None where nothing was copied."""
        data = self.bytes_at(address, 8)
        return None if data is None else int.from_bytes(data, "little")

    def live(self) -> Array:
        """Rows of everything that is state: reached from a root, or a root."""
        return np.flatnonzero(self.objects["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT))


def sort_objects(rows: Array, origins: Array) -> tuple[Array, Array]:
    """Sort by address and drop rows that another one covers (merged statics share an address)."""
    order = np.lexsort((-rows["size"].astype(np.int64), rows["address"]))
    rows, origins = rows[order], origins[order]
    if not len(rows):
        return rows, origins
    reach = np.maximum.accumulate(rows["address"] + rows["size"])
    keep = np.ones(len(rows), dtype=bool)
    keep[1:] = rows["address"][1:] >= reach[:-1]
    return rows[keep], origins[keep]


def concatenate(rows: Sequence[Array]) -> Array:
    """Concatenate OBJECT columns, empty ones included."""
    return np.concatenate(list(rows)) if rows else make_objects(0, ObjectKind.HEAP)
