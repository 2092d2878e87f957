"""The outside as the new version sees it while it starts: what it made, what is held back or hidden."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from instar.control.channel import find_duplicate, get_descriptor
from instar.control.held import ON_DESCRIPTOR, Credentials, Held, HeldActions
from instar.control.janitor import Janitor
from instar.control.paths import Directories, Entry, FileFacts, Found, Overlay, Place, Resolver, facts_of
from instar.control.startup_answers import Handle
from instar.control.startup_past import PastFacts, holds_pid
from instar.errors import FaultError, InstarError
from instar.process.descriptors import (
    SocketDetails,
    describe_socket,
    list_numbers,
    open_pidfd,
    read_descriptor,
)
from instar.process.memory import Memory
from instar.process.status import Status, read_status

_libc = ctypes.CDLL(None, use_errno=True)
_KCMP, _KCMP_FILE = 312, 0
_TAIL = 8192
_LONGEST_PATH = 4096
_PID_FILE_SIZE = 16


@dataclass(frozen=True, slots=True)
class Registration:
    """An ``epoll_ctl`` that is held back.

    Attributes:
        past: Number of the past's descriptor that is watched; None for one of the new version's own.
    """

    epoll: int
    number: int
    events: int
    data: int
    past: int | None


class World:
    """Everything that one start of a new version keeps outside of its processes.

    Attributes:
        options: Set on its own sockets, by device and inode.
        family: PIDs of the processes (and threads) of the start that are alive.
        standard: Our duplicates of the descriptors it was started with, by number.
        changed: Device and inode of what held actions on descriptors change.
        reopened: Those of them that have an open file of their own.
        output: The last it wrote to its standard output and error.
    """

    def __init__(self, past: PastFacts) -> None:
        self.past = past
        self.directories = Directories()
        self.overlay = Overlay({})
        self.hidden: set[Entry] = set()
        self.changed: set[tuple[int, int]] = set()
        self.resolver = Resolver(self.directories, self.overlay)
        self.held = HeldActions(self.directories)
        self.objects: set[tuple[int, int]] = set()
        self.names: dict[Entry, tuple[int, int]] = {}
        self.silent: set[int] = set()
        self.options: dict[tuple[int, int], list[Held]] = {}
        self.registered: dict[tuple[int, int], Registration] = {}
        self.family: set[int] = set()
        self.standard: dict[int, int] = {}
        self.output = b""
        self.reopened: set[int] = set()
        self.janitor = Janitor()
        self._shadows = 0

    # ---------------------------------------------------------------------------------- what is written down

    def hold(self, pid: int, actions: Iterable[Held]) -> None:
        """Write actions down and show them as done."""
        for held in actions:
            descriptor = -1
            if held.verb in ON_DESCRIPTOR:
                with open_pidfd(pid) as pidfd:
                    descriptor = get_descriptor(pidfd, held.number)
                status = os.fstat(descriptor)
                self.changed.add((status.st_dev, status.st_ino))
            self.held.add(held, credentials_of(read_status(pid)), descriptor)
            self._show(held, descriptor)

    def _show(self, held: Held, descriptor: int) -> None:
        if held.verb in ("unlink", "rmdir") and held.entry is not None:
            self.overlay.remove(held.entry)
        elif held.verb == "rename" and held.entry is not None and held.target is not None:
            real = self.overlay.state(held.entry)
            self.overlay.remove(held.entry)
            self.overlay.show(held.target, real or held.entry)
        elif held.verb == "listen":
            self.silent.add(os.fstat(descriptor).st_ino)
        elif held.verb == "output":
            self.remember(held.data)

    def remember(self, data: bytes) -> None:
        """Keep the last of its output for messages."""
        self.output = (self.output + data)[-_TAIL:]

    def hide(self, places: Iterable[Place]) -> None:
        """Show the past's own names as removed."""
        for place in places:
            self.overlay.remove(place.entry)
            self.hidden.add(place.entry)

    def show(self, places: Iterable[Place]) -> None:
        """Show them again."""
        for place in places:
            if place.entry in self.hidden:
                self.hidden.discard(place.entry)
                self.overlay.show(place.entry, place.entry)

    def note_created(self, pid: int, place: Place, shown_as: Place | None) -> None:
        """A name exists now because of the new version."""
        facts = self.directories.find(place.entry)
        if facts is None:
            return
        self.names[place.entry] = facts.identity
        self.janitor.tell_name(self.directories.path(place.entry), facts.identity)
        if place.facts is None:
            self.objects.add(facts.identity)
        if shown_as is not None:
            text = f"{place.text} to {shown_as.text}"
            self.hold(pid, [Held("rename", text, entry=place.entry, target=shown_as.entry)])

    def note_option(self, pid: int, option: Held) -> None:
        """It has set an option of a socket of its own, which may be answered with the past's at its bind."""
        found = read_descriptor(pid, option.number)
        if found is not None:
            self.options.setdefault((found.device, found.inode), []).append(option)

    def note_removed(self, place: Place) -> None:
        """A name that the new version made is gone again."""
        self.janitor.tell_gone(self.directories.path(place.entry))
        self.names.pop(place.entry, None)

    def note_renamed(self, source: Place, target: Place) -> None:
        """A name that it made is another one now."""
        identity = self.names.pop(source.entry, None)
        if identity is not None:
            self.names[target.entry] = identity
            self.janitor.tell_gone(self.directories.path(source.entry))
            self.janitor.tell_name(self.directories.path(target.entry), identity)

    def register(
        self, epoll: int, operation: int, number: int, events: int, data: int, past: int | None
    ) -> None:
        """Record an epoll_ctl."""
        if operation == 2:  # EPOLL_CTL_DEL
            self.registered.pop((epoll, number), None)
        else:
            self.registered[epoll, number] = Registration(epoll, number, events, data, past)

    # ------------------------------------------------------------------------------------ end

    def undo(self) -> list[str]:
        """Remove what the new version created; returns what could not be removed."""
        left = []
        for entry, identity in reversed(self.names.items()):
            found = self.directories.find(entry)
            if found is None or found.identity != identity:
                continue
            directory = self.directories.descriptor(*entry[:2])
            try:
                if stat.S_ISDIR(found.mode):
                    os.rmdir(entry[2], dir_fd=directory)
                else:
                    os.unlink(entry[2], dir_fd=directory)
            except OSError as error:
                left.append(f"{self.directories.path(entry)}: {error.strerror}")
        self.names.clear()
        return left

    def close(self) -> None:
        """Give every descriptor of this process back."""
        self.held.close()
        self.directories.close()
        for descriptor in self.standard.values():
            os.close(descriptor)
        self.standard = {}
        self.janitor.dismiss()

    def adopt(self, pid: int) -> None:
        """A process (or thread) has joined the start."""
        self.family.add(pid)
        self.janitor.tell_process(pid)

    def keep(self) -> None:
        """What it made stays: it has been committed. To be closed later, when nobody waits any more."""
        self.names.clear()
        self.janitor.tell_done()

    def next_shadow(self) -> int:
        """A number for the name of a shadow."""
        self._shadows += 1
        return self._shadows


