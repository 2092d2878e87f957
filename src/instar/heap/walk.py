"""The C kernels that walk copied heap segments (native/kernels/glibc_heap.c)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from instar.errors import RefusedError
from instar.heap.buffers import BufferPool
from instar.heap.image import BLOCK, Addresses, BlockKind, Blocks, Bytes, HeapRegion
from instar.native import load


class WalkState(IntEnum):
    """How a walk ended."""

    FULL = 0
    TOP = 1
    FENCE = 2
    FAULT = 3


REASONS = {
    1: "its size is not possible",
    2: "it reaches past its segment",
    3: "its flags belong to another kind of chunk",
    4: "it is free, but its two sizes differ",
    5: "it is free, and so is the chunk before it",
}


class _Walk(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("start", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("cursor", ctypes.c_uint64),
        ("top", ctypes.c_uint64),
        ("fault", ctypes.c_uint64),
        ("state", ctypes.c_uint32),
        ("reason", ctypes.c_uint32),
        ("foreign_arena", ctypes.c_uint8),
        ("previous_free", ctypes.c_uint8),
        ("spare", ctypes.c_uint8 * 6),
    )


SPAN = np.dtype([("start", "u8"), ("end", "u8"), ("data", "u8")])
MINIMUM = 32
"""Bytes of the smallest chunk."""


class WalkFault(Exception):
    """A segment does not parse: not an error of the process until the caller says so.

    Attributes:
        address: Of the chunk that is impossible.
        before: (address, usable size) of the block right before it, when that is in use.
    """

    def __init__(self, address: int, reason: int, before: tuple[int, int] | None = None) -> None:
        super().__init__(f"chunk at {address:#x}: {REASONS[reason]}")
        self.address, self.before = address, before
        self.reason = REASONS[reason]

    def refusal(self, what: str) -> RefusedError:
        """The error for a segment that must parse."""
        if self.before is not None:
            start, size = self.before
            return RefusedError(
                "overrun-block",
                f"the block of {size} bytes at {start:#x} was written beyond its end, in {what}: "
                f"the chunk behind it at {self.address:#x}: {self.reason}",
                "look for a buffer overflow with valgrind or -fsanitize=address",
            )
        return RefusedError(
            "heap-corrupt",
            f"the heap of the process is damaged in {what}: the chunk at {self.address:#x}: {self.reason}",
            "look for a buffer overflow with valgrind or -fsanitize=address",
        )


def _block_before(blocks: Blocks, chunk: int) -> tuple[int, int] | None:
    """The block in use that ends where a chunk begins: its last word is the chunk's first."""
    if not len(blocks):
        return None
    address, size = int(blocks["address"][-1]), int(blocks["size"][-1])
    return (address, size) if address + size - 8 == chunk else None


def walk_segment(
    data: Bytes, start: int, first: int, top: int, kind: BlockKind, pool: BufferPool
) -> tuple[Blocks, WalkState, int]:
    """Walk the chunks of one segment.

    Args:
        data: Copy of the bytes from ``start`` on, through the header of the top chunk.
        start: Address of the first byte of ``data``.
        first: Address of the first chunk.
        top: Address of the top chunk, 0 for a segment that must end with fenceposts.
        kind: MAIN or ARENA.
        pool: For the column.

    Returns:
        The column of chunks in use, how it ended (TOP or FENCE), and where.

    Raises:
        WalkFault: A chunk is impossible.
    """
    state = _Walk(
        data=data.ctypes.data,
        start=start,
        end=start + data.nbytes,
        cursor=first,
        top=top,
        foreign_arena=kind == BlockKind.ARENA,
    )
    function = load("kernels").instar_heap_segment
    function.restype = ctypes.c_uint64
    # No more chunks than this fit; pages that stay untouched cost nothing.
    block = pool.take((data.nbytes // MINIMUM + 1) * BLOCK.itemsize).view(BLOCK)
    count = function(ctypes.byref(state), ctypes.c_void_p(block.ctypes.data), ctypes.c_uint64(len(block)))
    if state.state == WalkState.FAULT:
        raise WalkFault(state.fault, state.reason, _block_before(block[:count], int(state.fault)))
    return block[:count], WalkState(state.state), int(state.cursor)


def remove_rows(blocks: Blocks, rows: npt.NDArray[np.int64]) -> Blocks:
    """Take rows (ascending, none twice) out of a column, in place."""
    if blocks.dtype != BLOCK or not blocks.flags.c_contiguous or rows.dtype != np.int64:
        raise TypeError(f"rows {rows.dtype} of {blocks.dtype}")
    if len(rows) and (int(rows[-1]) >= len(blocks) or int(rows[0]) < 0 or (np.diff(rows) <= 0).any()):
        raise IndexError("the rows are not those of the column")
    function = load("kernels").instar_heap_remove
    function.restype = ctypes.c_uint64
    left = function(
        ctypes.c_void_p(blocks.ctypes.data),
        ctypes.c_uint64(len(blocks)),
        ctypes.c_void_p(rows.ctypes.data),
        ctypes.c_uint64(len(rows)),
    )
    return blocks[:left]


class Spans:
    """The copied regions, for following lists of free blocks through them."""

    def __init__(self, regions: Sequence[HeapRegion]) -> None:
        ordered = sorted(regions, key=lambda region: region.start)
        self._keep = ordered
        self.rows = np.array([(r.start, r.end, r.data.ctypes.data) for r in ordered], SPAN)

    def chain(self, head: int, link_offset: int, mangled: bool, limit: int) -> Addresses | None:
        """The addresses on a list of free blocks; None when a link leads astray or in a circle.

        Args:
            head: What the list's head points at, 0 for an empty list.
            link_offset: Where the link word is, from what links point at.
            mangled: Whether links are mangled (glibc 2.32 and later).
            limit: More blocks than this cannot be on the list.
        """
        function = load("kernels").instar_heap_chain
        function.restype = ctypes.c_int64
        capacity = min(64, limit)
        while True:
            out = np.empty(capacity, np.uint64)
            count = function(
                ctypes.c_void_p(self.rows.ctypes.data),
                ctypes.c_uint64(len(self.rows)),
                ctypes.c_uint64(head),
                ctypes.c_uint32(link_offset),
                ctypes.c_uint32(mangled),
                ctypes.c_void_p(out.ctypes.data),
                ctypes.c_uint64(capacity),
            )
            if count >= 0:
                return out[:count]
            if count == -1 or capacity >= limit:
                return None
            capacity = min(capacity * 16, limit)
