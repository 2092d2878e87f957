"""Which pages of a process were written since: userfaultfd's asynchronous write protection (Linux 6.7).

A userfaultfd belongs to the memory of the process that made it, whoever holds a descriptor of it. Pages of
the ranges that are registered with it are write-protected by PAGEMAP_SCAN; the kernel itself resolves the
first write to each, whoever makes it (the process, a system call, ptrace, process_vm_writev), and remembers.
When the last descriptor is closed, all is as it was. See Documentation/admin-guide/mm, pagemap.rst and
userfaultfd.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

#: Arguments of userfaultfd(2): close-on-exec, not blocking, no faults of the kernel's on its behalf.
FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | 1
_API = struct.Struct("<QQQ")  # struct uffdio_api
_REGISTER = struct.Struct("<QQQQ")  # struct uffdio_register
_SCAN = struct.Struct("<12Q")  # struct pm_scan_arg
_UFFDIO_API, _UFFDIO_REGISTER, _PAGEMAP_SCAN = 0xC018AA3F, 0xC020AA00, 0xC0606610
_VERSION, _WP_ASYNC, _MODE_WP = 0xAA, 1 << 15, 2
_WP_MATCHING, _CHECK_WPASYNC = 1, 2
_WRITTEN, _PRESENT, _SWAPPED = 1 << 1, 1 << 3, 1 << 4
_REGION = np.dtype([("start", "u8"), ("end", "u8"), ("categories", "u8")])
_REGIONS = 4096
_PAGE = 4096


class WrittenPages:
    """Tells pages that were written since ``watch`` from those that were not.

    What is not watched, was mapped, moved or thrown away since is no unwritten page. Not seen are writes to
    shared memory by others, changes of a mapped file, and writes by devices into memory that was handed to
    them before ``watch``: only private anonymous memory may be watched, and only where nothing is under way.

    Args:
        pid: The process.
        descriptor: A userfaultfd of its memory; belongs to this object.

    Raises:
        OSError: The kernel cannot do it.
    """

    def __init__(self, pid: int, descriptor: int) -> None:
        self._userfault, self._pagemap = descriptor, -1
        self._watched: list[tuple[int, int]] = []
        try:
            fcntl.ioctl(descriptor, _UFFDIO_API, bytearray(_API.pack(_VERSION, _WP_ASYNC, 0)))
            self._pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            self.close()
            raise

    def watch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Begin to watch page-aligned ranges (start, end); forgets what was written before.

        Where the kernel refuses a range, its pages count as written.
        """
        self._watched = []
        for start, end in ranges:
            try:
                request = bytearray(_REGISTER.pack(start, end - start, _MODE_WP, 0))
                fcntl.ioctl(self._userfault, _UFFDIO_REGISTER, request)
                self._scan(start, end, _WP_MATCHING | _CHECK_WPASYNC, None)
            except OSError:
                continue
            self._watched.append((start, end))

    def unwritten(self, start: int, end: int) -> Array:
        """(n, 2) u8: address and size of the runs of pages in a range that were not written."""
        found = [np.zeros((0, 2), np.uint64)]
        for low, high in self._watched:
            at, stop = max(start, low), min(end, high)
            if at < stop:
                try:
                    found.append(self._runs(at, stop))
                except OSError:  # part of it was unmapped, or mapped anew
                    continue
        return np.concatenate(found)

    def sees_writes(self) -> bool:
        """Try it on memory of this process, whose the descriptor must be."""
        with mmap.mmap(-1, 2 * _PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            memory[:] = bytes(2 * _PAGE)
            place = ctypes.c_char.from_buffer(memory)
            start = ctypes.addressof(place)
            del place
            self.watch([(start, start + 2 * _PAGE)])
            memory[_PAGE] = 1
            return bool(self.unwritten(start, start + 2 * _PAGE).tolist() == [[start, _PAGE]])

    def close(self) -> None:
        """Watch no more; harmless when that is done already."""
        for descriptor in (self._userfault, self._pagemap):
            if descriptor >= 0:
                os.close(descriptor)
        self._userfault = self._pagemap = -1
        self._watched = []

    def _runs(self, start: int, end: int) -> Array:
        regions, runs = np.empty(_REGIONS, _REGION), []
        while start < end:
            count, reached = self._scan(start, end, _CHECK_WPASYNC, regions)
            rows = regions[:count]
            runs.append(np.stack([rows["start"], rows["end"] - rows["start"]], axis=1))
            if count:  # where it came to, the kernel may tell as less than what it has reported
                reached = max(reached, int(rows["end"][-1]))
            if reached <= start:
                break
            start = reached
        return np.concatenate(runs)

    def _scan(self, start: int, end: int, flags: int, regions: Array | None) -> tuple[int, int]:
        """PAGEMAP_SCAN: how many regions of unwritten pages, and where it came to.

        With ``_WP_MATCHING`` all pages are protected. Pages that hold nothing count as written: what they
        held may have been thrown away (MADV_DONTNEED leaves no other trace).
        """
        address, count = (0, 0) if regions is None else (regions.ctypes.data, len(regions))
        inverted = wanted = 0 if regions is None else _WRITTEN
        any_of = 0 if regions is None else _PRESENT | _SWAPPED
        request = bytearray(
            _SCAN.pack(
                _SCAN.size, flags, start, end, 0, address, count, 0, inverted, wanted, any_of, wanted | any_of
            )
        )
        found = fcntl.ioctl(self._pagemap, _PAGEMAP_SCAN, request)
        return found, _SCAN.unpack(request)[4]


def is_possible() -> bool:
    """Whether this kernel, and the rights of this process, allow for it."""
    number = ctypes.CDLL(None, use_errno=True).syscall(323, FLAGS)  # userfaultfd
    if number < 0:
        return False
    with contextlib.suppress(OSError):
        pages = WrittenPages(os.getpid(), number)
        try:
            return pages.sees_writes()
        finally:
            pages.close()
    return False
