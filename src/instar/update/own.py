"""Maps in the future what the program of the past mapped itself: same place, same protection."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from instar.control.runtime import CLOEXEC, AddressTakenError, Runtime
from instar.errors import RefusedError
from instar.process.descriptors import duplicate, list_numbers
from instar.process.maps import Mapping, read_maps
from instar.process.registers import signed
from instar.process.smaps import read_smaps
from instar.process.tracee import Tracee
from instar.transfer.plan import KeptRange
from instar.validation.differences import mapping_problem

_MMAP, _MPROTECT, _MUNMAP, _MADVISE = 9, 10, 11, 28
_DONTNEED = 4
_SHARED, _PRIVATE, _ANONYMOUS, _FIXED_NOREPLACE = 1, 2, 0x20, 0x100000
_READ_WRITE = 3

# VmFlags of smaps -> what madvise(2) calls for, and what takes it back: fork and core dumps leave memory out.
_ADVICE = {"dc": (10, 11), "dd": (16, 17), "wf": (18, 19)}

Key = tuple[int, int, int, Mapping | None]


class OwnMappings:
    """The mappings of one future that the runtime does not own.

    Args:
        past: Process id of the past.
        future: Parked.
        runtime: In the future.
        channel: Descriptors go over it.
        number: A descriptor number that the future does not use.
    """

    def __init__(
        self, past: int, future: Tracee, runtime: Runtime, channel: socket.socket, number: int
    ) -> None:
        self._past, self._future, self._runtime = past, future, runtime
        self._channel, self._number = channel, number
        self._mapped: dict[Key, npt.NDArray[np.uint64]] = {}
        self._advised: dict[Key, frozenset[str]] = {}

    def map(self, ranges: Sequence[KeptRange], *, refreshed: bool) -> None:
        """Have exactly these mapped, open for writing.

        Args:
            ranges: By address.
            refreshed: They name only what differs from the last time.

        Raises:
            AddressTakenError: A place is not free.
        """
        wanted = {_key(kept): kept.pages for kept in ranges}
        for key in [key for key in self._mapped if key not in wanted]:
            self._inject(_MUNMAP, *key[:2])
            del self._mapped[key]
            self._advised.pop(key, None)
        for key, pages in wanted.items():
            if key not in self._mapped:
                self._map(key)
            elif not refreshed:
                self._forget(key, pages)
            if key not in self._mapped or not refreshed:
                self._mapped[key] = pages

    def _map(self, key: Key) -> None:
        if key[3] is None:
            self._place(key, _inside(key), _PRIVATE | _ANONYMOUS | _FIXED_NOREPLACE, -1, 0)
        else:
            self._map_file(key, key[3])

    def _forget(self, key: Key, pages: npt.NDArray[np.uint64]) -> None:
        """What was written before into pages that the past has given back since is as fresh again."""
        if _is_protected(key):
            self._inject(_MPROTECT, *key[:2], _inside(key))
        for start, size in self._mapped[key].tolist():
            if not any(low <= start and start + size <= low + room for low, room in pages.tolist()):
                self._inject(_MADVISE, start, size, _DONTNEED)

    def close(self) -> None:
        """Everything is written: protect what was protected, and have forks and core dumps treat it alike."""
        for key in filter(_is_protected, self._mapped):
            self._inject(_MPROTECT, *key[:3])
        if self._mapped:
            details = read_smaps(self._past)
            starts = [one.start for one in details]
            for key in self._mapped:
                self._advise(key, details[bisect_right(starts, key[0]) - 1].flags & _ADVICE.keys())

    def require_alike(self) -> None:
        """Validate what may be done with each of them: as in the past. Raises RolledBackError."""
        if not self._mapped:
            return
        past, future = read_maps(self._past), read_maps(self._future.pid)
        for start, size, *_ in self._mapped:
            old, new = _permissions(past, start, size), _permissions(future, start, size)
            if old != new:
                raise mapping_problem(start, size, old, new)

    def _advise(self, key: Key, wanted: frozenset[str]) -> None:
        present = self._advised.get(key, frozenset())
        for flag in present ^ wanted:
            if self._inject(_MADVISE, *key[:2], _ADVICE[flag][flag in present]) < 0:
                why = "the new version may not treat it as the old one does (madvise)"
                raise _not_carried("memory", *key[:2], why)
        self._advised[key] = wanted

    def _map_file(self, key: Key, source: Mapping) -> None:
        """Map what the past has mapped: the same file, found again as itself and not by its name alone."""
        with _opened(self._past, source) as descriptor:
            self._runtime.import_descriptors(self._channel, [self._number], [descriptor], CLOEXEC)
        try:
            flags = (_SHARED if source.shared else _PRIVATE) | _FIXED_NOREPLACE
            offset = source.offset + key[0] - source.start
            self._place(key, key[2], flags, self._number, offset)
        finally:
            self._runtime.close_descriptors([self._number])

    def _place(self, key: Key, protection: int, flags: int, descriptor: int, offset: int) -> None:
        start, size = key[:2]
        got = self._inject(_MMAP, start, size, protection, flags, descriptor, offset)
        if got == start:
            return
        if got >= 0 or got == -errno.EEXIST:
            if got > 0:
                self._inject(_MUNMAP, got, size)
            raise AddressTakenError(start, size)
        name = key[3].path if key[3] is not None else "anonymous memory"
        raise _not_carried(name, start, size, f"the new version may not map it: {os.strerror(-got)}")

    def _inject(self, number: int, *arguments: int) -> int:
        words = [argument & (1 << 64) - 1 for argument in arguments]
        return signed(self._future.inject_syscall(number, *words))


def _key(kept: KeptRange) -> Key:
    return kept.start, kept.size, kept.protection, kept.source


def _inside(key: Key) -> int:
    """Reserved memory is never written; everything else is, before it gets its own protection."""
    return _READ_WRITE if key[2] else 0


def _is_protected(key: Key) -> bool:
    return key[2] not in (0, _READ_WRITE) and key[3] is None


def _permissions(maps: Sequence[Mapping], start: int, size: int) -> str:
    """What may be done with a piece of memory; with the offset of where that changes."""
    found: list[tuple[int, str]] = []
    end = start
    for mapping in maps:
        low, high = max(mapping.start, start), min(mapping.end, start + size)
        if low < high:
            found += [(end, "not mapped")] if end < low else []
            found += [(low, mapping.perms)]
            end = high
    found += [(end, "not mapped")] if end < start + size else []
    changes = [one for one, before in zip(found, [(0, ""), *found], strict=False) if one[1] != before[1]]
    return ", ".join(text if at == start else f"{text} from {at:#x} on" for at, text in changes)


@contextlib.contextmanager
def _opened(past: int, mapping: Mapping) -> Iterator[int]:
    """A descriptor of the file behind a mapping of the past."""
    for descriptor in _candidates(past, mapping):
        try:
            if _is_same(descriptor, mapping) and _may(descriptor, mapping):
                yield descriptor
                return
        finally:
            os.close(descriptor)
    raise _not_carried(
        mapping.path, mapping.start, mapping.size, "its file cannot be opened again as the process has it"
    )


def _candidates(past: int, mapping: Mapping) -> Iterator[int]:
    mode = os.O_RDWR if mapping.shared and mapping.writable else os.O_RDONLY
    names = [f"/proc/{past}/map_files/{mapping.start:x}-{mapping.end:x}"]
    if not mapping.deleted:
        names.append(f"/proc/{past}/root{mapping.file}")
    for name in names:
        with contextlib.suppress(OSError):
            yield os.open(name, mode | os.O_CLOEXEC | os.O_NONBLOCK)
    for number in list_numbers(past):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{past}/fd/{number}").stat().st_ino == mapping.inode:
                yield duplicate(past, number)


def _is_same(descriptor: int, mapping: Mapping) -> bool:
    """The inode; the device too, where the kernel shows the same one in both places (not on overlays)."""
    status = os.fstat(descriptor)
    device = os.major(status.st_dev), os.minor(status.st_dev)
    name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    return status.st_ino == mapping.inode and (device == mapping.device or name == mapping.path)


def _may(descriptor: int, mapping: Mapping) -> bool:
    mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    if mapping.shared and mapping.writable:
        return mode == os.O_RDWR
    return mode in (os.O_RDONLY, os.O_RDWR)


def _not_carried(name: str, start: int, size: int, why: str) -> RefusedError:
    return RefusedError(
        "mapping-not-carried",
        f"the mapping {name} at {start:#x}-{start + size:#x} cannot be carried: {why}",
        "unmap it before the update, or run instar as root",
    )
