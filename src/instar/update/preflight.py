"""Is this a process and a program that can be updated at all? Asked before anything is touched."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from instar.errors import InstarError, RefusedError
from instar.metadata.version import Version, load_version
from instar.process.descriptors import Descriptor, list_descriptors
from instar.process.failures import explain_absence
from instar.process.status import (
    Status,
    executable,
    executable_name,
    read_children,
    read_status,
    read_threads,
)
from instar.update.access import explain_access

_HEAD = 4
_MOST_NAMED = 5
_NOT_CARRIED = {
    "io_uring": "its rings are memory shared with the kernel",
    "unknown": "instar does not know this kind",
}


def validate_target(pid: int, allow: Collection[str] = ()) -> Version:
    """The version a process runs; raises the first reason why the process cannot be updated.

    Nothing is changed and the process is not stopped.

    Args:
        pid: The process.
        allow: Codes of refusals to pass over.

    Raises:
        HostError: There is no such process, or it is out of reach (see ``update.access``).
        RefusedError: It is of a kind that is not updated yet, or its program file will not do.
    """
    for error in target_obstacles(pid):
        if error.code not in allow or not isinstance(error, RefusedError):
            raise error
    return load_running(pid)


def target_obstacles(pid: int) -> list[InstarError]:
    """Every reason, apart from its program file, why a process cannot be updated; the gravest first."""
    absent = explain_own(pid) or explain_absence(pid)
    if absent is not None:
        return [absent]
    denied = explain_access(pid)
    if denied is not None:
        return [denied]
    shape = (
        explain_first(read_status(pid)),
        explain_stopped(pid),
        explain_threads(pid),
        explain_children(pid),
    )
    found: list[InstarError] = [error for error in shape if error is not None]
    return found + explain_descriptors(list_descriptors(pid, sockets=False))


def load_running(pid: int) -> Version:
    """The version of the file that a process runs, also when that was replaced or deleted meanwhile."""
    return load_version(program_path(pid))


def program_path(pid: int) -> Path:
    """The path of a process's program if that still leads to the same file, else one through /proc."""
    path, name = executable(pid), Path(executable_name(pid))
    try:
        return name if name.samefile(path) else path
    except OSError:
        return path


def explain_own(pid: int) -> RefusedError | None:
    """Instar cannot stop itself."""
    if pid == os.getpid():
        return RefusedError("own-process", f"process {pid} is instar itself", "give the PID of a server")
    return None


def explain_first(status: Status) -> RefusedError | None:
    """When the first process of a PID namespace ends, the kernel kills all others in it."""
    if status.pid_in_namespace != 1:
        return None
    return RefusedError(
        "container-init",
        f"process {status.pid} ({status.name}) is the first process of its container, which ends with it",
        "start the container with an init of its own (docker run --init)",
    )


def explain_stopped(pid: int) -> RefusedError | None:
    """A process that a signal has stopped is not at its quiescent point."""
    status = read_status(pid)
    if not status.stopped:
        return None
    return RefusedError(
        "stopped", f"process {pid} ({status.name}) is stopped by a signal", f"let it go on: kill -CONT {pid}"
    )


def explain_threads(pid: int) -> RefusedError | None:
    """One thread only, for now."""
    count = len(read_threads(pid))
    if count == 1:
        return None
    return RefusedError(
        "several-threads",
        f"process {pid} has {count} threads; instar updates programs of one thread",
        "start it with one thread if it has an option for that; otherwise it cannot be updated yet",
    )


def explain_children(pid: int) -> RefusedError | None:
    """Children would lose their parent."""
    children = read_children(pid)
    if not children:
        return None
    named = ", ".join(str(child) for child in children[:_MOST_NAMED])
    more = f" and {len(children) - _MOST_NAMED} more" if len(children) > _MOST_NAMED else ""
    return RefusedError(
        "child-processes",
        f"process {pid} has child processes ({named}{more}); they would not be children of its successor",
        "wait until they have ended, or start the program so that it has none",
    )


def explain_descriptors(descriptors: list[Descriptor]) -> list[InstarError]:
    """Descriptors that have no way into another process."""
    return [
        RefusedError(
            "descriptor-not-carried",
            f"descriptor {one.number} ({one.target}) cannot be carried: {_NOT_CARRIED[one.kind]}",
            "run the program without it, if it has an option for that",
        )
        for one in descriptors
        if one.kind in _NOT_CARRIED
    ]


def validate_new(path: Path) -> Version:
    """The new version; raises RefusedError when the file cannot be one.

    The file that the process runs already is allowed (a move to itself); a different program altogether is
    found out by the pairing.
    """
    _validate_file(path)
    return load_version(path)


def _validate_file(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise RefusedError(
            "no-such-file", f"{path}: {error.strerror}", "give the path of the new program file"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError("not-a-file", f"{path} is not a regular file", "give the path of a program file")
    if not os.access(path, os.R_OK):
        raise RefusedError("not-readable", f"{path} may not be read", f"chmod +r {path}")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[:2] == b"#!":
        raise RefusedError(
            "script", f"{path} is a script", "give the compiled program file that the script starts"
        )
    if head == b"\x7fELF" and not os.access(path, os.X_OK):
        raise RefusedError(
            "not-executable",
            f"{path} may not be executed (its mode is {stat.S_IMODE(status.st_mode):o})",
            f"chmod +x {path}; if it is, its file system is mounted noexec: put it elsewhere",
        )
