"""Paths of another process: which directory entry they name, by its root, directory and what is held back.

While the new version starts, renames and removals of what it did not make are only written down. The
overlay makes later calls of the new version see them as done: an entry is *absent*, or *elsewhere* (under
its old or a shadow name).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True)
_OPENAT2, _RESOLVE_IN_ROOT = 437, 0x10
_MAX_LINKS = 40
_AT_FDCWD = -100
_PROC_SELF = (b"/proc/self", b"/proc/thread-self")

Entry = tuple[int, int, bytes]  # device and inode of the directory, name


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What stat(2) tells and the rules need."""

    device: int
    inode: int
    mode: int
    uid: int
    gid: int
    size: int
    device_number: int = 0

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        return self.device, self.inode

    @property
    def regular(self) -> bool:
        """A plain file."""
        return stat.S_ISREG(self.mode)

    @property
    def directory(self) -> bool:
        """A directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def socket(self) -> bool:
        """The file of a unix socket."""
        return stat.S_ISSOCK(self.mode)


@dataclass(frozen=True, slots=True)
class Place:
    """A directory entry that a path names, whether or not there is anything.

    Attributes:
        text: An absolute path for messages.
        entry: Directory and name as the new version sees them.
        real: Where the object is in truth: differs from ``entry`` while a rename is held back.
        facts: Of the object, None where there is none (for the new version).
        directory_facts: Of the directory of ``entry``.
        created: The new version has made the object.
        absent: Something is there in truth, but it looks removed.
        hidden: Absent, and the past's own: it will not be removed.
        real_text: An absolute path to ``real``.
        owner: Number of the past's socket that is bound there, None otherwise.
        claimed: The past holds this file open, has locked it, or its content is the past's PID.
        names_past: Its content is the past's PID, and neither version has it open.
    """

    text: str
    entry: Entry
    real: Entry
    facts: FileFacts | None
    directory_facts: FileFacts
    created: bool = False
    absent: bool = False
    hidden: bool = False
    real_text: str = ""
    owner: int | None = None
    claimed: bool = False
    names_past: bool = False

    @property
    def exists(self) -> bool:
        """Whether the new version sees something there."""
        return self.facts is not None

    @property
    def moved(self) -> bool:
        """Whether calls must be sent to another name."""
        return self.exists and self.real != self.entry

    @property
    def foreign(self) -> bool:
        """Something that the new version has not made."""
        return self.exists and not self.created


class Directories:
    """Open descriptors (O_PATH) of the directories that matter, so that no path need be walked twice."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], int] = {}

    def keep(self, descriptor: int) -> FileFacts:
        """Take over a descriptor; its facts."""
        facts = facts_of(os.fstat(descriptor))
        if facts.identity in self._open:
            os.close(descriptor)
        else:
            self._open[facts.identity] = descriptor
        return facts

    def descriptor(self, device: int, inode: int) -> int:
        """The descriptor of a directory that was kept."""
        return self._open[device, inode]

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that were kept."""
        return tuple(self._open.values())

    def path(self, entry: Entry) -> str:
        """The absolute path of an entry in this process's view."""
        number = self._open[entry[:2]]
        directory = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
        return os.path.join(directory, os.fsdecode(entry[2]))  # noqa: PTH118

    def find(self, entry: Entry, *, follow: bool = False) -> FileFacts | None:
        """What is really at an entry."""
        try:
            status = os.stat(entry[2], dir_fd=self._open[entry[:2]], follow_symlinks=follow)
        except OSError:
            return None
        return facts_of(status)

    def close(self) -> None:
        """Close all."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()


def facts_of(status: os.stat_result) -> FileFacts:
    """The part of a stat that is used."""
    return FileFacts(
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_rdev,
    )


@dataclass(slots=True)
class Overlay:
    """Directory entries as the new version sees them where that differs from the truth."""

    entries: dict[Entry, Entry | None]

    def remove(self, entry: Entry) -> None:
        """Show nothing there."""
        self.entries[entry] = None

    def show(self, entry: Entry, real: Entry) -> None:
        """Show there what really is at ``real``."""
        if entry == real:
            self.entries.pop(entry, None)
        else:
            self.entries[entry] = real

    def state(self, entry: Entry) -> Entry | None:
        """Where the object of an entry is; None when its removal is held back."""
        return self.entries.get(entry, entry)


@dataclass(frozen=True, slots=True)
class Found:
    """A resolved path: the entry as seen, where it is, and what is there."""

    entry: Entry
    real: Entry | None
    facts: FileFacts | None
    directory: FileFacts
    text: str


class Resolver:
    """Walks paths as another process does. Reads the file system, changes nothing."""

    def __init__(self, directories: Directories, overlay: Overlay) -> None:
        self.directories = directories
        self.overlay = overlay

    def resolve(self, pid: int, base: int, path: bytes, *, follow: bool = True) -> Found | None:
        """The entry that a path names; None when a directory on the way does not exist or may not be entered.

        Args:
            pid: Whose root and working directory count.
            base: AT_FDCWD or a descriptor of ``pid``.
            path: As in its memory.
            follow: Whether a symbolic link at the end is followed.
        """
        try:
            with _Walk(self, pid) as walk:
                return walk.go(base, path, follow)
        except OSError:
            return None


class _Walk(contextlib.AbstractContextManager["_Walk"]):
    """One resolution; descriptors are closed at its end."""

    def __init__(self, resolver: Resolver, pid: int) -> None:
        self.resolver = resolver
        self.pid = pid
        self.stack = contextlib.ExitStack()
        self.jailed = _other_root(pid)

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def go(self, base: int, path: bytes, follow: bool) -> Found | None:
        start = self._base(base, path)
        for _ in range(_MAX_LINKS):
            path = self._own(path)
            head, name = _split(path)
            directory = self._open(start, head if name not in (b"", b".", b"..") else path)
            if name in (b"", b".", b".."):
                name = b"."
            facts = self.resolver.directories.keep(os.dup(directory))
            entry = (facts.device, facts.inode, name)
            real = self.resolver.overlay.state(entry)
            target = None if real is None else self.resolver.directories.find(real)
            if target is not None and stat.S_ISLNK(target.mode) and follow and real is not None:
                link = self._link(real)
                if link is None:
                    target = self.resolver.directories.find(real, follow=True)
                else:
                    start, path = directory, link
                    continue
            text = self._text(entry)
            return Found(entry, real, target, facts, text)
        return None

    def _text(self, entry: Entry) -> str:
        path = self.resolver.directories.path(entry)
        root = os.readlink(f"/proc/{self.pid}/root")  # noqa: PTH115
        inside = path.removeprefix(root) if root != "/" else path
        return inside.removesuffix("/.") or "/"

    def _base(self, base: int, path: bytes) -> int:
        if path.startswith(b"/"):
            where = "root"
        elif base == _AT_FDCWD:
            where = "cwd"
        else:
            where = f"fd/{base}"
        return self._keep(os.open(f"/proc/{self.pid}/{where}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))

    def _keep(self, descriptor: int) -> int:
        self.stack.callback(os.close, descriptor)
        return descriptor

    def _own(self, path: bytes) -> bytes:
        """The paths whose meaning depends on who looks."""
        for prefix in _PROC_SELF:
            if path == prefix or path.startswith(prefix + b"/"):
                return b"/proc/%d" % self.pid + path[len(prefix) :]
        if path.startswith(b"/dev/fd/"):
            return b"/proc/%d/fd/" % self.pid + path[8:]
        return path

    def _open(self, start: int, path: bytes) -> int:
        """A directory, by a path from ``start`` or from the root."""
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        if not path:
            return start
        if not path.startswith(b"/"):
            return self._keep(os.open(path, flags, dir_fd=start))
        if not self.jailed:
            return self._keep(os.open(path, flags))
        root = self._keep(os.open(f"/proc/{self.pid}/root", flags))
        return self._keep(_open_in_root(root, path, flags))

    def _link(self, entry: Entry) -> bytes | None:
        """The text of a symbolic link; None for the kernel's own links (/proc/PID/fd/1)."""
        device, inode, name = entry
        text = os.readlink(name, dir_fd=self.resolver.directories.descriptor(device, inode))
        proc = os.stat("/proc")  # noqa: PTH116
        if device != proc.st_dev:
            return text
        if inode != proc.st_ino:
            return None
        return b"%d%s" % (self.pid, text[4:]) if text.startswith(b"self/") else text


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Directory part (with its slash) and last name."""
    trimmed = path.rstrip(b"/")
    if not trimmed:
        return path[:1], b""
    head, slash, name = trimmed.rpartition(b"/")
    return head + slash, name


def _other_root(pid: int) -> bool:
    """Whether absolute paths of a process mean something else than ours."""
    mine, theirs = os.stat("/"), os.stat(f"/proc/{pid}/root/")  # noqa: PTH116
    if (mine.st_dev, mine.st_ino) != (theirs.st_dev, theirs.st_ino):
        return True
    return os.readlink("/proc/self/ns/mnt") != os.readlink(f"/proc/{pid}/ns/mnt")  # noqa: PTH115


def _open_in_root(root: int, path: bytes, flags: int) -> int:
    how = struct.pack("<QQQ", flags, 0, _RESOLVE_IN_ROOT)
    descriptor: int = _libc.syscall(_OPENAT2, root, ctypes.c_char_p(path), how, len(how))
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return descriptor
