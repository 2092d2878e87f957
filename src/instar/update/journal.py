"""The journal: one JSON line for every update that was tried on this machine, by whom and with what outcome.

It never stands in an update's way: what cannot be written becomes a warning. Several instars append at
once (O_APPEND under flock(2)); a line that a full disk or a crash cut short is skipped when reading. A file
that has become large is put aside as ``journal.jsonl.1``, in place of the one before, and read with the next.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pwd
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from instar import __version__
from instar.update.outcome import UpdateReport

JOURNAL_SCHEMA = 1
SYSTEM_DIRECTORY = Path("/var/lib/instar")
NAME = "journal.jsonl"

_LOCK_S = 2.0  # another instar holds the lock for the length of one write
_LOCK_POLL_S = 0.01
DETAILS = ("types", "pointer_classes", "descriptor_kinds", "named_descriptors", "changes")  # not kept
_MOST_TEXTS = 20  # warnings and detail lines kept of one update
_LONGEST_LINE = 1 << 20
_LARGEST = 2 << 20  # bytes of one file: about 1,400 updates
_TAIL = 16 << 20  # bytes looked at from the end when reading
_TRIES = 8


@dataclass(frozen=True)
class Entry:
    """One update.

    Attributes:
        time: When it ended, UTC.
        user: Who ran instar; with sudo, who ran sudo.
        report: The keys of ``UpdateReport.to_json``.
        processes: Start times (clock ticks after boot) of both processes, and what a rollback needs to know.
    """

    time: datetime
    user: str
    instar: str
    report: dict[str, Any]
    processes: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is in the file."""
        document = {
            "schema": JOURNAL_SCHEMA,
            "time": self.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "user": self.user,
            "instar": self.instar,
            "report": self.report,
        }
        return document if self.processes is None else {**document, "processes": self.processes}


@dataclass(frozen=True)
class History:
    """What a journal holds, oldest first; ``damaged`` lines could not be read."""

    entries: tuple[Entry, ...]
    damaged: int


def journal_path() -> Path:
    """$XDG_STATE_HOME/instar/journal.jsonl; without that variable /var/lib/instar for root, else ~/.local."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if Path(state).is_absolute():
        return Path(state, "instar", NAME)
    if os.geteuid() == 0:
        return SYSTEM_DIRECTORY / NAME
    return Path.home() / ".local" / "state" / "instar" / NAME


def record(
    report: UpdateReport, path: Path | None = None, *, processes: dict[str, Any] | None = None
) -> str | None:
    """Append an update; returns a warning for the user if that could not be done, never raises OSError."""
    place = path or journal_path()
    entry = Entry(datetime.now(UTC), _user(), __version__, _shortened(report.to_json()), processes)
    try:
        _append(place, json.dumps(entry.to_json(), ensure_ascii=False, separators=(",", ":")).encode())
    except (OSError, UnicodeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        return f"the journal {place} was not written: {reason}"
    return None


def _user() -> str:
    name = os.environ.get("SUDO_USER") if os.getuid() == 0 else None
    if name:
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _shortened(report: dict[str, Any]) -> dict[str, Any]:
    """A line must stay readable: no tables, and of very many warnings or details the first."""
    report = {name: value for name, value in report.items() if name not in DETAILS}
    if len(report["warnings"]) > _MOST_TEXTS:
        more = len(report["warnings"]) - _MOST_TEXTS
        report["warnings"] = [*report["warnings"][:_MOST_TEXTS], f"and {more} more"]
    if report["error"]:
        report["error"]["details"] = report["error"]["details"][:_MOST_TEXTS]
    return report


def _append(path: Path, line: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _ in range(_TRIES):
        descriptor = _open(path)
        try:
            size = os.fstat(descriptor).st_size
            if not _is_at(descriptor, path):
                continue  # put aside while we waited
            if size and size + len(line) > _LARGEST:
                path.replace(aside(path))
                continue
            _write(descriptor, size, line, path)
            return
        finally:
            os.close(descriptor)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))


def aside(path: Path) -> Path:
    """Where a journal is put that has become large."""
    return path.with_name(path.name + ".1")


def _open(path: Path) -> int:
    """The journal's descriptor, locked."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        _lock(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _write(descriptor: int, size: int, line: bytes, path: Path) -> None:
    """A whole line or nothing."""
    whole = size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
    data = (b"" if whole else b"\n") + line + b"\n"
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOCK_POLL_S)


def read_history(limit: int | None = None, path: Path | None = None) -> History:
    """The last ``limit`` updates; an absent journal is empty. Raises OSError when it may not be read."""
    place = path or journal_path()
    data = _read_whole(place)
    entries: list[Entry] = []
    damaged = 0
    for line in _lines(data):
        entry = parse_entry(line)
        if entry is None:
            damaged += 1
        else:
            entries.append(entry)
    return History(tuple(entries if limit is None else entries[max(0, len(entries) - limit) :]), damaged)


def _read_whole(path: Path) -> bytes:
    """Both files, as they are between two times that one was put aside."""
    data = b""
    for _ in range(_TRIES):
        before = _identity(aside(path))
        data = _read_part(aside(path)) + b"\n" + _read_part(path)
        if _identity(aside(path)) == before:
            break
    return data


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _read_part(path: Path) -> bytes:
    """One file of the journal; an absent one is empty."""
    try:
        return _read_tail(path)
    except FileNotFoundError:
        return b""


def _read_tail(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if size > _TAIL:
            file.seek(size - _TAIL)
            file.readline()
        return file.read(_TAIL)


def _lines(data: bytes) -> Iterator[bytes]:
    return (line for line in data.split(b"\n") if line.strip())


def parse_entry(line: bytes) -> Entry | None:
    """An entry from its line; None for anything that is not a whole, well-formed one."""
    if len(line) > _LONGEST_LINE:
        return None
    try:
        document = json.loads(line)
        when = datetime.fromisoformat(document["time"])
        user, version, report = document["user"], document["instar"], document["report"]
        outcome, old_pid = report["outcome"], report["old_pid"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    known = outcome in ("updated", "rehearsed", "refused", "rolled-back", "damaged")
    typed = isinstance(user, str) and isinstance(version, str) and isinstance(old_pid, int)
    if not (known and typed and when.tzinfo is not None and document.get("schema") == JOURNAL_SCHEMA):
        return None
    processes = document.get("processes")
    return Entry(
        when.astimezone(UTC), user, version, report, processes if isinstance(processes, dict) else None
    )
