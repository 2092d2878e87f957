"""From errors to exit status, terminal lines and the JSON document; nobody else does this."""

from __future__ import annotations

import errno
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import instar
from instar.cli.wording import printable
from instar.errors import DamagedError, HostError, InstarError, InternalError, RolledBackError, UsageError

ERROR_SCHEMA = 1

EXIT_DONE, EXIT_BUG, EXIT_USAGE, EXIT_REFUSED, EXIT_ROLLED_BACK, EXIT_DAMAGED, EXIT_HOST = range(7)
_SIGNAL_BASE = 128
_BY_TARGET = {"untouched": EXIT_REFUSED, "rolled-back": EXIT_ROLLED_BACK, "damaged": EXIT_DAMAGED}


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


def as_instar_error(error: BaseException) -> InstarError:
    """The same error with a code, a cause and a remedy; our own are returned as they are."""
    if isinstance(error, InstarError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return InstarError("interrupted", "interrupted; what was begun has been undone", "run it again")
    if isinstance(error, MemoryError):
        return _out_of_memory()
    if isinstance(error, OSError) and error.errno in _EXHAUSTED:
        return _EXHAUSTED[error.errno](error)
    where = _last_own_line(error)
    return InternalError(f"{type(error).__name__}: {_one_line(error)}{f' ({where})' if where else ''}")


def _out_of_memory(error: OSError | None = None) -> HostError:
    return HostError(
        "out-of-memory", "instar ran out of memory", "free memory or raise the limit (`ulimit -v`)"
    )


def _full_disk(error: OSError) -> HostError:
    place = f" at {error.filename}" if error.filename else ""
    return HostError("disk-full", f"there is no room on the disk{place}", "make room and run it again")


def _too_many_files(error: OSError) -> HostError:
    return HostError(
        "too-many-descriptors", "instar may not open as many files as it needs", "raise `ulimit -n`"
    )


_EXHAUSTED: dict[int, Callable[[OSError], HostError]] = {
    errno.ENOMEM: _out_of_memory,
    errno.ENOSPC: _full_disk,
    errno.EDQUOT: _full_disk,
    errno.EMFILE: _too_many_files,
    errno.ENFILE: _too_many_files,
}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"


def _last_own_line(error: BaseException) -> str:
    """ "pairing/mapping.py:71", the innermost line of the package that the error passed; "" for none."""
    package = Path(instar.__file__).parent
    own = [
        f"{Path(frame.filename).relative_to(package)}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(package)
    ]
    return own[-1] if own else ""


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
