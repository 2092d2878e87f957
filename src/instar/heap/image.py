"""What the heap of a process looks like from outside: its live blocks as columns and a copy of its bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Blocks = npt.NDArray[np.void]
Addresses = npt.NDArray[np.uint64]

BLOCK = np.dtype([("address", "u8"), ("size", "u8")])
"""One live block: ``address`` is what malloc returned, ``size`` what malloc_usable_size would say."""

Reader = Callable[[int, int], Bytes]
"""Returns the bytes (address, size) of the process as a contiguous u1 array, which the image then keeps."""


class BlockKind(IntEnum):
    """Where the allocator got the blocks of a region from."""

    MAIN = 0
    ARENA = 1
    MAPPED = 2


@dataclass(frozen=True, slots=True, eq=False)
class HeapRegion:
    """A range that holds heap blocks, with its bytes; ranges do not overlap.

    ``end`` is where the copy ends; ``limit`` is where the memory ends that the allocator holds there (the
    unused rest of an arena, its top chunk, is not copied).
    """

    start: int
    data: Bytes
    limit: int
    kind: BlockKind

    @property
    def size(self) -> int:
        """Bytes copied."""
        return self.data.nbytes

    @property
    def end(self) -> int:
        """First address after the copy."""
        return self.start + self.data.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class HeapImage:
    """All live blocks of a process.

    Attributes:
        allocator: For people, such as "glibc 2.36".
        blocks: Structured array of dtype BLOCK by ascending address.
        regions: By ascending address; every block lies in exactly one.
        library: Addresses of the blocks that are the allocator's own (thread caches); not in ``blocks``.
        cached: Number of freed blocks that wait in thread caches and fast bins; not in ``blocks``.
    """

    allocator: str
    blocks: Blocks
    regions: tuple[HeapRegion, ...]
    library: Addresses = field(default_factory=lambda: np.empty(0, np.uint64))
    cached: int = 0

    def region_of(self, address: int) -> HeapRegion | None:
        """The region whose copy holds an address."""
        for region in self.regions:
            if region.start <= address < region.end:
                return region
        return None

    def block_at(self, address: int) -> int | None:
        """Row of the live block that holds an address (its end excluded)."""
        row = int(np.searchsorted(self.blocks["address"], np.uint64(address), side="right")) - 1
        if row < 0:
            return None
        block = self.blocks[row]
        return row if address < int(block["address"]) + int(block["size"]) else None

    def bytes_of(self, row: int) -> Bytes:
        """The copied bytes of a block."""
        address, size = int(self.blocks["address"][row]), int(self.blocks["size"][row])
        region = self.region_of(address)
        if region is None:
            raise KeyError(f"block {address:#x} lies in no region")
        return region.data[address - region.start : address - region.start + size]
