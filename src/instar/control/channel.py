"""The socket between the tool and a parked future."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

from instar.control.runtime import Runtime
from instar.errors import HostError, InstarError
from instar.process.descriptors import duplicate
from instar.process.surroundings import parse_limits

_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)


def get_descriptor(pidfd: int, number: int) -> int:
    """A duplicate of another process's descriptor, close-on-exec (pidfd_getfd(2)); raises OSError."""
    found: int = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), f"descriptor {number}")
    return found


def find_duplicate(pid: int, number: int) -> int | None:
    """A duplicate of a process's descriptor; None when it is not open there."""
    try:
        return duplicate(pid, number)
    except InstarError as error:
        if error.code != "no-such-descriptor":
            raise
        return None


@contextlib.contextmanager
def raised_limit(pid: int, highest: int) -> Iterator[None]:
    """While inside, process ``pid`` may use descriptor numbers up to ``highest``.

    Raises:
        HostError: "descriptor-limit": its hard limit is lower and may not be raised.
    """
    soft, hard = parse_limits(Path(f"/proc/{pid}/limits").read_text())[resource.RLIMIT_NOFILE]
    if soft == resource.RLIM_INFINITY or soft > highest:
        yield
        return
    wanted = highest + 1
    limit = hard if hard == resource.RLIM_INFINITY else max(hard, wanted)
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (wanted, limit))
    except (PermissionError, ValueError) as error:
        raise HostError(
            "descriptor-limit",
            f"process {pid} may have {hard} open files, {wanted} are needed for the moment",
            f"run instar as root, or raise the hard limit: prlimit --pid {pid} --nofile={soft}:{wanted}",
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def open_channel(runtime: Runtime, floor: int) -> socket.socket:
    """Make the channel, its end in the future numbered ``floor`` or above; returns our end.

    Args:
        runtime: Of the parked future.
        floor: Higher than every number that the past uses.
    """
    pid = runtime.tracee.pid
    with raised_limit(pid, floor + 8):
        other = runtime.call("channel", floor, what="a socket to the new version")
        pidfd = os.pidfd_open(pid)
        try:
            own = socket.socket(fileno=get_descriptor(pidfd, other))
        finally:
            os.close(pidfd)
        runtime.close_descriptors([other])
    return own
