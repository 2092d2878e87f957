"""Blocks that glibc's malloc maps one by one (M_MMAP_THRESHOLD): they are on no list, only counted.

A mapped chunk begins on a page with its distance from the mapping's start (0 unless aligned specially) and
its size with the IS_MMAPPED bit. Neighbouring mappings merge, with each other and with foreign ones, so
every page of the anonymous memory may begin one. What is found must be as many chunks and as many bytes as
malloc counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from instar.errors import FaultError, RefusedError
from instar.heap.image import Addresses
from instar.process.maps import Mapping
from instar.process.memory import Memory

PAGE = 4096
_IS_MMAPPED = 2
_HUGE_PAGE_FLAGS_SINCE = (2, 35)
_REGULAR_LAYOUT_SINCE = (2, 42)


@dataclass(frozen=True, slots=True)
class Counters:
    """From libc's `struct malloc_par`."""

    chunks: int
    bytes: int
    break_base: int


@dataclass(frozen=True, slots=True)
class MappedChunk:
    """One mapped chunk: user address, usable size, first byte of its mapping and the end of it."""

    address: int
    usable: int
    start: int
    end: int


def find_counters(
    words: npt.NDArray[np.uint64], start: int, break_bases: tuple[int, int], version: tuple[int, int]
) -> Counters:
    """Find malloc's parameters in libc's writable data.

    The words at the end of the struct are recognised: the bytes of mapped chunks and their maximum, before
    them the number of chunks within its maxima, after them the start of the break and the limits of the
    thread caches, which follow from each other.

    Args:
        words: libc's writable segment.
        start: Its address.
        break_bases: Lowest and highest address where the main arena's first memory may begin.
        version: Of glibc: since 2.35 one more int lies before the number of chunks.
    """
    count = len(words) - 8
    halves = words.view(np.uint32)
    first = 1 if version >= _HUGE_PAGE_FLAGS_SINCE else 2
    numbers = [halves[first + i : first + i + 2 * count : 2] for i in range(4)]
    chunks, _, most, fixed = (column.astype(np.uint64) for column in numbers)
    mapped, max_mapped, base, bins, max_bytes, cached = (words[i : count + i] for i in range(3, 9))
    unit = PAGE if version < _REGULAR_LAYOUT_SINCE else 16
    fits = (chunks <= most) & (mapped <= max_mapped) & (mapped % unit == 0) & (fixed <= 1)
    fits &= mapped >= chunks * np.uint64(PAGE)
    fits &= (max_bytes <= 1 << 23) & (cached <= 0xFFFF) & _bins_match(bins, max_bytes, version)
    fits &= (base >= break_bases[0]) & (base <= break_bases[1])
    rows = [row for row in np.flatnonzero(fits).tolist() if _has_arena_test(words, row, version)]
    if len(rows) != 1:
        raise RefusedError(
            "unknown-allocator",
            f"libc's data holds {len(rows)} places that could be malloc's parameters, not one",
            "run the program with the distribution's glibc (2.31 or later) and its malloc",
        )
    row = rows[0]
    return Counters(int(chunks[row]), int(mapped[row]), int(base[row]))


def _has_arena_test(words: npt.NDArray[np.uint64], row: int, version: tuple[int, int]) -> bool:
    """Whether the limit of arenas, which is never 0, stands where it should before the counters."""
    backwards = (
        (1,) if version < _HUGE_PAGE_FLAGS_SINCE else (4,) if version < _REGULAR_LAYOUT_SINCE else (4, 5)
    )
    return any(row >= back and 0 < int(words[row - back]) < 1 << 32 for back in backwards)


