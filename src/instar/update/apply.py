"""Carries out a transfer plan in the future: the only code that writes its memory. No decisions here."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np

from instar.control.runtime import Runtime
from instar.errors import InternalError
from instar.heap.inherited import BLOCK
from instar.process.maps import Mapping
from instar.process.registers import DWARF_NAMES
from instar.process.tracee import Tracee
from instar.transfer.plan import KeptRange, TransferPlan

_LOW, _HIGH = 1 << 44, 5 << 44  # nothing of the system's choice lies there (x86-64, 47-bit addresses)
_TRIES = 256


def choose_arena(maps: Iterable[Mapping], size: int) -> int:
    """An address with ``size`` bytes free in every given address space, far from what the system picks."""
    taken = sorted((m.start, m.end) for m in maps)
    for _ in range(_TRIES):
        start = random.randrange(_LOW, _HIGH - size, 1 << 21)
        if not any(low < start + size and start < high for low, high in taken):
            return start
    raise InternalError(f"no free range of {size} bytes found")


def all_ranges(plan: TransferPlan) -> Sequence[KeptRange]:
    """The kept ranges and the arena, by address."""
    ranges = [*plan.kept, *([plan.arena] if plan.arena is not None else [])]
    return sorted(ranges, key=lambda kept: kept.start)


def map_plan(plan: TransferPlan, runtime: Runtime) -> None:
    """Map every range at its address; raises AddressTakenError when one is not free."""
    ranges = all_ranges(plan)
    starts, sizes = [kept.start for kept in ranges], [kept.size for kept in ranges]
    runtime.map_ranges(starts, sizes, plain=[kept.plain for kept in ranges])


def write_plan(plan: TransferPlan, runtime: Runtime, future: Tracee) -> int:
    """Write blocks, tables, statics, locals and registers; returns the bytes written."""
    ranges = all_ranges(plan)
    blocks = np.zeros(sum(len(kept.blocks) for kept in ranges if not kept.plain), dtype=BLOCK)
    if len(blocks):
        both = np.concatenate([kept.blocks for kept in ranges if not kept.plain])
        blocks["address"], blocks["size"] = both[:, 0], both[:, 1]
    runtime.set_blocks(blocks)
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


def _write_range(kept: KeptRange, future: Tracee) -> int:
    if not len(kept.pages):
        return 0
    pieces = [
        kept.data[int(start) - kept.data_start : int(start) - kept.data_start + int(size)]
        for start, size in kept.pages
    ]
    if len(pieces) == 1:
        future.memory.write(int(kept.pages[0][0]), pieces[0])
    else:
        future.memory.write_spans(kept.pages[:, 0], kept.pages[:, 1], np.concatenate(pieces))
    return int(kept.pages[:, 1].sum())
