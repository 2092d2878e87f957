"""The service manager (systemd): it is told of the new main process before it sees the old one end.

A unit ends with its main process, and everything in its control group with it. So the successor must be
known before: by the message MAINPID= on the socket that NOTIFY_SOCKET names (sd_notify(3)), or by a PID file.
A start-up that sends such messages itself would announce a process that may be thrown away: they are kept
back.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path

from instar.control.held import Credentials, Held, HeldActions, send_as
from instar.control.startup_past import notify_name
from instar.process.status import read_status


def hold_announcement(held: HeldActions, environment: Iterable[bytes], past: int, future: int) -> list[str]:
    """Have the service manager told of the new version at commit; returns warnings.

    The message bears the past's credentials, because by default a manager believes nobody but its main
    process; that needs root.
    """
    name = notify_name(environment)
    if not name:
        return []
    status = read_status(past)
    try:
        channel = _connect(name, past)
    except OSError as error:
        return [f"service-manager: NOTIFY_SOCKET cannot be reached, nobody is told: {error.strerror}"]
    values = (past, status.uids[0], status.gids[0])
    action = Held("notify", "the service manager", values=values, data=b"MAINPID=%d" % future)
    held.add(action, Credentials(os.geteuid(), os.getegid(), ()), channel.detach())
    return []


def announce(pid: int, environment: Iterable[bytes]) -> None:
    """Tell the service manager that a process is the main one again, in its own name; raises OSError."""
    if name := notify_name(environment):
        status = read_status(pid)
        with _connect(name, pid) as channel:
            send_as(channel.fileno(), b"MAINPID=%d" % pid, (pid, status.uids[0], status.gids[0]))


def _connect(name: bytes, pid: int) -> socket.socket:
    """A socket for messages to the manager; a path is one in the root of the process."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        if name[:1] == b"\0":
            channel.connect(name)
            return channel
        place = os.open(os.fsencode(Path(f"/proc/{pid}/root")) + name, os.O_PATH | os.O_CLOEXEC)
        try:
            channel.connect(f"/proc/self/fd/{place}")
        finally:
            os.close(place)
    except BaseException:
        channel.close()
        raise
    return channel
