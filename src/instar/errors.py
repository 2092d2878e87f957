"""The errors of instar: one base, a stable code, one line of cause, one line of remedy.

No code of the project matches message text; callers look at the class and the ``code``. Exit status and
terminal text are made from these in ``instar.cli`` only.
"""

from __future__ import annotations

from typing import Literal

TargetState = Literal["untouched", "rolled-back", "damaged"]


class InstarError(Exception):
    """Base of every error that instar raises on purpose.

    Attributes:
        code: Stable kebab-case identifier, documented in ``docs/errors.md`` and part of ``--json``.
        cause: What is wrong, in one line, with the names and values that matter.
        remedy: What the user can do about it, in one line.
        target: In what state the target process was left.
        details: Further lines (paths, stacks, output of the new version), possibly empty.
    """

    target: TargetState = "untouched"

    def __init__(self, code: str, cause: str, remedy: str, *, details: tuple[str, ...] = ()) -> None:
        super().__init__(f"{cause} [{code}]")
        self.code = code
        self.cause = cause
        self.remedy = remedy
        self.details = details


class UsageError(InstarError):
    """The command line or an argument is wrong (exit status 2)."""


class RefusedError(InstarError):
    """Instar declines: the request cannot be done safely; the target is untouched (exit status 3)."""


class RolledBackError(InstarError):
    """The update failed after the target was paused; the old version serves again (exit status 4)."""

    target: TargetState = "rolled-back"


class DamagedError(InstarError):
    """The target could not be brought back to a whole state (exit status 5)."""

    target: TargetState = "damaged"


class HostError(InstarError):
    """The machine or a permission stands in the way (exit status 6)."""


class FaultError(InstarError):
    """Memory of a process cannot be read or written at an address."""

    def __init__(self, address: int, size: int, pid: int) -> None:
        super().__init__(
            "memory-fault",
            f"{size} bytes at {address:#x} of process {pid} are not accessible",
            "run `instar check PID` to see which pointer leads there",
        )
        self.address = address


class InternalError(InstarError):
    """A bug of instar itself (exit status 1)."""

    def __init__(self, cause: str) -> None:
        super().__init__("internal", cause, "please report it with the output of `instar doctor PID`")
