"""What the new version's code takes for granted about pointers, held against those that it was given. Pure.

Without facts from the source, three things are known: the instructions and relocations that take addresses
(``metadata.taken``), the symbols that say who else may, and the types in debug information.

- Proven, and refused: a pointer to a function, or to a variable without arrays, that is private to one unit
  of the new version and whose address nothing there takes. Its compiler took all callers, or all uses, for
  known: it may keep the variable's value in a register across a store through the pointer.
- Not proven, and listed: the same of a variable with arrays. A compiler may take the address of an element
  that is outside of it and come back by an index.
- Proven, and refused: a pointer to a function that takes or returns something else than the pointer's type
  says, where the old version's function and pointer agreed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from instar.metadata.model import TypeFlag, TypeKind, VariableFlag
from instar.metadata.taken import TakenAddresses
from instar.pairing.layout import VOID, Layout
from instar.pairing.problems import Problem
from instar.state.columns import FixedKind, ObjectKind
from instar.transfer.planner import Planner
from instar.validation.walk import Leaf, TypeWalk

Array = np.ndarray[Any, np.dtype[Any]]

UNTAKEN, RETYPED = "address-never-taken", "function-retyped"
_REMEDY = "{}, set the pointer with a handler, or pass --allow {}"
_SHOWN = 4
_DEPTH = 32


class Assumptions:
    """Judges what pointers of one planned transfer lead to.

    Args:
        planner: Has planned.
        path: Names a word: (object row, offset).

    Attributes:
        problems: What is proven.
        warnings: What is not, one line each.
    """

    def __init__(self, planner: Planner, path: Callable[[int, int], str]) -> None:
        self._planner, self._path = planner, path
        self._pairing = planner.prepared.pool.pairing
        self._walk = TypeWalk(self._pairing)
        self._taken = TakenAddresses(planner.new.elf)
        self._known: dict[tuple[int, int], None] = {}
        self._untaken: set[int] = set()
        self._doubtful: list[str] = []
        self._allowed: list[str] = []
        self.problems: list[Problem] = []

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user lets pass, and one line for everything that is not proven."""
        if not self._doubtful:
            return tuple(self._allowed)
        shown = ", ".join(self._doubtful[:_SHOWN])
        text = "lead to arrays whose address the new version may never take"
        return (*self._allowed, f"{UNTAKEN}: {len(self._doubtful)} {text}: {shown}")

    def judge(self, leads: Array) -> None:
        """Take up ``LEAD`` rows."""
        fixed = self._planner.engine.fixed
        for lead in leads:
            target = fixed[int(lead["fixed"])]
            link = int(target["new_start"]) - self._planner.future.subject.load_bias
            if target["kind"] == FixedKind.FUNCTION:
                self._function(lead, int(target["start"]), link)
            else:
                self._variable(lead, link)

    # Addresses ----------------------------------------------------------------------------------------------

    def _variable(self, lead: Any, link: int) -> None:
        version = self._planner.new
        row = version.variable_at(link)
        if row is None or int(version.variables["address"][row]) != link or link in self._untaken:
            return
        kind = int(version.variables["type"][row])
        if version.variables["flags"][row] & VariableFlag.PIECE:
            return
        if self._may_be_taken(link, version.size_of(kind)):
            return
        self._untaken.add(link)
        name = version.text(int(version.variables["name"][row]))
        if _has_array(self._pairing.new, kind):
            self._doubtful.append(f"{self._place(lead)} -> {name}")
        else:
            self._refuse(lead, f"the variable {name}", "all its uses")

    def _function(self, lead: Any, start: int, link: int) -> None:
        version = self._planner.new
        row = version.function_at(link)
        if row is None or int(version.functions["low"][row]) != link:
            return  # a library's, or the runtime's
        self._signature(lead, start, row)
        if link in self._untaken or version.functions["external"][row] or self._may_be_taken(link, 1):
            return
        self._untaken.add(link)
        self._refuse(lead, f"the function {version.text(int(version.functions['name'][row]))}", "all callers")

    def _may_be_taken(self, link: int, size: int) -> bool:
        taken = self._taken
        return (
            not taken.is_conclusive or not taken.is_private(link) or taken.reaches(link, link + max(size, 1))
        )

    def _refuse(self, lead: Any, what: str, known: str) -> None:
        where = self._place(lead)
        cause = (
            f"{where} leads to {what}, whose address the new version never takes: it takes {known} for known"
        )
        remedy = _REMEDY.format("take the address in the new version as the old one does", UNTAKEN)
        self._add(Problem(UNTAKEN, where, cause, remedy))

    def _add(self, problem: Problem) -> None:
        if problem.code in self._planner.options.allow:
            self._allowed.append(f"{problem.code}: {problem.cause}")
        else:
            self.problems.append(problem)

    def _place(self, lead: Any) -> str:
        return self._path(int(lead["object"]), int(lead["offset"]))

    # Signatures ---------------------------------------------------------------------------------------------

    def _signature(self, lead: Any, start: int, new_function: int) -> None:
        """The function that a pointer leads to is called as the pointer's type says."""
        old, new = self._pairing.old, self._pairing.new
        leaf = self._leaf(int(lead["object"]), int(lead["offset"]))
        old_function = self._planner.old.function_at(start - self._planner.past.subject.load_bias)
        if leaf is None or old_function is None:
            return
        called = _pointed_function(old, leaf.old_type), _pointed_function(new, leaf.new_type)
        defined = (
            int(self._planner.old.functions["type"][old_function]),
            int(self._planner.new.functions["type"][new_function]),
        )
        if min(*called, *defined) < 0 or (called[1], defined[1]) in self._known:
            return
        self._known[called[1], defined[1]] = None
        wrong = _misfit(new, called[1], defined[1])
        if not wrong or _misfit(old, called[0], defined[0]):
            return
        name = self._planner.new.text(int(self._planner.new.functions["name"][new_function]))
        cause = f"{self._place(lead)} leads to the function {name}, which in the new version {wrong}"
        remedy = _REMEDY.format("keep the function's parameters", RETYPED)
        self._add(Problem(RETYPED, self._place(lead), cause, remedy))

    def _leaf(self, row: int, offset: int) -> Leaf | None:
        """The pointer at an offset of an object, in both versions."""
        pair = self._types(row)
        if pair is None:
            return None
        size = self._planner.old.size_of(pair[0])
        at = 8 * (offset % size if size and self._planner.state.objects["count"][row] > 1 else offset)
        for leaf in self._walk.pair(*pair).leaves:
            step = at - leaf.old_at
            index = step // leaf.old_stride if leaf.old_stride else 0
            if step == index * leaf.old_stride and 0 <= index < leaf.count:
                return leaf
        return None

    def _types(self, row: int) -> tuple[int, int] | None:
        """Of one element of an object, or of a whole variable."""
        state = self._planner.state
        entry, variable = state.objects[row], state.origin(row)
        if entry["kind"] in (ObjectKind.STATIC, ObjectKind.TLS) and variable >= 0:
            other = int(self._planner.prepared.symbols.variables[variable])
            if other < 0:
                return None
            old, new = self._planner.old.variables, self._planner.new.variables
            return int(old["type"][variable]), int(new["type"][other])
        if entry["mapping"] >= 0:
            compiled = self._planner.prepared.pool.compiled[int(entry["mapping"])]
            return compiled.old_type, compiled.new_type
        counterpart = self._pairing.counterpart(int(entry["type"])) if entry["type"] >= 0 else None
        return None if counterpart is None else (int(entry["type"]), counterpart)


