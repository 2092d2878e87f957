"""Calls between the modules of a process that its loader has not looked up yet, and whether it will.

Lazy binding (ld.so(8), ``LD_BIND_NOW``): a slot of the procedure linkage table leads back into the module
itself until the first call, at which the loader looks the name up, and ends the process when nobody has it.
Looked up here by the same rules (glibc's elf/dl-lookup.c, ``check_match``), but every module is visible to
every other.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from instar.errors import FaultError
from instar.heap.modules import Module, read_modules
from instar.process.maps import Mapping
from instar.process.memory import Memory

Array = np.ndarray[Any, np.dtype[Any]]

_PLTRELSZ, _HASH, _STRTAB, _SYMTAB, _STRSZ, _JMPREL = 2, 4, 5, 6, 10, 23  # DT_*, as those below
_GNU_HASH, _VERSYM = 0x6FFFFEF5, 0x6FFFFFF0
_VERDEF, _VERDEFNUM, _VERNEED, _VERNEEDNUM = range(0x6FFFFFFC, 0x70000000)
_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
_RELOCATION = np.dtype([("offset", "<u8"), ("type", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
_JUMP_SLOT, _LOAD, _EXECUTABLE = 7, 1, 1
_WEAK = 2
_BINDINGS = (1, 2, 10)  # STB_GLOBAL, STB_WEAK, STB_GNU_UNIQUE
_KINDS = (0, 1, 2, 5, 6, 10)  # STT_NOTYPE, OBJECT, FUNC, COMMON, TLS, GNU_IFUNC
_TLS, _ABSOLUTE = 6, 0xFFF1
_HIDDEN, _BASE = 0x8000, 1  # versym: not the default version of its name; VER_FLG_BASE: the file's own name
_ANY = -1
_OF_FILE = 3  # versions below are the file's first: what was linked without versions finds them hidden, too
_MOST_SYMBOLS, _MOST_VERSIONS, _LARGEST, _LONGEST_CHAIN = 1 << 24, 1 << 15, 1 << 30, 1 << 22
_WORD, _PAGE = (1 << 64) - 1, 4096
_BROKEN = (FaultError, ValueError, KeyError, OverflowError, struct.error)


@dataclass(frozen=True, order=True, slots=True)
class Unbound:
    """A call whose name the loader will look up.

    Attributes:
        module: Name of the file that makes it.
        name: Of the function.
        version: That it asks for; empty without one.
    """

    module: str
    name: str
    version: str

    def __str__(self) -> str:
        """As the loader says it; bytes that are no text are shown as numbers."""
        version = f", version {self.version}" if self.version else ""
        text = f"{self.module}: undefined symbol: {self.name}{version}"
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def find_undefined(memory: Memory, maps: Sequence[Mapping]) -> list[Unbound]:
    """Calls that the loader will not find when they are first made, in order of module and name.

    A module whose tables cannot be read is one of them, under a name that says so.

    Args:
        memory: Of the process, which stands still.
        maps: Its mappings.
    """
    tables = _Mapped(memory, maps)
    modules = [_Linked(tables, module) for module in read_modules(memory, maps) if _is_loaded(module, maps)]
    calls: list[Unbound] = []
    for module in modules:
        try:
            calls.extend(module.unbound())
        except _BROKEN as error:
            calls.append(Unbound(module.name, f"(its tables cannot be read: {error})", ""))
    hashes = _hash_names([call.name for call in calls])
    for module in modules:
        if calls:
            with suppress(*_BROKEN):
                missing = ~module.defines(calls, hashes)
                calls = [call for call, gone in zip(calls, missing.tolist(), strict=True) if gone]
                hashes = hashes[missing]
    return sorted(set(calls))


def _is_loaded(module: Module, maps: Sequence[Mapping]) -> bool:
    """Whether its code is mapped where it belongs: it is no file that is only looked into."""
    code = [s.address for s in module.segments if s.kind == _LOAD and s.flags & _EXECUTABLE]
    linked = module.dynamic.keys() >= {_SYMTAB, _STRTAB, _STRSZ}
    return linked and any(m.executable and m.start <= at < m.end for at in code for m in maps)


class _Mapped:
    """Memory of a process where something is mapped: a length that is no length makes no room for itself."""

    def __init__(self, memory: Memory, maps: Sequence[Mapping]) -> None:
        self._memory = memory
        self._starts: list[int] = []
        self._ends: list[int] = []
        for mapping in sorted(maps, key=lambda one: one.start):
            if self._ends and self._ends[-1] == mapping.start:
                self._ends[-1] = mapping.end
            else:
                self._starts.append(mapping.start)
                self._ends.append(mapping.end)

    def room(self, address: int) -> int:
        """Bytes from there to the end of what is mapped."""
        index = bisect_right(self._starts, address) - 1
        return max(self._ends[index] - address, 0) if index >= 0 else 0

    def read(self, address: int, size: int) -> bytes:
        """Bytes; raises FaultError."""
        if size > self.room(address):
            raise FaultError(address, size, self._memory.pid)
        return self._memory.read(address, size)

    def u32(self, address: int) -> int:
        """An unsigned number of four bytes."""
        return int.from_bytes(self.read(address, 4), "little")


class _Linked:
    """One module as its loader sees it; methods raise one of ``_BROKEN`` where it is damaged."""

    def __init__(self, memory: _Mapped, module: Module) -> None:
        self._memory, self._module = memory, module
        self.name = module.name

    def _rows(self, tag: int, size: int, dtype: np.dtype[Any]) -> Array:
        """A table that the dynamic section points at."""
        address = self._module.pointer(tag)
        if address is None:
            raise KeyError(tag)
        if size > _LARGEST:
            raise ValueError(f"a table of {size} bytes")
        return np.frombuffer(self._memory.read(address, size // dtype.itemsize * dtype.itemsize), dtype)

    @cached_property
    def _strings(self) -> bytes:
        return self._rows(_STRTAB, self._module.dynamic[_STRSZ], np.dtype("u1")).tobytes()

    def _text(self, offset: int) -> str:
        end = self._strings.index(b"\0", offset)
        return self._strings[offset:end].decode("utf-8", "surrogateescape")

    # Who calls ----------------------------------------------------------------------------------------------

    def unbound(self) -> Iterator[Unbound]:
        """Its calls that still lead into itself; those of weak names need nobody."""
        if _JMPREL not in self._module.dynamic:
            return
        rows = self._rows(_JMPREL, self._module.dynamic.get(_PLTRELSZ, 0), _RELOCATION)
        rows = rows[rows["type"] == _JUMP_SLOT]
        numbers = np.unique(rows["symbol"][self._leads_inside(rows["offset"])])
        if not len(numbers):
            return
        if numbers[-1] >= _MOST_SYMBOLS:
            raise ValueError(f"symbol {numbers[-1]}")
        count = int(numbers[-1]) + 1
        symbols = self._rows(_SYMTAB, 24 * count, _SYMBOL)
        wanted = {number: name for name, number in self._versions(_VERNEED)}
        versions = self._symbol_versions(count)
        for number in numbers[symbols["section"][numbers] == 0].tolist():
            if symbols["info"][number] >> 4 != _WEAK:
                yield self._call(
                    int(symbols["name"][number]), wanted.get(int(versions[number]) & ~_HIDDEN, "")
                )

    def _leads_inside(self, offsets: Array) -> Array:
        """Which slots hold an address of its own code."""
        places = offsets + np.uint64(self._module.bias & _WORD)  # below zero where it is not where it wants
        values = np.zeros(len(places), np.uint64)
        if len(places):
            low, high = int(places.min()), int(places.max()) + 8
            if high - low > 64 * len(places) + 4096:
                raise ValueError("slots far apart")
            data = np.frombuffer(self._memory.read(low, high - low), np.uint8)
            at = (places - np.uint64(low)).astype(np.int64)
            values = np.ascontiguousarray(data[at[:, None] + np.arange(8)]).view("<u8")[:, 0]
        inside = np.zeros(len(places), bool)
        for segment in self._module.segments:
            if segment.kind == _LOAD and segment.flags & _EXECUTABLE:
                inside |= (values >= segment.address) & (values < segment.address + segment.size)
        return inside

    def _call(self, name: int, version: str) -> Unbound:
        try:
            return Unbound(self.name, self._text(name), version)
        except ValueError:
            return Unbound(self.name, f"(no name at {name} of {len(self._strings)} bytes)", version)

    # Who is called ------------------------------------------------------------------------------------------

    def defines(self, calls: Sequence[Unbound], hashes: Array) -> Array:
        """Which of these calls the loader would find here; ``hashes`` of their names."""
        found = np.zeros(len(calls), bool)
        names = {number: name for name, number in self._versions(_VERDEF)}
        order = np.argsort(hashes, kind="stable")
        in_order = hashes[order]
        for offset, value, version in self._candidates(hashes):
            first, last = np.searchsorted(in_order, (value, value + 1))
            for call in order[first:last].tolist():
                if calls[call].name == self._text(offset):
                    found[call] |= _matches(calls[call].version, version, names)
        return found

    def _candidates(self, hashes: Array) -> Iterator[tuple[int, int, int]]:
        """(offset of the name, hash, version) of what it defines under one of these hashes."""
        first, row_hashes = self._symbol_hashes()
        rows = first + np.flatnonzero(np.isin(row_hashes, hashes))
        if not len(rows):
            return
        count = first + len(row_hashes)
        symbols, versions = self._rows(_SYMTAB, 24 * count, _SYMBOL), self._symbol_versions(count)
        kinds, bindings = symbols["info"] & 15, symbols["info"] >> 4
        usable = (symbols["value"] != 0) | (symbols["section"] == _ABSOLUTE) | (kinds == _TLS)
        usable &= (symbols["section"] != 0) & np.isin(bindings, _BINDINGS) & np.isin(kinds, _KINDS)
        for row in rows[usable[rows]].tolist():
            yield int(symbols["name"][row]), int(row_hashes[row - first]), int(versions[row])

    def _symbol_hashes(self) -> tuple[int, Array]:
        """Number of the first symbol that can be found, and the hashes from there on."""
        if (address := self._module.pointer(_GNU_HASH)) is not None:
            return self._chains(address)
        count = int(self._rows(_HASH, 8, np.dtype("<u4"))[1])
        symbols = self._rows(_SYMTAB, 24 * min(count, _MOST_SYMBOLS), _SYMBOL)
        return 0, _hash_names([self._text(offset) for offset in symbols["name"].tolist()])

    def _chains(self, address: int) -> tuple[int, Array]:
        buckets, first, bloom = struct.unpack("<3I", self._memory.read(address, 12))
        if buckets > _MOST_SYMBOLS:
            raise ValueError(f"{buckets} buckets")
        start = address + 16 + 8 * bloom
        last = int(np.frombuffer(self._memory.read(start, 4 * buckets), "<u4").max(initial=0))
        count = max(last - first + 1, 0)
        if count > _MOST_SYMBOLS:
            raise ValueError(f"{count} symbols")
        count += self._rest_of_chain(start + 4 * (buckets + count - 1)) if count else 0
        data = self._memory.read(start + 4 * buckets, 4 * count)
        return first, np.frombuffer(data, "<u4") | np.uint32(1)

    def _rest_of_chain(self, address: int) -> int:
        """Words behind this one up to that with the low bit set, where the last chain ends."""
        at = address
        while at < address + _LONGEST_CHAIN:
            words = np.frombuffer(self._memory.read(at, _PAGE - at % _PAGE), "<u4")
            if len(ends := np.flatnonzero(words & 1)):
                return (at - address) // 4 + int(ends[0])
            at += 4 * len(words)
        raise ValueError("a chain without end")

    # Versions -----------------------------------------------------------------------------------------------

    def _symbol_versions(self, count: int) -> Array:
        if _VERSYM not in self._module.dynamic:
            return np.full(count, _ANY)
        return self._rows(_VERSYM, 2 * count, np.dtype("<u2")).astype(np.int64)

    def _versions(self, tag: int) -> Iterator[tuple[str, int]]:
        """(name, number) of the versions that it needs, or defines (but for that of the file)."""
        at = self._module.pointer(tag)
        count = self._module.dynamic.get(_VERDEFNUM if tag == _VERDEF else _VERNEEDNUM, 0)
        left = _MOST_VERSIONS
        for _ in range(min(count, _MOST_VERSIONS) if at is not None else 0):
            assert at is not None
            if tag == _VERDEF:
                _, flags, number, _, _, inner, following = struct.unpack("<4H3I", self._memory.read(at, 20))
                if not flags & _BASE:
                    yield self._text(self._memory.u32(at + inner)), number & ~_HIDDEN
            else:
                _, entries, _, inner, following = struct.unpack("<2H3I", self._memory.read(at, 16))
                left -= entries
                if left < 0:
                    raise ValueError(f"more than {_MOST_VERSIONS} versions")
                yield from self._needed(at + inner, entries)
            if not following:
                return
            at += following

    def _needed(self, at: int, count: int) -> Iterator[tuple[str, int]]:
        for _ in range(count):
            _, _, number, name, following = struct.unpack("<I2H2I", self._memory.read(at, 16))
            yield self._text(name), number & ~_HIDDEN
            if not following:
                return
            at += following


def _matches(wanted: str, number: int, names: dict[int, str]) -> bool:
    """Whether a definition of the right name will do."""
    if number == _ANY:
        return True
    version, hidden = names.get(number & ~_HIDDEN, ""), bool(number & _HIDDEN)
    if wanted:
        return version == wanted or (not version and not hidden)
    return number & ~_HIDDEN < _OF_FILE or not hidden or not version


def _hash_names(names: Sequence[str]) -> Array:
    """Of the GNU hash table, with the lowest bit set."""
    result = np.zeros(len(names), np.uint32)
    for index, name in enumerate(names):
        value = 5381
        for byte in name.encode("utf-8", "surrogateescape"):
            value = (value * 33 + byte) & 0xFFFFFFFF
        result[index] = value | 1
    return result
