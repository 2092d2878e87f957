"""Turns what the kernels found into problems and warnings that name the place in the state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instar.metadata.version import Version
from instar.pairing.problems import Problem
from instar.state.columns import FaultKind, ObjectKind, Status, WordSource
from instar.state.kernel import State
from instar.state.paths import object_path, word_path
from instar.transfer.fates import is_weak
from instar.transfer.mappings import MappingPool

Array = np.ndarray[Any, np.dtype[Any]]

_SHOWN = 16
_SLACK = 31

_POINTER_PROBLEMS = {
    Status.WILD: ("wild-pointer", "leads to memory that does not exist"),
    Status.UNPAIRED: ("no-counterpart", "leads to something that the new version does not have"),
    Status.INSIDE: ("odd-pointer", "leads inside something that moves, where no member starts"),
    Status.DROPPED: ("dropped-member", "leads to a member that the new version does not have"),
    Status.AMBIGUOUS: ("ambiguous-pointer", "is the end of one variable and the start of another"),
    Status.UNRESOLVED: ("unknown-constant", "leads to constant data that the new version does not have"),
}
_REMEDY = "set it to a carried value before the update, settle it with a handler, or pass --allow {code}"

_NOWHERE = ("no-counterpart", "wild-pointer")
_UNMAP = "unmap it, or let go of it, before the update; the new version maps it again when it starts"


@dataclass
class Judgement:
    """What a transfer plan says about pointers.

    Attributes:
        problems: A plan with any is refused.
        warnings: One line each.
    """

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Judge:
    """Names findings.

    Args:
        state: The past's.
        version: The past's.
        bias: Its load bias.
        names: Object row -> name of a local.
        describe: What is at an address of the past, for messages.
        allow: Problem codes that the user lets pass.
        strict: Refuse assumed pointers too.
        uncarried: The mapping at an address, where it is one that no update carries.
        is_none: Whether a word (place, value) that leads nowhere is provably no pointer.
    """

    def __init__(
        self,
        state: State,
        version: Version,
        bias: int,
        names: dict[int, str],
        describe: Any,
        allow: frozenset[str],
        strict: bool,
        uncarried: Callable[[int], str | None] = lambda _: None,
        is_none: Callable[[int, int], bool] = lambda _, __: False,
    ) -> None:
        self._uncarried, self._is_none = uncarried, is_none
        self._state, self._version, self._names = state, version, names
        self._relocated, self._bias = set(version.elf.relocations["address"].tolist()), bias
        self._describe = describe
        self._allow, self._strict = allow, strict
        self.result = Judgement()

    def path(self, row: int, offset: int = 0) -> str:
        """The place of a word of an object."""
        return word_path(self._state, self._version, row, offset, self._names)

    def words(self, findings: Array) -> None:
        """Judge all findings of a scan."""
        groups: dict[tuple[int, bool], list[Any]] = {}
        for word in findings:
            if word["source"] == WordSource.UNION and self._is_evident(word):
                continue
            if word["status"] == Status.MOVED and self._is_relocated(word):
                continue
            if self._is_slack(word):
                continue
            unexplained = word["source"] in (WordSource.UNEXPLAINED, WordSource.UNION)
            groups.setdefault((int(word["status"]), unexplained), []).append(word)
        for (status, unexplained), rows in groups.items():
            if unexplained:
                self._unexplained(Status(status), rows)
            else:
                self._pointers(Status(status), rows)

    def _is_slack(self, word: Any) -> bool:
        """A slot at the very end of an array on the heap, which may lie behind what was asked for: the usable
        size is up to 31 bytes larger, and then the array has one element less than it seems."""
        entry = self._state.objects[int(word["object"])]
        return bool(
            entry["kind"] == ObjectKind.HEAP
            and entry["count"] > 1
            and word["source"] in (WordSource.POINTER, WordSource.FUNCTION)
            and int(word["offset"]) + 8 > int(entry["size"]) - _SLACK
        )

    def _is_relocated(self, word: Any) -> bool:
        """A word of an unnamed static where the program file has a pointer."""
        entry = self._state.objects[int(word["object"])]
        return (
            entry["kind"] == ObjectKind.UNNAMED
            and int(entry["address"]) + int(word["offset"]) - self._bias in self._relocated
        )

    def _is_evident(self, word: Any) -> bool:
        """The base of a live block of exactly the type that this member of the union points at."""
        target = self._state.find(int(word["value"]))
        return (
            target is not None
            and word["status"] == Status.MOVED
            and int(self._state.objects["type"][target]) == int(word["pointee"]) >= 0
        )

    def _pointers(self, status: Status, rows: list[Any]) -> None:
        if status is Status.DANGLING:
            places = ", ".join(self.path(int(w["object"]), int(w["offset"])) for w in rows[:4])
            self.result.warnings.append(
                f"dangling-pointer: {len(rows)} lead to nothing that lives, and still do: {places}"
            )
            return
        if status is Status.WILD and not self._strict:
            rows = self._without_none(rows)
        code, text = _POINTER_PROBLEMS[status]
        for word in rows:
            if word["source"] == WordSource.FUNCTION and status is Status.UNPAIRED:
                self._add("function-removed", word, "calls a function that the new version does not have")
            else:
                self._add(code, word, text)

    def _without_none(self, rows: list[Any]) -> list[Any]:
        """Lists what is no pointer; returns the others."""
        places = self._state.objects["address"]
        none = [
            self._is_none(int(places[int(w["object"])]) + int(w["offset"]), int(w["value"])) for w in rows
        ]
        found = [word for word, is_none in zip(rows, none, strict=True) if is_none]
        if found:
            shown = ", ".join(self.path(int(w["object"]), int(w["offset"])) for w in found[:4])
            self.result.warnings.append(f"no-pointer: {len(found)} carried as they are: {shown}")
        return [word for word, is_none in zip(rows, none, strict=True) if not is_none]

    def _unexplained(self, status: Status, rows: list[Any]) -> None:
        if status is Status.MOVED:
            places = ", ".join(self.path(int(w["object"]), int(w["offset"])) for w in rows[:4])
            self.result.warnings.append(f"assumed-pointer: {len(rows)} words rewritten: {places}")
            if self._strict:
                for word in rows:
                    self._add(
                        "assumed-pointer", word, "is a word of unknown meaning that was taken for a pointer"
                    )
            return
        for word in rows:
            self._add("unexplained-word", word, "is a word of unknown meaning that may point into")

    def _add(self, code: str, word: Any, text: str) -> None:
        row, offset = int(word["object"]), int(word["offset"])
        where = self.path(row, offset)
        target = self._describe(int(word["value"]))
        remedy = _REMEDY
        if code in _NOWHERE and (mapping := self._uncarried(int(word["value"]))):
            code, target, text, remedy = "mapping-not-carried", mapping, "leads into a mapping", _UNMAP
        cause = f"{where} = {int(word['value']):#x} {text} ({target})"
        local = self._state.objects[row]["kind"] in (ObjectKind.LOCAL, ObjectKind.FRAME)
        # A heap block is live whatever is believed of its type: a word that no type explains stays a problem.
        weak = local or (code != "unexplained-word" and is_weak(self._state, row))
        if weak or code in self._allow:
            if len(self.result.warnings) < _SHOWN:
                self.result.warnings.append(f"{code}: {cause}")
            return
        self.result.problems.append(Problem(code, where, cause, remedy.format(code=code)))

    def faults(self, faults: Array, pool: MappingPool) -> None:
        """Judge what conversions lost."""
        for fault in faults:
            row = int(fault["object"])
            member = pool.paths[int(fault["move"])]
            size = pool.compiled[int(self._state.objects[row]["mapping"])].old_size
            where = self.path(row, int(fault["element"]) * size + int(fault["offset"]))
            code, text = _fault_text(FaultKind(int(fault["kind"])), int(fault["value"]), member)
            if code in self._allow:
                self.result.warnings.append(f"{code}: {where} {text}")
            else:
                remedy = (
                    f"change the value before the update, settle it with a handler, or pass --allow {code}"
                )
                self.result.problems.append(Problem(code, where, f"{where} {text}", remedy))

    def assumed_arrays(self, rows: Sequence[int]) -> None:
        """Blocks that are several objects of a changed type only because the size fits."""
        if rows:
            shown = ", ".join(self.path(row) for row in rows[:4])
            text = "taken for arrays because their size fits; data behind a single object would be lost"
            self.result.warnings.append(f"assumed-array: {shown}: {text}")

    def outgrown(self, rows: Sequence[int]) -> None:
        """Blocks that undescribed words of the future's frames are made to follow."""
        cause = (
            "has grown out of the block of the new version's start, whose address words of its frames hold"
        )
        if self._strict:
            remedy = "keep the address in variables only, or leave out --strict"
            self.fates((row, Problem("assumed-pointer", "", cause, remedy)) for row in rows)
        elif rows:
            shown = ", ".join(self.path(row) for row in rows[:4])
            self.result.warnings.append(f"assumed-pointer: {shown}: {cause}; they follow it")

    def named(self, problems: Iterable[Problem]) -> None:
        """Problems that say themselves where they are."""
        for problem in problems:
            if problem.code in self._allow:
                self.result.warnings.append(f"{problem.code}: {problem.cause}")
            else:
                self.result.problems.append(problem)

    def stale(self, places: Sequence[tuple[int, int]]) -> None:
        """Words that look like pointers and were left as they are."""
        if places:
            shown = ", ".join(self.path(*place) for place in places[:4])
            self.result.warnings.append(f"stale-word: {len(places)} left as they are: {shown}")

    def fates(self, problems: Iterable[tuple[int, Problem]]) -> None:
        """Problems of whole objects; their path is the object's."""
        for row, problem in problems:
            kind = int(self._state.objects["type"][row])
            named = f"{self._version.type_name(kind)} " if kind >= 0 else ""
            where = f"{named}{object_path(self._state, self._version, row, self._names)}{problem.path}"
            cause = f"{where}: {problem.cause}"
            if problem.code in self._allow:
                self.result.warnings.append(f"{problem.code}: {cause}")
            else:
                self.result.problems.append(Problem(problem.code, where, cause, problem.remedy))

    def doubtful(self, problems: Sequence[tuple[int, Problem]]) -> None:
        """Untyped blocks that could hold a changed type: a warning, with --strict a refusal."""
        if self._strict:
            self.fates(problems)
        elif problems:
            places = ", ".join(self.path(row) for row, _ in problems[:4])
            self.result.warnings.append(f"untyped-block: {places}: {problems[0][1].cause}")


def _fault_text(kind: FaultKind, value: int, member: str) -> tuple[str, str]:
    if kind is FaultKind.RANGE:
        return "value-lost", f"= {value} does not fit the new type of {member or 'it'}"
    if kind is FaultKind.ENUM:
        return "enum-value", f"= {value} is no enumerator of its type"
    if kind is FaultKind.TAIL:
        return "data-cut", "holds data that the shorter new array would cut off"
    return "precision-lost", "does not fit the new floating-point type"
