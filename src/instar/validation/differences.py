"""Names differences between past and reversed state; tells those that the plan announced. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from instar.errors import RolledBackError
from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.pairing.problems import Problem
from instar.state.columns import Status
from instar.state.paths import word_path
from instar.transfer.planner import Planner
from instar.validation.columns import DifferenceKind
from instar.validation.comparison import Comparison
from instar.validation.counterparts import Counterparts
from instar.validation.handled import HandledBytes, JumpCheck
from instar.validation.inverse import InversePool

Array = np.ndarray[Any, np.dtype[Any]]

CODE = "validation-difference"
_REMEDY = "the old version goes on; please report it with `instar doctor PID`, the transfer is wrong here"
_DEPTH = 24
_TEXT = {
    DifferenceKind.DATA: "comes back as",
    DifferenceKind.POINTER: "does not lead to the same as",
    DifferenceKind.STALE: "does not lead to the same as",
    DifferenceKind.ASSUMED: "was taken for a pointer, but does not lead to the same as",
}


class DifferenceJudge:
    """Turns differences into problems.

    Args:
        planner: Has planned.
        counterparts: Where the objects are.
        inverse: Their inverse mappings.
        comparison: Says what leads to the same.
        handled: What handlers wrote.
    """

    def __init__(
        self,
        planner: Planner,
        counterparts: Counterparts,
        inverse: InversePool,
        comparison: Comparison,
        handled: HandledBytes,
    ) -> None:
        self._inverse, self._handled = inverse, handled
        self._jumps = JumpCheck(planner, comparison)
        self._planner, self._state = planner, planner.state
        self._counterparts = counterparts
        self._announced = _announced(planner)
        self._lost = _lost(planner)
        self.exempt: Counter[str] = Counter()
        self.problems: list[Problem] = []

    def judge(self, differences: Array) -> None:
        """Take up ``DIFFERENCE`` rows."""
        for difference in differences:
            reason = self._reason(difference)
            if reason:
                self.exempt[reason] += 1
            else:
                self.problems.append(self._problem(difference))

    def add(self, where: str, text: str) -> None:
        """A difference that has no object."""
        self.problems.append(Problem(CODE, where, f"{where}: {text}", _REMEDY))

    def _reason(self, difference: Any) -> str:
        """Why a difference is none; empty when it is one."""
        row, offset = int(difference["object"]), int(difference["offset"])
        kind = DifferenceKind(int(difference["kind"]))
        if kind is DifferenceKind.POINTER and difference["past"] == difference["reversed"]:
            return self._announced.get((row, offset), "")
        if self._handled.covers(self._future_places(row, offset, kind)):
            return "handled"
        if kind in (DifferenceKind.DATA, DifferenceKind.ASSUMED) and self._jumps.is_same(
            row, offset, int(difference["past"]), int(difference["reversed"])
        ):
            return "jump-word"
        if kind is not DifferenceKind.DATA:
            return ""
        if any(low < offset + int(difference["size"]) and offset < high for low, high in self._lost[row]):
            return "allowed"
        return "nan" if self._is_nan(difference) else ""

    def _future_places(self, row: int, offset: int, kind: DifferenceKind) -> Array:
        """Addresses in the future of the word at an offset of a past object."""
        place, mapping = self._place(row), int(self._counterparts.rows["mapping"][row])
        if mapping < 0 or kind is DifferenceKind.FRESH:
            return np.uint64(place) + np.arange(offset, offset + 8, dtype=np.uint64)
        places = self._inverse.places(mapping, offset)
        return np.uint64(place) + places.astype(np.uint64)

    def _place(self, row: int) -> int:
        return int(self._counterparts.places(np.array([row]))[0])

    def _is_nan(self, difference: Any) -> bool:
        """Both are no number: conversions may give such a one other bits."""
        entry = self._state.objects[int(difference["object"])]
        if entry["type"] < 0 or entry["mapping"] < 0:
            return False
        leaf = _float_at(self._planner.old, int(entry["type"]), int(difference["offset"]))
        if leaf is None:
            return False
        dtype = {4: np.float32, 8: np.float64}.get(leaf[1])
        if dtype is None:
            return False
        words = np.array([difference["past"], difference["reversed"]], dtype=np.uint64).view(dtype)
        at = (int(difference["offset"]) - leaf[0]) // leaf[1] if leaf[1] == 4 else 0
        half = len(words) // 2
        return bool(np.isnan(words[at]) and np.isnan(words[half + at]))

    def _problem(self, difference: Any) -> Problem:
        row, offset = int(difference["object"]), int(difference["offset"])
        kind = DifferenceKind(int(difference["kind"]))
        past, back = int(difference["past"]), int(difference["reversed"])
        where = word_path(
            self._state,
            self._planner.old,
            row,
            offset if kind is not DifferenceKind.FRESH else 0,
            self._planner.names,
        )
        place = self._place(row)
        if kind is DifferenceKind.MISSING:
            text = f"the new version has no memory at {place:#x} for it"
        elif kind is DifferenceKind.BEYOND:
            text = f"holds data behind its last element, at byte {offset}, that was left behind"
        elif kind is DifferenceKind.LEFT:
            text = f"= {past:#x} leads into a block that was left behind, as if nothing led there"
        elif kind is DifferenceKind.FRESH:
            text = (
                f"byte {offset} of its counterpart at {place:#x}, in a member that only the new version has, "
                f"is {back:#x} where its start-up left {past:#x}"
            )
        else:
            there = "" if kind is DifferenceKind.DATA else f" ({self._planner.describe(past)})"
            text = f"= {past:#x}{there} {_TEXT[kind]} {back:#x} (in the new version at {place:#x}"
            text += f", object {row}, offset {offset})"
        return Problem(CODE, where, f"{where} {text}", _REMEDY)


def _announced(planner: Planner) -> dict[tuple[int, int], str]:
    """Pointer slots whose word the plan leaves as it is, because it leads to nothing that can be told."""
    findings = planner.scanned.findings
    left = ~np.isin(findings["status"], (Status.MOVED, Status.LIBRARY))
    return {
        (int(word["object"]), int(word["offset"])): f"{Status(int(word['status'])).name.lower()}-pointer"
        for word in findings[left]
    }


def _lost(planner: Planner) -> defaultdict[int, list[tuple[int, int]]]:
    """Object -> (first, last) bytes whose loss the user allowed."""
    found: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    pool = planner.prepared.pool
    moves = pool.columns()["moves"]
    for fault in planner.scanned.faults:
        row = int(fault["object"])
        size = pool.compiled[int(planner.state.objects["mapping"][row])].old_size
        start = int(fault["element"]) * size + int(fault["offset"])
        found[row].append((start, start + int(moves["old_size"][int(fault["move"])])))
    return found


def _float_at(version: Version, kind: int, offset: int) -> tuple[int, int] | None:
    """(offset, size) of the floating-point leaf of a type that covers an offset."""
    base = 0
    for _ in range(_DEPTH):
        row = version.strip(kind)
        shape = TypeKind(int(version.types[row]["kind"])) if row >= 0 else TypeKind.VOID
        size = version.size_of(row) if row >= 0 else 0
        if not size:
            return None
        if shape is TypeKind.FLOAT:
            return base + (offset - base) // size * size, size
        if shape is TypeKind.ARRAY:
            kind = int(version.types[row]["target"])
            step = version.size_of(kind) or 1
            base += (offset - base) // step * step
        elif shape is TypeKind.STRUCT:
            base += (offset - base) // size * size  # of an array of them
            inside = (
                m for m in version.members_of(row)
                if not m["bit_size"] and base + int(m["bit_offset"]) // 8 <= offset
            )  # fmt: skip
            last = max(inside, key=lambda m: int(m["bit_offset"]), default=None)
            if last is None:
                return None
            base, kind = base + int(last["bit_offset"]) // 8, int(last["type"])
        else:
            return None
    return None


def merge_exempt(*parts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Sums by reason, those of nothing left out."""
    total: Counter[str] = Counter()
    for part in parts:
        for reason, count in part:
            total[reason] += int(count)
    return {reason: count for reason, count in sorted(total.items()) if count}


def kernel_word_problem(what: str, past: int, future: int) -> RolledBackError:
    """A word that the kernel keeps does not lead to the same in the new version."""
    cause = f"{what} {past:#x}, the new version's {future:#x}, which does not lead to the same"
    return RolledBackError(CODE, cause, _REMEDY)


def mapping_problem(start: int, size: int, past: str, future: str) -> RolledBackError:
    """Memory may be used in other ways than in the old version."""
    cause = f"the mapping at {start:#x}-{start + size:#x} is {past}, and {future} in the new version"
    return RolledBackError(CODE, cause, _REMEDY)
