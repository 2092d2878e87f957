"""Walks all the memory that glibc's malloc got from the system: main arena, thread arenas, mapped chunks."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from instar.errors import FaultError, RefusedError
from instar.heap.arenas import Arena
from instar.heap.buffers import BufferPool
from instar.heap.image import BLOCK, BlockKind, Blocks, Bytes, HeapRegion, Reader
from instar.heap.mapped import PAGE, Counters, MappedChunk, anonymous_runs
from instar.heap.walk import WalkFault, WalkState, walk_segment
from instar.process.maps import Mapping
from instar.process.memory import Memory

_HEAP_SIZES = (64 << 20, 8 << 20, 4 << 30)  # plain, and four huge pages (glibc.malloc.hugetlb)


class SegmentWalker:
    """Collects regions and chunks in use of one process."""

    def __init__(
        self,
        memory: Memory,
        maps: Sequence[Mapping],
        reader: Reader,
        exclude: Sequence[tuple[int, int]],
        pool: BufferPool,
    ) -> None:
        self.memory = memory
        self.maps = maps
        self.reader = reader
        self.pool = pool
        self.exclude = list(exclude)
        self.regions: list[HeapRegion] = []
        self.pieces: list[Blocks] = []
        self._arena_ranges: list[tuple[int, int]] = []

    def main(self, arena: Arena, counters: Counters) -> None:
        """The main arena: the break, and mapped segments where the break could not grow."""
        if arena.unused:
            return
        top_end = arena.top + chunk_size(self.memory, arena.top)
        first = (counters.break_base + 15) & ~15
        if arena.contiguous:
            if first > arena.top:
                raise _corrupt(arena.top, "the top chunk of the main arena lies before its start")
            self._contiguous(arena, first, top_end)
        else:
            self._scattered(arena, first, top_end)

    def _contiguous(self, arena: Arena, first: int, top_end: int) -> None:
        data = self._copy(first, arena.top + 16 - first)
        try:
            found, state, cursor = walk_segment(data, first, first, arena.top, BlockKind.MAIN, self.pool)
        except WalkFault as fault:
            raise fault.refusal("the main arena") from fault
        if state != WalkState.TOP:
            raise RefusedError(
                "heap-foreign-break",
                f"the program or a library moved the break itself (sbrk) at {cursor:#x}",
                "use mmap instead of sbrk",
            )
        self._add(HeapRegion(first, data, top_end, BlockKind.MAIN), found)

    def _scattered(self, arena: Arena, first: int, top_end: int) -> None:
        """The break could not grow: further segments were mapped, each but the last closed by fenceposts."""
        missing = arena.system_memory
        for start, end in self._private_runs():
            begin = first if start <= first < end else start
            data = self._read_run(begin, end)
            while missing and (begin := self._next_head(data, begin, end)) < end:
                size = self._segment(arena, data, begin, end, top_end)
                missing -= size
                begin += size or PAGE - begin % PAGE
        if missing:
            raise _corrupt(
                arena.top, f"the segments of the main arena differ by {missing} bytes from its size"
            )

    def _read_run(self, start: int, end: int) -> Bytes:
        """A run's bytes; zeros from a page on that may not be read (a guard inside a mapping)."""
        try:
            return self.reader(start, end - start)
        except FaultError as fault:
            data = np.zeros(end - start, np.uint8)
            after = (fault.address // PAGE + 1) * PAGE
            if fault.address > start:
                data[: fault.address - start] = self.reader(start, fault.address - start)
            if after < end:
                data[after - start :] = self._read_run(after, end)
            return data

    @staticmethod
    def _next_head(data: Bytes, begin: int, end: int) -> int:
        """The next page, from ``begin`` on, that begins like the first chunk of a segment."""
        heads = data[len(data) - (end - begin) + 8 :: PAGE]
        fits = np.flatnonzero(heads & 7 == 1)
        return begin + PAGE * int(fits[0]) if len(fits) else end

    def _segment(self, arena: Arena, run: Bytes, start: int, end: int, top_end: int) -> int:
        """Take the segment that begins at ``start`` in a run's bytes; its size, 0 when none does."""
        last = start <= arena.top < end
        data = run[len(run) - (end - start) :]
        found = None
        for top in (arena.top, 0) if last else (0,):
            try:
                found, state, cursor = walk_segment(data, start, start, top, BlockKind.MAIN, self.pool)
                break
            except WalkFault:
                continue
        if found is None or (state == WalkState.FENCE and cursor % PAGE):
            return 0
        limit = top_end if state == WalkState.TOP else cursor
        copied = arena.top + 16 if state == WalkState.TOP else cursor
        self._add(HeapRegion(start, data[: copied - start], limit, BlockKind.MAIN), found)
        return limit - start

    def _private_runs(self) -> list[tuple[int, int]]:
        heap = [(m.start, m.end) for m in self.maps if m.path == "[heap]"]
        return heap + anonymous_runs(self.maps, self.exclude)

    def arena(self, arena: Arena) -> None:
        """All heaps of an arena that is not the main one, newest first as they are linked."""
        base, total = _heap_base(self.memory, arena), 0
        header = None
        heaps: list[tuple[int, int]] = []
        while base:
            owner, previous, size = struct.unpack("<QQQ", self.memory.read(base, 24))
            if owner != arena.address or size % PAGE or len(heaps) > 1 << 16:
                raise _corrupt(base, f"the heap of the arena at {arena.address:#x} is not its own")
            heaps.append((base, size))
            total += size
            if not previous:
                header = arena.address - base
            base = previous
        if header is None or total != arena.system_memory or header not in (32, 48):
            raise _corrupt(arena.address, "the heaps of the arena do not add up to what it counts")
        for index, (start, size) in enumerate(heaps):
            first = (
                start + header if index < len(heaps) - 1 else (arena.address + arena.layout.size + 15) & ~15
            )
            self._arena_heap(arena.top if index == 0 else 0, start, first, size)

    def _arena_heap(self, top: int, start: int, first: int, size: int) -> None:
        end = top + 16 if top else start + size
        data = self._copy(first, end - first)
        try:
            found, _, _ = walk_segment(data, first, first, top, BlockKind.ARENA, self.pool)
        except WalkFault as fault:
            raise fault.refusal(f"the arena heap at {start:#x}") from fault
        self._add(HeapRegion(first, data, start + size, BlockKind.ARENA), found)
        self._arena_ranges.append((start, start + size))

    def free_runs(self) -> list[tuple[int, int]]:
        """Anonymous memory in which mapped chunks may lie."""
        taken = [(region.start & ~(PAGE - 1), region.limit) for region in self.regions]
        return anonymous_runs(self.maps, [*self.exclude, *taken, *self._arena_ranges])

    def mapped(self, chunks: Sequence[MappedChunk]) -> None:
        """Add the mapped chunks."""
        for chunk in chunks:
            data = self._copy(chunk.start, chunk.end - chunk.start)
            row = np.array([(chunk.address, chunk.usable)], BLOCK)
            self._add(HeapRegion(chunk.start, data, chunk.end, BlockKind.MAPPED), row)

    def _copy(self, start: int, size: int) -> Bytes:
        try:
            return self.reader(start, size)
        except FaultError:
            for mapping in self.maps:
                if not mapping.readable and mapping.start < start + size and mapping.end > start:
                    raise _closed(mapping) from None
            raise

    def _add(self, region: HeapRegion, found: Blocks) -> None:
        self.regions.append(region)
        self.pieces.append(found)

    def blocks(self) -> Blocks:
        """All chunks in use by address."""
        ordered = sorted((piece for piece in self.pieces if len(piece)), key=lambda p: int(p["address"][0]))
        if not ordered:
            return np.empty(0, BLOCK)
        if len(ordered) == 1:
            return ordered[0]
        total = sum(len(piece) for piece in ordered)
        blocks = self.pool.take(total * BLOCK.itemsize).view(BLOCK)
        return np.concatenate(ordered, out=blocks)

    def bytes_at(self, address: int, size: int) -> Bytes:
        """Copied bytes."""
        for region in self.regions:
            if region.start <= address and address + size <= region.end:
                return region.data[address - region.start : address - region.start + size]
        raise FaultError(address, size, self.memory.pid)


def _closed(mapping: Mapping) -> RefusedError:
    return RefusedError(
        "heap-protected",
        f"the program has closed a part of its heap to itself (mprotect {mapping.start:#x}-{mapping.end:#x})",
        "open it before the update, or keep what is to be closed in memory from mmap",
    )


def _corrupt(address: int, cause: str) -> RefusedError:
    return RefusedError(
        "heap-corrupt",
        f"the heap of the process is damaged at {address:#x}: {cause}",
        "look for a buffer overflow with valgrind or -fsanitize=address; a damaged heap cannot be carried",
    )


def chunk_size(memory: Memory, chunk: int) -> int:
    """The size of a top chunk, checked."""
    try:
        head = memory.u64(chunk + 8)
    except FaultError as error:
        raise _corrupt(chunk, "a top chunk lies outside the memory of the process") from error
    if head & 7 != 1 or head & 8 or head < 16:
        raise _corrupt(chunk, f"the top chunk's size is {head:#x}")
    return head & ~7


def _heap_base(memory: Memory, arena: Arena) -> int:
    for size in _HEAP_SIZES:
        base = arena.top & ~(size - 1)
        try:
            if memory.u64(base) == arena.address:
                return base
        except FaultError:
            continue
    raise _corrupt(arena.top, f"no heap of the arena at {arena.address:#x} holds its top chunk")
