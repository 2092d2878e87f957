"""The ELF modules of a process as they lie in its memory: which defines malloc, and libc's own variables."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from instar.errors import FaultError
from instar.process.maps import Mapping
from instar.process.memory import Memory

_PT_LOAD, _PT_DYNAMIC, _PT_TLS = 1, 2, 7
_DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ, _DT_GNU_HASH = 5, 6, 7, 8, 0x6FFFFEF5
_R_X86_64_TPOFF64 = 18
_ET_EXEC = 2
_PAGE = 4096
_HEADER_SIZE = 56  # Elf64_Phdr


@dataclass(frozen=True, slots=True)
class Segment:
    """One program header, at its run-time address."""

    kind: int
    flags: int
    address: int
    file_size: int
    size: int


@dataclass(frozen=True)
class Module:
    """One loaded ELF file."""

    path: str
    base: int
    bias: int
    segments: tuple[Segment, ...]
    dynamic: dict[int, int] = field(repr=False)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]

    def writable(self) -> Segment | None:
        """The segment that holds .data and .bss."""
        for segment in self.segments:
            if segment.kind == _PT_LOAD and segment.flags & 2:
                return segment
        return None

    @property
    def end(self) -> int:
        """Where its last page ends, the zero-filled tail of its data included."""
        last = max(s.address + s.size for s in self.segments if s.kind == _PT_LOAD)
        return (last + _PAGE - 1) & -_PAGE

    def read_only(self) -> Iterator[Segment]:
        """Loaded segments that are neither writable nor executable."""
        for segment in self.segments:
            if segment.kind == _PT_LOAD and not segment.flags & 3:
                yield segment

    def pointer(self, tag: int) -> int | None:
        """A pointer of the dynamic section; some loaders relocate these in place."""
        value = self.dynamic.get(tag)
        if value is None:
            return None
        return value if value >= self.base else value + self.bias


def read_modules(memory: Memory, maps: Sequence[Mapping]) -> list[Module]:
    """All ELF files of which the first page is mapped, by address."""
    modules = []
    seen = set()
    for mapping in maps:
        if mapping.file and mapping.offset == 0 and mapping.readable and mapping.start not in seen:
            seen.add(mapping.start)
            module = _read_module(memory, mapping, maps)
            if module is not None:
                modules.append(module)
    return modules


def _read_module(memory: Memory, mapping: Mapping, maps: Sequence[Mapping]) -> Module | None:
    try:
        header = memory.read(mapping.start, 64)
        if header[:5] != b"\x7fELF\x02":
            return None
        kind, phoff, phentsize, phnum = *struct.unpack_from("<H", header, 16), *_program_headers(header)
        if phentsize != _HEADER_SIZE:
            return None
        table = memory.read(mapping.start + phoff, phentsize * phnum)
        raw = [struct.unpack_from("<IIQQQQQQ", table, i * phentsize) for i in range(phnum)]
        first = min((entry[3] for entry in raw if entry[0] == _PT_LOAD), default=None)
        if first is None:
            return None
        bias = 0 if kind == _ET_EXEC else mapping.start - (first & ~0xFFF)
        segments = tuple(Segment(e[0], e[1], bias + e[3], e[5], e[6]) for e in raw)
        dynamic = next((s for s in segments if s.kind == _PT_DYNAMIC), None)
        entries = _read_dynamic(memory, dynamic, maps) if dynamic is not None else {}
    except FaultError:
        return None  # a data file that begins like one, or a module only partly mapped
    return Module(mapping.file, mapping.start, bias, segments, entries)


def _program_headers(header: bytes) -> tuple[int, int, int]:
    phoff = struct.unpack_from("<Q", header, 32)[0]
    phentsize, phnum = struct.unpack_from("<HH", header, 54)
    return phoff, phentsize, phnum


def _read_dynamic(memory: Memory, segment: Segment, maps: Sequence[Mapping]) -> dict[int, int]:
    """Its entries; the loader goes by their end, and by no size that the header names."""
    room = next((m.end - segment.address for m in maps if m.start <= segment.address < m.end), 0)
    words = np.frombuffer(memory.read(segment.address, min(segment.size, room) & ~15), "<u8").reshape(-1, 2)
    result: dict[int, int] = {}
    for tag, value in words.tolist():
        if tag == 0:
            break
        result.setdefault(tag, value)
    return result


def defines(memory: Memory, module: Module, name: str) -> bool:
    """Whether a module exports a defined symbol (looked up in its GNU hash table)."""
    table, symbols, strings = (
        module.pointer(_DT_GNU_HASH),
        module.pointer(_DT_SYMTAB),
        module.pointer(_DT_STRTAB),
    )
    if table is None or symbols is None or strings is None:
        return False
    try:
        return _lookup(memory, table, symbols, strings, name.encode())
    except FaultError:
        return False


def _lookup(memory: Memory, table: int, symbols: int, strings: int, name: bytes) -> bool:
    buckets, first, bloom, _ = struct.unpack("<IIII", memory.read(table, 16))
    if buckets == 0:
        return False
    value = _gnu_hash(name)
    bucket_table = table + 16 + 8 * bloom
    index = memory.u32(bucket_table + 4 * (value % buckets))
    if index < first:
        return False
    while True:
        chained = memory.u32(bucket_table + 4 * buckets + 4 * (index - first))
        if chained | 1 == value | 1:
            offset, _, _, section = struct.unpack("<IBBH", memory.read(symbols + 24 * index, 8))
            if section != 0 and memory.read(strings + offset, len(name) + 1) == name + b"\0":
                return True
        if chained & 1:
            return False
        index += 1


def _gnu_hash(name: bytes) -> int:
    value = 5381
    for byte in name:
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value


def thread_local_offsets(memory: Memory, module: Module) -> list[int]:
    """Offsets from the thread pointer of a module's own initial-exec thread-local variables.

    The loader wrote them into the module's GOT; the relocations without a symbol say where.
    """
    address, size = module.pointer(_DT_RELA), module.dynamic.get(_DT_RELASZ, 0)
    if address is None or size == 0:
        return []
    rows = np.frombuffer(memory.read(address, size - size % 24), "<u8").reshape(-1, 3)
    slots = [int(row[0]) for row in rows if int(row[1]) & 0xFFFFFFFF == _R_X86_64_TPOFF64]
    values = [memory.u64(module.bias + slot) for slot in slots]
    return sorted({value - (1 << 64) if value >> 63 else value for value in values})
