"""The report of differences: what `instar diff` shows, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from instar.metadata.model import TypeFlag
from instar.pairing.layout import TAGGED
from instar.pairing.plan import PairingPlan, type_changes, variable_name
from instar.pairing.problems import Change, Problem
from instar.pairing.symbols import is_constant

if TYPE_CHECKING:
    from instar.metadata.version import Version

SCHEMA = 1
Status = Literal["added", "removed", "changed"]


@dataclass(frozen=True)
class Difference:
    """One type, variable or function that differs.

    Attributes:
        name: As the user writes it.
        status: ``added``, ``removed`` or ``changed``.
        changes: What is done about it without help.
        problems: What the user has to settle; empty when it is automatic.
    """

    name: str
    status: Status
    changes: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def is_automatic(self) -> bool:
        """Whether nobody needs to do anything."""
        return not self.problems


@dataclass(frozen=True)
class Side:
    """One of the two versions."""

    path: str
    build_id: str
    types: int
    variables: int
    functions: int


@dataclass(frozen=True)
class Report:
    """All differences of two versions, sorted by name.

    ``problems`` is everything that needs the user, ``settled`` what a handler file settles: (what, where).
    """

    old: Side
    new: Side
    types: tuple[Difference, ...]
    variables: tuple[Difference, ...]
    functions: tuple[Difference, ...]
    problems: tuple[Problem, ...]
    settled: tuple[tuple[str, str], ...] = ()

    @property
    def is_automatic(self) -> bool:
        """Whether an update needs nothing from the user."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The document of ``instar diff --json``."""
        return {
            "schema": SCHEMA,
            "outcome": "automatic" if self.is_automatic else "needs-user",
            "old": asdict(self.old),
            "new": asdict(self.new),
            "types": [_difference_json(one) for one in self.types],
            "variables": [_difference_json(one) for one in self.variables],
            "functions": [_difference_json(one) for one in self.functions],
            "problems": [asdict(problem) for problem in self.problems],
            "settled": [{"what": what, "where": where} for what, where in self.settled],
        }


def _difference_json(difference: Difference) -> dict[str, Any]:
    return {
        "name": difference.name,
        "status": difference.status,
        "automatic": difference.is_automatic,
        "changes": [asdict(change) for change in difference.changes],
        "problems": [asdict(problem) for problem in difference.problems],
    }


def make_report(plan: PairingPlan) -> Report:
    """The differences between the two versions of a plan (compares the code of all paired functions)."""
    return Report(
        old=_side(plan.old),
        new=_side(plan.new),
        types=_sorted(type_differences(plan)),
        variables=_sorted(variable_differences(plan)),
        functions=_sorted(function_differences(plan)),
        problems=plan.problems,
        settled=plan.types.settled.lines,
    )


def _side(version: Version) -> Side:
    tagged = sum(int((version.types["kind"] == kind).sum()) for kind in TAGGED)
    return Side(str(version.path), version.build_id, tagged, len(version.variables), len(version.functions))


def _sorted(differences: list[Difference]) -> tuple[Difference, ...]:
    return tuple(sorted(differences, key=lambda one: (one.name, one.status)))


def type_differences(plan: PairingPlan) -> list[Difference]:
    """Structs, unions and enums that differ."""
    types = plan.types
    found: list[Difference] = []
    for row in range(len(types.old)):
        if types.old.kind(row) not in TAGGED or types.old.flags[row] & TypeFlag.INCOMPLETE:
            continue
        name = types.label(row)
        problem = types.problem_of(row)
        new_row = types.identity.counterpart(row)
        if new_row is None or problem is not None:
            problems = tuple(one for one in plan.problems if one == problem)
            if types.is_nameable(row):
                found.append(Difference(name, "removed" if new_row is None else "changed", (), problems))
            continue
        changes = type_changes(types, row, new_row)
        own = (one.under(name) for one in types.compiler.fragment(row, new_row).problems)
        problems = tuple(one for one in own if one in plan.problems)
        if changes or problems:
            found.append(Difference(name, "changed", changes, problems))
    added = (types.new_label(row) for row in types.new_only())
    return found + [Difference(name, "added") for name in dict.fromkeys(added)]


def variable_differences(plan: PairingPlan) -> list[Difference]:
    """Variables that differ."""
    old, new = plan.old, plan.new
    found: list[Difference] = []
    for row, new_row in enumerate(plan.symbols.variables.tolist()):
        name = variable_name(old, row)
        own = tuple(one for one in plan.variable_problems if _is_about(one, name))
        if new_row < 0:
            found.append(Difference(name, "removed", (), own))
            continue
        changes = _variable_changes(plan, row, new_row)
        if changes or own:
            found.append(Difference(name, "changed", changes, own))
    for new_row, row in enumerate(plan.symbols.old_variables.tolist()):
        if row < 0:
            found.append(Difference(variable_name(new, new_row), "added"))
    return found


def _is_about(problem: Problem, name: str) -> bool:
    path = problem.path.removeprefix("variable ")
    rest = path.removeprefix(name)
    return problem.path.startswith("variable ") and path.startswith(name) and rest[:1] in ("", ".", "[")


def _variable_changes(plan: PairingPlan, row: int, new_row: int) -> tuple[Change, ...]:
    old, new = plan.old, plan.new
    changes: list[Change] = []
    pair = (int(old.variables["type"][row]), int(new.variables["type"][new_row]))
    if is_constant(new, new_row):
        if not is_constant(old, row):
            changes.append(Change("kept-new", "", "is a constant in the new version: its new value stays"))
        return tuple(changes)
    if plan.types.compiler.is_named(pair[0]):
        if plan.types.old.size(pair[0]) != plan.types.new.size(pair[1]):
            labels = (plan.types.old.label(pair[0]), plan.types.new.label(pair[1]))
            if labels[0] != labels[1]:
                changes.append(Change("resized", "", f"{labels[0]} -> {labels[1]}"))
    else:
        changes += plan.types.compiler.fragment(*pair).changes
    if old.variables["kind"][row] != new.variables["kind"][new_row]:
        changes.append(Change("moved", "", "static and global storage swapped, paired by its unique name"))
    if old.variables["tls"][row] != new.variables["tls"][new_row]:
        changes.append(Change("moved", "", "thread-local in one version only"))
    return tuple(changes)


def function_differences(plan: PairingPlan, *, compare_code: bool = True) -> list[Difference]:
    """Functions that differ; comparing the code of all of them takes about a millisecond each."""
    changed = {old_row for old_row, _ in plan.code.changed()} if compare_code else set()
    found: list[Difference] = []
    for row, new_row in enumerate(plan.symbols.functions.tolist()):
        name = plan.old.text(int(plan.old.functions["name"][row]))
        if new_row < 0:
            found.append(Difference(name, "removed"))
        elif row in changed:
            found.append(Difference(name, "changed"))
    for new_row, row in enumerate(plan.symbols.old_functions.tolist()):
        if row < 0:
            found.append(Difference(plan.new.text(int(plan.new.functions["name"][new_row])), "added"))
    return found
