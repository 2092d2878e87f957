"""What the rules of the start-up need to know of the old version: what it owns and how it was started."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from instar.errors import InstarError
from instar.process.descriptors import Descriptor, SocketDetails, list_descriptors
from instar.process.status import read_environment
from instar.process.surroundings import Surroundings, read_surroundings

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET = 1, 2, 10, 16, 17
SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET = 1, 2, 5
_NOTIFY_SOCKET = b"NOTIFY_SOCKET="
_CHANNELS = ("socket", "pipe", "terminal")

AddressKey = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket of the past that has an address of its own (not one that was accepted there)."""

    number: int
    inode: int
    family: int
    type: int
    key: AddressKey
    listening: bool


@dataclass(frozen=True)
class PastFacts:
    """The old version as far as the start-up of the new one meets it.

    Attributes:
        descriptors: By number.
        environment: What it was started with; None: it is asked for that.
    """

    pid: int
    surroundings: Surroundings
    descriptors: Mapping[int, Descriptor]
    environment: tuple[bytes, ...] | None = None

    @cached_property
    def bound(self) -> tuple[Bound, ...]:
        """Its bound sockets, by number."""
        found = []
        for descriptor in self.descriptors.values():
            details = descriptor.socket
            if details is not None and (key := bound_key(details)) is not None:
                found.append(
                    Bound(
                        descriptor.number,
                        descriptor.inode,
                        details.family,
                        details.type,
                        key,
                        details.listening,
                    )
                )
        return tuple(found)

    @cached_property
    def notify_name(self) -> bytes:
        """Where it reports to its service manager, empty if to none."""
        if self.environment is not None:
            return notify_name(self.environment)
        with contextlib.suppress(OSError, InstarError):
            return notify_name(read_environment(self.pid))
        return b""

    @cached_property
    def _numbers(self) -> Mapping[tuple[object, ...], tuple[int, ...]]:
        index: dict[tuple[object, ...], tuple[int, ...]] = {}
        for descriptor in self.descriptors.values():
            if descriptor.target.startswith("anon_inode:"):
                continue
            key = object_key(descriptor.kind, descriptor.device, descriptor.inode, descriptor.device_number)
            index[key] = (*index.get(key, ()), descriptor.number)
        return index

    def numbers_of(self, kind: str, device: int, inode: int, device_number: int = 0) -> tuple[int, ...]:
        """Its descriptors for an object (none for anonymous ones, whose inodes are shared by everybody)."""
        return self._numbers.get(object_key(kind, device, inode, device_number), ())

    @cached_property
    def locked(self) -> frozenset[tuple[int, int]]:
        """Device and inode of the files on which it holds a lock."""
        return frozenset((d.device, d.inode) for d in self.descriptors.values() if d.locks)

    @cached_property
    def files(self) -> frozenset[tuple[int, int]]:
        """Device and inode of the files it has open."""
        return frozenset((d.device, d.inode) for d in self.descriptors.values() if d.kind == "file")

    def bound_at(self, family: int, kind: int, key: AddressKey) -> tuple[Bound, ...]:
        """Its sockets with this address."""
        return tuple(b for b in self.bound if b.family == family and b.type == kind and b.key == key)


def read_past(pid: int) -> PastFacts:
    """The facts of a running process; it is not stopped. Raises HostError when it is gone or out of reach."""
    descriptors = {descriptor.number: descriptor for descriptor in list_descriptors(pid)}
    return PastFacts(pid, read_surroundings(pid), descriptors)


def object_key(kind: str, device: int, inode: int, device_number: int) -> tuple[object, ...]:
    """Equal for two descriptors of one object; terminals and devices are known by their number."""
    if kind in ("terminal", "device"):
        return kind, device_number
    return device, inode


def bound_key(details: SocketDetails) -> AddressKey | None:
    """The comparable address of a socket that was bound; None for unbound and accepted ones."""
    if details.type in (SOCK_STREAM, SOCK_SEQPACKET) and not details.listening and details.peer is not None:
        return None
    return address_key(details.raw_local)


def address_key(raw: bytes) -> AddressKey | None:
    """Family and comparable bytes of a ``struct sockaddr``; None for an empty address and for port 0.

    Flow label and padding do not count; a path ends at its NUL.
    """
    if len(raw) < 2:
        return None
    (family,) = struct.unpack_from("<H", raw)
    if family == AF_INET and len(raw) >= 8:
        return (family, raw[2:8]) if raw[2:4] != b"\0\0" else None
    if family == AF_INET6 and len(raw) >= 24:
        scope = raw[24:28].ljust(4, b"\0")
        return (family, raw[2:4] + raw[8:24] + scope) if raw[2:4] != b"\0\0" else None
    if family == AF_UNIX:
        path = raw[2:]
        if not path:
            return None
        return family, path if path[:1] == b"\0" else path.split(b"\0", 1)[0]
    if family in (AF_NETLINK, AF_PACKET) or len(raw) == 2:
        return None
    return family, raw[2:]


def describe_address(raw: bytes) -> str:
    """An address for people."""
    import socket

    if len(raw) < 2:
        return "no address"
    (family,) = struct.unpack_from("<H", raw)
    if family == AF_INET and len(raw) >= 8:
        return f"{socket.inet_ntop(socket.AF_INET, raw[4:8])}:{int.from_bytes(raw[2:4], 'big')}"
    if family == AF_INET6 and len(raw) >= 24:
        return f"[{socket.inet_ntop(socket.AF_INET6, raw[8:24])}]:{int.from_bytes(raw[2:4], 'big')}"
    if family == AF_UNIX:
        path = raw[2:]
        if path[:1] == b"\0":
            return "@" + path[1:].decode(errors="replace")
        return path.split(b"\0", 1)[0].decode(errors="replace")
    return f"an address of family {family}"


def notify_name(environment: Iterable[bytes]) -> bytes:
    """NOTIFY_SOCKET as the kernel has it behind the family (abstract: NUL in front); empty without one."""
    for word in environment:
        if word.startswith(_NOTIFY_SOCKET):
            name = word.removeprefix(_NOTIFY_SOCKET)
            return b"\0" + name[1:] if name[:1] == b"@" else name if name[:1] == b"/" else b""
    return b""


def holds_pid(path: str, pids: Iterable[int]) -> bool:
    """Whether a small file contains one of these PIDs and nothing else."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(32)
    except OSError:
        return False
    words = text.split()
    return len(words) == 1 and words[0].isdigit() and int(words[0]) in set(pids)
