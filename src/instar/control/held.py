"""What the new version's start-up would do to the outside, written down to be done at commit.

An action names things by descriptors of this process (a directory and a name, or a duplicate of the new
version's open file), so that it means the same later, whatever was renamed or unmounted from view
meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from instar.control.paths import Directories, Entry
from instar.control.socket_options import apply_option
from instar.errors import InternalError
from instar.process.forking import fork

Verb = Literal[
    "unlink", "rmdir", "rename", "chmod", "chown", "truncate", "times",
    "write", "output", "ftruncate", "fchmod", "fchown", "flags", "listen",
    "backlog", "option", "shutdown", "notify",
]  # fmt: skip
ON_DESCRIPTOR: frozenset[str] = frozenset(
    (
        "write",
        "output",
        "ftruncate",
        "fchmod",
        "fchown",
        "flags",
        "listen",
        "backlog",
        "option",
        "shutdown",
        "notify",
    )
)
_SHOWN = 60
_OUTPUT_PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Held:
    """One action that is held back.

    Attributes:
        verb: What is to be done.
        text: Path or name of what it is done to, for people.
        entry: Directory entry, for the verbs on names.
        target: The second name of a rename.
        number: The new version's descriptor, for the verbs on descriptors.
        values: Mode; user and group; length; offset (-1: at the file's own position); flags; backlog; level
            and name of an option; how to shut down; pid, user and group of a sender; or the four words of two
            timespecs.
        data: What is to be written.
    """

    verb: Verb
    text: str
    entry: Entry | None = None
    target: Entry | None = None
    number: int = -1
    values: tuple[int, ...] = ()
    data: bytes = b""

    def describe(self) -> str:
        """A line for the plan."""
        match self.verb:
            case "write" | "output":
                shown = self.data[:_SHOWN]
                rest = "..." if len(self.data) > _SHOWN else ""
                return f"write {len(self.data)} bytes to {self.text}: {shown!r}{rest}"
            case "chmod" | "fchmod":
                return f"chmod {self.values[0]:o} {self.text}"
            case "chown" | "fchown":
                return f"chown {self.values[0]}:{self.values[1]} {self.text}"
            case "truncate" | "ftruncate":
                return f"truncate {self.text} to {self.values[0]} bytes"
            case "notify":
                return f"tell {self.text}: {self.data.decode()}"
            case "listen":
                return f"listen on {self.text}"
            case "backlog":
                return f"set the backlog of {self.text} to {self.values[0]}"
            case "option":
                return f"set option {self.values[1]} of level {self.values[0]} on {self.text}"
            case _:
                return f"{self.verb} {self.text}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """With whose rights a name is changed (open files need none)."""

    user: int
    group: int
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one held action ended at commit."""

    action: str
    error: str = ""


@dataclass(slots=True)
class _Kept:
    held: Held
    credentials: Credentials
    descriptor: int  # of this process; -1 for the verbs on names


class HeldActions:
    """The list, in the order of the calls."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._kept: list[_Kept] = []
        self._done = False

    def add(self, held: Held, credentials: Credentials, descriptor: int = -1) -> None:
        """Write an action down; a descriptor is taken over."""
        if (held.verb in ON_DESCRIPTOR) != (descriptor >= 0):
            raise InternalError(f"held action {held.verb} with descriptor {descriptor}")
        self._kept.append(_Kept(held, credentials, descriptor))

    def drop(self, unwanted: Callable[[Held], bool]) -> bool:
        """Strike actions off the list (undone by the new version itself); whether there were any."""
        gone = [kept for kept in self._kept if unwanted(kept.held)]
        for kept in gone:
            self._kept.remove(kept)
            _close(kept)
        return bool(gone)

    @property
    def actions(self) -> tuple[Held, ...]:
        """What is held, in order."""
        return tuple(kept.held for kept in self._kept)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those of this process that the actions are done to."""
        return tuple(kept.descriptor for kept in self._kept if kept.descriptor >= 0)

    def written_identities(self) -> frozenset[tuple[int, int]]:
        """Device and inode of the files with writes that are held back."""
        found = set()
        for kept in self._kept:
            if kept.held.verb in ("write", "ftruncate"):
                status = os.fstat(kept.descriptor)
                found.add((status.st_dev, status.st_ino))
        return frozenset(found)

    def last_writes(self) -> bytes:
        """The last data that is held for files (logs, mostly)."""
        return b"".join(kept.held.data for kept in self._kept[-_SHOWN:] if kept.held.verb == "write")

    def size(self) -> int:
        """Bytes of data held."""
        return sum(len(kept.held.data) for kept in self._kept)

    def drop_replaced(self, identity_of: Callable[[int], tuple[int, int] | None]) -> None:
        """Drop the ``listen`` of sockets whose number is another socket by now (one of the past)."""

        def replaced(kept: _Kept) -> bool:
            status = os.fstat(kept.descriptor)
            return identity_of(kept.held.number) != (status.st_dev, status.st_ino)

        for kept in [kept for kept in self._kept if kept.held.verb == "listen" and replaced(kept)]:
            self._kept.remove(kept)
            _close(kept)

    def commit(self, journal: Callable[[Outcome], None] | None = None) -> list[Outcome]:
        """Do everything, in order, with the rights that the new version had then; returns what failed.

        A failure does not stop the rest: the old version is gone by now. Runs in child processes, one for
        each change of credentials, so that this process keeps its own.
        """
        if self._done:
            return []
        self._done = True
        outcomes: list[Outcome] = []
        rest = self._kept
        while rest:
            credentials = rest[0].credentials
            count = next((i for i, kept in enumerate(rest) if kept.credentials != credentials), len(rest))
            batch, rest = rest[:count], rest[count:]
            for outcome in self._perform_as(credentials, batch):
                outcomes.append(outcome)
                if journal is not None:
                    journal(outcome)
        return [outcome for outcome in outcomes if outcome.error]

    def close(self) -> None:
        """Give the descriptors back and forget everything."""
        for kept in self._kept:
            _close(kept)
        self._kept = []

    # ------------------------------------------------------------------------------------ deeds

    def _perform_as(self, credentials: Credentials, batch: Sequence[_Kept]) -> list[Outcome]:
        read, write = os.pipe2(os.O_CLOEXEC)
        child = fork()
        if child == 0:
            status = 1
            try:
                os.close(read)
                _become(credentials)
                with os.fdopen(write, "w", encoding="utf-8") as report:
                    for kept in batch:
                        print(json.dumps(asdict(self._perform(kept))), file=report, flush=True)
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        with os.fdopen(read, encoding="utf-8") as report:
            outcomes = [Outcome(**json.loads(line)) for line in report]
        os.waitpid(child, 0)
        missing = [Outcome(kept.held.describe(), "not done") for kept in batch[len(outcomes) :]]
        return outcomes + missing

    def _perform(self, kept: _Kept) -> Outcome:
        held = kept.held
        try:
            if held.entry is None:
                perform_on_descriptor(held, kept.descriptor)
            else:
                perform_on_name(held, self._directories)
        except OSError as error:
            return Outcome(held.describe(), os.strerror(error.errno or 0))
        return Outcome(held.describe())


def _close(kept: _Kept) -> None:
    if kept.descriptor >= 0:
        with contextlib.suppress(OSError):
            os.close(kept.descriptor)


def _become(credentials: Credentials) -> None:
    if os.geteuid() == 0 and credentials.user != 0:
        os.setgroups(credentials.groups)
        os.setresgid(credentials.group, credentials.group, credentials.group)
        os.setresuid(credentials.user, credentials.user, credentials.user)


def perform_on_name(held: Held, directories: Directories) -> None:
    """Do an action on a directory entry; raises OSError."""
    assert held.entry is not None
    directory, name = directories.descriptor(*held.entry[:2]), held.entry[2]
    match held.verb:
        case "unlink":
            os.unlink(name, dir_fd=directory)
        case "rmdir":
            os.rmdir(name, dir_fd=directory)
        case "rename":
            assert held.target is not None
            other = directories.descriptor(*held.target[:2])
            os.rename(name, held.target[2], src_dir_fd=directory, dst_dir_fd=other)
        case "chmod":
            os.chmod(name, held.values[0], dir_fd=directory)
        case "chown":
            os.chown(name, *held.values[:2], dir_fd=directory, follow_symlinks=False)
        case "truncate":
            number = os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
            try:
                os.ftruncate(number, held.values[0])
            finally:
                os.close(number)
        case "times":
            access, change = held.values[:2]
            os.utime(name, ns=(access, change), dir_fd=directory, follow_symlinks=False)
        case _:
            raise InternalError(f"{held.verb} is no action on a name")


def perform_on_descriptor(held: Held, descriptor: int) -> None:
    """Do an action on an open file; raises OSError."""
    match held.verb:
        case "write":
            _write(descriptor, held.data, held.values[0])
        case "output":
            _put_out(descriptor, held.data)
        case "ftruncate":
            os.ftruncate(descriptor, held.values[0])
        case "fchmod":
            os.fchmod(descriptor, held.values[0])
        case "fchown":
            os.fchown(descriptor, *held.values[:2])
        case "flags":
            import fcntl

            fcntl.fcntl(descriptor, fcntl.F_SETFL, held.values[0])
        case "listen" | "backlog":
            with socket.socket(fileno=os.dup(descriptor)) as sock:
                sock.listen(held.values[0])
        case "option":
            level, name = held.values
            apply_option(descriptor, level, name, held.data)
        case "notify":
            send_as(descriptor, held.data, held.values)
        case "shutdown":
            with socket.socket(fileno=os.dup(descriptor)) as sock:
                sock.shutdown(held.values[0])
        case _:
            raise InternalError(f"{held.verb} is no action on a descriptor")


def send_as(descriptor: int, message: bytes, sender: tuple[int, ...]) -> None:
    """Send with another's (pid, user, group); without the right, in our own name, and raise OSError."""
    with socket.socket(fileno=os.dup(descriptor)) as channel:
        rights = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("<3i", *sender))]
        try:
            channel.sendmsg([message], rights, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except PermissionError as error:
            with contextlib.suppress(OSError):
                channel.send(message, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            raise OSError(errno.EPERM, "not permitted") from error


def _write(descriptor: int, data: bytes, offset: int) -> None:
    done = 0
    while done < len(data):
        if offset < 0:
            done += os.write(descriptor, data[done:])
        else:
            done += os.pwrite(descriptor, data[done:], offset + done)


def _put_out(descriptor: int, data: bytes) -> None:
    """Write to the past's standard output; a reader that has stopped reading must not hold up a commit."""
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    done = 0
    while done < len(data):
        if not poll.poll(_OUTPUT_PATIENCE_S * 1000):
            raise OSError(errno.EAGAIN, "nobody reads")
        piece = data[done : done + 512]  # PIPE_BUF is 4096: a pipe that is ready takes this whole
        done += os.write(descriptor, piece)


def timespecs(data: bytes, now_ns: int) -> tuple[int, int] | None:
    """Two ``struct timespec`` of utimensat as nanoseconds; None when one is UTIME_OMIT."""
    words = struct.unpack("<qqqq", data)
    result = []
    for seconds, nanoseconds in (words[:2], words[2:]):
        if nanoseconds == (1 << 30) - 1:
            result.append(now_ns)
        elif nanoseconds == (1 << 30) - 2:
            return None
        else:
            result.append(seconds * 10**9 + nanoseconds)
    return result[0], result[1]
