"""The entries of call frame information: which one is for an address, and what it shares with others.

Of .eh_frame (Linux Standard Base) and .debug_frame (DWARF 5, section 6.4.1). Nothing is trusted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from instar.process.image_parts import Bytes
from instar.process.opcodes import read_leb128

_MASK = (1 << 64) - 1
_ABSOLUTE, _RELATIVE, _OMITTED = 0x00, 0x10, 0xFF  # DW_EH_PE_*
_FIXED = {0x00: (8, False), 0x02: (2, False), 0x03: (4, False), 0x04: (8, False),
          0x0A: (2, True), 0x0B: (4, True), 0x0C: (8, True)}  # fmt: skip
_ULEB, _SLEB = 0x01, 0x09
_MOST_ENTRIES = 1 << 20  # where they must all be looked at
_SEARCH_HEAD = b"\x01\x1b\x03\x3b"  # version, and how all linkers write the table that follows


class CommonEntry(NamedTuple):
    """A CIE."""

    code_unit: int
    data_unit: int
    return_register: int
    encoding: int  # of addresses in its FDEs
    augmented: bool
    signal_frame: bool
    program: bytes


class FrameEntry(NamedTuple):
    """An FDE."""

    common: CommonEntry
    start: int
    end: int
    program: bytes


class EntryTable:
    """The entries of .eh_frame or .debug_frame."""

    def __init__(self, section: Bytes, is_eh: bool) -> None:
        self.address, self.data = section
        self.is_eh = is_eh
        self._common: dict[int, CommonEntry] = {}

    def find(self, address: int) -> FrameEntry | None:
        """The entry for an address: all of them are looked at once."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._all[index][1]:
            return None
        return self.frame(self._all[index][2])

    @cached_property
    def _all(self) -> list[tuple[int, int, int]]:
        """(start, end, place) by start; up to where it is damaged."""
        found: list[tuple[int, int, int]] = []
        place = 0
        while place + 4 <= len(self.data) and len(found) < _MOST_ENTRIES:
            try:
                identity, _, end = self._entry(place)
                if not self._is_common(identity):
                    frame = self.frame(place)
                    found.append((frame.start, frame.end, place))
            except (ValueError, IndexError, OverflowError):
                end = self._end(place)
            if end <= place:
                break
            place = end
        return sorted(found)

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _, _ in self._all]

    def _end(self, place: int) -> int:
        """Where the next entry is, whatever is in this one; the place itself: nowhere."""
        try:
            return self._entry(place)[2]
        except (ValueError, IndexError, OverflowError):
            return place

    def _entry(self, place: int) -> tuple[tuple[int, int], int, int]:
        """(its second word, that word's size), what follows it, its end; raises ValueError."""
        length = self._number(place, 4)
        size, begin = 4, place + 4
        if length == 0xFFFFFFFF:
            length, size, begin = self._number(place + 4, 8), 8, place + 12
        end = begin + length
        if length < 4 or end > len(self.data):
            raise ValueError("an entry that was cut off, or the last")
        size = 4 if self.is_eh else size
        return (self._number(begin, size), size), begin + size, end

    def _is_common(self, identity: tuple[int, int]) -> bool:
        value, size = identity
        return value == 0 if self.is_eh else value == (1 << 8 * size) - 1

    def _number(self, place: int, size: int) -> int:
        if place < 0 or place + size > len(self.data):
            raise ValueError("outside")
        return int.from_bytes(self.data[place : place + size], "little")

    def frame(self, place: int) -> FrameEntry:
        """The FDE at an offset; raises ValueError."""
        (pointer, size), at, end = self._entry(place)
        if self._is_common((pointer, size)):
            raise ValueError("no entry of a function")
        common = self._common_at(at - size - pointer if self.is_eh else pointer)
        start, at = self._pointer(at, common.encoding)
        length, at = self._pointer(at, common.encoding & 0x0F)
        if common.augmented:
            skipped, at = read_leb128(self.data, at, False)
            at += skipped
        return FrameEntry(common, start, start + length, self.data[at:end])

    def _common_at(self, place: int) -> CommonEntry:
        found = self._common.get(place)
        if found is None:
            found = self._common[place] = self._read_common(place)
        return found

    def _read_common(self, place: int) -> CommonEntry:
        identity, at, end = self._entry(place)
        if not self._is_common(identity):
            raise ValueError("no common entry")
        version = self.data[at]
        text_end = self.data.index(b"\0", at + 1, end)
        augmentation = self.data[at + 1 : text_end]
        at = text_end + 1
        if version not in (1, 3, 4) or (augmentation and not augmentation.startswith(b"z")):
            raise ValueError("of another kind")
        if version == 4:
            if self.data[at : at + 2] != b"\x08\x00":
                raise ValueError("addresses of another size")
            at += 2
        code_unit, at = read_leb128(self.data, at, False)
        data_unit, at = read_leb128(self.data, at, True)
        if version == 1:
            register, at = self.data[at], at + 1
        else:
            register, at = read_leb128(self.data, at, False)
        encoding = _ABSOLUTE
        if augmentation:
            length, at = read_leb128(self.data, at, False)
            encoding = self._encoding(augmentation, at)
            at += length
        signed_unit = data_unit - (1 << 64) if data_unit >> 63 else data_unit
        return CommonEntry(
            code_unit, signed_unit, register, encoding, bool(augmentation), b"S" in augmentation,
            self.data[at:end],
        )  # fmt: skip

    def _encoding(self, augmentation: bytes, at: int) -> int:
        """Of addresses: one of the bytes that the augmentation tells."""
        for letter in augmentation[1:].decode("latin1"):
            if letter == "R":
                return self.data[at]
            if letter == "L":
                at += 1
            elif letter == "P":
                _, at = self._pointer(at + 1, self.data[at] & 0x7F)
            elif letter not in "SBG":
                raise ValueError("of another kind")
        return _ABSOLUTE

    def _pointer(self, at: int, encoding: int) -> tuple[int, int]:
        """An encoded pointer and the place after it; raises ValueError."""
        kind, relation = encoding & 0x0F, encoding & 0xF0
        if encoding == _OMITTED or relation not in (_ABSOLUTE, _RELATIVE):
            raise ValueError("relative to something else")
        if kind in (_ULEB, _SLEB):
            value, after = read_leb128(self.data, at, kind == _SLEB)
        else:
            if kind not in _FIXED:
                raise ValueError("an address of another kind")
            size, is_signed = _FIXED[kind]
            value, after = self._number(at, size), at + size
            if is_signed and value >> (8 * size - 1):
                value -= 1 << 8 * size
        return (value + (self.address + at if relation else 0)) & _MASK, after


