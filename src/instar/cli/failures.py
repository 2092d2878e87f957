"""From errors to exit status, terminal lines and the JSON document; nobody else does this."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

from instar.cli.wording import printable
from instar.errors import DamagedError, HostError, InstarError, InternalError, RolledBackError, UsageError
from instar.update.unexpected import as_instar_error

ERROR_SCHEMA = 1

EXIT_DONE, EXIT_BUG, EXIT_USAGE, EXIT_REFUSED, EXIT_ROLLED_BACK, EXIT_DAMAGED, EXIT_HOST = range(7)
_SIGNAL_BASE = 128
_BY_TARGET = {"untouched": EXIT_REFUSED, "rolled-back": EXIT_ROLLED_BACK, "damaged": EXIT_DAMAGED}


__all__ = [
    "InterruptedBySignal",
    "as_instar_error",
    "error_document",
    "error_lines",
    "exit_status",
    "print_document",
    "print_error",
]


class InterruptedBySignal(KeyboardInterrupt):
    """SIGTERM or SIGHUP, treated like Ctrl-C: whatever was begun is undone on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_status(error: BaseException) -> int:
    """The exit status for whatever ended a verb."""
    if isinstance(error, KeyboardInterrupt):
        return _SIGNAL_BASE + getattr(error, "number", 2)
    if isinstance(error, DamagedError | RolledBackError):
        return _BY_TARGET[error.target]
    if isinstance(error, InternalError):
        return EXIT_BUG
    if isinstance(error, UsageError):
        return EXIT_USAGE
    if isinstance(error, HostError):
        return EXIT_HOST
    if isinstance(error, InstarError):
        return _BY_TARGET[error.target]
    return EXIT_BUG


def error_document(error: InstarError) -> dict[str, Any]:
    """What ``--json`` prints for an error (docs/errors.md)."""
    return {
        "schema": ERROR_SCHEMA,
        "error": {
            "code": error.code,
            "cause": error.cause,
            "remedy": error.remedy,
            "target": error.target,
            "details": list(error.details),
        },
    }


def error_lines(error: InstarError) -> list[str]:
    """Cause with code, remedy, then the details."""
    lines = [f"instar: {error.cause} [{error.code}]", f"  {error.remedy}"]
    return [printable(line) for line in (*lines, *(f"  | {line}" for line in error.details))]


def print_error(error: InstarError, stream: TextIO | None = None) -> None:
    """Write an error for people to standard error; a closed one is not worth another error."""
    stream = stream or sys.stderr
    try:
        stream.write("\n".join(error_lines(error)) + "\n")
        stream.flush()
    except OSError:
        pass


def print_document(document: dict[str, Any]) -> None:
    """Write the one JSON document of a verb to standard output."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()
