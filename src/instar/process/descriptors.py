"""The descriptors of a process and what each refers to (/proc/PID/fd, /proc/PID/fdinfo, pidfd_getfd(2))."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import select
import signal
import stat
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from instar.errors import HostError, InstarError
from instar.process.access import Access, access_to
from instar.process.failures import lost_process
from instar.process.socket_tables import look_up_sockets
from instar.process.sockets import SocketDetails as SocketDetails
from instar.process.sockets import describe_socket as describe_socket
from instar.process.sockets import unreadable_socket

Kind = Literal[
    "file", "directory", "socket", "pipe", "epoll", "eventfd", "timerfd", "signalfd", "inotify", "terminal",
    "device", "memfd", "pidfd", "io_uring", "unknown",
]  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)
_PIDFD_GETFD = 438
_O_CLOEXEC_FDINFO = 0o2000000
_ANONYMOUS: dict[str, Kind] = {
    "[eventpoll]": "epoll", "[eventfd]": "eventfd", "[timerfd]": "timerfd", "[signalfd]": "signalfd",
    "inotify": "inotify", "[inotify]": "inotify", "[pidfd]": "pidfd", "[io_uring]": "io_uring",
}  # fmt: skip
_EPOLL_ITEM = re.compile(
    r"^tfd:\s*(\d+) events:\s*([0-9a-f]+) data:\s*([0-9a-f]+)"
    r"(?:\s+pos:(\d+) ino:([0-9a-f]+) sdev:([0-9a-f]+))?",
    re.M,
)
_WATCH = re.compile(r"^inotify wd:(\d+) ino:([0-9a-f]+) sdev:([0-9a-f]+) mask:([0-9a-f]+)", re.M)
_PAIR = re.compile(r"\((\d+), (\d+)\)")
_DETAILED = ("epoll", "timerfd", "signalfd", "eventfd", "inotify", "pidfd")
_ROOM = 1 << 16
#: Number there -> duplicate here, or minus an errno.
Source = Callable[[int], int]
_AT_ONCE = 128
_LOOKS = 8
_SURELY_WHOLE = 1024  # the kernel fills a page before it asks for another read
_TERMINAL_MAJORS = (4, 5, *range(136, 144))


class EpollItem(NamedTuple):
    """One entry of an epoll set.

    Attributes:
        number: The descriptor it was added under; now perhaps closed or another file: compare ``inode`` and
            ``device`` (of the file that is watched) with the descriptor's.
        events: As the kernel keeps them; a fired one-shot entry has no event bits left.
        data: The cookie.
    """

    number: int
    events: int
    data: int
    inode: int
    device: int


class InotifyWatch(NamedTuple):
    """One watch; the kernel tells the inode, not the path."""

    watch: int
    inode: int
    device: int
    mask: int


class TimerDetails(NamedTuple):
    """A timerfd: times in nanoseconds; ``value_ns`` until the next expiry, 0 when disarmed."""

    clock: int
    ticks: int
    flags: int
    value_ns: int
    interval_ns: int


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One descriptor of a process.

    Attributes:
        target: What /proc/PID/fd shows: a path, "socket:[123]", "anon_inode:[eventpoll]".
        inode: With ``device``: the identity of the object (anonymous inodes share one).
        flags: File status flags (O_RDWR, O_NONBLOCK, O_APPEND, ...) without O_CLOEXEC.
        locks: The "lock:" lines of fdinfo, held through this open file.
    """

    number: int
    kind: Kind
    target: str
    inode: int
    device: int
    mode: int
    offset: int
    flags: int
    cloexec: bool
    device_number: int = 0
    epoll_items: tuple[EpollItem, ...] = ()
    timer: TimerDetails | None = None
    signal_mask: int | None = None
    event_count: int | None = None
    event_semaphore: bool = False
    watches: tuple[InotifyWatch, ...] = ()
    pid: int | None = None
    socket: SocketDetails | None = None
    locks: tuple[str, ...] = ()

    @property
    def deleted(self) -> bool:
        """Whether a file or directory has lost its name."""
        return self.kind in ("file", "directory") and self.target.endswith(" (deleted)")

    @property
    def nonblocking(self) -> bool:
        """O_NONBLOCK."""
        return bool(self.flags & os.O_NONBLOCK)


