"""The memory that a process inherited from an earlier version of itself, read from its preload runtime.

A process that an update made runs with ``libinstar-runtime.so``, which owns the blocks that kept their
addresses and tells in ``instar_runtime_state`` (native/include/instar_runtime.h) which of them are still
allocated. They are in no walk of the process's own allocator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from instar.errors import RefusedError
from instar.process.exports import find_exports
from instar.process.maps import Mapping
from instar.process.memory import Memory

LIBRARY = "libinstar-runtime.so"
STATE_SYMBOL = "instar_runtime_state"
MAGIC = 0x656D69746E725249
VERSION = 1

#: Live blocks: where the program's pointer points, and how many bytes it may use.
BLOCK = np.dtype([("address", "<u8"), ("size", "<u8")])

# The layouts of native/include/instar_runtime.h; tests/binary/test_runtime_blocks.py compares them.
NARROW_BLOCK = np.dtype([("granule", "<u4"), ("size", "<u4")])
WIDE_BLOCK = np.dtype([("offset", "<u8"), ("size", "<u8")])
RANGE = np.dtype(
    [
        ("start", "<u8"), ("end", "<u8"), ("blocks", "<u8"), ("live_bits", "<u8"), ("first", "<u8"),
        ("page_counts", "<u8"), ("table", "<u8"), ("block_count", "<u8"), ("live_count", "<u8"),
        ("granule_shift", "<u4"), ("wide", "<u4"), ("state", "<u4"), ("reserved", "<u4"),
    ]
)  # fmt: skip
GATE = np.dtype(
    [
        ("signal_mask", "<u8"), ("locks", "<u8"), ("lock_count", "<u4"), ("grace_ms", "<u4"),
        ("pidfd", "<i4"), ("stat", "<i4"), ("intent", "<u4"), ("phase", "<u4"),
    ]
)  # fmt: skip
STATE = np.dtype(
    [
        ("magic", "<u8"), ("version", "<u4"), ("size", "<u4"), ("ranges", "<u8"), ("spans", "<u8"),
        ("range_count", "<u8"), ("range_capacity", "<u8"), ("live_ranges", "<u8"), ("low", "<u8"),
        ("extent", "<u8"), ("scratch", "<u8"), ("flags", "<u4"), ("channel", "<i4"), ("gate", GATE),
    ]
)  # fmt: skip

#: Offset of the gate in the state, and of the word in the gate that the tool writes last.
GATE_OFFSET = STATE.itemsize - GATE.itemsize
INTENT_OFFSET = 32

RANGE_EMPTY, RANGE_LIVE, RANGE_GONE = range(3)
SPAN_SIZE = 16  # struct instar_span; as many as ranges, behind them
INTERPOSED = 1


@dataclass(frozen=True)
class Inherited:
    """What a process holds of its past.

    Attributes:
        ranges: Rows of ``RANGE``, by address; ranges whose last block was freed are left out.
        blocks: Rows of ``BLOCK``, by address; the allocated ones only.
    """

    ranges: npt.NDArray[np.void]
    blocks: npt.NDArray[np.void]


def find_state(memory: Memory, maps: Sequence[Mapping]) -> int | None:
    """The address of the runtime's state in a process; None when it was not started by an update.

    Raises:
        RefusedError: "runtime-unknown" when the library is there but not one this version can read.
    """
    exports = find_exports(memory, maps, LIBRARY)
    if exports is None:
        return None
    address = exports.symbols.get(STATE_SYMBOL)
    state = read_state(memory, address) if address is not None else None
    if address is None or state is None or state["magic"] != MAGIC or state["version"] != VERSION:
        raise RefusedError(
            "runtime-unknown",
            f"process {memory.pid} runs with {exports.path} of another version of instar",
            "update it with the version of instar that started it",
        )
    return address


def read_state(memory: Memory, address: int) -> np.void:
    """The row of ``STATE`` at the address of ``instar_runtime_state``."""
    row: np.void = np.frombuffer(memory.read(address, STATE.itemsize), STATE)[0]
    return row


def read_inherited(memory: Memory, maps: Sequence[Mapping]) -> Inherited:
    """The inherited ranges and allocated blocks of a process (stopped, or the answer may be torn)."""
    address = find_state(memory, maps)
    if address is None:
        return Inherited(np.empty(0, RANGE), np.empty(0, BLOCK))
    state = read_state(memory, address)
    count = int(state["range_count"])
    ranges = np.frombuffer(memory.read(int(state["ranges"]), count * RANGE.itemsize), RANGE)
    ranges = ranges[ranges["state"] == RANGE_LIVE]
    parts = [_read_blocks(memory, row) for row in ranges]
    return Inherited(ranges, np.concatenate(parts) if parts else np.empty(0, BLOCK))


def _read_blocks(memory: Memory, row: np.void) -> npt.NDArray[np.void]:
    count = int(row["block_count"])
    layout = WIDE_BLOCK if row["wide"] else NARROW_BLOCK
    table = np.frombuffer(memory.read(int(row["blocks"]), count * layout.itemsize), layout)
    bits = np.frombuffer(memory.read(int(row["live_bits"]), (count + 63) // 64 * 8), np.uint8)
    table = table[np.unpackbits(bits, count=count, bitorder="little").view(np.bool_)]
    blocks = np.empty(len(table), BLOCK)
    offsets = table["offset"] if row["wide"] else table["granule"].astype(np.uint64) << row["granule_shift"]
    blocks["address"] = offsets + row["start"]
    blocks["size"] = table["size"]
    return blocks


def runtime_memory(memory: Memory, maps: Sequence[Mapping]) -> list[tuple[int, int]]:
    """(start, end) of everything that the runtime of a process mapped: inherited ranges and its tables."""
    address = find_state(memory, maps)
    if address is None:
        return []
    state = read_state(memory, address)
    capacity = int(state["range_capacity"])
    room = capacity * (RANGE.itemsize + SPAN_SIZE)
    found = [_whole_pages(int(state["ranges"]), room)] if room else []
    rows = np.frombuffer(memory.read(int(state["ranges"]), int(state["range_count"]) * RANGE.itemsize), RANGE)
    found += [(int(row["start"]), int(row["end"])) for row in rows if row["state"] != RANGE_GONE]
    tables = {int(row["table"]) for row in rows} - {0}
    return found + [_whole_pages(table, memory.u64(table)) for table in sorted(tables)]


def _whole_pages(start: int, size: int) -> tuple[int, int]:
    return start, (start + size + 4095) & ~4095
