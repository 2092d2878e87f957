"""The memory that a program mapped itself: arenas, pools, tables, files. Not malloc's, not the loader's.

Neighbouring mappings merge in the kernel's list, so what is the program's is what is left of a mapping when
everything is cut out that somebody else is known to own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from instar.errors import FaultError
from instar.heap.inherited import runtime_memory
from instar.heap.modules import Module
from instar.process.maps import Mapping
from instar.process.memory import Memory

Array = np.ndarray[Any, np.dtype[Any]]
Range = tuple[int, int]

PAGE = 4096
_PT_TLS = 7
_DT_DEBUG = 21
_LINK_MAPS = 4096
_CONTROL_BLOCK = 0x900  # struct pthread, at the thread pointer
_PRESENT, _SWAPPED, _OF_FILE = 1 << 63, 1 << 62, 1 << 61  # /proc/PID/pagemap
_READ, _WRITE, _EXECUTE = 1, 2, 4
_SPARSE = 16 << 20


@dataclass(frozen=True)
class Mapped:
    """One range that the program mapped itself.

    Attributes:
        start, end: Page aligned.
        protection: PROT_* of the past.
        mapping: The line of /proc/PID/maps that it is in.
        pages: (n, 2) u8: address and size of what differs from a fresh mapping.
        reserved: (start, end) of the unreadable mappings right beside it: room to grow.
        closed: The same of those that hold something, which cannot be read.
    """

    start: int
    end: int
    protection: int
    mapping: Mapping
    pages: Array
    reserved: tuple[Range, ...] = ()
    closed: tuple[Range, ...] = ()

    @property
    def anonymous(self) -> bool:
        """Private memory without a file."""
        return not self.mapping.shared and _is_anonymous(self.mapping)

    @property
    def fixed(self) -> bool:
        """Whether nothing in it may be rewritten: others see it, or it cannot be written."""
        return self.mapping.shared or not self.protection & _WRITE


def protection_of(mapping: Mapping) -> int:
    """PROT_* of a mapping."""
    bits = (_READ, mapping.readable), (_WRITE, mapping.writable), (_EXECUTE, mapping.executable)
    return sum(bit for bit, present in bits if present)


def own_mappings(
    memory: Memory,
    maps: Sequence[Mapping],
    modules: Sequence[Module],
    thread_pointer: int | None,
    taken: Iterable[Range],
) -> list[Mapped]:
    """What the program of a process mapped itself, by address.

    Args:
        memory: Of the process, which is stopped.
        maps: Its mappings.
        modules: Its loaded files.
        thread_pointer: Of its one thread.
        taken: (start, end) of all heap memory.
    """
    foreign = [*taken, *runtime_memory(memory, maps), *_images(modules)]
    foreign += _loader_memory(memory, maps, modules)
    if thread_pointer:
        foreign.append(_thread_memory(modules, thread_pointer))
    paths = {module.path for module in modules}
    found = []
    for mapping in maps:
        if not _is_carried(mapping, paths):
            continue
        for start, end in _without((mapping.start, mapping.end), foreign):
            pages = _pages(memory, start, end, mapping)
            beside = tuple(_reserved(maps, start, end, foreign)) if _is_anonymous(mapping) else ()
            found.append(Mapped(start, end, protection_of(mapping), mapping, pages, beside))
    return _without_closed(memory, found)


def _without_closed(memory: Memory, found: list[Mapped]) -> list[Mapped]:
    """Tell memory that is closed from memory that was never opened."""
    if not any(mapped.reserved for mapped in found):
        return found
    filled = memory.filled()
    return [
        replace(
            mapped,
            reserved=tuple(piece for piece in mapped.reserved if piece[0] not in filled),
            closed=tuple(piece for piece in mapped.reserved if piece[0] in filled),
        )
        for mapped in found
    ]


def _is_anonymous(mapping: Mapping) -> bool:
    return not mapping.path or mapping.path.startswith("[anon:")


def _is_carried(mapping: Mapping, images: set[str]) -> bool:
    if not mapping.readable or mapping.executable:
        return False
    if _is_anonymous(mapping):
        return not mapping.shared
    return mapping.path.startswith("/") and mapping.file not in images and not _is_special(mapping)


def _is_special(mapping: Mapping) -> bool:
    """System V memory counts who is attached, huge pages come from a pool, devices do as they please."""
    name = mapping.file
    if name.startswith(("/SYSV", "/anon_hugepage")):
        return True
    return name.startswith("/dev/") and not name.startswith(("/dev/shm/", "/dev/zero"))


def _images(modules: Iterable[Module]) -> list[Range]:
    """Every loaded file, the zero-filled tail of its data included."""
    return [(module.base, module.end) for module in modules]


def _loader_memory(memory: Memory, maps: Sequence[Mapping], modules: Iterable[Module]) -> list[Range]:
    """Pages with the loader's list of loaded files: it allocates before there is a malloc."""
    found: list[Range] = []
    for module in modules:
        debug = module.dynamic.get(_DT_DEBUG, 0)
        if not debug:
            continue
        try:
            link = memory.u64(debug + 8)
            for _ in range(_LINK_MAPS):
                if not link:
                    break
                found.append((link & ~(PAGE - 1), _up(link + PAGE)))
                link = memory.u64(link + 24)
        except (FaultError, struct.error):
            continue
    heaps = [(m.start, m.end) for m in maps if not _is_anonymous(m)]
    return [piece for piece in found if not any(low <= piece[0] < high for low, high in heaps)]


