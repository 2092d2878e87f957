"""What a validation came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from instar.errors import RolledBackError
from instar.pairing.problems import Problem

_SHOWN = 8


@dataclass(frozen=True)
class Validation:
    """One comparison of the reversed state with the past.

    Attributes:
        objects: How many were compared, ``reversed`` of them through an inverse mapping.
        slots: Pointers that were followed on both sides.
        bytes: Of the past that were compared.
        words: Frame words and registers.
        targets: Functions, strings, libraries and variables whose names or contents were compared.
        again: Objects that changed since, and were compared again while the past stood still.
        exempt: Reason -> how many objects, slots, words or bytes were left out for it.
        problems: Differences; any of them rolls the update back.
        assumptions: What the new version's code takes for granted, and the state breaks.
        warnings: What of that is not proven; what the user lets pass.
        taken_back: Objects and variables that backward halves of handlers took back.
        checked: Objects and variables for which checks of handlers were run.
        unchecked: What handlers made and nothing checks, a line each.
        ms: How long it took.
    """

    objects: int = 0
    reversed: int = 0
    slots: int = 0
    bytes: int = 0
    words: int = 0
    targets: int = 0
    again: int = 0
    exempt: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    assumptions: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    taken_back: int = 0
    checked: int = 0
    unchecked: tuple[str, ...] = ()
    ms: float = 0.0

    def require(self) -> None:
        """Raise RolledBackError when there is a difference."""
        if not self.problems:
            return
        first = self.problems[0]
        details = tuple(problem.cause for problem in self.problems[1 : _SHOWN + 1])
        raise RolledBackError(first.code, first.cause, first.remedy, details=details)

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return {
            "objects": int(self.objects),
            "reversed": int(self.reversed),
            "slots": int(self.slots),
            "bytes": int(self.bytes),
            "words": int(self.words),
            "targets": int(self.targets),
            "again": int(self.again),
            "taken_back": int(self.taken_back),
            "checked": int(self.checked),
            "unchecked": list(self.unchecked),
            "exempt": {reason: int(count) for reason, count in self.exempt.items() if count},
            "ms": round(self.ms, 3),
        }
