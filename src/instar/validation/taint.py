"""What becomes of a tainted state: pointers to nowhere, to freed memory, blocks that nothing reaches. Pure.

By default wild pointers refuse an update, dangling ones are carried and listed, leaks are left and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from instar.errors import UsageError
from instar.pairing.problems import Problem
from instar.transfer.plan import TransferPlan

ALLOWED = ("wild-pointer", "conflicting-types", "odd-pointer")
"""Taints that single places may be let pass with: their words go over as they are."""
_DANGLING = "dangling-pointer:"
_REMEDY = "correct the program, or leave out --tainted abort"


@dataclass(frozen=True)
class TaintPolicy:
    """What the user says about a tainted state.

    Attributes:
        abort: Refuse dangling pointers and leaks too.
        allow: Paths, as a refusal names them, whose words go over as they are.
    """

    abort: bool = False
    allow: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> TaintPolicy:
        """From ``abort`` or ``allow=PATH,...``; raises UsageError "usage"."""
        word, _, paths = text.partition("=")
        named = frozenset(path.strip() for path in paths.split(",") if path.strip())
        if text == "abort":
            return cls(abort=True)
        if word == "allow" and named:
            return cls(allow=named)
        raise UsageError("usage", f"--tainted {text}", "give abort, or allow=PATH,...")

    def apply(self, plan: TransferPlan) -> TransferPlan:
        """The plan with the problems that this policy adds, without those that it lets pass."""
        passed = [p for p in plan.problems if p.code in ALLOWED and p.path in self.allow]
        problems = [p for p in plan.problems if p not in passed]
        if self.abort:
            problems += _taints(plan)
        if len(problems) == len(plan.problems):
            return plan
        warnings = (*plan.warnings, *(f"{problem.code}: {problem.cause}" for problem in passed))
        return replace(plan, problems=tuple(problems), warnings=warnings)


def _taints(plan: TransferPlan) -> list[Problem]:
    found = [warning for warning in plan.warnings if warning.startswith(_DANGLING)]
    if plan.figures.leaked_blocks:
        found.append(
            f"nothing leads to {plan.figures.leaked_blocks} blocks ({plan.figures.leaked_bytes} bytes)"
        )
    return [Problem("tainted-state", "", text, _REMEDY) for text in found]
