"""Copies the state of a stopped process and lays out its objects: statics, thread-locals, heap blocks.

Nothing here changes a process. The caller has it stopped at its quiescent point, or accepts that what is read
while it runs may be torn (pre-copy, `inspect`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.heap.modules import Module
from instar.metadata.annotations import annotation_of
from instar.metadata.elf import Segment, SymbolKind
from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.process.maps import Mapping
from instar.process.memory import Memory
from instar.state.columns import ObjectFlag, ObjectKind, Strength, flags_with
from instar.state.kernel import Span, make_objects, sort_objects
from instar.state.slots import TypeTable

Array = np.ndarray[Any, np.dtype[Any]]

_SMALLEST_GAP = 8
_NO_OBJECTS = make_objects(0, ObjectKind.HEAP)
_NO_ORIGINS = np.zeros(0, dtype=np.int32)
PF_WRITE = 2


@dataclass(frozen=True)
class Subject:
    """A process whose state is read.

    Attributes:
        pid: Its process id.
        version: What it runs.
        memory: Its address space.
        maps: Its mappings at the time of the stop.
        load_bias: Run-time minus link-time address of the program.
        thread_pointer: ``fs_base`` of its thread, None when it cannot be known (not stopped).
        modules: Its loaded files.
    """

    pid: int
    version: Version
    memory: Memory
    maps: Sequence[Mapping]
    load_bias: int
    thread_pointer: int | None
    modules: Sequence[Module] = ()


class Shapes:
    """Array types taken apart: (element row, number of elements), with a memo."""

    def __init__(self, version: Version, table: TypeTable) -> None:
        self._version = version
        self._stripped = table.stripped
        self._memo: dict[int, tuple[int, int, int]] = {}

    def of(self, row: int) -> tuple[int, int, int]:
        """(stripped element type, count, size in bytes) of a type; type -1 and size 0 when incomplete."""
        found = self._memo.get(row)
        if found is None:
            found = self._memo[row] = self._of(row)
        return found

    def _of(self, row: int) -> tuple[int, int, int]:
        current = int(self._stripped[row]) if row >= 0 else -1
        declared, count = row, 1
        while current >= 0 and self._version.types[current]["kind"] == TypeKind.ARRAY:
            count *= max(int(self._version.types[current]["elements"]), 0)
            declared = int(self._version.types[current]["target"])
            current = int(self._stripped[declared])
        current = self._annotated(declared, current)
        size = int(self._version.size_of(current)) if current >= 0 else 0
        return current, count, size * count

    def _annotated(self, declared: int, stripped: int) -> int:
        """A word that instar.h says is (no) pointer is laid out like one that is (none)."""
        meaning = annotation_of(self._version, declared)
        if not meaning or self._version.size_of(stripped) != 8:
            return stripped
        kinds = self._version.types["kind"]
        if meaning == "pxfer":
            like = (kinds == TypeKind.POINTER) & (self._version.types["target"] < 0)
        else:
            like = (kinds == TypeKind.INTEGER) & (self._version.types["size"] == 8)
        is_scalar = kinds[stripped] in (TypeKind.POINTER, TypeKind.INTEGER)
        return int(np.flatnonzero(like)[0]) if like.any() and is_scalar else stripped


def program_bias(version: Version, maps: Iterable[Mapping], path: str) -> int:
    """Load bias of the program file, from its lowest mapping."""
    first = min((m for m in maps if m.file == path and m.offset == 0), key=lambda m: m.start)
    lowest = min(segment.address for segment in version.elf.loads)
    return first.start - (lowest & ~0xFFF)


class Layouts:
    """Which objects are where in a program's writable segments and its thread-local block.

    Worked out once for each place: they follow from the file and where it was loaded.
    """

    def __init__(self, version: Version, table: TypeTable) -> None:
        self._version, self._shapes = version, Shapes(version, table)
        self._memo: dict[tuple[int, int, bool], tuple[Array, Array]] = {}

    def static(self, segment: Segment, bias: int) -> tuple[Array, Array]:
        """OBJECT rows of a segment, and which variables they are; the caller's own."""
        return self._copy(segment.address, segment.size, bias, tls=False)

    def tls(self, size: int, start: int) -> tuple[Array, Array]:
        """The same of a thread-local block."""
        return self._copy(0, size, start, tls=True)

    def _copy(self, address: int, size: int, bias: int, *, tls: bool) -> tuple[Array, Array]:
        key = address, bias, tls
        if key not in self._memo:
            self._memo[key] = self._lay_out(address, size, bias, tls=tls)
        rows, origins = self._memo[key]
        return rows.copy(), origins.copy()

    def _lay_out(self, address: int, size: int, bias: int, *, tls: bool) -> tuple[Array, Array]:
        rows, origins = _variables(self._version, self._shapes, address, size, tls=tls)
        rows["address"] += np.uint64(bias)
        if not tls:
            return _fill_gaps(self._version, rows, origins, address, bias, size)
        rows["kind"] = ObjectKind.TLS
        return rows, origins


def static_spans(subject: Subject, layouts: Layouts) -> list[Span]:
    """The program's writable segments with their variables as objects."""
    spans = []
    for segment in subject.version.elf.loads:
        if segment.flags & PF_WRITE and segment.size:
            start = segment.address + subject.load_bias
            data = np.empty(segment.size, dtype=np.uint8)
            subject.memory.read_into(start, data)
            spans.append(Span(start, data, *layouts.static(segment, subject.load_bias)))
    return spans