def _pointed_function(layout: Layout, pointer: int) -> int:
    """The FUNCTION row that a stripped pointer row leads to, -1 for anything else."""
    if pointer < 0 or layout.kind(pointer) is not TypeKind.POINTER:
        return -1
    row = layout.strip(layout.target(pointer))
    return row if row >= 0 and layout.kind(row) is TypeKind.FUNCTION else -1


def _misfit(layout: Layout, called: int, defined: int) -> str:
    """What is different where a function is called as another type; "" where nothing that matters is."""
    flags = layout.version.types["flags"]
    if (flags[called] | flags[defined]) & TypeFlag.VARARGS:
        return ""
    passed, taken = layout.parameters(called), layout.parameters(defined)
    if len(passed) != len(taken):
        return f"takes {len(taken)} parameters, not {len(passed)}"
    for index, (one, other) in enumerate(zip(passed, taken, strict=True)):
        if _class_of(layout, one) != _class_of(layout, other):
            return f"takes {layout.label(other)} as parameter {index + 1}, not {layout.label(one)}"
    wanted, returned = layout.target(called), layout.target(defined)
    if layout.strip(wanted) != VOID and _class_of(layout, wanted) != _class_of(layout, returned):
        return f"returns {layout.label(returned)}, not {layout.label(wanted)}"
    return ""


def _class_of(layout: Layout, kind: int) -> tuple[str, int]:
    """How a value is passed, as far as sizes and registers go."""
    row = layout.strip(kind)
    if row == VOID:
        return "nothing", 0
    found = layout.kind(row)
    if found in (TypeKind.STRUCT, TypeKind.UNION):
        return "record", layout.size(row)
    return "float" if found is TypeKind.FLOAT else "number", layout.size(row)


def _has_array(layout: Layout, kind: int, depth: int = 0) -> bool:
    row = layout.strip(kind)
    if row < 0 or depth > _DEPTH or layout.kind(row) is TypeKind.ARRAY:
        return True
    if layout.kind(row) not in (TypeKind.STRUCT, TypeKind.UNION):
        return False
    return any(_has_array(layout, member[1], depth + 1) for member in layout.members(row))
