"""Enumerates the live blocks of glibc's malloc (2.31 and later) in another process, from outside, unprepared.

The main arena's chunks are walked from the start of the break to its top chunk, the other arenas' heap by
heap, mapped chunks are looked for in anonymous memory and counted. Chunks that wait in thread caches and
fast bins look live and are taken away. Everything must add up to what malloc counts itself; otherwise the
heap is refused.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

import numpy as np

from instar.errors import FaultError, RefusedError
from instar.heap.arenas import Arena, find_arenas, follow_arenas
from instar.heap.caches import CACHE_LAYOUTS, cache_layout, fast_chunks, read_cache, without
from instar.heap.image import BLOCK, Addresses, BlockKind, Blocks, Bytes, HeapImage, HeapRegion, Reader
from instar.heap.mapped import PAGE, Counters, MappedChunk, anonymous_runs, find_counters, find_mapped
from instar.heap.modules import Module, Segment, defines, read_modules, thread_local_offsets
from instar.heap.threads import find_thread_pointers
from instar.heap.walk import Spans, WalkFault, WalkState, walk_segment
from instar.process.maps import Mapping, find_mapping
from instar.process.memory import Memory

_VERSION = re.compile(rb"GNU C Library [^\0\n]{0,80}?release version (\d+)\.(\d+)")
_OLDEST = (2, 31)
_MANGLED_SINCE = (2, 32)
_HEAP_SIZES = (64 << 20, 8 << 20, 4 << 30)  # plain, and four huge pages (glibc.malloc.hugetlb)
_OUR_RUNTIME = "libinstar-runtime.so"


class GlibcHeap:
    """Where glibc's malloc keeps its records in one process: found once, read as often as needed.

    Args:
        memory: Of the process.
        maps: Its mappings.
        thread_pointers: fs_base of every thread; None to look for them in memory.

    Raises:
        RefusedError: "unknown-allocator" when malloc is not a glibc's that is known here.
    """

    def __init__(
        self, memory: Memory, maps: Sequence[Mapping], *, thread_pointers: Sequence[int] | None = None
    ) -> None:
        self.memory = memory
        modules = read_modules(memory, maps)
        libc = _find_libc(memory, modules)
        self.version = _libc_version(memory, libc)
        self.mangled = self.version >= _MANGLED_SINCE
        self._data = _writable(libc)
        self._main: Arena | None = None
        self._thread_locals = thread_local_offsets(memory, libc)
        self._threads = (
            find_thread_pointers(memory, maps) if thread_pointers is None else list(thread_pointers)
        )

    def enumerate(
        self,
        maps: Sequence[Mapping],
        *,
        exclude: Sequence[tuple[int, int]] = (),
        reader: Reader | None = None,
    ) -> HeapImage:
        """All live blocks; the process must be stopped, or what is read may not fit together.

        Args:
            maps: The mappings of the process as they are now.
            exclude: Ranges (start, end) in which no mapped block is looked for.
            reader: Reads the bytes of a region; by default each is read in one go.

        Raises:
            RefusedError: "unknown-allocator", "heap-busy" (stopped inside malloc), "heap-corrupt".
        """
        arenas = self._arenas()
        for arena in arenas:
            _check_idle(arena)
        walker = _Walker(self.memory, maps, reader or self._read, exclude)
        counters = self._counters(arenas[0])
        walker.main(arenas[0], counters)
        for arena in arenas[1:]:
            walker.arena(arena)
        walker.mapped(find_mapped(self.memory, walker.free_runs(), counters, self.version))
        return self._image(walker, arenas)

    def _arenas(self) -> list[Arena]:
        start, size = self._data.address, self._data.size
        if self._main is None:
            arenas = find_arenas(self.memory, start, size)
            self._main = arenas[0]
            return arenas
        return follow_arenas(self.memory, self._main, (start, start + size))

    def _read(self, address: int, size: int) -> Bytes:
        data = np.empty(size, np.uint8)
        self.memory.read_into(address, data)
        return data

    def _counters(self, main: Arena) -> Counters:
        words = np.frombuffer(self.memory.read(self._data.address, self._data.size & ~7), "<u8")
        if main.unused:
            bases = (0, 0)
        elif main.contiguous:
            base = main.top + _chunk_size(self.memory, main.top) - main.system_memory
            bases = (base, base)
        else:
            bases = (PAGE, 1 << 47)
        return find_counters(words, self._data.address, bases, self.version)

    def _image(self, walker: _Walker, arenas: Sequence[Arena]) -> HeapImage:
        blocks = walker.blocks()
        spans = Spans(walker.regions)
        own, dead = self._thread_caches(walker, spans, blocks)
        for arena in arenas:
            dead += fast_chunks(arena, spans, blocks, mangled=self.mangled)
        cached = sum(len(addresses) for addresses in dead)
        return HeapImage(
            f"glibc {self.version[0]}.{self.version[1]}",
            without(blocks, [*dead, own]),
            tuple(sorted(walker.regions, key=lambda region: region.start)),
            own,
            cached,
        )

    def _thread_caches(
        self, walker: _Walker, spans: Spans, blocks: Blocks
    ) -> tuple[Addresses, list[Addresses]]:
        own, dead = [], []
        for pointer in self._threads:
            found = self._thread_cache(pointer, walker, spans, blocks)
            if found is not None:
                own.append(found[0])
                dead.append(found[1])
        return np.array(own, np.uint64), dead

    def _thread_cache(
        self, pointer: int, walker: _Walker, spans: Spans, blocks: Blocks
    ) -> tuple[int, Addresses] | None:
        """Address and members of a thread's cache: one of libc's thread-locals points at such a block."""
        found: dict[int, Addresses] = {}
        for offset in self._thread_locals:
            address = self.memory.u64(pointer + offset)
            row = int(np.searchsorted(blocks["address"], np.uint64(address)))
            if row == len(blocks) or int(blocks["address"][row]) != address:
                continue
            layout = cache_layout(int(blocks["size"][row]))
            if layout is not None:
                data = walker.bytes_at(address, layout.size)
                members = read_cache(data, layout, spans, blocks, mangled=self.mangled)
                if members is not None:
                    found[address] = members
        if len(found) > 1:
            raise RefusedError(
                "heap-ambiguous",
                f"{len(found)} blocks could be the thread cache of the thread at {pointer:#x}",
                "please report it with the version of your libc",
            )
        return next(iter(found.items())) if found else None


class _Walker:
    """Collects regions and chunks in use of one process."""

    def __init__(
        self, memory: Memory, maps: Sequence[Mapping], reader: Reader, exclude: Sequence[tuple[int, int]]
    ) -> None:
        self.memory = memory
        self.maps = maps
        self.reader = reader
        self.exclude = list(exclude)
        self.regions: list[HeapRegion] = []
        self.pieces: list[Blocks] = []
        self._arena_ranges: list[tuple[int, int]] = []

    def main(self, arena: Arena, counters: Counters) -> None:
        if arena.unused:
            return
        top_end = arena.top + _chunk_size(self.memory, arena.top)
        first = (counters.break_base + 15) & ~15
        if arena.contiguous:
            if first > arena.top:
                raise _corrupt(arena.top, "the top chunk of the main arena lies before its start")
            self._contiguous(arena, first, top_end)
        else:
            self._scattered(arena, first, top_end)

    def _contiguous(self, arena: Arena, first: int, top_end: int) -> None:
        data = self.reader(first, arena.top + 16 - first)
        try:
            found, state, cursor = walk_segment(data, first, first, arena.top, BlockKind.MAIN)
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
        starts = [first]
        for start, end in self._private_runs():
            starts += range(start, end, PAGE)
        covered, missing = 0, arena.system_memory
        for start in starts:
            if start == first or (missing and start >= covered):
                size = self._segment(arena, start, top_end)
                missing -= size
                covered = start + size if size else covered
        if missing < 0:
            missing += self._drop_front(-missing)
        if missing:
            raise _corrupt(arena.top, f"{missing} bytes of the main arena were not found")

    def _drop_front(self, surplus: int) -> int:
        """Cut off foreign memory that looked like a first chunk, if there is just one segment to cut."""
        fits = []
        for index, region in enumerate(self.regions):
            first = region.start + surplus
            if (self.pieces[index]["address"] == first + 16).any():
                fits.append(index)
        if len(fits) != 1:
            return 0
        region, found = self.regions[fits[0]], self.pieces[fits[0]]
        first = region.start + surplus
        self.regions[fits[0]] = HeapRegion(first, region.data[surplus:], region.limit, region.kind)
        self.pieces[fits[0]] = found[found["address"] > first]
        return surplus

    def _segment(self, arena: Arena, start: int, top_end: int) -> int:
        """Take the segment that begins at ``start``; returns its bytes, 0 when none does."""
        if any(region.start <= start < region.limit for region in self.regions):
            return 0
        head = self.memory.u64(start + 8)
        if head & 7 != 1 or not 32 <= head & ~7 <= arena.system_memory:
            return 0
        run = self._run_at(start)
        last = start <= arena.top < run[1]
        limit = arena.top + 16 if last else min(run[1], start + arena.system_memory)
        data = self.reader(start, limit - start)
        found = None
        for top in (arena.top, 0) if last else (0,):
            try:
                found, state, cursor = walk_segment(data, start, start, top, BlockKind.MAIN)
                break
            except WalkFault:
                continue
        if found is None or (state == WalkState.FENCE and cursor % PAGE):
            return 0
        end = top_end if state == WalkState.TOP else cursor
        copied = arena.top + 16 if state == WalkState.TOP else cursor
        self._add(HeapRegion(start, data[: copied - start], end, BlockKind.MAIN), found)
        return end - start

    def _run_at(self, address: int) -> tuple[int, int]:
        mapping = find_mapping(self.maps, address)
        if mapping is None:
            raise _corrupt(address, "a segment lies in no mapping")
        end = mapping.end
        while (following := find_mapping(self.maps, end)) is not None and not following.file:
            end = following.end
        return mapping.start, end

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
        data = self.reader(first, end - first)
        try:
            found, _, _ = walk_segment(data, first, first, top, BlockKind.ARENA)
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
            data = self.reader(chunk.start, chunk.end - chunk.start)
            row = np.array([(chunk.address, chunk.usable, BlockKind.MAPPED)], BLOCK)
            self._add(HeapRegion(chunk.start, data, chunk.end, BlockKind.MAPPED), row)

    def _add(self, region: HeapRegion, found: Blocks) -> None:
        self.regions.append(region)
        self.pieces.append(found)

    def blocks(self) -> Blocks:
        """All chunks in use by address."""
        ordered = sorted((piece for piece in self.pieces if len(piece)), key=lambda p: int(p["address"][0]))
        if not ordered:
            return np.empty(0, BLOCK)
        return np.concatenate(ordered) if len(ordered) > 1 else ordered[0]

    def bytes_at(self, address: int, size: int) -> Bytes:
        """Copied bytes."""
        for region in self.regions:
            if region.start <= address and address + size <= region.end:
                return region.data[address - region.start : address - region.start + size]
        raise FaultError(address, size, self.memory.pid)


def enumerate_heap(
    memory: Memory,
    maps: Sequence[Mapping],
    *,
    thread_pointers: Sequence[int] | None = None,
    exclude: Sequence[tuple[int, int]] = (),
    reader: Reader | None = None,
) -> HeapImage:
    """All live heap blocks of a process; see GlibcHeap."""
    heap = GlibcHeap(memory, maps, thread_pointers=thread_pointers)
    return heap.enumerate(maps, exclude=exclude, reader=reader)


def _corrupt(address: int, cause: str) -> RefusedError:
    return RefusedError(
        "heap-corrupt",
        f"the heap of the process is damaged at {address:#x}: {cause}",
        "look for a buffer overflow with valgrind or -fsanitize=address; a damaged heap cannot be carried",
    )


def _check_idle(arena: Arena) -> None:
    if arena.locked:
        raise RefusedError(
            "heap-busy",
            f"a thread was stopped inside malloc (arena at {arena.address:#x})",
            "try again: the process is inside malloc only for moments",
        )


def _chunk_size(memory: Memory, chunk: int) -> int:
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


def _find_libc(memory: Memory, modules: Sequence[Module]) -> Module:
    """The glibc whose malloc the process uses; refused when another module's comes before it."""
    libc = next((m for m in modules if m.name.startswith(("libc.so", "libc-2."))), None)
    others = [m for m in modules if m is not libc and not m.name.startswith(("ld-linux", "ld-2."))]
    for module in others:
        if module.name != _OUR_RUNTIME and (
            module.name.startswith("ld-musl") or defines(memory, module, "malloc")
        ):
            raise RefusedError(
                "unknown-allocator",
                f"malloc of this process is that of {module.path}, not glibc's",
                "start the program without it (LD_PRELOAD, linker options)",
            )
    if libc is None:
        raise RefusedError(
            "unknown-allocator",
            "the process has no glibc loaded",
            "link the program dynamically with glibc",
        )
    return libc


def _libc_version(memory: Memory, libc: Module) -> tuple[int, int]:
    for segment in libc.read_only():
        found = _VERSION.search(memory.read(segment.address, segment.file_size))
        if found is not None:
            version = (int(found[1]), int(found[2]))
            if version < _OLDEST:
                raise RefusedError(
                    "unknown-allocator",
                    f"{libc.path} is glibc {version[0]}.{version[1]}; known are 2.31 and later",
                    "use a newer distribution",
                )
            return version
    raise RefusedError(
        "unknown-allocator", f"{libc.path} does not say that it is glibc", "link the program with glibc"
    )


def _writable(libc: Module) -> Segment:
    segment = libc.writable()
    if segment is None:
        raise RefusedError("unknown-allocator", f"{libc.path} has no data", "link the program with glibc")
    start = (segment.address + 7) & ~7
    return Segment(segment.kind, segment.flags, start, 0, segment.address + segment.size - start)


__all__ = ["CACHE_LAYOUTS", "GlibcHeap", "enumerate_heap"]