def tls_span(subject: Subject, layouts: Layouts) -> Span | None:
    """The program's own thread-local block of its one thread (x86-64 psABI, TLS variant II)."""
    tls = subject.version.elf.tls
    if tls is None or not tls.size or subject.thread_pointer is None:
        return None
    align = max(int(tls.align), 1)
    start = subject.thread_pointer - (tls.size + align - 1) // align * align
    data = np.empty(tls.size, dtype=np.uint8)
    subject.memory.read_into(start, data)
    return Span(start, data, *layouts.tls(tls.size, start))


def _variables(version: Version, shapes: Shapes, start: int, size: int, *, tls: bool) -> tuple[Array, Array]:
    """OBJECT rows (link-time addresses) of the variables in a range, with their rows as origins."""
    columns = version.variables
    inside = (
        (columns["tls"] == int(tls)) & (columns["address"] >= start) & (columns["address"] < start + size)
    )
    chosen = np.flatnonzero(inside)
    rows = make_objects(len(chosen), ObjectKind.STATIC)
    rows["address"] = columns["address"][chosen]
    known: dict[int, tuple[int, int, int]] = {
        int(t): shapes.of(int(t)) for t in np.unique(columns["type"][chosen])
    }
    described = np.array([known[int(t)] for t in columns["type"][chosen]], dtype=np.int64).reshape(-1, 3)
    rows["type"], rows["count"], rows["size"] = described[:, 0], described[:, 1], described[:, 2]
    rows["flags"] = flags_with(ObjectFlag.ROOT, Strength.STRONG)
    keep = (rows["size"] > 0) & (rows["address"] + rows["size"] <= start + size)
    return sort_objects(rows[keep], chosen[keep].astype(np.int32))


def _fill_gaps(
    version: Version, rows: Array, origins: Array, segment: int, bias: int, size: int
) -> tuple[Array, Array]:
    """Bytes that no variable covers: symbols without debug information (compound literals), and the rest."""
    symbols = _unnamed_symbols(version, segment, size)
    symbols["address"] += np.uint64(bias)
    both = np.concatenate([rows, symbols[~_overlap(symbols, rows)]])
    rows, origins = sort_objects(both, np.concatenate([origins, np.full(len(symbols), -1, dtype=np.int32)]))
    start = segment + bias
    ends = np.concatenate([[np.uint64(start)], rows["address"] + rows["size"]]).astype(np.uint64)
    begins = np.concatenate([rows["address"], [np.uint64(start + size)]]).astype(np.uint64)
    aligned = (ends + np.uint64(7)) & ~np.uint64(7)
    wide = np.flatnonzero(begins.astype(np.int64) - aligned.astype(np.int64) >= _SMALLEST_GAP)
    gaps = make_objects(len(wide), ObjectKind.UNNAMED)
    gaps["address"] = aligned[wide]
    gaps["size"] = begins[wide] - aligned[wide]
    all_rows = np.concatenate([rows, gaps])
    all_origins = np.concatenate([origins, np.full(len(gaps), -1, dtype=np.int32)])
    order = np.argsort(all_rows["address"], kind="stable")
    return all_rows[order], all_origins[order]


def _overlap(symbols: Array, rows: Array) -> Array:
    """Which symbols have bytes of a variable: a longer one (a flexible array's) must not take its place."""
    if not len(rows):
        return np.zeros(len(symbols), dtype=bool)
    before = np.searchsorted(rows["address"], symbols["address"] + symbols["size"], "left") - 1
    ends = (rows["address"] + rows["size"])[np.maximum(before, 0)]
    covered: Array = (before >= 0) & (ends > symbols["address"])
    return covered


def _unnamed_symbols(version: Version, start: int, size: int) -> Array:
    """Data symbols of the symbol table in a range, as UNNAMED objects at link-time addresses."""
    symbols = version.elf.symbols
    inside = (symbols["kind"] == SymbolKind.OBJECT) & (symbols["size"] > 0)
    inside &= (symbols["value"] >= start) & (symbols["value"] < start + size) & (symbols["section"] != 0)
    chosen = symbols[inside]
    rows = make_objects(len(chosen), ObjectKind.UNNAMED)
    rows["address"], rows["size"] = chosen["value"], chosen["size"]
    return rows


def heap_spans(regions: Iterable[tuple[int, Array]], blocks: Array) -> list[Span]:
    """Copied heap ranges with their live blocks.

    Args:
        regions: (start, bytes) of every heap range.
        blocks: Rows that begin with ``address`` and ``size`` (usable bytes), sorted by address.
    """
    spans = []
    for start, data in regions:
        first, last = np.searchsorted(blocks["address"], [start, start + len(data)])
        inside = blocks[first:last]
        spans.append(Span(start, data, _NO_OBJECTS, _NO_ORIGINS, granular=True, blocks=inside))
    return spans


def known_ranges(maps: Iterable[Mapping]) -> Array:
    """(n, 2) u8 column of everything that is mapped."""
    return np.array([[m.start, m.end] for m in maps], dtype=np.uint64).reshape(-1, 2)
