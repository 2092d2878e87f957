"""The bytes of both states as handlers see them: the past's copy, and the future as it is going to be.

Nothing here touches a process: the future's memory is the plan's output buffer, the pages that stay (a copy
of them once they are written to), memory that handlers allocate, and what its start-up made.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from instar.errors import FaultError
from instar.ext.values import HandlerError, PointerError, ReadOnlyError
from instar.handlers.inputs import Inputs
from instar.transfer.plan import PATCH

Array = np.ndarray[Any, np.dtype[Any]]
Read = Callable[[int, int], bytes]

PAGE = 4096
ALLOCATION_LIMIT = 1 << 30
_ALIGNMENT = 16
_NESTED = 64


class Memory(Protocol):
    """Where views read and write."""

    def read(self, address: int, size: int) -> bytes:
        """Bytes; raises PointerError where there are none."""

    def write(self, address: int, data: bytes) -> None:
        """Store; raises ReadOnlyError or PointerError."""


@runtime_checkable
class BulkMemory(Memory, Protocol):
    """Memory from which many objects are read, and to which they are written, at once."""

    def read_many(self, addresses: Array, size: int) -> Array:
        """(n, size) u1: as many bytes at every address."""

    def write_many(self, addresses: Array, before: Array, after: Array) -> None:
        """Store the rows that differ."""


Ranges = Sequence[tuple[int, Array]]


def gather(ranges: Ranges, addresses: Array, size: int, result: Array) -> Array:
    """Copy objects that lie in ranges (sorted) into rows of a result; returns which do."""
    found = np.zeros(len(addresses), bool)
    for start, data in ranges:
        at = addresses - np.uint64(start)
        inside = ~found & (addresses >= np.uint64(start)) & (at + np.uint64(size) <= np.uint64(len(data)))
        if inside.any():
            rows = np.flatnonzero(inside)
            result[rows] = data[at[rows].astype(np.int64)[:, None] + np.arange(size)]
            found |= inside
    return found


class PastMemory:
    """The past's copy.

    Args:
        copied: Bytes of copied memory, None where nothing was copied.
        read: Any other memory of the past, such as its constants.
        ranges: (start, bytes) of what was copied, for many objects at once.
        inputs: Is told what is read.
    """

    def __init__(
        self,
        copied: Callable[[int, int], bytes | None],
        read: Read,
        ranges: Ranges = (),
        inputs: Inputs | None = None,
    ) -> None:
        self._copied, self._read, self._ranges = copied, read, ranges
        self._inputs = inputs or Inputs()

    def read_many(self, addresses: Array, size: int) -> Array:
        """Many objects at once."""
        result = np.zeros((len(addresses), size), np.uint8)
        found = gather(self._ranges, addresses, size, result)
        self._inputs.past.add_many(addresses[found], size)
        for row in np.flatnonzero(~found).tolist():
            result[row] = np.frombuffer(self.read(int(addresses[row]), size), np.uint8)
        return result

    def write_many(self, addresses: Array, before: Array, after: Array) -> None:
        """Never."""
        raise ReadOnlyError("the past is read-only: store in `new`")

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the past."""
        data = self._copied(address, size)
        if data is None:
            self._inputs.elsewhere = True
            return checked_read(self._read, address, size)
        self._inputs.past.add(address, size)
        return data

    def write(self, address: int, data: bytes) -> None:
        """Never."""
        raise ReadOnlyError("the past is read-only: store in `new`")


def checked_read(read: Read, address: int, size: int) -> bytes:
    """Read what may not be there."""
    try:
        return read(address, size)
    except (FaultError, OSError, OverflowError, ValueError) as error:
        raise PointerError(f"{address:#x} leads nowhere") from error


