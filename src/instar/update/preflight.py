"""Is this a process and a program that can be updated at all? Asked before anything is touched."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from instar.control.quiescence import require_single
from instar.errors import RefusedError
from instar.metadata.version import Version
from instar.process.failures import explain_absence
from instar.process.status import Status, executable, executable_name, read_status
from instar.update.access import explain_access
from instar.update.marker import explain_probation
from instar.update.reading import load_confined

_HEAD = 4


def validate_target(pid: int) -> Version:
    """The version a process runs; raises the first reason why the process cannot be updated.

    Nothing is changed and the process is not stopped.

    Raises:
        HostError: There is no such process, or it is out of reach (see ``update.access``).
        RefusedError: It is of a kind that is not updated yet, or its program file will not do.
    """
    require_reach(pid)
    require_shape(pid)
    return load_running(pid)


def require_reach(pid: int) -> None:
    """Raise the reason why a process cannot be traced at all."""
    for explain in (explain_own, explain_absence, explain_access):
        error = explain(pid)
        if error is not None:
            raise error


def require_shape(pid: int) -> None:
    """Raise the reason why a process within reach is of a kind that is not updated."""
    error = explain_probation(pid) or explain_first(read_status(pid)) or explain_stopped(pid)
    if error is not None:
        raise error
    require_single(pid)


def load_running(pid: int) -> Version:
    """The version of the file that a process runs, also when that was replaced or deleted meanwhile."""
    return load_confined(program_path(pid))


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


def validate_new(path: Path) -> Version:
    """The new version; raises RefusedError when the file cannot be one.

    The file that the process runs already is allowed (a move to itself); a different program altogether is
    found out by the pairing.
    """
    _validate_file(path)
    return load_confined(path)


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
