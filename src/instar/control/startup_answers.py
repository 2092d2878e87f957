"""The words of the start-up rules: what a new version asks of the kernel, and what it is answered.

A rule is a pure function of a ``Call`` and a ``Situation``; it returns one of the answers. All deeds
(faking a call, lending a descriptor, holding an action back) are done by ``startup_trace``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from instar.control.held import Held
from instar.process.descriptors import Kind, SocketDetails
from instar.process.status import Status

if TYPE_CHECKING:
    from instar.control.paths import FileFacts, Place
    from instar.control.startup_past import PastFacts

AT_FDCWD = -100


@dataclass(frozen=True, slots=True)
class Call:
    """A system call at its entry; ``arguments`` are the six registers, unsigned."""

    pid: int
    number: int
    name: str
    arguments: tuple[int, ...]

    def signed(self, index: int) -> int:
        """An argument as C's ``int``."""
        value = self.arguments[index] & 0xFFFFFFFF
        return value - (1 << 32) if value >> 31 else value


@dataclass(frozen=True, slots=True)
class Handle:
    """A descriptor of the new version as the rules see it.

    Attributes:
        device: Of the object, with ``inode`` its identity.
        device_number: Of a character or block device.
        past: The numbers of the past's descriptors for the same object (socket, pipe, terminal, file).
        inherited: Its standard input, output or error came from the past and the open file is shared.
        created: The new version has made this file.
        silent: A socket of its own whose ``listen`` is held back.
        written: Writes to this file are held back already.
    """

    number: int
    kind: Kind
    target: str
    device: int
    inode: int
    mode: int = 0
    device_number: int = 0
    past: tuple[int, ...] = ()
    inherited: bool = False
    created: bool = False
    silent: bool = False
    written: bool = False

    @property
    def lent(self) -> bool:
        """A channel that the past reads from or is reached through."""
        return bool(self.past) and self.kind in ("socket", "pipe", "terminal")

    @property
    def mute(self) -> bool:
        """Must look as if nothing ever came."""
        return self.lent or self.silent


class Situation(Protocol):
    """What the rules may ask about the process that makes the call, and about the past."""

    @property
    def past(self) -> PastFacts:
        """The facts of the past."""
        ...

    @property
    def status(self) -> Status:
        """Of the calling process."""
        ...

    def handle(self, number: int) -> Handle | None:
        """A descriptor; None when it is not open."""
        ...

    def socket(self, number: int) -> SocketDetails | None:
        """Details of a descriptor that is a socket."""
        ...

    def place(self, directory: int, address: int, *, follow: bool = True) -> Place | None:
        """The path in its memory, relative to a directory descriptor; None when it leads nowhere."""
        ...

    def locate(self, path: bytes) -> Place | None:
        """A path that is not in its memory (the address of a unix socket)."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """Its memory."""
        ...

    def open_flags(self, number: int) -> int:
        """F_GETFL of a descriptor."""
        ...

    def is_family(self, pid: int) -> bool:
        """Whether a process belongs to the new version's start-up."""
        ...

    def group_of(self, pid: int) -> int | None:
        """The process group of a process."""
        ...

    def numbers(self) -> frozenset[int]:
        """The descriptors that are open."""
        ...

    def sockets_held(self) -> frozenset[int]:
        """Inodes of all its open sockets."""
        ...

    def registrations(self) -> frozenset[tuple[int, int]]:
        """(epoll descriptor, descriptor) of the registrations that are held back."""
        ...

    @property
    def overlaid(self) -> bool:
        """Whether any name is not what it seems."""
        ...

    @property
    def own_pids(self) -> tuple[str, ...]:
        """The PIDs of the new version's processes, as they stand in /proc."""
        ...

    def read_path(self, address: int) -> bytes:
        """A string in its memory; empty where there is none."""
        ...

    def shadow(self, place: Place) -> Place:
        """A free name beside a place whose object is to be removed at commit."""
        ...

    def is_empty(self, place: Place) -> bool:
        """Whether a directory is empty."""
        ...

    def facts(self, handle: Handle) -> FileFacts | None:
        """stat of an open file."""
        ...

    def bytes_held(self) -> int:
        """How much data is held back already."""
        ...

    def is_own_group(self, group: int) -> bool:
        """Whether a process group has only processes of the start-up in it."""
        ...

    def pid_of(self, number: int) -> int | None:
        """The process that a pidfd stands for."""
        ...


# ---------------------------------------------------------------------------------------- what follows a call


@dataclass(frozen=True, slots=True)
class Note:
    """What has to be done when a call that was let through has returned.

    Attributes:
        descriptor: Its result is a new descriptor.
        pair_address: Two new descriptors are written there.
        created: A name that exists afterwards because of it (a created file, directory, socket, link).
        removed: A name that is gone afterwards.
        stores: Memory to put back (address, bytes).
        shown_as: The created name is a shadow: until commit it is shown as this place, then renamed to it.
        option: An option of a socket of its own that is set because of it.
        settles: The result that is shown in place of -EPERM (setsid by a session leader).
    """

    descriptor: bool = False
    pair_address: int = 0
    created: Place | None = None
    removed: Place | None = None
    shown_as: Place | None = None
    stores: tuple[tuple[int, bytes], ...] = ()
    settles: int | None = None
    option: Held | None = None


NOTHING = Note()


# ---------------------------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class Run:
    """The call is made as it is; ``output`` is a copy of what it writes to a standard descriptor."""

    note: Note = NOTHING
    output: bytes = b""


@dataclass(frozen=True, slots=True)
class Fake:
    """The call is not made and returns ``result``; what it would have done is held back.

    Attributes:
        stores: Written into its memory first.
        held: Actions to do at commit, in order.
        register: An epoll registration to record: (epoll, operation, descriptor, events, data).
        hides: Places of the past that look removed, until it is made anew.
        shows: Places that look made anew.
    """

    result: int
    stores: tuple[tuple[int, bytes], ...] = ()
    held: tuple[Held, ...] = ()
    register: tuple[int, int, int, int, int] | None = None
    hides: tuple[Place, ...] = ()
    shows: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Lend:
    """Descriptor ``number`` becomes a duplicate of the past's descriptor ``past``; the call returns 0."""

    number: int
    past: int
    shows: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Alter:
    """The call is made with other arguments; registers and memory are put back at its exit.

    Attributes:
        arguments: Index -> value.
        paths: Index -> bytes that are written into scratch memory with a NUL, their address becomes the
            argument.
        stores: Memory changed for the time of the call, in ``note.stores`` what it was.
        held: Held back if the call succeeds.
        number: Of another system call to make instead, -1 for the same.
    """

    arguments: Mapping[int, int] = field(default_factory=dict)
    paths: Mapping[int, bytes] = field(default_factory=dict)
    stores: tuple[tuple[int, bytes], ...] = ()
    held: tuple[Held, ...] = ()
    note: Note = NOTHING
    number: int = -1


@dataclass(frozen=True, slots=True)
class Refuse:
    """The start is given up (unless ``code`` is allowed: then the call runs)."""

    code: str
    cause: str
    remedy: str


Answer = Run | Fake | Lend | Alter | Refuse
Rule = Callable[[Call, Situation], Answer]


def deny(code: int) -> Fake:
    """The call fails with this errno."""
    return Fake(-code)