class Pages:
    """Pages that are copied when they are first written, over memory that must not change.

    Args:
        read: The bytes as they would be without handlers.
        allowed: Whether a range may be written.
    """

    def __init__(self, read: Read, allowed: Callable[[int, int], bool]) -> None:
        self._read, self._allowed = read, allowed
        self.pages: dict[int, tuple[bytes, bytearray]] = {}

    def holds(self, address: int, size: int) -> bool:
        """Whether any byte of a range was written."""
        first, last = address // PAGE, (address + size - 1) // PAGE
        return any(number in self.pages for number in range(first, last + 1))

    def read(self, address: int, size: int) -> bytes:
        """Bytes with what was written."""
        if not self.holds(address, size):
            return self._read(address, size)
        parts = []
        while size:
            at = address % PAGE
            step = min(PAGE - at, size)
            page = self.pages.get(address // PAGE)
            parts.append(self._read(address, step) if page is None else bytes(page[1][at : at + step]))
            address, size = address + step, size - step
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Store in copies of the pages."""
        if not self._allowed(address, len(data)):
            raise PointerError(f"{len(data)} bytes at {address:#x} are in no object that may be written")
        done = 0
        while done < len(data):
            at = (address + done) % PAGE
            step = min(PAGE - at, len(data) - done)
            page = self._page((address + done) // PAGE)
            page[at : at + step] = data[done : done + step]
            done += step

    def _page(self, number: int) -> bytearray:
        found = self.pages.get(number)
        if found is None:
            data = self._read(number * PAGE, PAGE)
            found = self.pages[number] = (data, bytearray(data))
        return found[1]

    def changes(self) -> Array:
        """``PATCH`` rows by address: the aligned words that differ from what was there."""
        if not self.pages:
            return np.zeros(0, PATCH)
        numbers = sorted(self.pages)
        before = np.frombuffer(b"".join(self.pages[n][0] for n in numbers), np.uint64)
        after = np.frombuffer(b"".join(bytes(self.pages[n][1]) for n in numbers), np.uint64)
        index = np.flatnonzero(before != after)
        bases = np.array(numbers, np.uint64) * np.uint64(PAGE)
        rows = np.empty(len(index), PATCH)
        rows["address"] = bases[index // 512] + (index % 512).astype(np.uint64) * np.uint64(8)
        rows["value"] = after[index]
        return rows


class Blocks:
    """Memory that handlers allocate: blocks one after the other from an address on.

    Args:
        base: Where the first one goes.
        limit: Bytes that may be allocated in all.
    """

    def __init__(self, base: int, limit: int = ALLOCATION_LIMIT) -> None:
        self.base, self.limit = base, limit
        self.data = np.zeros(PAGE, np.uint8)
        self.used = 0
        self.blocks: list[tuple[int, int]] = []

    def allocate(self, size: int) -> int:
        """A zeroed block; its address."""
        if size < 0 or self.used + size > self.limit:
            raise HandlerError(
                f"alloc of {size} bytes: all allocations of handlers together may take {self.limit} bytes"
            )
        size = max(size, 1)
        address = self.base + self.used
        self.blocks.append((address, size))
        self.used += -(-size // _ALIGNMENT) * _ALIGNMENT
        if self.used > len(self.data):
            wider = np.zeros(max(2 * len(self.data), -(-self.used // PAGE) * PAGE), np.uint8)
            wider[: len(self.data)] = self.data
            self.data = wider
        return address

    def __contains__(self, address: int) -> bool:
        return self.base <= address < self.base + self.used


class Bulk(Protocol):
    """Objects that stay where they are, many at once."""

    def read(self, addresses: Array, size: int) -> tuple[Array, Array]:
        """((n, size) u1, which of them are such objects)."""

    def write(self, addresses: Array, before: Array, after: Array) -> Array:
        """Store; returns which rows were."""


class FutureMemory:
    """The future as the plan makes it.

    Args:
        regions: (start, bytes) of what the plan's output has, which is written in place.
        blocks: Allocations of handlers.
        kept: Pages of the past that stay at their addresses.
        own: Memory that the future's start-up made.
        is_kept: Whether an address is in a range that stays.
        bulk: Many objects that stay, as long as no page was copied.
        inputs: Is told what is read and written.
    """

    def __init__(
        self,
        regions: Sequence[tuple[int, Array]],
        blocks: Blocks,
        kept: Pages,
        own: Pages,
        is_kept: Callable[[int], bool],
        bulk: Bulk | None = None,
        inputs: Inputs | None = None,
    ) -> None:
        self._inputs = inputs or Inputs()
        self._regions = sorted(
            ((start, data) for start, data in regions if len(data)), key=lambda one: one[0]
        )
        self._starts = [start for start, _ in self._regions]
        self.blocks, self.kept, self.own, self._is_kept = blocks, kept, own, is_kept
        self._bulk = bulk

    def _place(self, address: int, size: int) -> Array | None:
        """The bytes themselves, where the output has them."""
        found = self._region(address)
        if found is None:
            return None
        start, data = found
        if address + size > start + len(data):
            raise PointerError(f"{size} bytes at {address:#x} go beyond the end of their memory")
        view: Array = data[address - start : address - start + size]
        return view

    def _region(self, address: int) -> tuple[int, Array] | None:
        """The innermost region: an object with a place of its own may lie in a segment, or in a block."""
        index = bisect_right(self._starts, address) - 1
        for at in range(index, max(index - _NESTED, -1), -1):
            start, data = self._regions[at]
            if address < start + len(data):
                return start, data
        if address in self.blocks:
            return self.blocks.base, self.blocks.data[: self.blocks.used]
        return None

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the future."""
        self._inputs.future.add(address, size)
        place = self._place(address, size)
        if place is not None:
            return place.tobytes()
        return (self.kept if self._is_kept(address) else self.own).read(address, size)

    def read_many(self, addresses: Array, size: int) -> Array:
        """Many objects at once."""
        self._inputs.future.add_many(addresses, size)
        result = np.zeros((len(addresses), size), np.uint8)
        found = gather(self._regions[::-1], addresses, size, result)
        if self._bulk is not None and not found.all() and not self.kept.pages:
            rest = np.flatnonzero(~found)
            rows, held = self._bulk.read(addresses[rest], size)
            result[rest[held]] = rows[held]
            found[rest[held]] = True
        for row in np.flatnonzero(~found).tolist():
            result[row] = np.frombuffer(self.read(int(addresses[row]), size), np.uint8)
        return result

    def write_many(self, addresses: Array, before: Array, after: Array) -> None:
        """Store the rows that differ."""
        rest = np.flatnonzero((before != after).any(axis=1))
        self._inputs.written.add_many(addresses[rest], after.shape[1])
        if self._bulk is not None and not self.kept.pages:
            rest = rest[~self._bulk.write(addresses[rest], before[rest], after[rest])]
        for row in rest.tolist():
            self.write(int(addresses[row]), after[row].tobytes())

    def write(self, address: int, data: bytes) -> None:
        """Store in the future."""
        self._inputs.written.add(address, len(data))
        place = self._place(address, len(data))
        if place is not None:
            place[:] = np.frombuffer(data, np.uint8)
            return
        (self.kept if self._is_kept(address) else self.own).write(address, data)