def credentials_of(status: Status) -> Credentials:
    """With whose rights a process changes files."""
    return Credentials(status.uids[3], status.gids[3], status.groups)


class View:
    """The ``Situation`` of one process of the start: everything is looked up when it is asked for."""

    def __init__(self, world: World, pid: int) -> None:
        self.world = world
        self.pid = pid
        self.memory = Memory(pid)

    @property
    def past(self) -> PastFacts:
        """See ``Situation``, as for all below."""
        return self.world.past

    @property
    def status(self) -> Status:
        return read_status(self.pid)

    # ------------------------------------------------------------------------------------ descriptors

    def handle(self, number: int) -> Handle | None:
        found = read_descriptor(self.pid, number) if number >= 0 else None
        if found is None:
            return None
        past: tuple[int, ...] = ()
        if not found.target.startswith("anon_inode:"):
            past = self.past.numbers_of(found.kind, found.device, found.inode, found.device_number)
        identity = (found.device, found.inode)
        return Handle(
            number=number,
            kind=found.kind,
            target=found.target,
            device=found.device,
            inode=found.inode,
            mode=found.mode,
            device_number=found.device_number,
            past=past,
            inherited=bool(past) and self._inherited(number, found.kind, identity, found.device_number),
            created=identity in self.world.objects or found.kind == "memfd",
            silent=found.kind == "socket" and found.inode in self.world.silent,
            written=found.kind == "file" and identity in self.world.held.written_identities(),
        )

    def _inherited(self, number: int, kind: str, identity: tuple[int, int], device_number: int) -> bool:
        for original, descriptor in self.world.standard.items():
            status = os.fstat(descriptor)
            if original in self.world.reopened:
                continue
            if kind in ("terminal", "device"):
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == device_number and kind == "terminal":
                    return True
            elif (status.st_dev, status.st_ino) == identity:
                same = _same_open_file(self.pid, number, descriptor) if kind == "file" else True
                if same:
                    return True
        return False

    def socket(self, number: int) -> SocketDetails | None:
        descriptor = find_duplicate(self.pid, number)
        if descriptor is None:
            return None
        try:
            return describe_socket(descriptor) if stat.S_ISSOCK(os.fstat(descriptor).st_mode) else None
        finally:
            os.close(descriptor)

    def open_flags(self, number: int) -> int:
        found = read_descriptor(self.pid, number)
        return found.flags if found is not None else 0

    def numbers(self) -> frozenset[int]:
        return frozenset(list_numbers(self.pid))

    def sockets_held(self) -> frozenset[int]:
        found = set()
        for number in list_numbers(self.pid):
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{self.pid}/fd/{number}")  # noqa: PTH116
                if stat.S_ISSOCK(status.st_mode):
                    found.add(status.st_ino)
        return frozenset(found)

    def facts(self, handle: Handle) -> FileFacts | None:
        try:
            return facts_of(os.stat(f"/proc/{self.pid}/fd/{handle.number}"))  # noqa: PTH116
        except OSError:
            return None

    def pid_of(self, number: int) -> int | None:
        found = read_descriptor(self.pid, number)
        return found.pid if found is not None else None

    def registrations(self) -> frozenset[tuple[int, int]]:
        return frozenset(self.world.registered)

    def bytes_held(self) -> int:
        return self.world.held.size()

    # ------------------------------------------------------------------------------------ memory and paths

    def read(self, address: int, size: int) -> bytes:
        return self.memory.read(address, size)

    def read_path(self, address: int) -> bytes:
        if not address:
            return b""
        try:
            return self.memory.read_cstring(address, _LONGEST_PATH)
        except FaultError:
            raise
        except InstarError:
            return b""  # too long: the kernel says so

    def place(self, directory: int, address: int, *, follow: bool = True) -> Place | None:
        path = self.read_path(address)
        return self._place(directory, path, follow) if path else None

    def locate(self, path: bytes) -> Place | None:
        return self._place(-100, path, True)

    def _place(self, directory: int, path: bytes, follow: bool) -> Place | None:
        found = self.world.resolver.resolve(self.pid, directory, path, follow=follow)
        return None if found is None else self._judge(found)

    def _judge(self, found: Found) -> Place:
        world = self.world
        facts = found.facts
        truth = facts if found.real is not None else world.directories.find(found.entry)
        real = found.real if found.real is not None else found.entry
        names_pid = facts is not None and self._holds_pid(facts, real)
        return Place(
            text=found.text,
            entry=found.entry,
            real=real,
            facts=facts,
            directory_facts=found.directory,
            created=facts is not None and facts.identity in world.objects,
            absent=found.real is None and truth is not None,
            hidden=found.real is None and found.entry in world.hidden,
            real_text=found.text if real == found.entry else self._inside(world.directories.path(real)),
            owner=self._owner(found.text, truth),
            claimed=names_pid or (facts is not None and self._claimed(facts)),
            names_past=names_pid and facts is not None and not self._is_in_use(facts),
        )

    def _inside(self, path: str) -> str:
        root = os.readlink(f"/proc/{self.pid}/root")  # noqa: PTH115
        return path.removeprefix(root) if root != "/" else path

    def _owner(self, text: str, facts: FileFacts | None) -> int | None:
        """The past's socket that is bound to a socket file, by the path it was bound with."""
        if facts is None or not facts.socket:
            return None
        base = self.past.surroundings.working_directory
        for bound in self.past.bound:
            if bound.key[0] == 1 and not bound.key[1].startswith(b"\0"):
                path = os.path.normpath(os.path.join(base, os.fsdecode(bound.key[1])))  # noqa: PTH118
                if path == text or _same_file(path, facts):
                    return bound.number
        return None

    def _claimed(self, facts: FileFacts) -> bool:
        past = self.past
        if facts.identity in past.files or facts.identity in past.locked:
            return True
        return stat.S_ISFIFO(facts.mode) and bool(past.numbers_of("pipe", facts.device, facts.inode))

    def _holds_pid(self, facts: FileFacts, real: Entry) -> bool:
        if not facts.regular or not 0 < facts.size <= _PID_FILE_SIZE:
            return False
        pids = (self.past.pid, self.past.surroundings.status.pid_in_namespace)
        return holds_pid(self.world.directories.path(real), pids)

    def _is_in_use(self, facts: FileFacts) -> bool:
        """Whether the past has a file open, or the new version has, or has changed it."""
        if facts.identity in self.past.files or facts.identity in self.world.changed:
            return True
        found = (self.handle(number) for number in self.numbers())
        return any(handle and (handle.device, handle.inode) == facts.identity for handle in found)

    @property
    def overlaid(self) -> bool:
        return bool(self.world.overlay.entries)

    def shadow(self, place: Place) -> Place:
        device, inode, name = place.entry
        fresh = b".instar-%d-%d-%s" % (self.pid, self.world.next_shadow(), name[:200])
        text = os.path.join(os.path.dirname(place.text), os.fsdecode(fresh))  # noqa: PTH118, PTH120
        entry = (device, inode, fresh)
        return replace(
            place, text=text, real_text=text, entry=entry, real=entry, facts=None, absent=False, hidden=False
        )

    def is_empty(self, place: Place) -> bool:
        return not os.listdir(self.world.directories.path(place.real))  # noqa: PTH208

    # ------------------------------------------------------------------------------------ processes

    @property
    def own_pids(self) -> tuple[str, ...]:
        return tuple(str(pid) for pid in sorted(self.world.family))

    def is_family(self, pid: int) -> bool:
        return pid in self.world.family

    def group_of(self, pid: int) -> int | None:
        try:
            return os.getpgid(pid)
        except ProcessLookupError:
            return None

    def is_own_group(self, group: int) -> bool:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) not in self.world.family:
                with contextlib.suppress(OSError):
                    if os.getpgid(int(entry.name)) == group:
                        return False
        return True


def _same_file(path: str, facts: FileFacts) -> bool:
    try:
        return facts_of(os.stat(path)).identity == facts.identity  # noqa: PTH116
    except OSError:
        return False


def _same_open_file(pid: int, number: int, descriptor: int) -> bool:
    """Whether a descriptor of a process and one of ours share one open file; True if unknown."""
    result: int = _libc.syscall(_KCMP, os.getpid(), pid, _KCMP_FILE, descriptor, number)
    return result <= 0
