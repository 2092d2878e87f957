"""After the point of no return: the new version must serve, whatever else fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from instar.control.deputy import stands_at_gate
from instar.errors import DamagedError
from instar.update.unexpected import as_instar_error

_T = TypeVar("_T")


class Finishing:
    """The steps after the point of no return: whatever fails, the rest is done all the same.

    Args:
        warnings: What failed is added here.
    """

    def __init__(self, warnings: list[str]) -> None:
        self._warnings = warnings

    def attempt(self, what: str, step: Callable[[], _T]) -> _T | None:
        """Do a step; None when it failed. Only exceptions count: a signal's were switched off before."""
        try:
            return step()
        except Exception as error:
            known = as_instar_error(error)
            self._warnings.append(f"commit-unfinished: {what}: {known.cause}")
            return None


def serves(pid: int) -> bool:
    """Whether the new version is alive and has left the gate."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX" and not stands_at_gate(pid)


def judge_commit(pid: int, error: BaseException) -> str:
    """What an error after the point of no return means: a warning if the new version serves.

    Raises:
        DamagedError: It is dead, or has not left the gate.
    """
    if serves(pid):
        return f"commit-unfinished: {as_instar_error(error).cause}"
    raise DamagedError(
        "commit-interrupted",
        f"the commit was broken off after the old version had ended: {error}",
        f"see whether process {pid} serves, else start the new version",
    ) from error
