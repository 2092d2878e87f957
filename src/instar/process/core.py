"""A core file as a process that stands still: its memory, mappings, registers and arguments (core(5)).

What was not dumped because it lies in a file is read from that file, if the core proves that it is the same
build; else such an address is as inaccessible as one that is not mapped.
"""

from __future__ import annotations

import mmap
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from instar.errors import FaultError, HostError, InternalError, RefusedError
from instar.process.maps import Mapping
from instar.process.memory import Bytes, Memory
from instar.process.registers import LAYOUT, Registers

_CORE, _X86_64, _LOAD, _NOTE = 4, 62, 1, 4
_PRSTATUS, _AUXV, _FILE = 1, 6, 0x46494C45
_BUILD_ID = 3
_PHDR_ADDRESS, _PHDR_COUNT, _VDSO = 3, 5, 33  # AT_*
_REGISTERS_AT, _PID_AT = 112, 32  # struct elf_prstatus
_PAGE = 4096
_HEAP_DISTANCE = 1 << 30
_MOST_WORDS = 1 << 16
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")


class Part(NamedTuple):
    """A PT_LOAD of the core."""

    start: int
    offset: int
    dumped: int
    size: int
    flags: int


class FilePart(NamedTuple):
    """An entry of NT_FILE."""

    start: int
    end: int
    offset: int
    path: str


@dataclass(frozen=True)
class CoreArguments:
    """What is on the initial stack: addresses of the strings of argv and of the environment, and of argv."""

    argv_at: int
    arguments: tuple[int, ...]
    environment: tuple[int, ...]


