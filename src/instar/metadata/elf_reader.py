"""Reads ELF files (the layout of elf(5)); every number in the file is distrusted.

elf = read_elf(path)            # any 64-bit little-endian ELF
elf = read_program(path)        # what a version can be: raises RefusedError otherwise
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import numpy.typing as npt

from instar.errors import HostError, RefusedError
from instar.metadata.elf import (
    RELOCATION,
    SECTION_NOBITS,
    SYMBOL,
    ElfFile,
    RelocationKind,
    Rows,
    Section,
    Segment,
)
from instar.metadata.text import StringPool

HEADER = np.dtype(
    [
        ("ident", "u1", 16), ("type", "<u2"), ("machine", "<u2"), ("version", "<u4"), ("entry", "<u8"),
        ("phoff", "<u8"), ("shoff", "<u8"), ("flags", "<u4"), ("ehsize", "<u2"), ("phentsize", "<u2"),
        ("phnum", "<u2"), ("shentsize", "<u2"), ("shnum", "<u2"), ("shstrndx", "<u2"),
    ]
)  # fmt: skip
PROGRAM_HEADER = np.dtype(
    [
        ("type", "<u4"), ("flags", "<u4"), ("offset", "<u8"), ("vaddr", "<u8"), ("paddr", "<u8"),
        ("filesz", "<u8"), ("memsz", "<u8"), ("align", "<u8"),
    ]
)  # fmt: skip
SECTION_HEADER = np.dtype(
    [
        ("name", "<u4"), ("type", "<u4"), ("flags", "<u8"), ("addr", "<u8"), ("offset", "<u8"),
        ("size", "<u8"), ("link", "<u4"), ("info", "<u4"), ("align", "<u8"), ("entsize", "<u8"),
    ]
)  # fmt: skip
FILE_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("shndx", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
RELA = np.dtype([("offset", "<u8"), ("info", "<u8"), ("addend", "<i8")])

ET_REL, ET_EXEC, ET_DYN, ET_CORE = 1, 2, 3, 4
X86_64 = 62
MACHINES = {
    3: "i386",
    8: "MIPS",
    20: "PowerPC",
    21: "PowerPC64",
    22: "s390",
    40: "ARM",
    183: "AArch64",
    243: "RISC-V",
}
PT_DYNAMIC, PT_INTERP, PT_NOTE = 2, 3, 4
SHT_SYMTAB, SHT_NOTE, SHT_DYNSYM = 2, 7, 11
DT_NEEDED, DT_STRTAB, DT_RELA, DT_RELASZ, DT_STRSZ, DT_PLTRELSZ, DT_JMPREL = 1, 5, 7, 8, 10, 2, 23
DT_RELRSZ, DT_RELR, DT_FLAGS_1, DF_1_PIE = 35, 36, 0x6FFFFFFB, 0x08000000
RELOCATION_KINDS = {
    1: RelocationKind.SYMBOLIC, 5: RelocationKind.COPY, 6: RelocationKind.SYMBOLIC,
    7: RelocationKind.JUMP_SLOT, 8: RelocationKind.RELATIVE, 16: RelocationKind.TLS_MODULE,
    17: RelocationKind.TLS_OFFSET, 18: RelocationKind.TLS_STATIC,
    36: RelocationKind.TLS_DESCRIPTOR, 37: RelocationKind.INDIRECT,
}  # fmt: skip


class _Damaged(Exception):
    """Something lies outside the file; the message says what."""


def map_file(path: Path) -> memoryview:
    """The bytes of a file, mapped.

    Raises:
        HostError: It cannot be opened.
        RefusedError: not-executable, if it is no regular file or empty.
    """
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except ValueError as error:
        raise RefusedError("not-elf", f"{path} is empty", "give a program file") from error
    except OSError as error:
        raise HostError(
            "unreadable-file", f"{path}: {error.strerror}", "check the path and its permissions"
        ) from error


class _Reader:
    """Bounded access to one mapped file."""

    def __init__(self, path: Path, image: memoryview) -> None:
        self.path = path
        self.image = image
        self.header = self.table(HEADER, 0, 1, "ELF header")[0]
        self.segments = self._segments()
        self.section_rows, self.sections = self._sections()

    def table(self, dtype: np.dtype[np.void], offset: int, count: int, what: str) -> Rows:
        size = count * dtype.itemsize
        if offset < 0 or size < 0 or offset + size > len(self.image):
            raise _Damaged(f"the {what} lies outside the file")
        return np.frombuffer(self.image, dtype, count, offset) if count else np.empty(0, dtype)

    def _segments(self) -> tuple[Segment, ...]:
        header = self.header
        if header["phnum"] and header["phentsize"] != PROGRAM_HEADER.itemsize:
            raise _Damaged("program headers have an odd size")
        rows = self.table(PROGRAM_HEADER, int(header["phoff"]), int(header["phnum"]), "program header table")
        fields = ("type", "flags", "offset", "vaddr", "filesz", "memsz", "align")
        return tuple(Segment(*row) for row in rows[list(fields)].tolist())

    def _sections(self) -> tuple[Rows, tuple[Section, ...]]:
        header = self.header
        start, count, names = int(header["shoff"]), int(header["shnum"]), int(header["shstrndx"])
        if not start:
            return np.empty(0, SECTION_HEADER), ()
        if header["shentsize"] != SECTION_HEADER.itemsize:
            raise _Damaged("section headers have an odd size")
        first = self.table(SECTION_HEADER, start, 1, "section header table")[0]
        count = count or int(first["size"])  # more than 65279 sections
        names = int(first["link"]) if names == 0xFFFF else names
        rows = self.table(SECTION_HEADER, start, count, "section header table")
        if names >= count:
            raise _Damaged("the section names lie outside the file")
        pool = self.strings(rows[names], "section names")
        return rows, tuple(
            Section(pool.text(int(row["name"]) if row["name"] < len(pool) else 0), *map(int, _place(row)))
            for row in rows
        )

    def strings(self, row: np.void, what: str) -> StringPool:
        """A string table, ended with a NUL whatever the file has."""
        raw = self.table(np.dtype([("byte", "u1")]), int(row["offset"]), int(row["size"]), what)
        return StringPool(raw.tobytes() + b"\0")

    def at_address(self, address: int, size: int, what: str) -> int:
        """File offset of loaded bytes."""
        for segment in self.segments:
            inside = segment.address <= address and address + size <= segment.address + segment.file_size
            if segment.kind == 1 and inside:
                return segment.offset + address - segment.address
        raise _Damaged(f"the {what} lies outside the file")


def _place(row: np.void) -> tuple[int, int, int, int, int]:
    return row["addr"], row["size"], row["offset"], row["flags"], row["type"]


def _check_bounds(reader: _Reader) -> None:
    size = len(reader.image)
    for segment in reader.segments:
        if segment.kind == 1 and (
            segment.offset + segment.file_size > size or segment.file_size > segment.size
        ):
            raise _Damaged("a loaded segment goes on past the end of the file")
    for section in reader.sections:
        if section.kind not in (0, SECTION_NOBITS) and section.offset + section.size > size:
            raise _Damaged(f"section {section.name} goes on past the end of the file")


def _symbols(reader: _Reader) -> tuple[Rows, StringPool]:
    """Both symbol tables; their names in one pool."""
    tables: list[Rows] = []
    pool = b"\0"
    for kind in (SHT_DYNSYM, SHT_SYMTAB):
        for row in reader.section_rows[reader.section_rows["type"] == kind]:
            names = int(row["link"])
            if names >= len(reader.section_rows) or row["entsize"] != FILE_SYMBOL.itemsize:
                raise _Damaged("a symbol table has no names")
            count = int(row["size"]) // FILE_SYMBOL.itemsize
            found = reader.table(FILE_SYMBOL, int(row["offset"]), count, "symbol table")
            text = reader.strings(reader.section_rows[names], "symbol names").data
            if len(found) and int(found["name"].max()) >= len(text):
                raise _Damaged("a symbol's name lies outside the string table")
            tables.append(_convert_symbols(found, len(pool), kind == SHT_DYNSYM))
            pool += text
    return (np.concatenate(tables) if tables else np.empty(0, SYMBOL)), StringPool(pool)


def _convert_symbols(found: Rows, base: int, is_dynamic: bool) -> Rows:
    rows = np.zeros(len(found), SYMBOL)
    rows["value"], rows["size"], rows["section"] = found["value"], found["size"], found["shndx"]
    rows["name"] = np.where(found["name"] != 0, found["name"] + base, 0)
    rows["kind"], rows["bind"] = found["info"] & 15, found["info"] >> 4
    rows["visibility"], rows["dynamic"] = found["other"] & 3, is_dynamic
    return rows


def _dynamic(reader: _Reader) -> list[tuple[int, int]]:
    for segment in reader.segments:
        if segment.kind == PT_DYNAMIC:
            entry = np.dtype([("tag", "<i8"), ("value", "<u8")])
            rows = reader.table(entry, segment.offset, segment.file_size // 16, "dynamic section")
            pairs: list[tuple[int, int]] = rows.tolist()
            ends = [place for place, (tag, _) in enumerate(pairs) if tag == 0]
            return pairs[: ends[0]] if ends else pairs
    return []


def _needed(reader: _Reader, dynamic: list[tuple[int, int]]) -> tuple[str, ...]:
    tags = dict(dynamic)
    if DT_STRTAB not in tags or DT_STRSZ not in tags:
        return ()
    start = reader.at_address(tags[DT_STRTAB], tags[DT_STRSZ], "dynamic strings")
    pool = StringPool(bytes(reader.image[start : start + tags[DT_STRSZ]]) + b"\0")
    return tuple(pool.text(value) for tag, value in dynamic if tag == DT_NEEDED and value < len(pool))


def _relocations(reader: _Reader, dynamic: list[tuple[int, int]], symbol_count: int) -> Rows:
    tags = dict(dynamic)
    parts = [np.empty(0, RELOCATION)]
    for start, length in ((DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ)):
        size = tags.get(length, 0)
        if tags.get(start) and size:
            place = reader.at_address(tags[start], size, "relocation table")
            found = reader.table(RELA, place, size // RELA.itemsize, "relocation table")
            parts.append(_convert_relocations(found, symbol_count))
    if tags.get(DT_RELR) and tags.get(DT_RELRSZ):
        parts.append(_relative_relocations(reader, tags[DT_RELR], tags[DT_RELRSZ]))
    return np.concatenate(parts)


def _convert_relocations(found: Rows, symbol_count: int) -> Rows:
    rows = np.zeros(len(found), RELOCATION)
    kinds = np.full(256, RelocationKind.OTHER, np.uint8)
    for raw, kind in RELOCATION_KINDS.items():
        kinds[raw] = kind
    raw_kinds = found["info"] & 0xFFFFFFFF
    symbols = (found["info"] >> 32).astype(np.int64)
    if len(found) and int(symbols.max()) >= max(1, symbol_count):
        raise _Damaged("a relocation names a symbol that does not exist")
    rows["address"], rows["addend"] = found["offset"], found["addend"]
    rows["raw_kind"] = np.minimum(raw_kinds, 0xFFFF)
    rows["kind"] = kinds[np.minimum(raw_kinds, 255)]
    rows["symbol"] = np.where(symbols > 0, symbols, -1)  # .dynsym comes first in ElfFile.symbols
    return rows


def _relative_relocations(reader: _Reader, address: int, size: int) -> Rows:
    """DT_RELR: an even word is an address, an odd one a bitmap of the 63 words that follow."""
    place = reader.at_address(address, size, "packed relocation table")
    places: list[int] = []
    following = 0
    for word in np.frombuffer(reader.image, "<u8", size // 8, place).tolist():
        if not word & 1:
            places.append(word)
            following = word + 8
            continue
        places += [following + 8 * bit for bit in range(63) if word >> (bit + 1) & 1]
        following += 63 * 8
    rows = np.zeros(len(places), RELOCATION)
    rows["address"], rows["kind"], rows["raw_kind"], rows["symbol"] = places, RelocationKind.RELATIVE, 8, -1
    for row, one in zip(rows, places, strict=True):
        start = reader.at_address(one, 8, "word of a packed relocation")
        row["addend"] = np.frombuffer(reader.image, "<i8", 1, start)[0]
    return rows


def _build_id(reader: _Reader) -> str:
    """From the note segments, or from the note sections of a file that has no segments (dwz)."""
    notes = [(one.offset, one.file_size, one.align) for one in reader.segments if one.kind == PT_NOTE]
    notes += [(one.offset, one.size, 4) for one in reader.sections if one.kind == SHT_NOTE]
    for offset, size, align in notes:
        end = min(offset + size, len(reader.image))
        found = parse_build_id(bytes(reader.image[offset:end]), max(4, min(align, 8)))
        if found:
            return found
    return ""


def parse_build_id(notes: bytes, align: int = 4) -> str:
    """The NT_GNU_BUILD_ID among ELF notes as lower-case hex, "" if there is none."""
    place = 0
    while place + 12 <= len(notes):
        name_size, size, kind = np.frombuffer(notes, "<u4", 3, place).tolist()
        start = place + 12 + (name_size + 3 & ~3)
        if kind == 3 and notes[place + 12 : place + 16] == b"GNU\0" and start + size <= len(notes):
            return notes[start : start + size].hex()
        place = start + (size + align - 1 & ~(align - 1))
    return ""


def _interpreter(reader: _Reader) -> str:
    for segment in reader.segments:
        if segment.kind == PT_INTERP:
            raw = bytes(reader.image[segment.offset : segment.offset + min(segment.file_size, 4096)])
            return raw.split(b"\0")[0].decode("utf-8", "surrogateescape")
    return ""


def _check_kind(path: Path, image: memoryview) -> None:
    """That it is a 64-bit little-endian ELF file at all."""
    start = bytes(image[:16])
    if start[:2] == b"#!":
        line = bytes(image[:200]).split(b"\n")[0].decode("utf-8", "replace")
        raise RefusedError("script", f"{path} is a script ({line})", "give the program that interprets it")
    if start[:4] != b"\x7fELF":
        raise RefusedError("not-elf", f"{path} is not an ELF file", "give a program built by gcc or clang")
    if len(start) < 16 or len(image) < HEADER.itemsize:
        raise RefusedError("truncated-elf", f"{path} ends inside its ELF header", "build or copy it again")
    machine = int.from_bytes(image[18:20], "little" if start[5] == 1 else "big")
    if start[4] != 2 or start[5] != 1 or machine != X86_64:
        name = MACHINES.get(machine, f"machine {machine}") + (" (32 bits)" if start[4] == 1 else "")
        raise RefusedError(
            "wrong-architecture", f"{path} is built for {name}, not x86-64", "build the program for x86-64"
        )


def read_elf(path: Path) -> ElfFile:
    """Read any x86-64 ELF file: program, library, separate debug file.

    Raises:
        HostError: unreadable-file.
        RefusedError: script, not-elf, wrong-architecture, truncated-elf.
    """
    image = map_file(path)
    _check_kind(path, image)
    try:
        reader = _Reader(path, image)
        _check_bounds(reader)
        return _build(reader)
    except _Damaged as error:
        raise RefusedError(
            "truncated-elf", f"{path} is damaged or cut off: {error}", "build or copy it again"
        ) from error


def _build(reader: _Reader) -> ElfFile:
    dynamic = _dynamic(reader)
    symbols, names = _symbols(reader)
    dynamic_count = int(symbols["dynamic"].sum())
    return ElfFile(
        path=reader.path,
        build_id=_build_id(reader),
        machine=int(reader.header["machine"]),
        kind=int(reader.header["type"]),
        is_pie=int(reader.header["type"]) == ET_DYN,
        entry=int(reader.header["entry"]),
        interpreter=_interpreter(reader),
        needed=_needed(reader, dynamic),
        segments=reader.segments,
        sections=reader.sections,
        symbols=symbols,
        symbol_strings=names,
        relocations=_relocations(reader, dynamic, dynamic_count),
        image=reader.image,
    )


def read_program(path: Path) -> ElfFile:
    """Read a file that must be a dynamically linked program.

    Raises:
        RefusedError: As ``read_elf``; relocatable-object, core-file, shared-library, statically-linked.
    """
    elf = read_elf(path)
    if elf.kind == ET_REL:
        raise RefusedError(
            "relocatable-object", f"{path} is an object file (.o)", "link it and give the program"
        )
    if elf.kind == ET_CORE:
        raise RefusedError("core-file", f"{path} is a core dump", "give the program that dumped it")
    if elf.interpreter:
        return elf
    if elf.kind == ET_DYN and not _is_static_pie(elf):
        raise RefusedError("shared-library", f"{path} is a shared library", "give the program that uses it")
    raise RefusedError(
        "statically-linked",
        f"{path} is statically linked",
        "link it dynamically (without -static): instar needs the dynamic linker and malloc of the C library",
    )


def _is_static_pie(elf: ElfFile) -> bool:
    entry = np.dtype([("tag", "<i8"), ("value", "<u8")])
    for segment in elf.segments:
        if segment.kind == PT_DYNAMIC:
            rows: npt.NDArray[np.void] = np.frombuffer(
                elf.image, entry, segment.file_size // 16, segment.offset
            )
            flags = rows["value"][rows["tag"] == DT_FLAGS_1]
            return bool(len(flags) and int(flags[0]) & DF_1_PIE)
    return False
