"""What the ELF file of a version says by itself, without debug information.

Symbols and relocations are columns; sections and segments are few and plain dataclasses. The bytes stay in
the mapped file. ``metadata.elf_reader`` fills this from a file and distrusts every number in it; here all
of them are taken to be valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from instar.metadata.text import StringPool

Rows = npt.NDArray[np.void]


class SymbolKind(IntEnum):
    """STT_* of a symbol."""

    NONE = 0
    OBJECT = 1
    FUNCTION = 2
    SECTION = 3
    FILE = 4
    COMMON = 5
    TLS = 6
    INDIRECT_FUNCTION = 10


class SymbolBind(IntEnum):
    """STB_* of a symbol."""

    LOCAL = 0
    GLOBAL = 1
    WEAK = 2
    UNIQUE = 10


class RelocationKind(IntEnum):
    """What the dynamic linker writes at a relocation's address."""

    RELATIVE = 0  # load bias + addend
    SYMBOLIC = 1  # address of the symbol + addend (R_X86_64_64, GLOB_DAT)
    JUMP_SLOT = 2  # address of the function, possibly bound late
    COPY = 3  # the bytes of a library's variable
    TLS_MODULE = 4
    TLS_OFFSET = 5  # offset within the module's TLS block
    TLS_STATIC = 6  # offset from the thread pointer
    TLS_DESCRIPTOR = 7
    INDIRECT = 8  # result of calling the resolver at bias + addend
    OTHER = 9


SYMBOL = np.dtype(
    [
        ("value", "u8"),
        ("size", "u8"),
        ("name", "u4"),  # see ElfFile.text
        ("section", "u2"),  # 0: undefined (with a value: canonical PLT address of a library's function)
        ("kind", "u1"),  # SymbolKind
        ("bind", "u1"),  # SymbolBind
        ("dynamic", "u1"),  # 1: from .dynsym, 0: from .symtab
        ("visibility", "u1"),
        ("_pad", "u2"),
        ("_pad2", "u4"),
    ]
)
RELOCATION = np.dtype(
    [
        ("address", "u8"),
        ("addend", "i8"),  # for RELATIVE from RELR or REL tables: read from the file's image
        ("kind", "u1"),  # RelocationKind
        ("_pad", "u1"),
        ("raw_kind", "u2"),  # R_X86_64_*
        ("symbol", "i4"),  # row of ElfFile.symbols, -1: none
    ]
)

PT_LOAD = 1
SECTION_WRITE, SECTION_ALLOCATE, SECTION_EXECUTE, SECTION_TLS = 1, 2, 4, 0x400
SECTION_NOBITS = 8


@dataclass(frozen=True)
class Section:
    """One section header; ``offset`` is in the file, ``address`` link-time (0 if not loaded)."""

    name: str
    address: int
    size: int
    offset: int
    flags: int  # SHF_*
    kind: int  # SHT_*


@dataclass(frozen=True)
class Segment:
    """One program header."""

    kind: int  # PT_*
    flags: int  # PF_*: 1 execute, 2 write, 4 read
    offset: int
    address: int
    file_size: int
    size: int
    align: int


@dataclass(frozen=True)
class TlsSegment:
    """The initialisation image of the module's thread-local storage."""

    address: int
    size: int
    file_size: int
    align: int


@dataclass(frozen=True)
class ElfFile:
    """Facts of one ELF file; addresses are link-time.

    Attributes:
        build_id: Lower-case hex, "" when the file has none.
        machine: e_machine (62: x86-64).
        kind: e_type (2: ET_EXEC, 3: ET_DYN).
        is_pie: ET_DYN, so that a load bias is added to every address.
        interpreter: Path of the dynamic linker, "" for a static program.
        needed: DT_NEEDED names in order.
        symbols: SYMBOL rows, .dynsym first, then .symtab (that of the separate debug file if stripped).
        relocations: RELOCATION rows in the order of the file.
        image: The bytes of the file.
    """

    path: Path
    build_id: str
    machine: int
    kind: int
    is_pie: bool
    entry: int
    interpreter: str
    needed: tuple[str, ...]
    segments: tuple[Segment, ...]
    sections: tuple[Section, ...]
    symbols: Rows
    symbol_strings: StringPool
    relocations: Rows
    image: memoryview = field(repr=False)

    @cached_property
    def tls(self) -> TlsSegment | None:
        """The PT_TLS segment, None when the module has no thread-locals."""
        for segment in self.segments:
            if segment.kind == 7:
                return TlsSegment(segment.address, segment.size, segment.file_size, segment.align)
        return None

    @cached_property
    def loads(self) -> tuple[Segment, ...]:
        """The PT_LOAD segments."""
        return tuple(segment for segment in self.segments if segment.kind == PT_LOAD)

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def section_at(self, address: int) -> Section | None:
        """The loaded section that contains a link-time address (never a TLS template's .tbss)."""
        for section in self.sections:
            is_template = section.flags & SECTION_TLS and section.kind == SECTION_NOBITS
            is_loaded = section.flags & SECTION_ALLOCATE and not is_template
            if is_loaded and section.address <= address < section.address + section.size:
                return section
        return None

    def contains(self, address: int, size: int = 1) -> bool:
        """Whether one PT_LOAD segment holds the whole range."""
        return any(s.address <= address and address + size <= s.address + s.size for s in self.loads)

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the initial image as the file has them, before relocation; zero in .bss.

        Raises:
            ValueError: A byte of the range is in no PT_LOAD segment.
        """
        result = bytearray(size)
        covered = 0
        for segment in self.loads:
            low = max(address, segment.address)
            high = min(address + size, segment.address + segment.size)
            if low >= high:
                continue
            covered += high - low
            high = min(high, segment.address + segment.file_size)
            if low < high:
                start = segment.offset + low - segment.address
                result[low - address : high - address] = self.image[start : start + high - low]
        if covered < size:
            raise ValueError(f"{size} bytes at {address:#x} are not in a loaded segment of {self.path}")
        return bytes(result)

    def section_bytes(self, section: Section) -> memoryview:
        """The bytes of a section as the file has them (empty for .bss and the like)."""
        if section.kind == SECTION_NOBITS:
            return self.image[:0]
        return self.image[section.offset : section.offset + section.size]

    def text(self, name: int) -> str:
        """The name of a symbol: ``elf.text(row["name"])``."""
        return self.symbol_strings.text(name)

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        index: dict[str, list[int]] = {}
        for row, name in enumerate(self.symbols["name"].tolist()):
            if name:
                index.setdefault(self.text(name), []).append(row)
        return index

    def find_symbols(self, name: str) -> Sequence[int]:
        """Rows of all symbols of that name."""
        return self._by_name.get(name, ())

    @cached_property
    def _by_address(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint64]]:
        kinds = self.symbols["kind"]
        placed = (self.symbols["value"] != 0) & (kinds != SymbolKind.SECTION) & (kinds != SymbolKind.FILE)
        rows = np.flatnonzero(placed & (kinds != SymbolKind.TLS))
        order = rows[np.argsort(self.symbols["value"][rows], kind="stable")]
        return order, self.symbols["value"][order]

    def symbols_at(self, address: int) -> Sequence[int]:
        """Rows of the symbols whose value is exactly that link-time address."""
        order, values = self._by_address
        key = np.uint64(address)
        low = int(np.searchsorted(values, key, "left"))
        high = int(np.searchsorted(values, key, "right"))
        return [int(row) for row in order[low:high]]
