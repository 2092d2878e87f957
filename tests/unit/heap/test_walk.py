"""The kernels on heaps written by hand."""

from __future__ import annotations

import ctypes
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.errors import RefusedError
from instar.heap.buffers import BufferPool
from instar.heap.caches import CACHE_LAYOUTS, CacheLayout, cache_layout, read_cache, remove_dead
from instar.heap.image import BLOCK, BlockKind, HeapRegion
from instar.heap.walk import SPAN, Spans, WalkFault, WalkState, _Walk, walk_segment
from instar.native import load

BASE = 0x5555_5555_0000


class Segment:
    """Lays chunks one after the other; a free one gets its size at its end, as malloc would write it."""

    def __init__(self, base: int = BASE) -> None:
        self.base = base
        self.data = bytearray()
        self.previous_free = 0
        self.live: list[tuple[int, int]] = []

    @property
    def here(self) -> int:
        return self.base + len(self.data)

    def chunk(self, size: int, *, free: bool = False, flags: int = 0) -> int:
        address = self.here
        head = size | (0 if self.previous_free else 1) | flags
        self.data += struct.pack("<QQ", self.previous_free, head) + bytes(size - 16)
        if not free:
            self.live.append((address + 16, size - 8))
        self.previous_free = size if free else 0
        return address

    def header(self, size: int, flags: int = 1) -> int:
        address = self.here
        self.data += struct.pack("<QQ", self.previous_free, size | (flags if not self.previous_free else 0))
        self.previous_free = 0
        return address

    def array(self) -> np.ndarray:
        return np.frombuffer(bytes(self.data), np.uint8).copy()


def walk(
    segment: Segment, top: int = 0, kind: BlockKind = BlockKind.MAIN
) -> tuple[list[tuple[int, int]], WalkState, int]:
    blocks, state, cursor = walk_segment(segment.array(), segment.base, segment.base, top, kind, BufferPool())
    return [(a, s) for a, s in blocks.tolist()], state, cursor


def test_layouts() -> None:
    size = load("kernels").instar_heap_layout
    size.restype = ctypes.c_uint64
    assert [size(i) for i in range(3)] == [BLOCK.itemsize, ctypes.sizeof(_Walk), SPAN.itemsize]


@given(st.lists(st.tuples(st.integers(2, 70), st.booleans()), max_size=60))
def test_any_heap(chunks: list[tuple[int, bool]]) -> None:
    segment = Segment()
    for units, free in chunks:
        segment.chunk(16 * units, free=free and not segment.previous_free)
    if segment.previous_free:
        segment.chunk(32)
    top = segment.header(0x1000)
    blocks, state, cursor = walk(segment, top)
    assert (blocks, state, cursor) == (segment.live, WalkState.TOP, top)


@pytest.mark.parametrize("remainder", [0, 16])
def test_main_segment_ends_with_fenceposts(remainder: int) -> None:
    segment = Segment()
    segment.chunk(64)
    segment.chunk(48, free=True)
    if remainder:
        segment.header(16)
    segment.header(16)
    segment.header(16)
    end = segment.here
    segment.chunk(0x100)
    assert walk(segment) == (segment.live[:1], WalkState.FENCE, end)


def test_arena_heap_ends_with_a_size_of_zero() -> None:
    segment = Segment()
    segment.chunk(64, flags=4)
    segment.chunk(96, free=True)
    segment.header(16)
    segment.header(0)
    assert walk(segment, kind=BlockKind.ARENA) == (segment.live, WalkState.FENCE, segment.here)


def test_arena_remainder_that_looks_live_is_a_fencepost() -> None:
    segment = Segment()
    segment.chunk(64, flags=4)
    segment.chunk(32, flags=4)
    segment.header(0)
    assert walk(segment, kind=BlockKind.ARENA)[0] == segment.live[:1]


def damaged(change: str) -> tuple[Segment, int, int]:
    """A heap with one wrong chunk: segment, top, address of the wrong chunk."""
    segment = Segment()
    segment.chunk(64)
    middle = segment.chunk(64, free=change in ("footer", "neighbour"))
    if change == "neighbour":
        middle = segment.chunk(48, free=True)
    segment.chunk(32)
    top = segment.header(0x1000)
    at = middle - BASE
    values = {"zero": 1, "odd": 0x49, "beyond": 0x10001, "huge": (1 << 63) | 1, "mapped": 0x43, "arena": 0x45}
    if change in values:
        segment.data[at + 8 : at + 16] = values[change].to_bytes(8, "little")
    if change == "footer":
        segment.data[at + 64] = 0x30
    return segment, top, middle


@pytest.mark.parametrize(
    "change", ["zero", "odd", "beyond", "huge", "mapped", "arena", "footer", "neighbour"]
)
def test_damage_is_found_where_it_is(change: str) -> None:
    segment, top, where = damaged(change)
    with pytest.raises(WalkFault) as caught:
        walk(segment, top)
    assert caught.value.address == where
    refusal = caught.value.refusal("the main arena")
    assert hex(where) in refusal.cause
    # Only a block in use can have been written beyond its end.
    overrun = caught.value.before == (segment.live[0][0], segment.live[0][1]) and change != "neighbour"
    assert overrun == (where == segment.live[0][0] + segment.live[0][1] - 8)
    assert refusal.code == ("overrun-block" if overrun else "heap-corrupt")


