"""Which addresses of a program anything in it takes: what its compiler had to expect pointers to.

An address comes out of a program file in three ways: the dynamic linker writes it (relocations), code makes
it from its own place (``lea``), or, where code is not position independent, it stands there as a number.
All are looked for at every byte, whether an instruction starts there or not: an address that is not found is
proven not to be taken, one that is found may be a chance. Only x86-64.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from instar.metadata.distinct import distinct
from instar.metadata.elf import (
    SECTION_ALLOCATE,
    SECTION_EXECUTE,
    ElfFile,
    RelocationKind,
    SymbolBind,
    SymbolKind,
)

Array = np.ndarray[Any, np.dtype[Any]]

_LEA, _RIP_RELATIVE, _MODE_MASK = 0x8D, 0x05, 0xC7
_LEA_SIZE = 6  # without prefixes
_MOVABS_SIZE = 10
_WRITTEN = (RelocationKind.RELATIVE, RelocationKind.SYMBOLIC, RelocationKind.JUMP_SLOT)
_BASES = (".got", ".got.plt")


class TakenAddresses:
    """What of one program file is pointed at by the file itself.

    Args:
        elf: The program.
    """

    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf

    @cached_property
    def targets(self) -> Array:
        """Link-time addresses that are taken, or may be: u8, ascending."""
        numbers = [] if self._elf.is_pie else [self._numbers(data) for _, data, _ in self._sections()]
        return distinct(np.concatenate([self._computed, self._relocated(), self._exported(), *numbers]))

    @cached_property
    def is_conclusive(self) -> bool:
        """Whether no other way is known: false where code works from the base of the offset table.

        The large code model adds a distance of eight bytes to some address for that.
        """
        bases = [s.address for name in _BASES if (s := self._elf.section(name)) is not None]
        distances = [_distances(data) for _, data, is_code in self._sections() if is_code]
        steps = np.concatenate([np.zeros(1, np.uint64), *distances])
        return not any(np.isin(np.uint64(base) - steps, self._computed).any() for base in bases)

    def reaches(self, low: int, high: int) -> bool:
        """Whether any address in [low, high) is taken, or may be."""
        first, last = np.searchsorted(self.targets, np.array([low, high], np.uint64))
        return bool(last > first)

    def is_private(self, address: int) -> bool:
        """Whether all that is known of an address are local symbols: no other unit can have taken it."""
        symbols = self._elf.symbols
        rows = [row for row in self._elf.symbols_at(address) if symbols["kind"][row] != SymbolKind.NONE]
        return bool(rows) and all(symbols["bind"][row] == SymbolBind.LOCAL for row in rows)

    @cached_property
    def _computed(self) -> Array:
        """Targets of everything that may be ``lea DISTANCE(%rip)``."""
        found = [_computed(address, data) for address, data, is_code in self._sections() if is_code]
        return np.concatenate([np.zeros(0, np.uint64), *found])

    def _sections(self) -> Iterator[tuple[int, Array, bool]]:
        for section in self._elf.sections:
            if section.flags & SECTION_ALLOCATE:
                data = np.frombuffer(self._elf.section_bytes(section), np.uint8)
                yield section.address, data, bool(section.flags & SECTION_EXECUTE)

    def _relocated(self) -> Array:
        rows = self._elf.relocations
        rows = rows[np.isin(rows["kind"], [*_WRITTEN, RelocationKind.INDIRECT])]
        named = rows["symbol"] >= 0
        base = np.where(named, self._elf.symbols["value"][np.where(named, rows["symbol"], 0)], 0)
        found: Array = (base.astype(np.int64) + rows["addend"]).astype(np.uint64)
        return found

    def _exported(self) -> Array:
        """What libraries may ask for by name."""
        symbols = self._elf.symbols
        found: Array = symbols["value"][(symbols["dynamic"] != 0) & (symbols["section"] != 0)]
        return found

    def _numbers(self, data: Array) -> Array:
        """Four bytes anywhere that are an address of the program."""
        if len(data) < 4:
            return np.zeros(0, np.uint64)
        low = min(segment.address for segment in self._elf.loads)
        high = max(segment.address + segment.size for segment in self._elf.loads)
        found = distinct(_words(data, np.arange(len(data) - 3))).astype(np.int64)
        return found[(found >= low) & (found < high)].astype(np.uint64)


def _computed(address: int, data: Array) -> Array:
    if len(data) < _LEA_SIZE:
        return np.zeros(0, np.uint64)
    last = len(data) - _LEA_SIZE + 1
    modes = data[1 : last + 1] & _MODE_MASK
    at = np.flatnonzero((data[:last] == _LEA) & (modes == _RIP_RELATIVE))
    return (address + at + _LEA_SIZE + _words(data, at + 2)).astype(np.uint64)


def _distances(data: Array) -> Array:
    """Numbers of everything that may be ``movabs NUMBER, REGISTER``."""
    if len(data) < _MOVABS_SIZE:
        return np.zeros(0, np.uint64)
    last = len(data) - _MOVABS_SIZE + 1
    at = np.flatnonzero(((data[:last] & 0xFE) == 0x48) & ((data[1 : last + 1] & 0xF8) == 0xB8))
    low, high = _words(data, at + 2), _words(data, at + 6)
    return ((high << 32) | (low & 0xFFFFFFFF)).astype(np.uint64)


def _words(data: Array, places: Array) -> Array:
    """Signed numbers of four bytes at some offsets."""
    word = np.zeros(len(places), np.uint32)
    for index in range(4):
        word |= data[places + index].astype(np.uint32) << np.uint32(8 * index)
    return word.view(np.int32).astype(np.int64)
