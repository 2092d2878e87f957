"""A made-up situation for the start-up rules: what they ask is answered from dictionaries."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from pathlib import PurePath
from types import SimpleNamespace

from instar.control.paths import FileFacts, Place
from instar.control.startup_answers import Call, Handle
from instar.control.startup_past import PastFacts
from instar.process.descriptors import Descriptor, SocketDetails
from instar.process.status import Status
from instar.process.syscalls import NUMBERS

PAST_PID = 500
OWN_PID = 600
ROOT = FileFacts(1, 2, 0o40755, 0, 0, 4096)
MEMORY = 0x10000


def status(user: int = 0, capabilities: int | None = None) -> Status:
    """A process of a user; root has all rights."""
    rights = capabilities if capabilities is not None else ((1 << 41) - 1 if user == 0 else 0)
    sets = {"effective": rights, "permitted": rights, "inheritable": 0, "bounding": rights, "ambient": 0}
    return Status(
        OWN_PID,
        "new",
        "R",
        1,
        0,
        1,
        (user,) * 4,
        (user,) * 4,
        (),
        sets,
        0o22,
        0,
        0,
        0,
        0,
        False,
        0,
        False,
        OWN_PID,
    )


def inet(port: int, address: tuple[int, int, int, int] = (127, 0, 0, 1)) -> bytes:
    """struct sockaddr_in."""
    return struct.pack("<H", 2) + struct.pack(">H", port) + bytes(address) + bytes(8)


def inet6(port: int, address: bytes = bytes(16)) -> bytes:
    """struct sockaddr_in6."""
    return struct.pack("<H", 10) + struct.pack(">H", port) + bytes(4) + address + bytes(4)


def unix(path: bytes) -> bytes:
    """struct sockaddr_un."""
    return struct.pack("<H", 1) + path + (b"" if path.startswith(b"\0") else b"\0")


def sock(
    family: int = 2,
    kind: int = 1,
    *,
    listening: bool = False,
    local: bytes = b"",
    peer: bytes | None = None,
    protocol: int = 0,
) -> SocketDetails:
    """Details of a socket."""
    return SocketDetails(family, kind, protocol, listening, None, peer, local, peer or b"")


def descriptor(
    number: int, kind: str, inode: int, details: SocketDetails | None = None, **changes: object
) -> Descriptor:
    """A descriptor of the past."""
    values: dict[str, object] = {
        "number": number, "kind": kind, "target": f"{kind}:[{inode}]", "inode": inode, "device": 8, "mode": 0,
        "offset": 0, "flags": 0, "cloexec": False, "socket": details,
    }  # fmt: skip
    return Descriptor(**{**values, **changes})  # type: ignore[arg-type]


def facts(inode: int, mode: int = 0o100644, user: int = 0, size: int = 10) -> FileFacts:
    """A file."""
    return FileFacts(8, inode, mode, user, user, size)


def place(path: str, found: FileFacts | None = None, **changes: object) -> Place:
    """A place in the root directory."""
    entry = (ROOT.device, ROOT.inode, os.fsencode(path))
    values: dict[str, object] = {
        "text": path, "entry": entry, "real": entry, "facts": found, "directory_facts": ROOT,
        "real_text": path,
    }  # fmt: skip
    return Place(**{**values, **changes})  # type: ignore[arg-type]


@dataclass
class Made:
    """A ``Situation`` made of dictionaries."""

    descriptors: list[Descriptor] = field(default_factory=list)
    handles: dict[int, Handle] = field(default_factory=dict)
    sockets: dict[int, SocketDetails] = field(default_factory=dict)
    places: dict[bytes, Place] = field(default_factory=dict)
    status: Status = field(default_factory=status)
    family: set[int] = field(default_factory=lambda: {OWN_PID})
    overlaid: bool = True
    flags: int = 0
    empty: bool = True
    held_bytes: int = 0
    file: FileFacts | None = None
    registered: frozenset[tuple[int, int]] = frozenset()
    memory: dict[int, bytes] = field(default_factory=dict)
    own_pids: tuple[str, ...] = (str(OWN_PID),)

    @property
    def past(self) -> PastFacts:
        surroundings = SimpleNamespace(working_directory="/", status=status())
        return PastFacts(PAST_PID, surroundings, {d.number: d for d in self.descriptors})  # type: ignore[arg-type]

    def put(self, data: bytes) -> int:
        """Data in the memory; its address."""
        address = MEMORY + 4096 * len(self.memory)
        self.memory[address] = data
        return address

    def read(self, address: int, size: int) -> bytes:
        for start, data in self.memory.items():
            if start <= address < start + max(len(data), 1):
                return data[address - start : address - start + size]
        raise AssertionError(f"nothing at {address:#x}")

    def read_path(self, address: int) -> bytes:
        return self.memory[address] if address else b""

    def place(self, directory: int, address: int, *, follow: bool = True) -> Place | None:
        return self.places.get(self.memory[address])

    def locate(self, path: bytes) -> Place | None:
        return self.places.get(path)

    def handle(self, number: int) -> Handle | None:
        return self.handles.get(number)

    def socket(self, number: int) -> SocketDetails | None:
        return self.sockets.get(number)

    def open_flags(self, number: int) -> int:
        return self.flags

    def is_family(self, pid: int) -> bool:
        return pid in self.family

    def group_of(self, pid: int) -> int | None:
        return pid

    def is_own_group(self, group: int) -> bool:
        return group in self.family

    def numbers(self) -> frozenset[int]:
        return frozenset(self.handles)

    def sockets_held(self) -> frozenset[int]:
        return frozenset(handle.inode for handle in self.handles.values())

    def registrations(self) -> frozenset[tuple[int, int]]:
        return self.registered

    def shadow(self, hidden: Place) -> Place:
        return place(f"/.shadow-{PurePath(hidden.text).name}")

    def is_empty(self, directory: Place) -> bool:
        return self.empty

    def facts(self, handle: Handle) -> FileFacts | None:
        return self.file

    def bytes_held(self) -> int:
        return self.held_bytes

    def pid_of(self, number: int) -> int | None:
        return PAST_PID if number == 99 else None


def call(name: str, *arguments: int) -> Call:
    """A system call of the new version."""
    values = tuple(value & (1 << 64) - 1 for value in arguments) + (0,) * (6 - len(arguments))
    return Call(OWN_PID, NUMBERS[name], name, values)
