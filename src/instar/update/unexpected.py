"""What nobody foresaw: any exception as an error with a code, a cause and a remedy."""

from __future__ import annotations

import errno
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import instar
from instar.errors import HostError, InstarError, InternalError, RolledBackError

_LINES = 12  # of a traceback


class InterruptedInPause(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP while the old version was paused; it serves again."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def as_instar_error(error: BaseException) -> InstarError:
    """The same error with a code, a cause and a remedy; our own are returned as they are."""
    if isinstance(error, InstarError):
        return error
    if isinstance(error, KeyboardInterrupt):
        known = InstarError("interrupted", "interrupted; what was begun has been undone", "run it again")
        if isinstance(error, InterruptedInPause):
            return RolledBackError(known.code, known.cause, known.remedy)
        return known
    if isinstance(error, MemoryError):
        return _out_of_memory()
    if isinstance(error, OSError) and error.errno in _EXHAUSTED:
        return _EXHAUSTED[error.errno](error)
    if isinstance(error, ImportError) and not (error.name or "").startswith("instar"):
        return _not_loaded(error)
    where = _last_own_line(error)
    return InternalError(f"{type(error).__name__}: {_one_line(error)}{f' ({where})' if where else ''}")


def _out_of_memory(error: OSError | None = None) -> HostError:
    return HostError(
        "out-of-memory", "instar ran out of memory", "free memory or raise the limit (`ulimit -v`)"
    )


def _not_loaded(error: ImportError) -> HostError:
    """NumPy wraps what the loader said in a page of advice."""
    return HostError(
        "library-unloadable",
        f"a library that instar needs cannot be loaded: {_one_line(error.__cause__ or error)}",
        "raise the memory limit (`ulimit -v`), or install instar again",
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


def as_rolled_back(error: BaseException) -> BaseException:
    """An error that nobody foresaw, where the past had been paused and serves again.

    Our own foreseen errors stay as they are; a bug comes with its traceback.
    """
    if isinstance(error, KeyboardInterrupt):
        return InterruptedInPause(getattr(error, "number", signal.SIGINT))
    if isinstance(error, InstarError) and not isinstance(error, InternalError):
        return error
    known = as_instar_error(error)
    if isinstance(known, InternalError):
        lines = "".join(traceback.format_exception(error)).splitlines()[-_LINES:]
        known.details = (*known.details, *(line.strip() for line in lines))
    return RolledBackError(known.code, known.cause, known.remedy, details=known.details)
