"""Enumerates the live blocks of glibc's malloc (2.31 and later) in another process, from outside, unprepared.

The main arena's chunks are walked from the start of the break to its top chunk, the other arenas' heap by
heap, mapped chunks are looked for in anonymous memory and counted. Chunks that wait in thread caches and
fast bins look live and are taken away. Everything must add up to what malloc counts itself; otherwise the
heap is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from instar.errors import RefusedError
from instar.heap.arenas import Arena, find_arenas, follow_arenas
from instar.heap.buffers import BufferPool
from instar.heap.caches import cache_layout, fast_chunks, read_cache, remove_dead
from instar.heap.image import BLOCK, Addresses, Blocks, Bytes, HeapImage, Reader
from instar.heap.libc import data_segment, find_libc, libc_version
from instar.heap.mapped import PAGE, Counters, find_counters, find_mapped
from instar.heap.modules import read_modules, thread_local_offsets
from instar.heap.segments import SegmentWalker, chunk_size
from instar.heap.threads import find_thread_pointers
from instar.heap.unchanged import Basis, Changed, changed_words, has_same_blocks
from instar.heap.walk import Spans
from instar.process.maps import Mapping
from instar.process.memory import Memory

_MANGLED_SINCE = (2, 32)
_NONE: Addresses = np.empty(0, np.uint64)
_NOTHING = HeapImage("", np.empty(0, BLOCK), ())
_NO_BASIS = Basis((), Counters(0, 0, 0), (), (), _NONE, _NOTHING, _NONE)


class GlibcHeap:
    """Where glibc's malloc keeps its records in one process: found once, read as often as needed.

    Attributes:
        buffers: Where the bytes of an image are kept; those of one that nobody refers to any more are used
            again.

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
        self.buffers = BufferPool()
        modules = read_modules(memory, maps)
        libc = find_libc(memory, modules)
        self.version = libc_version(memory, libc)
        self.mangled = self.version >= _MANGLED_SINCE
        self._data = data_segment(libc)
        self._main: Arena | None = None
        self._last = _NO_BASIS
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
        changes: Changed | None = None,
    ) -> HeapImage:
        """All live blocks; the process must be stopped, or what is read may not fit together.

        Args:
            maps: The mappings of the process as they are now.
            exclude: Ranges (start, end) in which no mapped block is looked for.
            reader: Reads the bytes of a region; by default each is read in one go.
            changes: For a reader that brings the bytes of the image before up to date: what has changed in
                all that it was asked for. Where that says nothing about blocks, that image is returned.

        Raises:
            RefusedError: "unknown-allocator", "heap-busy" (stopped inside malloc), "heap-corrupt".
        """
        arenas = self._arenas()
        for arena in arenas:
            _check_idle(arena)
        counters = self._counters(arenas[0])
        basis = self._basis(arenas, counters, maps, exclude)
        last, self._last = (
            self._last,
            _NO_BASIS,
        )  # also when this fails: what was read is no longer what it was
        if reader is not None and changes is not None and _is_unchanged(last, basis, reader, changes):
            self._last = last
            return last.image
        walker = SegmentWalker(self.memory, maps, reader or self._read, exclude, self.buffers)
        walker.main(arenas[0], counters)
        for arena in arenas[1:]:
            walker.arena(arena)
        walker.mapped(find_mapped(self.memory, walker.free_runs(), counters, self.version))
        image, dead = self._image(walker, arenas)
        self._last = replace(basis, image=image, dead=dead)
        return image

    def _basis(
        self,
        arenas: Sequence[Arena],
        counters: Counters,
        maps: Sequence[Mapping],
        exclude: Sequence[tuple[int, int]],
    ) -> Basis:
        """What the next image is made from; its blocks are not known yet."""
        places = np.array([[p + offset for offset in self._thread_locals] for p in self._threads], np.int64)
        threads = self.memory.read_spans(
            places.reshape(-1).astype(np.uint64), np.full(places.size, 8, np.uint64)
        )
        return Basis(
            tuple(arenas),
            counters,
            tuple(maps),
            tuple(exclude),
            threads.view(np.uint64).reshape(places.shape),
            _NOTHING,
            _NONE,
        )

    def _arenas(self) -> list[Arena]:
        start, size = self._data.address, self._data.size
        if self._main is None:
            arenas = find_arenas(self.memory, start, size)
            self._main = arenas[0]
            return arenas
        return follow_arenas(self.memory, self._main, (start, start + size))

    def _read(self, address: int, size: int) -> Bytes:
        data = self.buffers.take(size)
        self.memory.read_into(address, data)
        return data

    def _counters(self, main: Arena) -> Counters:
        words = np.frombuffer(self.memory.read(self._data.address, self._data.size & ~7), "<u8")
        if main.unused:
            bases = (0, 0)
        elif main.contiguous:
            base = main.top + chunk_size(self.memory, main.top) - main.system_memory
            bases = (base, base)
        else:
            bases = (PAGE, 1 << 47)
        return find_counters(words, self._data.address, bases, self.version)

    def _image(self, walker: SegmentWalker, arenas: Sequence[Arena]) -> tuple[HeapImage, Addresses]:
        """The blocks, and those that are not live."""
        blocks = walker.blocks()
        spans = Spans(walker.regions)
        own, dead = self._thread_caches(walker, spans, blocks)
        for arena in arenas:
            dead += fast_chunks(arena, spans, blocks, mangled=self.mangled)
        waiting = np.sort(np.concatenate([_NONE, *dead]))
        image = HeapImage(
            f"glibc {self.version[0]}.{self.version[1]}",
            remove_dead(blocks, [*dead, own]),
            tuple(sorted(walker.regions, key=lambda region: region.start)),
            own,
            len(waiting),
        )
        return image, waiting

    def _thread_caches(
        self, walker: SegmentWalker, spans: Spans, blocks: Blocks
    ) -> tuple[Addresses, list[Addresses]]:
        own, dead = [], []
        for pointer in self._threads:
            found = self._thread_cache(pointer, walker, spans, blocks)
            if found is not None:
                own.append(found[0])
                dead.append(found[1])
        return np.array(own, np.uint64), dead

    def _thread_cache(
        self, pointer: int, walker: SegmentWalker, spans: Spans, blocks: Blocks
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


def _check_idle(arena: Arena) -> None:
    if arena.locked:
        raise RefusedError(
            "heap-busy",
            f"a thread was stopped inside malloc (arena at {arena.address:#x})",
            "try again: the process is inside malloc only for moments",
        )


def _is_unchanged(last: Basis, basis: Basis, reader: Reader, changes: Changed) -> bool:
    """Whether the image before is right again; its regions have been read then."""
    if not last.arenas or not last.is_like(basis):
        return False
    regions = last.image.regions
    if any(reader(r.start, r.size).ctypes.data != r.data.ctypes.data for r in regions):
        return False
    found = changes()
    return found is not None and has_same_blocks(last, *changed_words(*found, regions))
