"""What the user has not settled ends an update."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from instar.errors import RefusedError
from instar.pairing.problems import Problem


def require_settled(problems: Sequence[Problem], allow: Collection[str]) -> None:
    """Raise the first problem that the user did not allow as RefusedError; the rest are its details."""
    left = [problem for problem in problems if problem.code not in allow]
    if left:
        details = tuple(f"{problem.path}: {problem.cause} [{problem.code}]" for problem in left[1:9])
        first = left[0]
        named = not first.path or first.path in first.cause
        cause = first.cause if named else f"{first.path}: {first.cause}"
        raise RefusedError(first.code, cause, first.remedy, details=details)
