"""What becomes of a tainted state: pointers to nowhere, to freed memory, blocks that nothing reaches. Pure.

By default wild pointers refuse an update, dangling ones are carried and listed, leaks are left and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
        repair: A file of repairs, which run before anything is judged; None for none.
    """

    abort: bool = False
    allow: frozenset[str] = frozenset()
    repair: Path | None = None

    @classmethod
    def join(cls, policies: Sequence[TaintPolicy]) -> TaintPolicy:
        """All of several; raises UsageError "usage" for two files of repairs."""
        files = [one.repair for one in policies if one.repair is not None]
        if len(files) > 1:
            raise UsageError("usage", "--tainted repair= was given twice", "put all repairs into one file")
        return cls(
            any(one.abort for one in policies),
            frozenset(path for one in policies for path in one.allow),
            files[0] if files else None,
        )

    @classmethod
    def parse(cls, text: str) -> TaintPolicy:
        """From ``abort``, ``allow=PATH,...`` or ``repair=FILE``; raises UsageError "usage"."""
        word, _, paths = text.partition("=")
        named = frozenset(path.strip() for path in paths.split(",") if path.strip())
        if text == "abort":
            return cls(abort=True)
        if word == "allow" and named:
            return cls(allow=named)
        if word == "repair" and paths:
            return cls(repair=Path(paths))
        raise UsageError("usage", f"--tainted {text}", "give abort, allow=PATH,... or repair=FILE")

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
