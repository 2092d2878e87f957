"""A small past made by hand, with one type that changes, and where everything of it goes."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from instar.metadata.version import Version
from instar.pairing.mapping import TypePairing
from instar.state.columns import FIXED, Fate, ObjectFlag, Status
from instar.state.kernel import State
from instar.testing.states import StateBuilder
from instar.testing.versions import VersionBuilder
from instar.transfer.engine import Engine, Scan
from instar.transfer.mappings import MappingPool
from instar.transfer.targets import Target, TargetTable

Array = np.ndarray[Any, np.dtype[Any]]

NO_RANGES = np.zeros((0, 2), dtype=np.uint64)


def words(*values: int) -> bytes:
    """Little-endian 64-bit words."""
    return struct.pack(f"<{len(values)}Q", *(value % (1 << 64) for value in values))


class World:
    """Two versions, a heap of the old one, and a table of fixed targets.

    Attributes:
        old, new: Builders of the versions; declare types, then call ``begin``.
        heap: The past's memory, after ``begin``.
        targets: Fixed targets, added before ``engine``.
    """

    def __init__(self) -> None:
        self.old, self.new = VersionBuilder("old"), VersionBuilder("new")
        self.targets = TargetTable()
        self.fillers: list[Target] = []
        self.output = np.zeros(1 << 16, dtype=np.uint8)

    def begin(self) -> None:
        """The types are declared."""
        self.versions: tuple[Version, Version] = (self.old.build(), self.new.build())
        self.pairing = TypePairing(*self.versions)
        self.heap = StateBuilder(self.versions[0])

    def settle(self, *, live: bool = True) -> State:
        """The past's memory is written: lay it out; all blocks are live and stay."""
        self.state = self.heap.build()
        self.pool = MappingPool(self.pairing, self.state.table)
        if live:
            self.state.objects["flags"] |= np.uint32(ObjectFlag.REACHED)
        return self.state

    def row(self, address: int) -> int:
        """The object at an address."""
        row = self.state.find(address)
        assert row is not None
        return row

    def type(self, address: int, kind: int, count: int = 1) -> None:
        """Say what a block is."""
        row = self.row(address)
        self.state.objects["type"][row], self.state.objects["count"][row] = kind, count

    def move(self, address: int, kind: int, new_kind: int, to: int, *, count: int = 1, out: int = 0) -> None:
        """Have an object converted: its new address, and where its new bytes go in the output."""
        self.type(address, self.versions[0].strip(kind), count)
        entry = self.state.objects[self.row(address) : self.row(address) + 1]
        entry["fate"], entry["new_address"], entry["out"] = Fate.MOVE, to, out
        entry["mapping"] = self.pool.row(self.versions[0].strip(kind), new_kind)
        entry["out_size"] = self.versions[1].size_of(new_kind) * count

    def engine(self) -> Engine:
        """The kernels, bound."""
        fixed = self.targets.build(self.fillers)
        assert fixed.dtype == FIXED
        return Engine(self.state, fixed, self.pool.columns(), NO_RANGES)

    def run(self) -> Scan:
        """Judge and convert everything."""
        self.bound = self.engine()
        return self.bound.run(self.output)

    def lead(self, value: int, *, exact: bool = False) -> tuple[Status, int]:
        """Where a word of unknown type leads."""
        statuses, values = self.engine().translate(np.array([value], np.uint64), exact=exact)
        return Status(int(statuses[0])), int(values[0])
