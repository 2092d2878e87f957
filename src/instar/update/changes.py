"""What differs between the two versions of an update, as the report tells it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from instar.pairing.alignment import AlignedType, align_type, changed_types
from instar.pairing.plan import PairingPlan
from instar.pairing.problems import Change
from instar.pairing.report import Difference, function_differences, type_differences, variable_differences
from instar.transfer.census import TypeFigures

MOST_ALIGNED = 100
"""Types whose members are listed; of the others only how many there are."""
MOST_NAMES = 500
"""Names in a list."""
MOST_COMPARED = 4000
"""Functions up to which their code is compared for a report."""


@dataclass(frozen=True)
class Names:
    """The first names of a list, and how many more there are."""

    shown: tuple[str, ...] = ()
    more: int = 0

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """At most ``MOST_NAMES``, in order."""
        found = sorted(names)
        return cls(tuple(found[:MOST_NAMES]), max(len(found) - MOST_NAMES, 0))

    @property
    def total(self) -> int:
        """All of them."""
        return len(self.shown) + self.more


@dataclass(frozen=True)
class ByStatus:
    """What one version has and the other has not, and what both have differently (None: not compared)."""

    added: Names = Names()
    removed: Names = Names()
    changed: Names | None = Names()

    @classmethod
    def of(cls, differences: Iterable[Difference]) -> ByStatus:
        """Sort differences by their status."""
        names: dict[str, list[str]] = {"added": [], "removed": [], "changed": []}
        for one in differences:
            names[one.status].append(one.name)
        return cls(*(Names.of(found) for found in names.values()))


@dataclass(frozen=True)
class VersionChanges:
    """The differences of two versions.

    Attributes:
        aligned: Changed types side by side: those of carried objects first, the most bytes first.
        types, variables, functions: Names.
        details: What is done about changed variables: (name, lines).
    """

    aligned: tuple[AlignedType, ...] = ()
    types: ByStatus = ByStatus()
    variables: ByStatus = ByStatus()
    functions: ByStatus = ByStatus()
    details: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "aligned": [asdict(one) for one in self.aligned],
            "types": asdict(self.types),
            "variables": asdict(self.variables),
            "functions": asdict(self.functions),
            "details": [{"name": name, "lines": list(lines)} for name, lines in self.details],
        }


def compare_versions(
    plan: PairingPlan, carried: Iterable[TypeFigures] = (), *, compare_code: bool = False
) -> VersionChanges:
    """The differences of a plan's versions.

    Args:
        plan: The pairing.
        carried: What was carried: such types come first.
        compare_code: Compare the code of functions, where there are not too many.
    """
    order = {one.name: index for index, one in reversed(list(enumerate(carried)))}
    types = plan.types
    pairs = list(changed_types(types))
    pairs.sort(key=lambda pair: (order.get(types.label(pair[0]), len(order)), types.label(pair[0])))
    variables = variable_differences(plan)
    compare_code = compare_code and _is_comparable(plan)
    functions = ByStatus.of(function_differences(plan, compare_code=compare_code))
    if not compare_code:
        functions = ByStatus(functions.added, functions.removed, None)
    changed = [one for one in variables if one.status == "changed" and one.changes]
    return VersionChanges(
        tuple(align_type(types, *pair) for pair in pairs[:MOST_ALIGNED]),
        ByStatus.of(type_differences(plan)),
        ByStatus.of(variables),
        functions,
        tuple((one.name, tuple(_line(change) for change in one.changes)) for one in changed[:MOST_NAMES]),
    )


def warm_changes(plan: PairingPlan) -> None:
    """Compare the code of functions, as ``compare_versions`` will ask for it."""
    if _is_comparable(plan):
        plan.code.changed()


def _is_comparable(plan: PairingPlan) -> bool:
    return len(plan.symbols.functions) <= MOST_COMPARED


def _line(change: Change) -> str:
    return f"{change.path.lstrip('.')} {change.kind}: {change.detail}".lstrip()
