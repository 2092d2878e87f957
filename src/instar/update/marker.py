"""Tells other instars that a process is on probation, as long as this one lives.

An abstract socket under the process's name; whoever connects is told the seconds that are left.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

from instar.errors import RefusedError

_CREDENTIALS = struct.Struct("iII")
_PATIENCE_S = 2.0
_ROOM = 32


class Marker:
    """Marks a process; ``socket`` is None where somebody else has taken the name."""

    def __init__(self, pid: int) -> None:
        self.socket: socket.socket | None = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        try:
            self.socket.bind(_name(pid))
            self.socket.listen(4)
        except OSError:
            self.close()

    def answer(self, left_s: float) -> None:
        """Tell one that asks."""
        if self.socket is None:
            return
        with contextlib.suppress(OSError):
            peer, _ = self.socket.accept()
            with peer:
                peer.send(f"{max(0.0, left_s):.3f}".encode(), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)

    def close(self) -> None:
        """It is over."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def find_probation(pid: int) -> float | None:
    """Seconds left of a process's probation; None when it is on none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asked:
        asked.settimeout(_PATIENCE_S)
        try:
            asked.connect(_name(pid))
            raw = asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            if _CREDENTIALS.unpack(raw)[1] not in _believed(pid):
                return None
            return float(asked.recv(_ROOM))
        except TimeoutError:
            return 0.0  # it is on probation, but that instar is busy
        except (OSError, ValueError):
            return None


def explain_probation(pid: int) -> RefusedError | None:
    """A process on probation is not updated: there would be two pasts to go back to."""
    left = find_probation(pid)
    if left is None:
        return None
    return RefusedError(
        "on-probation",
        f"process {pid} is on probation for another {left:.0f} s",
        "wait, or end the probation with Ctrl-C where it was begun",
    )


def _believed(pid: int) -> tuple[int, ...]:
    """Whose word counts: root's, ours, and that of the process's owner."""
    return 0, os.geteuid(), Path(f"/proc/{pid}").stat().st_uid


def _name(pid: int) -> str:
    return f"\0instar-probation-{pid}"
