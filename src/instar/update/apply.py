"""Carries out a transfer plan in the future: the only code that writes its memory. No decisions here."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from instar.control.runtime import Runtime
from instar.errors import RefusedError
from instar.heap.inherited import BLOCK
from instar.process.maps import Mapping
from instar.process.numbering import DWARF_NAMES
from instar.process.tracee import Tracee
from instar.transfer.plan import KeptRange, TransferPlan

Bytes = npt.NDArray[np.uint8]

_LOW, _HIGH = 1 << 44, 5 << 44  # nothing of the system's choice lies there (x86-64, 47-bit addresses)
_TRIES = 256
_BATCH = 4 << 20
_PIECES = 1024


def choose_arena(maps: Iterable[Mapping], size: int) -> int:
    """An address with ``size`` bytes free in every given address space, far from what the system picks.

    Raises:
        RefusedError: "no-address-room": they have reserved nearly everything.
    """
    taken = sorted((m.start, m.end) for m in maps)
    for _ in range(_TRIES):
        start = random.randrange(_LOW, _HIGH - size, 1 << 21)
        if not any(low < start + size and start < high for low, high in taken):
            return start
    raise RefusedError(
        "no-address-room",
        f"the two versions have reserved so much that no {size >> 30} GB of addresses are free in both",
        "have the program reserve less (a sanitizer does, for example)",
    )


def all_ranges(plan: TransferPlan) -> Sequence[KeptRange]:
    """The kept ranges and the arena, by address."""
    ranges = [*plan.kept, *([plan.arena] if plan.arena is not None else [])]
    return sorted(ranges, key=lambda kept: kept.start)


def map_plan(plan: TransferPlan, runtime: Runtime) -> None:
    """Map every range at its address; raises AddressTakenError when one is not free."""
    ranges = [kept for kept in all_ranges(plan) if not kept.plain]
    starts, sizes = [kept.start for kept in ranges], [kept.size for kept in ranges]
    runtime.map_ranges(starts, sizes)


def write_plan(plan: TransferPlan, runtime: Runtime, future: Tracee) -> int:
    """Write blocks, tables, statics, locals and registers; returns the bytes written."""
    ranges = all_ranges(plan)
    if not plan.refreshed:
        _set_blocks(ranges, runtime)
    written = 0
    for kept in ranges:
        written += _write_range(kept, future)
    for write in plan.writes:
        future.memory.write(write.address, write.data)
        written += len(write.data)
    if plan.registers:
        names = {DWARF_NAMES[number]: value for number, value in plan.registers.items()}
        future.set_registers(future.registers().copy(**names))
    return written


def _set_blocks(ranges: Sequence[KeptRange], runtime: Runtime) -> None:
    tables = [kept.blocks.view(BLOCK).reshape(-1) for kept in ranges if not kept.plain and len(kept.blocks)]
    runtime.set_blocks(_join(tables or [np.empty(0, BLOCK)]))


def _join(tables: Sequence[npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
    return tables[0] if len(tables) == 1 else np.concatenate(tables)


def _write_range(kept: KeptRange, future: Tracee) -> int:
    """Write the pages of a range, a few megabytes a call, patched on the way."""
    batch: list[tuple[int, Bytes]] = []
    if kept.source is not None and kept.source.shared:
        return 0  # it is the past's memory and others'
    held = total = 0
    for start, size in kept.pages.tolist():
        for at in range(start, start + size, _BATCH):
            piece = patched(kept, at, min(_BATCH, start + size - at))
            batch.append((at, piece))
            held += len(piece)
            total += len(piece)
            if held >= _BATCH or len(batch) == _PIECES:
                _flush(batch, future)
                held = 0
    _flush(batch, future)
    return total


def patched(kept: KeptRange, address: int, size: int) -> Bytes:
    """The bytes that belong at an address of a kept range."""
    at = address - kept.data_start
    data: Bytes = kept.data[at : at + size]
    if not len(kept.patches):
        return data
    low = max(address - 7, 0)  # a word that is not aligned may begin before
    first, last = np.searchsorted(kept.patches["address"], np.array([low, address + size], np.uint64))
    if first == last:
        return data
    rows = kept.patches[first:last]
    wide = np.empty(size + 16, np.uint8)
    wide[8 : 8 + size] = data
    offsets = (rows["address"] - np.uint64(address - 8)).astype(np.int64)
    words = np.ascontiguousarray(rows["value"]).view(np.uint8).reshape(-1, 8)
    wide[offsets[:, None] + np.arange(8)] = words
    return wide[8 : 8 + size]


def _flush(batch: list[tuple[int, Bytes]], future: Tracee) -> None:
    if len(batch) == 1:
        future.memory.write(*batch[0])
    elif batch:
        sizes = [len(piece) for _, piece in batch]
        starts = [start for start, _ in batch]
        future.memory.write_spans(starts, sizes, np.concatenate([piece for _, piece in batch]))
    batch.clear()
