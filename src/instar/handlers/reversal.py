"""The past's objects as they come back from the future through the backward half of a handler. Pure.

What the handler answers for is zeroed first, so that a write that never happened shows; the rest of an object
is what the past has. Pointers in it are words of the future.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from instar.ext.values import PointerError, ReadOnlyError
from instar.handlers.memory import Blocks, PastMemory, checked_read
from instar.handlers.types import RECORDS, Types
from instar.metadata.model import TypeKind
from instar.process.memory import Memory as ProcessMemory

Array = np.ndarray[Any, np.dtype[Any]]
Cleared = list[tuple[int, int]]

_DEPTH = 32
_PAGE = 4096


class LiveMemory:
    """The future as it is now, standing still; never written. Pages that were read are kept."""

    def __init__(self, memory: ProcessMemory) -> None:
        self._memory = memory
        self._pages: dict[int, bytes] = {}

    def read(self, address: int, size: int) -> bytes:
        """Bytes; raises PointerError."""
        base, start = address & ~(_PAGE - 1), address & (_PAGE - 1)
        if start + size > _PAGE:
            return checked_read(self._memory.read, address, size)
        page = self._pages.get(base)
        if page is None:
            page = self._pages[base] = checked_read(self._memory.read, base, _PAGE)
        return page[start : start + size]

    def write(self, address: int, data: bytes) -> None:
        """Never."""
        raise ReadOnlyError("on the way back the new version is read-only: store in what is made of it")

    def read_many(self, addresses: Array, size: int) -> Array:
        """Many objects at once."""
        sizes = np.full(len(addresses), size, np.uint64)
        found: Array = self._memory.read_spans(addresses, sizes).reshape(len(addresses), size)
        return found

    def write_many(self, addresses: Array, before: Array, after: Array) -> None:
        """Never."""
        self.write(0, b"")


class ReversedMemory:
    """Objects that are made again, at the addresses of the past's.

    Args:
        past: The past's copy.
        addresses: Of the objects, ascending, not overlapping; ``size`` bytes each.
        cleared: (offset, size) in every object of what the handler answers for.
        blocks: Where a backward half allocates.

    Attributes:
        before: (n, size) u1: the past's objects.
        data: The same as they came back.
    """

    def __init__(
        self, past: PastMemory, addresses: Array, size: int, cleared: Cleared, blocks: Blocks
    ) -> None:
        self._past, self.addresses, self.size, self.blocks = past, addresses, size, blocks
        self.before = past.read_many(addresses, size)
        self.data = self.before.copy()
        for start, length in cleared:
            self.data[:, start : start + length] = 0

    def _place(self, address: int, size: int) -> Array | None:
        row = int(np.searchsorted(self.addresses, np.uint64(address), side="right")) - 1
        at = address - int(self.addresses[row]) if row >= 0 else -1
        if at < 0 or at >= self.size:
            return None
        if at + size > self.size:
            raise PointerError(f"{size} bytes at {address:#x} go beyond the end of their object")
        found: Array = self.data[row, at : at + size]
        return found

    def read(self, address: int, size: int) -> bytes:
        """Bytes of what came back, else of the past."""
        if address in self.blocks:
            at = address - self.blocks.base
            return self.blocks.data[at : at + size].tobytes()
        place = self._place(address, size)
        return self._past.read(address, size) if place is None else place.tobytes()

    def write(self, address: int, data: bytes) -> None:
        """Store in an object that is made again, or in memory that was allocated."""
        if address in self.blocks:
            at = address - self.blocks.base
            self.blocks.data[at : at + len(data)] = np.frombuffer(data, np.uint8)
            return
        place = self._place(address, len(data))
        if place is None:
            raise PointerError(f"{address:#x} is in no object that this backward half is for")
        place[:] = np.frombuffer(data, np.uint8)

    def _rows(self, addresses: Array) -> Array:
        rows: Array = np.searchsorted(self.addresses, addresses)
        return rows

    def read_many(self, addresses: Array, size: int) -> Array:
        """Whole objects of this memory."""
        found: Array = self.data[self._rows(addresses)]
        return found

    def write_many(self, addresses: Array, before: Array, after: Array) -> None:
        """The same."""
        self.data[self._rows(addresses)] = after


def leaves_of(types: Types, row: int, base: int = 0, depth: int = 0) -> Cleared:
    """Everything of a type but padding: (offset, size); without bit-fields, which share their bytes."""
    row = types.strip(row)
    kind = types.kind(row)
    if kind is TypeKind.STRUCT and depth < _DEPTH:
        found: Cleared = []
        for member in types.members(row).values():
            if not member.bit_size:
                found += leaves_of(types, member.type, base + member.offset, depth + 1)
        return found
    if kind is TypeKind.ARRAY and types.kind(types.target(row)) in RECORDS:
        size = types.size(types.target(row))
        steps = range(types.elements(row))
        return [one for i in steps for one in leaves_of(types, types.target(row), base + i * size, depth + 1)]
    return [(base, types.size(row))]


def is_same_text(before: bytes, after: bytes) -> bool:
    """Whether an array of characters holds the same text, and zeros behind it, as handlers store texts."""
    text, end, _ = before.partition(b"\0")
    return bool(end) and after == text.ljust(len(after), b"\0")