def _bins_match(
    bins: npt.NDArray[np.uint64], max_bytes: npt.NDArray[np.uint64], version: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Whether so many bins hold all blocks up to so many bytes (formerly of the program, now with header)."""
    last = max_bytes.astype(np.int64)
    chunk = (last + 23) // 16 * 16 if version < _REGULAR_LAYOUT_SINCE else last - 1
    match: npt.NDArray[np.bool_] = bins.astype(np.int64) == np.maximum(chunk - 17, 0) // 16 + 1
    if version >= _REGULAR_LAYOUT_SINCE:
        match |= (bins == 64) & (chunk > 1024)
    return match


def anonymous_runs(maps: Iterable[Mapping], excluded: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs of neighbouring private anonymous memory, without the ranges in ``excluded``."""
    runs: list[tuple[int, int]] = []
    for mapping in maps:
        anonymous = not mapping.path or mapping.path.startswith("[anon")
        if not anonymous or not mapping.readable or mapping.shared:
            continue
        if runs and runs[-1][1] == mapping.start:
            runs[-1] = (runs[-1][0], mapping.end)
        else:
            runs.append((mapping.start, mapping.end))
    for start, end in excluded:
        runs = [piece for run in runs for piece in _cut(run, start, end)]
    return runs


def _cut(run: tuple[int, int], start: int, end: int) -> list[tuple[int, int]]:
    if end <= run[0] or run[1] <= start:
        return [run]
    pieces = [(run[0], start), (end, run[1])]
    return [piece for piece in pieces if piece[0] < piece[1]]


def find_mapped(
    memory: Memory, runs: Sequence[tuple[int, int]], counters: Counters, version: tuple[int, int]
) -> list[MappedChunk]:
    """All mapped chunks, by address; refused unless they are exactly as many as malloc counted."""
    if counters.chunks == 0:
        return []
    found: list[MappedChunk] = []
    for trailer in (0,) if version < _REGULAR_LAYOUT_SINCE else (0, 16):
        scanner = _Scanner(memory, trailer)
        for starts_only in (True, False):
            found = [chunk for run in runs for chunk in scanner.scan(*run, starts_only=starts_only)]
            if scanner.matches(found, counters):
                return found
    raise RefusedError(
        "heap-corrupt" if len(found) < counters.chunks else "heap-ambiguous",
        f"malloc counts {counters.chunks} mapped blocks of {counters.bytes} bytes together,"
        f" {len(found)} of {sum(c.end - c.start for c in found)} bytes were found",
        "look for an overwritten block header with valgrind; if the program maps memory that"
        " imitates one, raise M_MMAP_THRESHOLD",
    )


class _Scanner:
    """Finds mapped chunks in runs of anonymous memory.

    Args:
        memory: Of the process.
        trailer: Bytes after a chunk that its size does not count: 0, and since about glibc 2.43, which lays
            mapped chunks out like others, 16.
    """

    def __init__(self, memory: Memory, trailer: int) -> None:
        self.memory = memory
        self.trailer = trailer

    def matches(self, found: Sequence[MappedChunk], counters: Counters) -> bool:
        """Whether these are all; glibc with a trailer counts it anew at each realloc in place."""
        surplus = counters.bytes - sum(chunk.end - chunk.start for chunk in found)
        exact = surplus == 0 if not self.trailer else surplus >= 0 and surplus % self.trailer == 0
        return len(found) == counters.chunks and exact

    def scan(self, start: int, end: int, *, starts_only: bool) -> list[MappedChunk]:
        """Mapped chunks of one run: those that follow each other from its start on, or on any page."""
        found = []
        headers = None if starts_only else self._page_headers(start, end)
        page = start
        while page < end:
            row = (
                self._page_headers(page, page + 1)[0] if headers is None else headers[(page - start) // PAGE]
            )
            chunk = self._parse(page, end, int(row[0]), int(row[1]))
            if chunk is not None:
                found.append(chunk)
                page = chunk.end
            elif headers is None:
                break
            else:
                page = self._next_candidate(headers, start, page + PAGE, end)
        return found

    def _page_headers(self, start: int, end: int) -> npt.NDArray[np.uint64]:
        """The first 16 bytes of each page; zeros for one that may not be read (a guard inside a mapping)."""
        pages = np.arange(start, end, PAGE, dtype=np.uint64)
        result = np.zeros((len(pages), 2), np.uint64)
        first = last = 0
        while first < len(pages):
            try:
                last = len(pages)
                result[first:] = self._headers(pages[first:])
            except FaultError as fault:
                last = (fault.address - start) // PAGE
                result[first:last] = self._headers(pages[first:last])
            first = last + 1
        return result

    def _headers(self, starts: Addresses) -> npt.NDArray[np.uint64]:
        data = self.memory.read_spans(starts, np.full(len(starts), 16, np.uint64))
        return data.view(np.uint64).reshape(-1, 2)

    def _next_candidate(self, headers: npt.NDArray[np.uint64], start: int, page: int, end: int) -> int:
        rest = headers[(page - start) // PAGE :, 1] + np.uint64(self.trailer)
        hits = np.flatnonzero((rest & np.uint64(PAGE - 1)) == _IS_MMAPPED)
        return page + PAGE * int(hits[0]) if len(hits) else end

    def _parse(self, page: int, end: int, before: int, head: int) -> MappedChunk | None:
        """The mapped chunk whose mapping begins at ``page``, if one does."""
        size = (head & ~7) + self.trailer
        if before or head & 7 != _IS_MMAPPED or size % PAGE or not size:
            return None
        aligned = self._aligned_chunk(page, min(page + size, end), end)
        if aligned is not None:
            return aligned
        return self._chunk(page, page, page + size) if size <= end - page else None

    def _chunk(self, start: int, chunk: int, end: int) -> MappedChunk:
        usable = end - chunk - 16 - self.trailer // 2
        return MappedChunk(chunk + 16, usable, start, end)

    def _aligned_chunk(self, start: int, limit: int, end: int) -> MappedChunk | None:
        """The chunk in a mapping that posix_memalign made larger to align the block; None for a plain one.

        Its own header tells the distance to the mapping's start and the rest of the size. The first
        header stays as it was (realloc may have changed the size since); nobody writes between them.
        """
        first = np.frombuffer(self.memory.read(start, PAGE), np.uint8)
        distances = [(1 << bits) - 16 for bits in range(5, 13)]
        if (first[16:-16] == first[16]).all():
            distances += range(2 * PAGE - 16, limit - start - 15, PAGE)
        column = np.array([d for d in distances if start + d + 16 <= limit], np.uint64)
        starts = column + np.uint64(start)
        headers = self._headers(starts)
        sizes = (headers[:, 1] & ~np.uint64(7)) + np.uint64(self.trailer)
        fits = (headers[:, 0] == column) & (headers[:, 1] & np.uint64(7) == _IS_MMAPPED)
        fits &= ((headers[:, 0] + sizes) % PAGE == 0) & (sizes >= 32) & (sizes <= end - starts)
        for row in np.flatnonzero(fits).tolist():
            return self._chunk(start, int(starts[row]), int(starts[row]) + int(sizes[row]))
        return None
