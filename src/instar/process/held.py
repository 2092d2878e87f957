"""A look at a process that another instar holds: traced, stopped, and not going to run.

Its memory can be read as ever; its registers only by its tracer, which gives them out over an abstract
socket. Only somebody who may trace the process is answered, and only its tracer is believed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path
from typing import Protocol

from instar.errors import HostError
from instar.process.failures import lost_process
from instar.process.memory import Memory
from instar.process.registers import LAYOUT, Registers

_CREDENTIALS = struct.Struct("iII")
_PATIENCE_S = 5.0
_BACKLOG = 4


class Standing(Protocol):
    """A thread that does not run, with what is needed to copy its process."""

    @property
    def pid(self) -> int:
        """Its process."""

    @property
    def memory(self) -> Memory:
        """Its address space."""

    def registers(self) -> Registers:
        """The general registers."""


class Rendezvous:
    """The tracer's side.

    Args:
        pid: The process that is held.

    Raises:
        HostError: "rendezvous-taken": somebody else has the socket's name.
    """

    def __init__(self, pid: int) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.socket.bind(_name(pid))
            self.socket.listen(_BACKLOG)
            self.socket.setblocking(False)
        except OSError as error:
            self.socket.close()
            raise HostError(
                "rendezvous-taken",
                f"somebody else has the name under which process {pid} would be inspected",
                "rehearse again",
            ) from error

    def answer(self, registers: Registers) -> None:
        """Give the registers to one that asks, if it runs as root or as we do."""
        with contextlib.suppress(OSError):
            peer, _ = self.socket.accept()
            with peer:
                _, user, _ = _peer(peer)
                if user in (0, os.geteuid()):
                    peer.send(registers.pack(), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Nobody is answered any more."""
        self.socket.close()


class HeldProcess:
    """A process that its tracer keeps standing still.

    Attributes:
        pid: Its process id.
        memory: Its address space.
    """

    def __init__(self, pid: int, registers: Registers) -> None:
        self.pid = pid
        self.memory = Memory(pid)
        self._registers = registers

    def registers(self) -> Registers:
        """As its tracer told."""
        return self._registers


def find_held(pid: int) -> HeldProcess | None:
    """A process as a rehearsal holds it; None when nobody does, or somebody else traces it."""
    tracer = _tracer(pid)
    if not tracer:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asked:
        asked.settimeout(_PATIENCE_S)
        try:
            asked.connect(_name(pid))
            answering, _, _ = _peer(asked)
            if answering not in (tracer, _parent(tracer)):
                return None
            data = asked.recv(LAYOUT.size, socket.MSG_WAITALL)
        except OSError:
            return None
    return HeldProcess(pid, Registers.parse(data)) if len(data) == LAYOUT.size else None


def _name(pid: int) -> str:
    return f"\0instar-held-{pid}"


def _peer(connected: socket.socket) -> tuple[int, int, int]:
    """PID, user and group of the other side."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, group = _CREDENTIALS.unpack(raw)
    return pid, user, group


def _tracer(pid: int) -> int:
    return _number(pid, "TracerPid:")


def _parent(pid: int) -> int:
    return _number(pid, "PPid:")


def _number(pid: int, key: str) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError as error:
        raise lost_process(pid, error) from error
    return int(text.partition(key)[2].split(maxsplit=1)[0])
