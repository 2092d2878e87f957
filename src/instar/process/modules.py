"""The ELF images mapped into a process, with their call frame information."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from instar.errors import FaultError
from instar.process.call_frames import FrameTable, Row
from instar.process.expression import Reader
from instar.process.image_parts import ImageParts, read_file, read_image
from instar.process.maps import Mapping, find_mapping

_PAGE = 4096


class Module:
    """One ELF image; rows are decoded once and kept."""

    def __init__(self, parts: ImageParts) -> None:
        self._table = FrameTable(parts)
        self._rows: dict[int, Row | None] = {}
        self.segments = parts.segments

    @classmethod
    def from_file(cls, path: str) -> Module | None:
        """The image of a file; None when it cannot be opened or is no ELF file."""
        parts = read_file(os.fsencode(path))
        return cls(parts) if parts is not None else None

    @classmethod
    def from_image(cls, image: bytes) -> Module | None:
        """The image in these bytes, laid out as in a file."""
        parts = read_image(image)
        return cls(parts) if parts is not None else None

    def load_bias(self, mapping: Mapping) -> int | None:
        """Run-time minus link address, from any mapping of the file; None when it is not of a segment."""
        for segment in self.segments:
            first = segment.offset & ~(_PAGE - 1)
            if first <= mapping.offset < segment.offset + max(segment.file_size, 1):
                return mapping.start - mapping.offset + segment.offset - segment.address
        return None

    def row(self, link_address: int) -> Row | None:
        """The row for an address; None where there is no usable call frame information."""
        if link_address not in self._rows:
            self._rows[link_address] = self._table.row(link_address)
        return self._rows[link_address]


@dataclass(frozen=True, slots=True)
class _Identity:
    """What makes two mappings the same image for us."""

    path: str
    device: tuple[int, int]
    inode: int
    size: int
    modified_ns: int


_known: dict[_Identity, Module | None] = {}


def find_module(mapping: Mapping, maps: Sequence[Mapping], memory: Reader, pid: int) -> Module | None:
    """The image that a mapping belongs to; None for memory that no ELF file backs.

    The mapped file itself is opened, also when its name now belongs to another file or to none; where that
    needs a right that this process lacks, the image is put together from the process's memory.
    """
    if mapping.path == "[vdso]":
        return _vdso(mapping, memory)
    if not mapping.file:
        return None
    path, identity = _open_path(mapping, pid)
    if identity not in _known:
        module = Module.from_file(path) if path else _from_memory(mapping, maps, memory)
        _known[identity] = module
    return _known[identity]


def _open_path(mapping: Mapping, pid: int) -> tuple[str, _Identity]:
    for path in _candidates(mapping, pid):
        with contextlib.suppress(OSError):
            found = Path(path).stat()
            same_device = (os.major(found.st_dev), os.minor(found.st_dev)) == mapping.device
            if found.st_ino == mapping.inode and (same_device or "map_files" in path):
                return path, _Identity(
                    mapping.file, mapping.device, mapping.inode, found.st_size, found.st_mtime_ns
                )
    return "", _Identity(mapping.file, mapping.device, mapping.inode, -pid, mapping.start)


def _candidates(mapping: Mapping, pid: int) -> list[str]:
    """Paths that may be the mapped file: by its name as the process sees it, by the mapping itself."""
    named = [] if mapping.deleted else [f"/proc/{pid}/root{mapping.file}", mapping.file]
    return [*named, f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"]


def _vdso(mapping: Mapping, memory: Reader) -> Module | None:
    try:
        image = memory.read(mapping.start, mapping.size)
    except FaultError:
        return None
    identity = _Identity("[vdso]", (0, 0), hash(image), len(image), 0)
    if identity not in _known:
        _known[identity] = Module.from_image(image)
    return _known[identity]


def _from_memory(mapping: Mapping, maps: Sequence[Mapping], memory: Reader) -> Module | None:
    """An image with every mapped part at its file offset; what is not mapped (sections) is left out."""
    parts = [m for m in maps if m.file == mapping.file and m.inode == mapping.inode and m.readable]
    if not parts or parts[0].offset != 0:
        return None
    image = bytearray(max(part.offset + part.size for part in parts))
    try:
        for part in parts:
            if not part.writable:
                image[part.offset : part.offset + part.size] = memory.read(part.start, part.size)
    except FaultError:
        return None
    if len(image) < 64 or image[:4] != b"\x7fELF":
        return None
    struct.pack_into("<Q", image, 40, 0)  # e_shoff: the section headers are not in memory
    struct.pack_into("<HH", image, 60, 0, 0)  # e_shnum, e_shstrndx
    return Module.from_image(bytes(image))


def prepare_modules(maps: Sequence[Mapping], memory: Reader, pid: int) -> int:
    """Open every image with code and touch its call frame information, so that later use is fast."""
    count = 0
    for mapping in maps:
        if not mapping.executable:
            continue
        module = find_module(mapping, maps, memory, pid)
        if module is None:
            continue
        bias = module.load_bias(mapping) if mapping.path != "[vdso]" else vdso_bias(module, mapping)
        if bias is not None:
            module.row(mapping.start - bias + mapping.size // 2)
            count += 1
    return count


def vdso_bias(module: Module, mapping: Mapping) -> int:
    """Load bias of the vDSO, whose first segment is mapped whole."""
    return mapping.start - (module.segments[0].address if module.segments else 0)


def module_at(
    address: int, maps: Sequence[Mapping], memory: Reader, pid: int
) -> tuple[Module, Mapping, int] | None:
    """The image with code at an address, its mapping there, and its load bias."""
    mapping = find_mapping(maps, address)
    if mapping is None or not mapping.executable:
        return None
    module = find_module(mapping, maps, memory, pid)
    if module is None:
        return None
    bias = vdso_bias(module, mapping) if mapping.path == "[vdso]" else module.load_bias(mapping)
    return None if bias is None else (module, mapping, bias)