class SearchTable:
    """The sorted table of .eh_frame_hdr."""

    def __init__(self, search: Bytes, table: EntryTable) -> None:
        self._table = table
        count = min(int.from_bytes(search.data[8:12], "little"), (len(search.data) - 12) // 8)
        words = np.frombuffer(search.data, "<i4", 2 * count, 12).astype(np.int64).reshape(-1, 2)
        self._starts: npt.NDArray[np.int64] = words[:, 0]
        self._places, self._address = words[:, 1], search.address

    @classmethod
    def find_in(cls, search: Bytes | None, tables: Sequence[EntryTable]) -> SearchTable | None:
        """The table of an image, if it has one that is written as all linkers do."""
        if search is None or len(search.data) < 12 or search.data[:4] != _SEARCH_HEAD:
            return None
        return next((cls(search, table) for table in tables if table.is_eh), None)

    def find(self, address: int) -> FrameEntry | None:
        """The entry for an address; raises ValueError where the table leads elsewhere."""
        relative = address - self._address
        if not -(1 << 31) <= relative < 1 << 31:
            return None
        index = int(np.searchsorted(self._starts, relative, "right")) - 1
        if index < 0:
            return None
        frame = self._table.frame(self._address + int(self._places[index]) - self._table.address)
        return frame if frame.start <= address < frame.end else None
