"""The transfer of one update as a value: what of the past goes where in the future.

Built by ``transfer.planner`` from copied memory, carried out by ``transfer.execute``. Nothing here reads or
writes a process.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from instar.pairing.problems import Problem
from instar.process.maps import Mapping

Array = np.ndarray[Any, np.dtype[Any]]


PATCH = np.dtype([("address", "u8"), ("value", "u8")])


@dataclass(frozen=True, eq=False)
class KeptRange:
    """A range of the past's heap that the future maps at the same address.

    Attributes:
        start, size: Page aligned.
        blocks: (n, 2) u8: address and usable size of the blocks that live on.
        pages: (m, 2) u8: (address, size) spans that must be copied.
        data: Where the spans' bytes are: u1 array that begins at ``data_start``.
        data_start: Address of ``data[0]``.
        plain: The program mapped it itself; `free` never sees it.
        protection: PROT_* in the end.
        source: The past's mapping, when it is of a file or of shared memory.
        patches: ``PATCH`` rows by address: words that are written with another value than ``data`` has.
    """

    start: int
    size: int
    blocks: Array
    pages: Array
    data: Array
    data_start: int
    plain: bool = False
    protection: int = 3
    source: Mapping | None = None
    patches: Array = field(default_factory=lambda: np.zeros(0, dtype=PATCH))


@dataclass(frozen=True, eq=False)
class Write:
    """Bytes for the future: static segments, thread-locals, locals, frame words."""

    address: int
    data: bytes | Array


@dataclass(frozen=True)
class Figures:
    """What the report counts.

    Attributes:
        objects: Live objects by kind.
        retyped: Heap blocks whose layout changes.
        pointers: Pointer slots judged.
        bytes: State carried.
        leaked_blocks, leaked_bytes: Live heap blocks that nothing reaches.
    """

    objects: dict[str, int]
    retyped: int
    pointers: int
    bytes: int
    leaked_blocks: int
    leaked_bytes: int


@dataclass(frozen=True, eq=False)
class TransferPlan:
    """Everything that is to be done to the future's memory.

    Attributes:
        kept: Ranges mapped at their old addresses.
        arena: The new range that holds the blocks that moved, None if none did.
        writes: Into memory that the future already has.
        registers: DWARF number -> value for the future's thread.
        problems: Any of them refuses the update.
        warnings: For the report.
        figures: For the report.
        translate: (statuses, new values) of words that turn up later.
        refreshed: The plan before was carried out, and this one has only what differs: mapped ranges and all
            bytes that it does not name are right already, block tables are left out.
    """

    kept: tuple[KeptRange, ...]
    arena: KeptRange | None
    writes: tuple[Write, ...]
    registers: dict[int, int]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    figures: Figures
    translate: Any = field(repr=False, default=None)
    refreshed: bool = False


def without_blocks(plan: TransferPlan) -> TransferPlan:
    """The plan without its tables of blocks, which are as large as a fifth of small blocks themselves."""
    none = np.zeros((0, 2), dtype=np.uint64)
    arena = None if plan.arena is None else replace(plan.arena, blocks=none)
    return replace(plan, kept=tuple(replace(kept, blocks=none) for kept in plan.kept), arena=arena)
