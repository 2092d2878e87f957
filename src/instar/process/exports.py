"""The dynamic symbols of an image that is mapped into a process, read from its memory.

The file may have been replaced or deleted since; what the loader of that process used is in its memory (the
dynamic section, the symbol table and the GNU hash table lie in loaded segments).
"""

from __future__ import annotations

import struct
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from instar.errors import FaultError
from instar.process.maps import Mapping
from instar.process.memory import Memory

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ = 4, 5, 6, 10
_DT_GNU_HASH, _DT_VERSYM = 0x6FFFFEF5, 0x6FFFFFF0
_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
_HIDDEN = 0x8000  # versym: not the default version of its name


_known: weakref.WeakKeyDictionary[Memory, dict[Mapping, Exports]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Exports:
    """What an image defines for others.

    Attributes:
        path: Of the mapped file, without " (deleted)".
        load_bias: Run-time minus link address.
        symbols: Name -> run-time address; of several versions of a name, the default one.
    """

    path: str
    load_bias: int
    symbols: dict[str, int]


def find_exports(memory: Memory, maps: Sequence[Mapping], *names: str) -> Exports | None:
    """The exports of the first image whose file has one of these names ("libc.so.6"); None without one."""
    for mapping in maps:
        if mapping.offset == 0 and mapping.file and PurePath(mapping.file).name in names:
            found = read_exports(memory, mapping)
            if found is not None:
                return found
    return None


def read_exports(memory: Memory, mapping: Mapping) -> Exports | None:
    """The exports of the image whose first page is mapped there; None when that is no whole ELF image.

    Read once: as long as the same file is mapped at the same place of a process, they are the same.
    """
    known = _known.setdefault(memory, {})
    if mapping not in known:
        try:
            exports = _parse_image(memory, mapping)
        except (FaultError, struct.error):
            exports = None
        if exports is None:
            return None
        known[mapping] = exports
    return known[mapping]


def _parse_image(memory: Memory, mapping: Mapping) -> Exports | None:
    header = memory.read(mapping.start, 64)
    if header[:6] != b"\x7fELF\x02\x01":
        return None
    table, size, count = struct.unpack_from("<Q", header, 32)[0], *struct.unpack_from("<HH", header, 54)
    raw = memory.read(mapping.start + table, size * count)
    programs = [struct.unpack_from("<IIQQQQQQ", raw, index * size) for index in range(count)]
    bases = [program[3] for program in programs if program[0] == _PT_LOAD and program[2] == 0]
    dynamics = [program for program in programs if program[0] == _PT_DYNAMIC]
    if not bases or not dynamics:
        return None
    bias = mapping.start - bases[0]
    tags = _read_dynamic(memory, bias, bias + dynamics[0][3], dynamics[0][6])
    if _DT_SYMTAB not in tags or _DT_STRTAB not in tags:
        return None
    return Exports(mapping.file, bias, _read_symbols(memory, bias, tags))


def _read_dynamic(memory: Memory, bias: int, address: int, size: int) -> dict[int, int]:
    """Tag -> value, addresses made run-time ones (glibc relocates most of them in place, not all)."""
    pairs = struct.iter_unpack("<QQ", memory.read(address, size // 16 * 16))
    tags: dict[int, int] = {}
    for tag, value in pairs:
        if tag == 0:
            break
        is_address = tag in (_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_GNU_HASH, _DT_VERSYM)
        tags.setdefault(tag, value + bias if is_address and value < bias else value)
    return tags


def _read_symbols(memory: Memory, bias: int, tags: dict[int, int]) -> dict[str, int]:
    count = _count_symbols(memory, tags)
    table = np.frombuffer(memory.read(tags[_DT_SYMTAB], count * _SYMBOL.itemsize), _SYMBOL)
    strings = memory.read(tags[_DT_STRTAB], tags[_DT_STRSZ])
    versions = np.zeros(count, "<u2")
    if _DT_VERSYM in tags:
        versions = np.frombuffer(memory.read(tags[_DT_VERSYM], count * 2), "<u2")
    symbols: dict[str, int] = {}
    for index in np.flatnonzero(table["section"]).tolist():
        start = int(table["name"][index])
        name = strings[start : strings.index(b"\0", start)].decode("utf-8", "replace")
        if versions[index] & _HIDDEN and name in symbols:
            continue
        symbols[name] = bias + int(table["value"][index])
    return symbols


def _count_symbols(memory: Memory, tags: dict[int, int]) -> int:
    if _DT_GNU_HASH not in tags:
        return memory.u32(tags[_DT_HASH] + 4) if _DT_HASH in tags else 0
    address = tags[_DT_GNU_HASH]
    head: tuple[int, int, int] = struct.unpack("<3I", memory.read(address, 12))
    buckets, first, bloom = head
    start = address + 16 + bloom * 8
    last = int(np.frombuffer(memory.read(start, buckets * 4), "<u4").max(initial=0))
    if last < first:
        return first
    chains = start + buckets * 4
    while True:  # the last chain ends where the low bit is set
        if memory.u32(chains + (last - first) * 4) & 1:
            return last + 1
        last += 1