def _thread_memory(modules: Iterable[Module], pointer: int) -> Range:
    """Pages of the thread control block, the thread-locals before it and what the loader put behind."""
    size = sum(_up(segment.size, 64) for m in modules for segment in m.segments if segment.kind == _PT_TLS)
    return (pointer - size) & ~(PAGE - 1), _up(pointer + _CONTROL_BLOCK) + PAGE


def _reserved(maps: Sequence[Mapping], start: int, end: int, foreign: Sequence[Range]) -> Iterable[Range]:
    for mapping in maps:
        beside = mapping.end == start or mapping.start == end
        taken = any(low < mapping.end and mapping.start < high for low, high in foreign)
        if beside and not taken and mapping.perms == "---p" and _is_anonymous(mapping):
            yield mapping.start, mapping.end


def _without(whole: Range, foreign: Iterable[Range]) -> list[Range]:
    pieces = [whole]
    for low, high in foreign:
        pieces = [part for piece in pieces for part in _cut(piece, low, high)]
    return pieces


def _cut(piece: Range, low: int, high: int) -> list[Range]:
    if high <= piece[0] or piece[1] <= low:
        return [piece]
    return [part for part in ((piece[0], low), (high, piece[1])) if part[0] < part[1]]


def _up(address: int, unit: int = PAGE) -> int:
    return (address + unit - 1) & ~(unit - 1)


def _pages(memory: Memory, start: int, end: int, mapping: Mapping) -> Array:
    """Runs of pages that hold something of the process's own."""
    if mapping.shared:
        return np.zeros((0, 2), np.uint64)
    entries = memory.page_entries(start, end)
    own = (entries & np.uint64(_PRESENT | _SWAPPED)) != 0
    if not _is_anonymous(mapping):
        own &= (entries & np.uint64(_OF_FILE)) == 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], own, [False]]).astype(np.int8)))
    low, high = edges[::2].astype(np.uint64), edges[1::2].astype(np.uint64)
    return np.stack([np.uint64(start) + low * np.uint64(PAGE), (high - low) * np.uint64(PAGE)], axis=1)


def copy_mapped(memory: Memory, mapped: Mapped, read: Callable[[int, int], Array]) -> Array | None:
    """The bytes of a range; None where it cannot be read to its end (a file that was cut).

    Args:
        memory: Of the process.
        mapped: The range.
        read: Reads all the bytes at an address; a range with little in it is read page by page instead.
    """
    size = mapped.end - mapped.start
    try:
        if not mapped.anonymous or size < _SPARSE or int(mapped.pages[:, 1].sum()) > size // 4:
            return read(mapped.start, size)
        data = np.zeros(size, dtype=np.uint8)  # takes no memory before it is written
        for start, length in mapped.pages.tolist():
            at = start - mapped.start
            memory.read_into(start, data[at : at + length])
        return data
    except FaultError:
        return None
