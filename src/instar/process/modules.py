"""The ELF images mapped into a process, with their call frame information (libinstar-dwarf.so, libdw)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from instar.errors import FaultError
from instar.native import load
from instar.process.expression import Reader
from instar.process.maps import Mapping, find_mapping
from instar.process.opcodes import Operation

REGISTER_COUNT = 17
_ROOM = 4096
_MAX_SEGMENTS = 64
_PAGE = 4096
_UNDEFINED, _SAME, _EXPRESSION = range(3)


class Segment(NamedTuple):
    """A PT_LOAD program header."""

    offset: int
    address: int
    file_size: int
    memory_size: int
    flags: int


class Rule(NamedTuple):
    """How one register of the caller is recovered: undefined, the same, or by an expression."""

    kind: int
    operations: tuple[Operation, ...]

    @property
    def same(self) -> bool:
        """The called function has not touched the register."""
        return self.kind == _SAME

    @property
    def undefined(self) -> bool:
        """The value is lost."""
        return self.kind == _UNDEFINED


class Row(NamedTuple):
    """A row of the call frame table: valid for link addresses in [start, end)."""

    start: int
    end: int
    return_register: int
    signal_frame: bool
    cfa: Rule
    registers: tuple[Rule, ...]


@cache
def _library() -> ctypes.CDLL:
    library = load("dwarf")
    words = np.ctypeslib.ndpointer(np.uint64, flags="C_CONTIGUOUS")
    library.instar_cfi_open_file.argtypes = (ctypes.c_char_p,)
    library.instar_cfi_open_file.restype = ctypes.c_void_p
    library.instar_cfi_open_image.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
    library.instar_cfi_open_image.restype = ctypes.c_void_p
    library.instar_cfi_close.argtypes = (ctypes.c_void_p,)
    library.instar_cfi_close.restype = None
    library.instar_cfi_read_segments.argtypes = (ctypes.c_void_p, words, ctypes.c_size_t)
    library.instar_cfi_read_segments.restype = ctypes.c_long
    library.instar_cfi_read_row.argtypes = (ctypes.c_void_p, ctypes.c_uint64, words, ctypes.c_size_t)
    library.instar_cfi_read_row.restype = ctypes.c_long
    return library


class Module:
    """One ELF image; rows are decoded once and kept."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._close = _library().instar_cfi_close  # globals are gone when the interpreter ends
        self._rows: dict[int, Row | None] = {}
        self.segments = self._read_segments()

    @classmethod
    def from_file(cls, path: str) -> Module | None:
        """The image of a file; None when it cannot be opened or is no ELF file."""
        handle = _library().instar_cfi_open_file(os.fsencode(path))
        return cls(handle) if handle else None

    @classmethod
    def from_image(cls, image: bytes) -> Module | None:
        """The image in these bytes, laid out as in a file."""
        handle = _library().instar_cfi_open_image(image, len(image))
        return cls(handle) if handle else None

    def __del__(self) -> None:
        handle, self._handle = self._handle, 0
        if handle:
            self._close(handle)

    def _read_segments(self) -> tuple[Segment, ...]:
        words = np.zeros(_MAX_SEGMENTS * 5, np.uint64)
        count = _library().instar_cfi_read_segments(self._handle, words, len(words))
        rows = words[: max(count, 0) * 5].reshape(-1, 5).tolist()
        return tuple(Segment(*row) for row in rows)

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
            self._rows[link_address] = self._read_row(link_address)
        return self._rows[link_address]

    def _read_row(self, link_address: int) -> Row | None:
        if link_address < 0:
            return None
        room = _ROOM
        while True:
            words = np.zeros(room, np.uint64)
            used = _library().instar_cfi_read_row(self._handle, link_address, words, room)
            if used <= 0:
                return None
            if used <= room:
                return _parse_row(words[:used].tolist())
            room = used


def _parse_row(words: list[int]) -> Row:
    start, end, return_register, signal = words[:4]
    position = 4
    rules: list[Rule] = []
    for _ in range(1 + REGISTER_COUNT):
        kind, count = words[position : position + 2]
        position += 2
        flat = words[position : position + 4 * count]
        position += 4 * count
        rules.append(Rule(kind, _operations(flat)))
    return Row(start, end, return_register, bool(signal), rules[0], tuple(rules[1:]))


def _operations(flat: list[int]) -> tuple[Operation, ...]:
    starts = flat[3::4]
    ends = [*starts[1:], starts[-1] + 3] if starts else []
    return tuple(
        Operation(code, first, second, offset, end)
        for code, first, second, offset, end in zip(
            flat[0::4], flat[1::4], flat[2::4], starts, ends, strict=True
        )
    )


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