def list_numbers(pid: int) -> list[int]:
    """The numbers of the open descriptors, ascending."""
    try:
        return sorted(int(entry) for entry in os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 (10,000 paths)
    except OSError as error:
        raise lost_process(pid, error) from error


def list_descriptors(pid: int, *, sockets: bool = True) -> list[Descriptor]:
    """All descriptors with their details, by number.

    Needs the right to trace the process, and with ``sockets`` to duplicate (pidfd_getfd), which is done with
    as few as possible: see `process.socket_tables`. A descriptor closed meanwhile is left out; stop the
    process for a whole picture.
    """
    found = _listed(pid, list_numbers(pid))
    return _with_sockets(pid, found) if sockets else found


def _listed(pid: int, numbers: list[int]) -> list[Descriptor]:
    with _tables(pid) as (links, infos):
        listed = (_read(pid, number, links, infos) for number in numbers)
        return [descriptor for descriptor in listed if descriptor is not None]


def _with_sockets(pid: int, found: list[Descriptor], looks: int = _LOOKS) -> list[Descriptor]:
    opened = [descriptor for descriptor in found if descriptor.kind == "socket"]
    known = look_up_sockets(pid, {descriptor.inode for descriptor in opened}) if opened else {}
    asked = [descriptor for descriptor in opened if descriptor.inode not in known]
    details = {descriptor.number: known.get(descriptor.inode) for descriptor in opened}
    with _source(pid, [descriptor.number for descriptor in asked]) as source:
        for descriptor in asked:
            details[descriptor.number] = _socket_details(source, descriptor)
    again = [number for number, one in details.items() if one is None]
    if again and not looks:
        raise _swapped(pid, again[0])
    fresh = _with_sockets(pid, _listed(pid, again), looks - 1) if again else []
    whole = [
        replace(one, socket=details[one.number]) if one.kind == "socket" else one
        for one in found
        if one.number not in again
    ]
    return sorted([*whole, *fresh], key=lambda one: one.number) if fresh else whole


def read_descriptor(pid: int, number: int) -> Descriptor | None:
    """One descriptor without its socket details; None when it is not open."""
    with _tables(pid) as (links, infos):
        return _read(pid, number, links, infos)


@contextlib.contextmanager
def _source(pid: int, numbers: list[int]) -> Iterator[Source]:
    """Where duplicates of a process's descriptors come from; used up in the order of their numbers."""
    other = access_to(pid)
    if other is None:
        with open_pidfd(pid) as pidfd:
            yield lambda number: _get(pidfd, number)
        return
    ahead = _Ahead(other, pid, numbers)
    try:
        yield ahead.take
    finally:
        _close(ahead.fetched.values())


class _Ahead:
    """Duplicates of sockets, fetched some at a time: they shall not stay open here for long."""

    def __init__(self, other: Access, pid: int, numbers: list[int]) -> None:
        self._other, self._pid, self._numbers = other, pid, numbers
        self.fetched: dict[int, int] = {}

    def take(self, number: int) -> int:
        """The duplicate, or minus an errno."""
        if number not in self.fetched:
            part = self._numbers[bisect_left(self._numbers, number) :][:_AT_ONCE]
            try:
                self.fetched.update(self._other.duplicate(part))
            except OSError as error:
                return -(error.errno or errno.EIO)
        return self.fetched.pop(number, -errno.EBADF)


def _get(pidfd: int, number: int) -> int:
    result: int = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    return result if result >= 0 else -ctypes.get_errno()


@contextlib.contextmanager
def _tables(pid: int) -> Iterator[tuple[int, int]]:
    """Descriptors of /proc/PID/fd and /proc/PID/fdinfo, from which many entries are read quickly."""
    opened: list[int] = []
    try:
        for name in ("fd", "fdinfo"):
            opened.append(os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        _close(opened)
        raise lost_process(pid, error) from error
    try:
        yield opened[0], opened[1]
    finally:
        _close(opened)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _read(pid: int, number: int, links: int, infos: int) -> Descriptor | None:
    """None for what is closed."""
    for _ in range(_LOOKS):
        with contextlib.suppress(KeyError, ValueError):  # its link was of one file, its text of the next
            return _read_once(pid, number, links, infos)
    raise _swapped(pid, number)


def _read_once(pid: int, number: int, links: int, infos: int) -> Descriptor | None:
    name = str(number)
    try:
        target = os.readlink(name, dir_fd=links)
        status = os.stat(name, dir_fd=links)
        info = _read_text(name, infos)
        if not _of_one_file(target, status, info) and os.readlink(name, dir_fd=links) != target:
            raise ValueError(f"descriptor {name} changed")
    except OSError as error:
        if error.errno == errno.ENOENT and Path(f"/proc/{pid}/fd").exists():
            return None
        raise lost_process(pid, error) from error
    return parse_descriptor(number, target, status, info)


def _of_one_file(target: str, status: os.stat_result, info: str) -> bool:
    """Whether the three tell the number of one file, which sockets and pipes do since Linux 5.14."""
    _, _, told = info.partition("\nino:")
    numbers = {f"[{status.st_ino}]", f"[{told.partition(chr(10))[0].strip()}]"}
    return numbers == {target.partition(":")[2]}


def _read_text(name: str, directory: int) -> str:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        parts = [os.read(descriptor, _ROOM)]
        while len(parts[-1]) > 0 and not (len(parts) == 1 and len(parts[0]) < _SURELY_WHOLE):
            parts.append(os.read(descriptor, _ROOM))
    finally:
        os.close(descriptor)
    return b"".join(parts).decode(errors="replace")


def parse_descriptor(
    number: int, target: str, status: os.stat_result, info: str, details: SocketDetails | None = None
) -> Descriptor:
    """A descriptor from its link, its stat and the text of its fdinfo."""
    head = {key: value.strip() for key, _, value in (line.partition(":") for line in info.split("\n")[:8])}
    flags = int(head.get("flags", "0"), 8)
    descriptor = Descriptor(
        number=number,
        kind=_kind(target, status),
        target=target,
        inode=status.st_ino,
        device=status.st_dev,
        mode=status.st_mode,
        offset=int(head.get("pos", "0")),
        flags=flags & ~_O_CLOEXEC_FDINFO,
        cloexec=bool(flags & _O_CLOEXEC_FDINFO),
        device_number=status.st_rdev,
        socket=details,
        locks=_locks(info) if "lock:" in info else (),
    )
    return descriptor if descriptor.kind not in _DETAILED else _with_details(descriptor, info)


def _locks(info: str) -> tuple[str, ...]:
    return tuple(line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("lock:"))


def _kind(target: str, status: os.stat_result) -> Kind:
    if target.startswith("anon_inode:"):
        return _ANONYMOUS.get(target.removeprefix("anon_inode:"), "unknown")
    if target.startswith("pidfd:"):
        return "pidfd"
    if target.startswith("/memfd:") and target.endswith(" (deleted)"):
        return "memfd"
    mode = status.st_mode
    if stat.S_ISSOCK(mode):
        return "socket"
    if stat.S_ISFIFO(mode):
        return "pipe"
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISCHR(mode):
        return "terminal" if os.major(status.st_rdev) in _TERMINAL_MAJORS else "device"
    return "device" if stat.S_ISBLK(mode) else "unknown"


def _with_details(descriptor: Descriptor, info: str) -> Descriptor:
    head = {key: value.strip() for key, _, value in (line.partition(":") for line in info.splitlines())}
    match descriptor.kind:
        case "epoll":
            return replace(descriptor, epoll_items=tuple(_epoll_items(info)))
        case "timerfd":
            return replace(descriptor, timer=_timer(head))
        case "signalfd":
            return replace(descriptor, signal_mask=int(head["sigmask"], 16))
        case "eventfd":
            count, semaphore = int(head["eventfd-count"], 16), head.get("eventfd-semaphore", "0")
            return replace(descriptor, event_count=count, event_semaphore=semaphore != "0")
        case "inotify":
            return replace(descriptor, watches=tuple(_watches(info)))
        case "pidfd":
            return replace(descriptor, pid=int(head["Pid"]) if "Pid" in head else None)
        case _:
            return descriptor


def _epoll_items(info: str) -> Iterator[EpollItem]:
    for number, events, data, _, inode, device in _EPOLL_ITEM.findall(info):
        yield EpollItem(
            int(number),
            int(events, 16),
            int(data, 16),
            int(inode or "0", 16),
            _device(int(device or "0", 16)),
        )


def _watches(info: str) -> Iterator[InotifyWatch]:
    for watch, inode, device, mask in _WATCH.findall(info):
        yield InotifyWatch(int(watch), int(inode, 16), _device(int(device, 16)), int(mask, 16))


def _device(kernel: int) -> int:
    """A kernel-internal dev_t (12 bits major, 20 bits minor) as stat(2) shows it."""
    return os.makedev(kernel >> 20, kernel & 0xFFFFF)


def _timer(head: dict[str, str]) -> TimerDetails:
    def nanoseconds(text: str) -> int:
        match = _PAIR.match(text)
        return int(match[1]) * 10**9 + int(match[2]) if match else 0

    return TimerDetails(
        int(head["clockid"]),
        int(head["ticks"]),
        int(head["settime flags"], 8),
        nanoseconds(head["it_value"]),
        nanoseconds(head["it_interval"]),
    )


# ---------------------------------------------------------------------------------------- duplicates


@contextlib.contextmanager
def open_pidfd(pid: int) -> Iterator[int]:
    """A descriptor for a process, closed at the end."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        raise lost_process(pid, error) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def has_ended(pidfd: int) -> bool:
    """Whether the process of a pidfd has ended."""
    return bool(select.select([pidfd], [], [], 0)[0])


def send_signal(pidfd: int, number: int) -> None:
    """pidfd_send_signal(2); raises OSError."""
    signal.pidfd_send_signal(pidfd, number)


def duplicate(pid: int, number: int) -> int:
    """A duplicate (same open file) of another process's descriptor, close-on-exec; the caller closes it."""
    return duplicate_many(pid, [number])[number]


def duplicate_many(pid: int, numbers: Iterable[int]) -> dict[int, int]:
    """Number in the process -> duplicate here; on an error nothing stays open."""
    other = access_to(pid)
    if other is not None:
        return _duplicate_by(other, pid, list(numbers))
    found: dict[int, int] = {}
    with open_pidfd(pid) as pidfd:
        try:
            for number in numbers:
                found[number] = duplicate_through(pidfd, pid, number)
        except BaseException:
            for descriptor in found.values():
                os.close(descriptor)
            raise
    return found


def _duplicate_by(other: Access, pid: int, numbers: list[int]) -> dict[int, int]:
    try:
        found = other.duplicate(numbers)
    except OSError as error:
        raise _no_duplicate(error.errno or 0, pid, numbers[0]) from error
    missing = [number for number in numbers if number not in found]
    if missing:
        for descriptor in found.values():
            os.close(descriptor)
        raise _no_duplicate(errno.EBADF, pid, missing[0])
    return found


def duplicate_through(pidfd: int, pid: int, number: int) -> int:
    """The same with a pidfd that is open already; ``pid`` is for messages."""
    result: int = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if result >= 0:
        return result
    raise _no_duplicate(ctypes.get_errno(), pid, number)


def _no_duplicate(code: int, pid: int, number: int) -> InstarError:
    if code == errno.EBADF:
        return InstarError(
            "no-such-descriptor",
            f"process {pid} has no descriptor {number}",
            "it was closed meanwhile; try again",
        )
    if code in (errno.EMFILE, errno.ENFILE):
        return HostError(
            "too-many-descriptors", f"no room for a duplicate: {os.strerror(code)}", "raise `ulimit -n`"
        )
    return lost_process(pid, OSError(code, os.strerror(code)))


def _swapped(pid: int, number: int) -> InstarError:
    return InstarError(
        "no-such-descriptor",
        f"descriptor {number} of process {pid} was another file at each of {_LOOKS} looks",
        "try again",
    )


def _socket_details(source: Source, socket: Descriptor) -> SocketDetails | None:
    """None when another file has its number by now."""
    duplicate = source(socket.number)
    if duplicate < 0:
        return unreadable_socket(os.strerror(-duplicate)) if duplicate != -errno.EBADF else None
    try:
        return describe_socket(duplicate) if os.fstat(duplicate).st_ino == socket.inode else None
    finally:
        os.close(duplicate)


def close_on_exec(descriptor: int) -> bool:
    """FD_CLOEXEC of a descriptor of this process."""
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
