"""What unwinding needs of an ELF image: its loaded segments, and the bytes of its call frame information.

Every number in it is distrusted, and its bytes are read, not mapped: who cuts the file off meanwhile does no
harm, and nothing stays open.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_COMPRESSION = struct.Struct("<IIQQ")
_LOAD, _FRAME_TABLE = 1, 0x6474E550  # PT_LOAD, PT_GNU_EH_FRAME
_NOTHING, _COMPRESSED, _ZLIB = 8, 0x800, 1  # SHT_NOBITS, SHF_COMPRESSED, ELFCOMPRESS_ZLIB
_MOST = 1 << 28  # bytes of one table
_MOST_NAMES = 1 << 20

Read = Callable[[int, int], bytes]  # offset, size -> so many bytes, or fewer


class Segment(NamedTuple):
    """A PT_LOAD program header."""

    offset: int
    address: int
    file_size: int
    memory_size: int
    flags: int


class Section(NamedTuple):
    """A section header."""

    name: bytes
    kind: int
    flags: int
    address: int
    offset: int
    size: int


class Bytes(NamedTuple):
    """Bytes and the link address of the first."""

    address: int
    data: bytes


@dataclass(frozen=True)
class ImageParts:
    """Attributes:
    segments: Loaded ones, in their order.
    search: .eh_frame_hdr; None: there is none.
    eh_frame, debug_frame: None where there is none.
    """

    segments: tuple[Segment, ...]
    search: Bytes | None
    eh_frame: Bytes | None
    debug_frame: Bytes | None


def read_file(path: str | bytes) -> ImageParts | None:
    """Of a file; None when it cannot be opened or is no ELF file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return _read(lambda offset, size: os.pread(descriptor, size, offset))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_image(image: bytes) -> ImageParts | None:
    """Of bytes that are laid out as in a file; None when they are no ELF image."""
    return _read(lambda offset, size: image[offset : offset + size])


def _read(read: Read) -> ImageParts | None:
    """Only what unwinding needs; None: no ELF image."""
    try:
        header = _HEADER.unpack(read(0, _HEADER.size))
        if header[0][:6] != b"\x7fELF\x02\x01":
            return None
        rows = _table(read, _PROGRAM_HEADER, header[5], header[9], header[10])
    except (struct.error, OverflowError):
        return None
    segments = tuple(
        Segment(offset, address, in_file, in_memory, flags)
        for kind, flags, offset, address, _, in_file, in_memory, _ in rows
        if kind == _LOAD
    )
    sections = _sections(read, header)
    search = next(
        (Bytes(row[3], read(row[2], min(row[5], _MOST))) for row in rows if row[0] == _FRAME_TABLE), None
    )
    return ImageParts(
        segments, search, _eh_frame(read, segments, sections, search), _debug_frame(read, sections)
    )


def _table(read: Read, layout: struct.Struct, offset: int, size: int, count: int) -> list[tuple[int, ...]]:
    if not count:
        return []
    if size != layout.size or offset >= 1 << 62:
        raise struct.error("headers of an odd size")
    raw = read(offset, size * count)
    return list(layout.iter_unpack(raw[: len(raw) // size * size]))


def _sections(read: Read, header: tuple[int, ...]) -> list[Section]:
    """The section headers with their names; none where they are damaged: nothing loaded depends on them."""
    try:
        rows = _table(read, _SECTION_HEADER, header[6], header[11], header[12] if header[6] else 0)
        _, _, _, _, offset, size, *_ = rows[header[13]]
        names = read(offset, min(size, _MOST_NAMES))
    except (struct.error, OverflowError, IndexError, OSError):
        return []
    return [
        Section(names[name : name + 32].split(b"\0", 1)[0], kind, flags, address, offset, size)
        for name, kind, flags, address, offset, size, *_ in rows
        if kind != _NOTHING and offset < 1 << 62
    ]


def _eh_frame(
    read: Read, segments: tuple[Segment, ...], sections: list[Section], search: Bytes | None
) -> Bytes | None:
    """By its section; without one, from where the table says to the end of the segment."""
    for section in sections:
        if section.name == b".eh_frame" and not section.flags & _COMPRESSED:
            return Bytes(section.address, read(section.offset, min(section.size, _MOST)))
    # A pointer of four bytes, relative to itself: what all linkers write.
    if search is None or search.data[:2] != b"\x01\x1b" or len(search.data) < 8:
        return None
    start = search.address + 4 + int.from_bytes(search.data[4:8], "little", signed=True)
    for segment in segments:
        if segment.address <= start < segment.address + segment.file_size and segment.offset < 1 << 62:
            inside = start - segment.address
            return Bytes(start, read(segment.offset + inside, min(segment.file_size - inside, _MOST)))
    return None


def _debug_frame(read: Read, sections: list[Section]) -> Bytes | None:
    for section in sections:
        if section.name in (b".debug_frame", b".zdebug_frame"):
            data = read(section.offset, min(section.size, _MOST))
            return Bytes(section.address, _expand(section, data))
    return None


def _expand(section: Section, data: bytes) -> bytes:
    """The bytes that were compressed with zlib; none where that fails."""
    if section.name.startswith(b".z"):
        head, body = data[:12], data[12:]
        size = int.from_bytes(head[4:], "big") if head[:4] == b"ZLIB" else 0
    elif section.flags & _COMPRESSED and len(data) >= _COMPRESSION.size:
        kind, _, size, _ = _COMPRESSION.unpack_from(data)
        body = data[_COMPRESSION.size :] if kind == _ZLIB else b""
    else:
        return data
    try:
        return zlib.decompressobj().decompress(body, max(1, min(size, _MOST)))
    except zlib.error:
        return b""
