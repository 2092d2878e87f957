"""States made by hand, so that typing and transfer are tested without a process."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from instar.metadata.version import Version
from instar.state.columns import ObjectFlag, ObjectKind, Strength, flags_with
from instar.state.kernel import Span, State, make_objects
from instar.state.slots import build_type_table

Array = np.ndarray[Any, np.dtype[Any]]


class StateBuilder:
    """Blocks of a heap at ``heap`` and roots in a static segment at ``statics``.

    A block of usable size n takes n + 8 bytes rounded up to 16, as in glibc, so that addresses look real.
    """

    def __init__(self, version: Version, *, heap: int = 0x5000_0000, statics: int = 0x4000_0000) -> None:
        self.version = version
        self.heap, self.statics = heap, statics
        self._blocks: list[tuple[int, int]] = []
        self._roots: list[tuple[int, int, int, int]] = []
        self._heap = bytearray(16)
        self._static = bytearray()

    def block(self, size: int, data: bytes = b"") -> int:
        """A live block; its address (usable size as glibc would round it)."""
        usable = max((size + 8 + 15) // 16 * 16, 32) - 8
        address = self.heap + len(self._heap)
        self._heap += data.ljust(usable, b"\0") + bytes(8)
        self._blocks.append((address, usable))
        return address

    def root(self, type_row: int, data: bytes, count: int = 1) -> int:
        """A static variable of a type; its address."""
        address = self.statics + len(self._static)
        self._static += data.ljust((len(data) + 7) // 8 * 8, b"\0")
        self._roots.append((address, len(data), type_row, count))
        return address

    def poke(self, address: int, value: int) -> None:
        """Store a word in a block or root."""
        buffer, base = (self._heap, self.heap) if address >= self.heap else (self._static, self.statics)
        struct.pack_into("<Q", buffer, address - base, value)

    def build(self) -> State:
        """The state, roots marked, nothing typed yet."""
        blocks = make_objects(len(self._blocks), ObjectKind.HEAP)
        blocks["address"] = [a for a, _ in self._blocks]
        blocks["size"] = [s for _, s in self._blocks]
        roots = make_objects(len(self._roots), ObjectKind.STATIC)
        for row, (address, size, kind, count) in zip(roots, self._roots, strict=True):
            row["address"], row["size"] = address, size
            row["type"], row["count"] = self.version.strip(kind), count
        roots["flags"] = flags_with(ObjectFlag.ROOT, Strength.STRONG)
        spans = [
            self._span(self.heap, self._heap, blocks, granular=True),
            self._span(self.statics, self._static, roots, granular=False),
        ]
        return State(build_type_table(self.version), spans)

    def _span(self, start: int, data: bytearray, rows: Array, *, granular: bool) -> Span:
        origins = np.arange(len(rows), dtype=np.int32)
        return Span(start, np.frombuffer(bytes(data), dtype=np.uint8).copy(), rows, origins, granular)
