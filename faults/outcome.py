"""What became of an injection, as the report, the process and the clients tell it."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: In the order of the table.
OUTCOMES = (
    "no effect", "refused", "validation", "check", "crash", "deadline",
    "unvalidated", "damaged", "old lost", "connections lost", "silent",
)  # fmt: skip
BAD = ("damaged", "old lost", "connections lost", "silent")
_VALIDATION = ("validation-difference", "invariant-broken", "backward-difference", "check-failed")
_DEADLINE = ("pause-too-long", "timeout", "start-timeout", "deadline", "not-quiescent", "filter-not-met")


@dataclass(frozen=True)
class Result:
    """One injection.

    Attributes:
        number: Its place in the campaign; with the seed it says everything.
        place, kind: See ``faults.injection``.
        program: The subject's name.
        outcome: One of ``OUTCOMES``.
        status: The tool's exit status, minus a signal; None: it was ended by us.
        code: Of the error that was reported.
        done: What was made wrong; empty when it was never reached.
        complaints: What the program or its clients said afterwards.
        seconds: How long the tool took.
    """

    number: int
    place: str
    kind: str
    program: str
    outcome: str
    status: int | None
    code: str
    cause: str
    done: list[str]
    complaints: list[str]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def read_report(output: Path) -> dict[str, Any] | None:
    """What the tool printed; None when it did not come to that."""
    try:
        found: dict[str, Any] = json.loads(output.read_text())
        return found
    except (OSError, ValueError):
        return None


def names_unvalidated(report: dict[str, Any] | None) -> bool:
    """Whether the report says that a handler made values that nothing contradicts or confirms."""
    return bool(((report or {}).get("validation") or {}).get("unchecked"))


def judge(
    status: int | None,
    report: dict[str, Any] | None,
    *,
    committed: bool,
    lost: int,
    complaints: list[str],
    alive: bool,
) -> str:
    """The column of the table.

    Args:
        status: See ``Result``.
        report: The tool's, None when it died.
        committed: Whether the new version serves.
        lost: Connections that were closed.
        complaints: See ``Result``.
        alive: Whether exactly one version is left.
    """
    if not alive:
        return "silent" if committed else "old lost"
    if lost:
        return "connections lost"
    if complaints:
        return "silent" if committed else "damaged"
    if committed:
        return "no effect"
    return _detected(status, report)


def _detected(status: int | None, report: dict[str, Any] | None) -> str:
    """The old version serves on, whole."""
    if status is None or status == -signal.SIGALRM:
        return "deadline"
    if report is None or not report.get("error"):
        return "crash"
    code = report["error"]["code"]
    if report.get("outcome") == "damaged":
        return "damaged"
    if code in _VALIDATION:
        return "validation"
    if code in _DEADLINE or "timeout" in code or "deadline" in code:
        return "deadline"
    if code in ("internal", "guard-lost") or code.startswith("startup-") or "died" in code or "ended" in code:
        return "crash"
    return "check" if report.get("pause_ms") else "refused"