@given(st.binary(min_size=64, max_size=4096))
def test_any_bytes_are_survived(data: bytes) -> None:
    array = np.frombuffer(data[: len(data) & ~15], np.uint8)
    for top in (0, BASE + len(array) - 16):
        for kind in (BlockKind.MAIN, BlockKind.ARENA):
            try:
                blocks, _, _ = walk_segment(array, BASE, BASE, top, kind, BufferPool())
            except WalkFault:
                continue
            assert (blocks["address"] + blocks["size"] <= BASE + len(array)).all()


def linked(segment: Segment, chunks: list[int], link: int, *, mangled: bool) -> None:
    """Write a list of free blocks through chunk + 16, ending in NULL; links point at chunk + link."""
    for here, following in zip(chunks, [*chunks[1:], 0], strict=True):
        target = following + link if following else 0
        word = target ^ ((here + 16) >> 12) if mangled else target
        offset = here + 16 - segment.base
        segment.data[offset : offset + 8] = word.to_bytes(8, "little")


def spans_of(segment: Segment) -> Spans:
    return Spans([HeapRegion(segment.base, segment.array(), segment.here, BlockKind.MAIN)])


@pytest.mark.parametrize("mangled", [True, False])
@pytest.mark.parametrize("link", [0, 16])
def test_chain(mangled: bool, link: int) -> None:
    segment = Segment()
    chunks = [segment.chunk(48) for _ in range(100)][::3]
    linked(segment, chunks, link, mangled=mangled)
    found = spans_of(segment).chain(chunks[0] + link, 16 - link, mangled, 1000)
    assert found is not None and found.tolist() == [chunk + link for chunk in chunks]


def test_chain_that_leads_astray_or_in_a_circle() -> None:
    segment = Segment()
    chunks = [segment.chunk(48) for _ in range(4)]
    spans = spans_of(segment)
    assert spans.chain(0, 0, True, 10) is not None
    assert spans.chain(BASE + 0x100000, 0, True, 10) is None
    assert spans.chain(chunks[0] + 8, 0, True, 10) is None
    linked(segment, chunks, 16, mangled=True)
    offset = chunks[3] + 16 - BASE
    segment.data[offset : offset + 8] = ((chunks[0] + 16) ^ ((chunks[3] + 16) >> 12)).to_bytes(8, "little")
    assert spans_of(segment).chain(chunks[0] + 16, 0, True, 10) is None


@pytest.mark.parametrize("layout", CACHE_LAYOUTS, ids=lambda layout: str(layout.bins))
def test_thread_cache(layout: CacheLayout) -> None:
    assert layout in CACHE_LAYOUTS
    segment = Segment()
    small = [segment.chunk(48) for _ in range(5)]
    linked(segment, small, 16, mangled=True)
    data = bytearray(layout.size)
    data[2:4] = (5).to_bytes(2, "little")
    at = 2 * layout.bins + 8
    data[at : at + 8] = (small[0] + 16).to_bytes(8, "little")
    blocks = np.array([(a, s) for a, s in segment.live], BLOCK)
    found = read_cache(
        np.frombuffer(bytes(data), np.uint8),
        layout,
        spans_of(segment),
        blocks,
        mangled=True,
    )
    assert found is not None and found.tolist() == [chunk + 16 for chunk in small]
    assert len(remove_dead(blocks, [found])) == 0
    data[at : at + 8] = (small[0] + 32).to_bytes(8, "little")
    wrong = np.frombuffer(bytes(data), np.uint8)
    assert read_cache(wrong, layout, spans_of(segment), blocks, mangled=True) is None


def test_count_that_differs_is_no_thread_cache() -> None:
    layout = CACHE_LAYOUTS[0]
    data = np.zeros(layout.size, np.uint8)
    data[0] = 1
    assert read_cache(data, layout, Spans([]), np.empty(0, BLOCK), mangled=True) is None


def test_sizes_of_thread_caches() -> None:
    assert [layout.usable for layout in CACHE_LAYOUTS] == [(0x288, 0x298), (0x2F8, 0x308)]
    assert cache_layout(0x288) is CACHE_LAYOUTS[0]
    assert cache_layout(0x308) is CACHE_LAYOUTS[1]
    assert cache_layout(0x2A8) is None


@given(st.lists(st.booleans(), max_size=80))
def test_removal_of_any_rows(dead: list[bool]) -> None:
    blocks = np.array([(BASE + 32 * i, 24) for i in range(len(dead))], BLOCK)
    expected = [row for row, gone in zip(blocks.tolist(), dead, strict=True) if not gone]
    gone = blocks["address"][np.array(dead, np.bool_)].copy()
    assert remove_dead(blocks, [gone[::-1]]).tolist() == expected


def test_block_on_two_lists_is_refused() -> None:
    blocks = np.array([(BASE + 16, 24)], BLOCK)
    twice = np.array([BASE + 16], np.uint64)
    with pytest.raises(RefusedError) as caught:
        remove_dead(blocks, [twice, twice])
    assert caught.value.code == "heap-corrupt"
