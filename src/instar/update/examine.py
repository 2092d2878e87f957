"""Looks at the state of a live process without changing it: what `inspect` and `check` show.

The process is stopped only while it is copied. Its state is then planned as a move to itself: every pointer
is classified by the same code that an update uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.metadata.version import Version
from instar.pairing.plan import plan_pairing
from instar.process.deadline import Deadline
from instar.process.failures import explain_absence
from instar.process.held import Standing, find_held
from instar.process.status import executable
from instar.process.tracee import Tracee
from instar.state.capturer import Capturer
from instar.state.columns import ObjectFlag, ObjectKind, Status, Strength, strength_of
from instar.state.expression import evaluate
from instar.state.image import Image
from instar.state.slots import build_type_table
from instar.state.values import Value
from instar.transfer.plan import TransferPlan
from instar.transfer.planner import Planner
from instar.transfer.prepared import Options
from instar.update import carry
from instar.update.reading import load_confined

Array = np.ndarray[Any, np.dtype[Any]]

_STOP_S = 5.0
_WRONG = ("wild-pointer", "odd-pointer", "conflicting-types", "no-counterpart", "unknown-constant")


class _Itself(Mapping[int, int]):
    """Every address leads to itself."""

    def __getitem__(self, key: int) -> int:
        return key

    def __contains__(self, key: object) -> bool:
        return True

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


@contextmanager
def stopped(pid: int) -> Iterator[Standing]:
    """The process stands still inside; afterwards it goes on as if nothing had been.

    One that a rehearsal holds stands already, and stays so.
    """
    held = find_held(pid)
    if held is not None:
        yield held
        return
    tracee = Tracee.seize(pid)
    try:
        stop = tracee.interrupt(Deadline(_STOP_S))
        if stop.ended:
            raise tracee.died(stop)
        tracee.rewind_syscall()
        yield tracee
    finally:
        if tracee.end is None:
            tracee.detach()


def _load(pid: int) -> Version:
    absence = explain_absence(pid)
    if absence is not None and absence.code != "already-traced":  # a rehearsal may hold it
        raise absence
    return load_confined(executable(pid))


def copy_process(pid: int) -> tuple[Version, Image]:
    """Stop, copy, let go."""
    version = _load(pid)
    table = build_type_table(version)
    with stopped(pid) as tracee:
        image = Capturer(tracee, version, table).image(heap=True)
    return version, image


@dataclass(frozen=True)
class TypeCount:
    """One line of the census."""

    type: str
    kind: str
    objects: int
    bytes: int


@dataclass(frozen=True)
class Census:
    """Objects and bytes by type.

    Attributes:
        types: By falling size.
        untyped_bytes, heap_bytes: Heap blocks that nothing types (character data apart), and all.
        leaked_blocks, leaked_bytes: Blocks that no word of the state could point into.
    """

    types: tuple[TypeCount, ...]
    heap_blocks: int
    heap_bytes: int
    untyped_blocks: int
    untyped_bytes: int
    leaked_blocks: int
    leaked_bytes: int


@dataclass(frozen=True, eq=False)
class Examination:
    """A process that was looked at: its typed state and what its pointers are."""

    version: Version
    planner: Planner
    plan: TransferPlan

    def census(self) -> Census:
        """Count objects by type."""
        objects = self.planner.state.objects
        live = (objects["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT)) != 0
        heap = objects["kind"] == ObjectKind.HEAP
        shown = live & (objects["kind"] != ObjectKind.FRAME)
        groups: dict[tuple[str, str], list[int]] = {}
        keys = np.stack([objects["type"][shown].astype(np.int64), objects["kind"][shown].astype(np.int64)])
        unique, inverse = np.unique(keys, axis=1, return_inverse=True)
        sizes = np.bincount(inverse.reshape(-1), weights=objects["size"][shown].astype(np.float64))
        counts = np.bincount(inverse.reshape(-1))
        for (row, kind), count, size in zip(unique.T, counts, sizes, strict=True):
            entry = groups.setdefault((self._name(int(row)), ObjectKind(int(kind)).name.lower()), [0, 0])
            entry[0] += int(count)
            entry[1] += int(size)
        rows = tuple(TypeCount(name, kind, n, size) for (name, kind), (n, size) in groups.items())
        untyped = heap & live & (objects["type"] < 0) & ((objects["flags"] & ObjectFlag.BYTES) == 0)
        leaked = (heap & ~live) | self.planner.leaks
        return Census(
            tuple(sorted(rows, key=lambda row: -row.bytes)),
            int((heap & live).sum()),
            int(objects["size"][heap & live].sum()),
            int(untyped.sum()),
            int(objects["size"][untyped].sum()),
            int(leaked.sum()),
            int(objects["size"][leaked].sum()),
        )

    def _name(self, row: int) -> str:
        return self.version.type_name(row) if row >= 0 else "(untyped)"

    def pointers(self) -> dict[str, int]:
        """Pointer slots by class."""
        statuses = self.planner.scanned.statuses
        return {
            "null": statuses[Status.NULL],
            "integer": statuses[Status.SMALL],
            "block": statuses[Status.STAY],
            "static": statuses[Status.MOVED],
            "library": statuses[Status.LIBRARY],
            "dangling": statuses[Status.DANGLING],
            "wild": statuses[Status.WILD],
            "odd": statuses[Status.INSIDE] + statuses[Status.AMBIGUOUS] + statuses[Status.DROPPED],
            "unknown": statuses[Status.UNPAIRED] + statuses[Status.UNRESOLVED],
        }

    def inferred(self) -> int:
        """Heap blocks whose type was inferred, not claimed by a typed pointer."""
        objects = self.planner.state.objects
        return int(
            (
                (strength_of(objects["flags"]) == Strength.INFERRED) & (objects["kind"] == ObjectKind.HEAP)
            ).sum()
        )

    @property
    def is_wrong(self) -> bool:
        """Whether a wild or conflicting pointer was found."""
        return any(problem.code in _WRONG for problem in self.plan.problems)


def examine(pid: int) -> Examination:
    """Copy a process and classify everything in it."""
    version, image = copy_process(pid)
    pairing = plan_pairing(version, version)
    prepared = carry.prepare(version, version, pairing)
    pairs = carry.FramePairing(version, version, pairing.code).pair(image, image)
    planner = Planner(prepared, image, image, pairs, _Itself(), Options())
    return Examination(version, planner, planner.plan())


def evaluate_live(pid: int, expression: str, depth: int) -> tuple[Value, Any]:
    """The value that an expression names, and its contents as plain data, read in one short stop."""
    version = _load(pid)
    table = build_type_table(version)
    with stopped(pid) as tracee:
        value = evaluate(Capturer(tracee, version, table).subject(), expression)
        return value, value.render(depth)
