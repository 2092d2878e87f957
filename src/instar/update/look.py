"""What a worker without rights does for `inspect` and `check`: copies a process, types and classifies it.

The state is planned as a move to itself: every pointer is classified by the same code that an update uses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.metadata.version import Version
from instar.pairing.plan import plan_pairing
from instar.pairing.problems import Problem
from instar.process.registers import Registers
from instar.state.capturer import Capturer
from instar.state.columns import ObjectFlag, ObjectKind, Status, Strength, strength_of
from instar.state.expression import evaluate
from instar.state.image import Image
from instar.state.slots import build_type_table
from instar.state.values import Symbol
from instar.transfer.plan import TransferPlan
from instar.transfer.planner import Planner
from instar.transfer.prepared import Options
from instar.update import carry
from instar.update.desk import Desk, Stand
from instar.update.exchange import GarbageError

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


@dataclass(frozen=True)
class Seen:
    """A process that was looked at.

    Attributes:
        census: Its objects by type.
        pointers: Pointer slots by class.
        inferred: Heap blocks whose type was inferred, not claimed by a typed pointer.
        problems, warnings: Of its state.
    """

    census: Census
    pointers: Mapping[str, int]
    inferred: int
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]

    @property
    def is_wrong(self) -> bool:
        """Whether a wild or conflicting pointer was found."""
        return any(problem.code in _WRONG for problem in self.problems)


@dataclass(frozen=True)
class Shown:
    """The object that an expression names.

    Attributes:
        contents: As plain data, see ``rendered``.
    """

    type_name: str
    address: int
    size: int
    contents: str

    @property
    def rendered(self) -> Any:
        """Numbers, text, ``Symbol``, lists, dicts, None; raises GarbageError."""
        try:
            return _unwrap(json.loads(self.contents))
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise GarbageError(f"{self.contents:.100}") from error


def _wrap(rendered: Any) -> Any:
    """Rendered data so that JSON keeps apart what is text of the program and what is not."""
    if isinstance(rendered, dict):
        return {"members": [[name, _wrap(one)] for name, one in rendered.items()]}
    if isinstance(rendered, list):
        return [_wrap(one) for one in rendered]
    return {"symbol": str(rendered)} if isinstance(rendered, Symbol) else rendered


def _unwrap(plain: Any) -> Any:
    if isinstance(plain, dict):
        if "symbol" in plain:
            return Symbol(plain["symbol"])
        return {str(name): _unwrap(one) for name, one in plain["members"]}
    return [_unwrap(one) for one in plain] if isinstance(plain, list) else plain


class LookDesk(Desk):
    """The worker's own side."""

    def look_past(self, registers: Registers) -> None:
        """Copy the process, which stands."""
        version = self._given.old
        self._past = Capturer(Stand(self.pid, registers), version, build_type_table(version)).image(heap=True)

    def show(self, registers: Registers, expression: str, depth: int) -> Shown:
        """The value of an expression; raises InstarError."""
        version = self._given.old
        capturer = Capturer(Stand(self.pid, registers), version, build_type_table(version))
        value = evaluate(capturer.subject(), expression)
        contents = json.dumps(_wrap(value.render(depth)))
        return Shown(value.type_name, value.address, value.size, contents)

    def seen(self) -> Seen:
        """What the copy comes to."""
        return Examination.of(self._given.old, self.past).seen()


@dataclass(frozen=True, eq=False)
class Examination:
    """A copy that was looked at: its typed state and what its pointers are."""

    version: Version
    planner: Planner
    plan: TransferPlan

    @classmethod
    def of(cls, version: Version, image: Image) -> Examination:
        """Classify everything in a copy."""
        pairing = plan_pairing(version, version)
        prepared = carry.prepare(version, version, pairing)
        pairs = carry.FramePairing(version, version, pairing.code).pair(image, image)
        planner = Planner(prepared, image, image, pairs, _Itself(), Options())
        return cls(version, planner, planner.plan())

    def seen(self) -> Seen:
        """All of it as plain data."""
        plan = self.plan
        counts = {name: int(count) for name, count in self.pointers().items()}
        return Seen(self.census(), counts, self.inferred(), tuple(plan.problems), tuple(plan.warnings))

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