class CoreMemory(Memory):
    """Reads where the core, or a file that is proven to be the mapped one, has bytes; writes nothing."""

    def __init__(self, core: CoreFile) -> None:
        super().__init__(core.pid)
        self._core = core

    def read(self, address: int, size: int) -> bytes:
        """See Memory."""
        buffer = np.empty(size, np.uint8)
        self.read_into(address, buffer)
        return buffer.tobytes()

    def read_into(self, address: int, buffer: Bytes) -> None:
        """See Memory."""
        done = 0
        while done < len(buffer):
            piece = self._core.bytes_at(address + done, len(buffer) - done)
            if not len(piece):
                raise FaultError(address + done, len(buffer) - done, self.pid)
            buffer[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
            done += len(piece)

    def read_spans(self, starts: npt.ArrayLike, sizes: npt.ArrayLike) -> Bytes:
        """See Memory."""
        begin, length = np.asarray(starts, np.uint64).reshape(-1), np.asarray(sizes, np.uint64).reshape(-1)
        result = np.empty(int(length.sum()), np.uint8)
        at = 0
        for start, size in zip(begin.tolist(), length.tolist(), strict=True):
            self.read_into(start, result[at : at + size])
            at += size
        return result

    def page_entries(self, start: int, end: int) -> npt.NDArray[np.uint64]:
        """See Memory: what was dumped is present."""
        there = [bool(self._core.bytes_at(page, 1)) for page in range(start, end, _PAGE)]
        return np.where(there, np.uint64(1 << 63), np.uint64(0))

    def filled(self) -> set[int]:
        """See Memory; what may not be read is in no core."""
        return set()

    def write(self, address: int, data: bytes | Bytes) -> None:
        """Nothing is ever written to a core."""
        raise InternalError(f"a write of {len(data)} bytes to a core file")

    def write_forced(self, address: int, data: bytes | Bytes) -> None:
        """Nothing is ever written to a core."""
        self.write(address, data)

    def write_spans(self, starts: npt.ArrayLike, sizes: npt.ArrayLike, data: Bytes) -> None:
        """Nothing is ever written to a core."""
        self.write(0, data)


class CoreFile:
    """One core file of one thread.

    Args:
        path: The file.
        program: Where its program file is now; None: where it was.
        opened: Descriptors of some of the files, for who may not open them.

    Attributes:
        pid: Of the process that was dumped.
        memory: Its address space.
        maps: Its mappings.
        program: Path of its program file, as it was.

    Raises:
        HostError: "unreadable-file".
        RefusedError: "not-a-core", "core-truncated", "core-threads".
    """

    def __init__(
        self, path: Path, program: Path | None = None, opened: Dictionary[Path, int] | None = None
    ) -> None:
        self.path = path
        self._given, self._opened = program, opened or {}
        self._image = _map(path, self._opened)
        headers = self._read_headers()
        self._parts = sorted(
            Part(vaddr, offset, dumped, size, flags)
            for kind, flags, offset, vaddr, _, dumped, size, _ in headers
            if kind == _LOAD and size
        )
        self._starts = [part.start for part in self._parts]
        self._images: dict[str, mmap.mmap | None] = {}
        try:
            self._read_notes(headers)
            self.program = self._find_program()
            self._add_left_out()
        except (IndexError, ValueError, OverflowError, struct.error) as error:
            raise _not_core(path, f"its notes are damaged ({error})") from error
        self.memory: Memory = CoreMemory(self)
        self.program = self._find_program()
        self.maps = self._make_maps()

    def registers(self) -> Registers:
        """Of its thread."""
        return self._registers

    # ------------------------------------------------------------------------------------ the file

    def _read_headers(self) -> list[tuple[int, ...]]:
        image = self._image
        if len(image) < _HEADER.size or image[:4] != b"\x7fELF":
            raise _not_core(self.path, "it is no ELF file")
        if image[4] != 2:
            raise _not_core(self.path, "it is of a 32-bit process")
        _, kind, machine, _, _, offset, _, _, _, entry, count, *_ = _HEADER.unpack_from(image)
        if kind != _CORE:
            raise _not_core(self.path, "it is a program or a library")
        if machine != _X86_64:
            raise _not_core(self.path, "it is of another kind of machine")
        if entry != _PROGRAM_HEADER.size or offset + entry * count > len(image):
            raise _truncated(self.path, offset + entry * count, len(image))
        found = [_PROGRAM_HEADER.unpack_from(image, offset + entry * i) for i in range(count)]
        needed = max((row[2] + row[5] for row in found), default=0)
        if needed > len(image):
            raise _truncated(self.path, needed, len(image))
        return found

    def _read_notes(self, headers: list[tuple[int, ...]]) -> None:
        states, self.auxiliary, self._files = [], b"", list[FilePart]()
        for kind, _, offset, _, _, size, _, _ in headers:
            if kind != _NOTE:
                continue
            for number, data in notes(self._image[offset : offset + size]):
                if number == _PRSTATUS:
                    states.append(data)
                elif number == _AUXV:
                    self.auxiliary = data
                elif number == _FILE:
                    self._files = list(_files(data))
        if not states or not self.auxiliary or not self._files:
            raise _not_core(self.path, "it lacks registers, auxiliary vector or list of files")
        if len(states) > 1:
            raise RefusedError(
                "core-threads",
                f"{self.path} is of a process with {len(states)} threads",
                "programs with several threads cannot be updated yet",
            )
        self.pid = int(struct.unpack_from("<i", states[0], _PID_AT)[0])
        self._registers = Registers.parse(states[0][_REGISTERS_AT : _REGISTERS_AT + LAYOUT.size])

    def _add_left_out(self) -> None:
        """Mappings of files that are not mentioned as memory: gcore leaves out what is as in the file."""
        starts = [part.start for part in self._parts]
        for entry in self._files:
            at = bisect_right(starts, entry.end - 1) - 1
            if at < 0 or starts[at] < entry.start:
                image = self._proven(entry.path)
                flags = _flags_at(image, entry.offset) if image is not None else 4
                self._parts.append(Part(entry.start, 0, 0, entry.end - entry.start, flags))
        self._parts.sort()
        self._starts = [part.start for part in self._parts]

    # ------------------------------------------------------------------------------------ its memory

    def bytes_at(self, address: int, size: int) -> bytes:
        """As many bytes as are there in one piece, at most ``size``; none where nothing is."""
        index = bisect_right(self._starts, address) - 1
        part = self._parts[index] if index >= 0 else None
        if part is not None and address < part.start + part.dumped:
            at = part.offset + address - part.start
            return self._image[at : at + min(size, part.start + part.dumped - address)]
        if part is None or address >= part.start + part.size:
            return b""
        return self._from_file(address, min(size, part.start + part.size - address))

    def _from_file(self, address: int, size: int) -> bytes:
        for entry in self._files:
            if entry.start <= address < entry.end:
                image = self._proven(entry.path)
                if image is None:
                    return b""
                at = entry.offset + address - entry.start
                return image[at : at + min(size, entry.end - address)]
        return b""

    def _proven(self, path: str) -> mmap.mmap | None:
        """The bytes of a mapped file, if the core has the same build-id in its first page."""
        if path not in self._images:
            self._images[path] = self._open_proven(path)
        return self._images[path]

    def _open_proven(self, path: str) -> mmap.mmap | None:
        expected = self.build_id(path)
        try:
            moved = self._given if path == self.program else None
            image = _map(moved or Path(path), self._opened)
        except (HostError, RefusedError):
            return None
        return image if expected and image_build_id(image[:_PAGE]) == expected else None

    def build_id(self, path: str) -> str:
        """Of a mapped file, as the core has it; "" when its first page was not dumped."""
        first = next((entry for entry in self._files if entry.path == path and entry.offset == 0), None)
        if first is None:
            return ""
        index = bisect_right(self._starts, first.start) - 1
        part = self._parts[index] if index >= 0 else None
        if part is None or first.start + _PAGE > part.start + part.dumped:
            return ""
        at = part.offset + first.start - part.start
        return image_build_id(self._image[at : at + _PAGE])

    # ------------------------------------------------------------------------------------ its mappings

    def auxiliary_value(self, number: int) -> int:
        """Of the auxiliary vector; 0 when there is none."""
        words = struct.unpack(f"<{len(self.auxiliary) // 8}Q", self.auxiliary)
        pairs: dict[int, int] = dict(zip(words[::2], words[1::2], strict=False))
        return pairs.get(number, 0)

    def _find_program(self) -> str:
        headers = self.auxiliary_value(_PHDR_ADDRESS)
        for entry in self._files:
            if entry.start <= headers < entry.end:
                return entry.path
        raise _not_core(self.path, "its program cannot be told")

    def _make_maps(self) -> list[Mapping]:
        end = max(entry.end for entry in self._files if entry.path == self.program)
        inodes = {path: number for number, path in enumerate(sorted({e.path for e in self._files}), 1)}
        found = []
        heap_seen = False
        for part in self._parts:
            entry = next((e for e in self._files if e.start <= part.start < e.end), None)
            name, offset, inode = "", 0, 0
            if entry is not None:
                name, inode = entry.path, inodes[entry.path]
                offset = entry.offset + part.start - entry.start
            elif part.start <= self._registers.rsp < part.start + part.size:
                name = "[stack]"
            elif part.start == self.auxiliary_value(_VDSO):
                name = "[vdso]"
            elif not heap_seen and end < part.start < end + _HEAP_DISTANCE and part.flags & 2:
                name, heap_seen = "[heap]", True
            perms = "".join(
                letter if part.flags & bit else "-" for bit, letter in ((4, "r"), (2, "w"), (1, "x"))
            )
            found.append(
                Mapping(part.start, part.start + part.size, perms + "p", offset, (0, 0), inode, name)
            )
        return found

    # ------------------------------------------------------------------------------------ its arguments

    def arguments(self) -> CoreArguments:
        """Found from where the auxiliary vector lies on the stack; raises RefusedError "arguments-lost"."""
        stack = next((m for m in self.maps if m.path == "[stack]"), None)
        data = self.memory.read(stack.start, stack.size) if stack is not None else b""
        at = data.rfind(self.auxiliary)
        if stack is None or at < 0 or at % 8:
            raise self._lost()
        words = np.frombuffer(data[:at], np.uint64)[-_MOST_WORDS:].tolist()
        base = stack.start + at - 8 * len(words)
        if not words or words[-1]:
            raise self._lost()
        zero = _last_zero(words, len(words) - 1)
        environment = tuple(words[zero + 1 : -1])
        for count in range(zero):
            if words[zero - count - 1] == count:
                first = zero - count
                return CoreArguments(base + 8 * first, tuple(words[first:zero]), environment)
        raise self._lost()

    def _lost(self) -> RefusedError:
        return RefusedError(
            "arguments-lost",
            f"the arguments of the process are not to be found in {self.path}",
            "give them: --argv 'PROGRAM ARGUMENT...'",
        )


def _last_zero(words: list[int], end: int) -> int:
    for index in range(end - 1, -1, -1):
        if not words[index]:
            return index
    return 0


def _map(path: Path, opened: Dictionary[Path, int]) -> mmap.mmap:
    """Never waits: a core says itself which files were mapped, and may name a pipe."""
    number = opened.get(path)
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK) if number is None else os.dup(number)
        try:
            return mmap.mmap(file, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(file)
    except ValueError as error:
        raise _not_core(path, "it is empty") from error
    except OSError as error:
        raise HostError(
            "unreadable-file", f"{path}: {error.strerror}", "give a file that you may read"
        ) from error


def notes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, contents) of the notes in a PT_NOTE."""
    at = 0
    while at + 12 <= len(data):
        name, size, kind = struct.unpack_from("<III", data, at)
        begin = at + 12 + -(-name // 4) * 4
        yield kind, data[begin : begin + size]
        at = begin + -(-size // 4) * 4


def _files(data: bytes) -> Iterator[FilePart]:
    count, page = struct.unpack_from("<QQ", data)
    names = data[16 + 24 * count :].split(b"\0")
    for index in range(count):
        start, end, offset = struct.unpack_from("<QQQ", data, 16 + 24 * index)
        yield FilePart(start, end, offset * page, names[index].decode("utf-8", "surrogateescape"))


def _flags_at(image: mmap.mmap, offset: int) -> int:
    """How the part of a program file at an offset is mapped; nothing but readable where it does not say."""
    _, _, _, _, _, table, _, _, _, entry, count, *_ = _HEADER.unpack_from(image)
    for index in range(count):
        kind, flags, at, _, _, size, _, _ = _PROGRAM_HEADER.unpack_from(image, table + entry * index)
        if kind == _LOAD and at & ~(_PAGE - 1) <= offset < at + size:
            return int(flags)
    return 4


def image_build_id(page: bytes) -> str:
    """The GNU build-id in the first page of an ELF file or image, "" without one."""
    if len(page) < _HEADER.size or page[:5] != b"\x7fELF\x02":
        return ""
    _, _, _, _, _, offset, _, _, _, entry, count, *_ = _HEADER.unpack_from(page)
    for index in range(count):
        if offset + entry * (index + 1) > len(page):
            break
        kind, _, at, _, _, size, _, _ = _PROGRAM_HEADER.unpack_from(page, offset + entry * index)
        if kind == _NOTE:
            for number, data in notes(page[at : at + size]):
                if number == _BUILD_ID:
                    return data.hex()
    return ""


def _not_core(path: Path, why: str) -> RefusedError:
    return RefusedError(
        "not-a-core",
        f"{path} is no core file of a 64-bit x86 process: {why}",
        "make one with gcore (gdb): gcore PID",
    )


def _truncated(path: Path, needed: int, size: int) -> RefusedError:
    return RefusedError(
        "core-truncated",
        f"{path} has {size} of {needed} bytes",
        "raise `ulimit -c`, make room, and dump it again",
    )
