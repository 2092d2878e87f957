"""Pairs what has no name: string constants by content, and whatever an initialiser points at by its variable.

All addresses are link-time addresses of the files.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from instar.metadata.elf import (
    SECTION_ALLOCATE,
    SECTION_EXECUTE,
    SECTION_NOBITS,
    SECTION_WRITE,
    RelocationKind,
)
from instar.metadata.model import TypeKind
from instar.pairing.moves import MoveOp
from instar.pairing.symbols import SymbolPairing

if TYPE_CHECKING:
    from instar.metadata.version import Version
    from instar.pairing.mapping import TypePairing

Addresses = npt.NDArray[np.uint64]
NOWHERE = 2**64 - 1


class Constants:
    """The read-only data of one file, and the strings in it."""

    def __init__(self, version: Version) -> None:
        self._sections: list[tuple[int, bytes]] = []
        for section in version.elf.sections:
            fixed = not section.flags & (SECTION_WRITE | SECTION_EXECUTE) and section.kind != SECTION_NOBITS
            if section.flags & SECTION_ALLOCATE and fixed and section.name.startswith(".rodata"):
                self._sections.append((section.address, bytes(version.elf.section_bytes(section))))

    def contains(self, address: int) -> bool:
        """Whether an address lies in read-only data."""
        return self._at(address) is not None

    def _at(self, address: int) -> tuple[bytes, int] | None:
        for start, data in self._sections:
            if start <= address < start + len(data):
                return data, address - start
        return None

    def text_at(self, address: int) -> bytes | None:
        """The bytes from an address to the next NUL, that included; None outside and where no NUL follows."""
        found = self._at(address)
        if found is None:
            return None
        data, offset = found
        end = data.find(b"\0", offset)
        return None if end < 0 else data[offset : end + 1]

    def whole_at(self, address: int) -> tuple[bytes, int] | None:
        """The whole string around an address (back to the NUL before it), and where in it the address is."""
        found = self._at(address)
        tail = self.text_at(address)
        if found is None or tail is None:
            return None
        data, offset = found
        start = data.rfind(b"\0", 0, offset) + 1
        return data[start:offset] + tail, offset - start

    @cached_property
    def _starts(self) -> dict[bytes, int]:
        """Every NUL-terminated piece after a NUL (or at the section's start) -> its first address."""
        starts: dict[bytes, int] = {}
        for base, data in self._sections:
            offset = 0
            for piece in data.split(b"\0")[:-1]:
                starts.setdefault(piece, base + offset)
                offset += len(piece) + 1
        return starts

    def find(self, text: bytes) -> int | None:
        """Address of a NUL-terminated content, at the start of a string if there is one, else inside one."""
        found = self._starts.get(text[:-1])
        if found is not None:
            return found
        for base, data in self._sections:
            place = data.find(text)
            if place >= 0:
                return base + place
        return None


class Initializers:
    """Where the pointers of a file's initial image lead."""

    def __init__(self, version: Version) -> None:
        self._elf = version.elf
        rows = version.elf.relocations
        order = np.argsort(rows["address"], kind="stable")
        self._rows = rows[order]
        self._addresses = self._rows["address"].astype(np.uint64)

    def may_point(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Per slot: could its initial value be a pointer? (Where code is not relocated, any could.)"""
        if not self._elf.is_pie:
            return np.ones(len(slots), np.bool_)
        found: npt.NDArray[np.bool_] = np.isin(slots.astype(np.uint64), self._addresses)
        return found

    def relocation(self, address: int) -> np.void | None:
        """The relocation of a slot."""
        place = int(np.searchsorted(self._addresses, np.uint64(address)))
        if place < len(self._rows) and int(self._addresses[place]) == address:
            row: np.void = self._rows[place]
            return row
        return None

    def target(self, address: int) -> int | None:
        """What the 8 bytes at an address point at inside this file; None: NULL, or another file's symbol."""
        row = self.relocation(address)
        if row is not None:
            if row["kind"] == RelocationKind.RELATIVE:
                return int(row["addend"])
            if row["kind"] == RelocationKind.SYMBOLIC and row["symbol"] >= 0:
                symbol = self._elf.symbols[int(row["symbol"])]
                return int(symbol["value"]) + int(row["addend"]) if symbol["section"] else None
            return None
        if self._elf.is_pie or not self._elf.contains(address, 8):
            return None
        value = int.from_bytes(self._elf.read(address, 8), "little")
        return value if self._elf.contains(value) else None


@dataclass(frozen=True, eq=False)
class PairedSlots:
    """Pointer slots of paired statics with what they are initialised to; uint64 columns of equal length.

    ``old_target``/``new_target`` are NOWHERE where the initial value is NULL or another file's symbol.
    """

    old_slot: Addresses
    new_slot: Addresses
    old_target: Addresses
    new_target: Addresses


@dataclass(frozen=True)
class UnnamedPair:
    """An unnamed static (compound literal) that paired initialisers point at, typed as their pointee."""

    old_address: int
    new_address: int
    old_type: int
    new_type: int


class ContentPairing:
    """Strings and unnamed statics of two versions.

    Args:
        old, new: Both versions.
        types, symbols: Their pairing; slots are found by walking the mappings of paired variables.
    """

    def __init__(self, old: Version, new: Version, types: TypePairing, symbols: SymbolPairing) -> None:
        self._old, self._new = old, new
        self._types, self._symbols = types, symbols
        self.old_constants, self.new_constants = Constants(old), Constants(new)
        self.old_initializers, self.new_initializers = Initializers(old), Initializers(new)
        self._contents: dict[int, int | None] = {}

    def by_content(self, old_address: int) -> int | None:
        """New address of the string that an old address points at or into, None if the new file lacks it."""
        if old_address not in self._contents:
            self._contents[old_address] = self._find_content(old_address)
        return self._contents[old_address]

    def _find_content(self, old_address: int) -> int | None:
        whole = self.old_constants.whole_at(old_address)
        if whole is None:
            return None
        text, offset = whole
        found = self.new_constants.find(text)
        return found + offset if found is not None else self.new_constants.find(text[offset:])

    def by_initializer(self, old_address: int) -> int | None:
        """What the paired initialisers make of an old target; None if they say nothing certain."""
        return self._targets.get(old_address)

    def resolve(self, old_address: int) -> int | None:
        """New address for a pointer to an old constant.

        The new initialiser's string if it has the same content (so that equal pointers stay equal), else any
        string of that content, else what replaced it in the initialiser; None: the new version has no such
        string, and the old one must be carried as a copy.
        """
        heir = self.by_initializer(old_address)
        if heir is None:
            return self.by_content(old_address)
        text = self.old_constants.text_at(old_address)
        if text is not None and self.new_constants.text_at(heir) == text:
            return heir
        found = self.by_content(old_address)
        return heir if found is None else found

    @cached_property
    def slots(self) -> PairedSlots:
        """All paired pointer slots of paired statics and of the unnamed statics they lead to."""
        return self._walk[0]

    @cached_property
    def unnamed(self) -> tuple[UnnamedPair, ...]:
        """Unnamed statics found through initialisers, each once and unambiguous."""
        targets = self._targets
        found = {
            pair.old_address: pair
            for pair in self._walk[1]
            if targets.get(pair.old_address) == pair.new_address
        }
        return tuple(found.values())

    @cached_property
    def _targets(self) -> dict[int, int]:
        """Old target -> new target where all slots agree."""
        pairs: dict[int, set[int]] = defaultdict(set)
        slots = self.slots
        for old_target, new_target in zip(slots.old_target.tolist(), slots.new_target.tolist(), strict=True):
            if old_target != NOWHERE and new_target != NOWHERE:
                pairs[old_target].add(new_target)
        return {old_target: found.pop() for old_target, found in pairs.items() if len(found) == 1}

    @cached_property
    def _walk(self) -> tuple[PairedSlots, list[UnnamedPair]]:
        pending: list[tuple[int, int, int, int]] = []
        old_rows, new_rows = self._old.variables, self._new.variables
        for old_row, new_row in enumerate(self._symbols.variables.tolist()):
            if new_row < 0 or old_rows["tls"][old_row] or new_rows["tls"][new_row]:
                continue
            old_row_, new_row_ = old_rows[old_row], new_rows[new_row]
            places = (int(old_row_["address"]), int(new_row_["address"]))
            pending.append((*places, int(old_row_["type"]), int(new_row_["type"])))
        columns: tuple[list[int], ...] = ([], [], [], [])
        unnamed: list[UnnamedPair] = []
        seen: set[tuple[int, int]] = {(one[0], one[1]) for one in pending}
        while pending:
            for slot in self._slots_of(*pending.pop()):
                for column, value in zip(columns, slot[:4], strict=True):
                    column.append(value)
                pair = self._unnamed_target(*slot[2:])
                if pair and (pair.old_address, pair.new_address) not in seen:
                    seen.add((pair.old_address, pair.new_address))
                    unnamed.append(pair)
                    pending.append((pair.old_address, pair.new_address, pair.old_type, pair.new_type))
        arrays = [np.array(column, np.uint64) for column in columns]
        return PairedSlots(*arrays), unnamed

    def _slots_of(
        self, old_address: int, new_address: int, old_type: int, new_type: int
    ) -> list[tuple[int, int, int, int, int]]:
        """(old slot, new slot, old target, new target, old pointee) of a pair's initialised pointers."""
        moves = self._types.compile(old_type, new_type).moves
        found = []
        for move in moves[moves["op"] == MoveOp.POINTER]:
            index = np.arange(int(move["count"]))
            old_slots = old_address + int(move["old_offset"]) + index * int(move["old_stride"])
            new_slots = new_address + int(move["new_offset"]) + index * int(move["new_stride"])
            filled = self.old_initializers.may_point(old_slots) | self.new_initializers.may_point(new_slots)
            for old_slot, new_slot in zip(
                old_slots[filled].tolist(), new_slots[filled].tolist(), strict=True
            ):
                old_target = self.old_initializers.target(old_slot)
                new_target = self.new_initializers.target(new_slot)
                if old_target is None and new_target is None:
                    continue
                targets = (_or_nowhere(old_target), _or_nowhere(new_target))
                found.append((old_slot, new_slot, *targets, int(move["extra"])))
        return found

    def _unnamed_target(self, old_target: int, new_target: int, pointee: int) -> UnnamedPair | None:
        """The pair of unnamed statics that two initial pointers lead to, if that is what they lead to."""
        if NOWHERE in (old_target, new_target) or pointee < 0:
            return None
        if self._old.types["kind"][pointee] == TypeKind.FUNCTION or self._is_named(old_target, new_target):
            return None
        if self._types.old.size(pointee) == 1 and self.old_constants.contains(old_target):
            return None  # a string: paired by content
        new_pointee = self._types.counterpart(pointee)
        if new_pointee is None or new_pointee < 0 or not self._types.old.size(pointee):
            return None
        sizes = (self._types.old.size(pointee), self._types.new.size(new_pointee))
        fits = self._old.elf.contains(old_target, sizes[0]) and self._new.elf.contains(new_target, sizes[1])
        return UnnamedPair(old_target, new_target, pointee, new_pointee) if fits else None

    def _is_named(self, old_target: int, new_target: int) -> bool:
        return self._old.variable_at(old_target) is not None or self._new.variable_at(new_target) is not None


def _or_nowhere(address: int | None) -> int:
    return NOWHERE if address is None else address
