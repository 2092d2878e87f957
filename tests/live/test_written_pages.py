"""Every write to watched memory is seen, whoever makes it; what cannot be watched counts as written."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from instar.process.memory import Memory
from instar.process.written import FLAGS, WrittenPages, is_possible

PAGE, PAGES = 4096, 64
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mremap.restype = ctypes.c_void_p
_libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_FIXED, _ANONYMOUS = 0x10, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class Area:
    """Filled memory of this process, watched."""

    def __init__(self, pages: WrittenPages, start: int) -> None:
        self.pages, self.start, self.end = pages, start, start + PAGES * PAGE

    def written(self) -> list[int]:
        """Numbers of the pages that are not known to be as they were."""
        left = set(range(PAGES))
        for address, size in self.pages.unwritten(self.start, self.end).tolist():
            first = (address - self.start) // PAGE
            left -= set(range(first, first + size // PAGE))
        return sorted(left)

    def place(self, page: int, offset: int = 0) -> int:
        return self.start + page * PAGE + offset


@contextmanager
def watched(flags: int = _ANONYMOUS, before: int | None = None) -> Iterator[Area]:
    number = _libc.syscall(323, FLAGS)
    assert number >= 0
    pages = WrittenPages(os.getpid(), number)
    size = PAGES * PAGE
    room = _libc.mmap(None, size + (2 << 20), 3, _ANONYMOUS, -1, 0)
    start = (room + (2 << 20) - 1) & ~((2 << 20) - 1)
    assert _libc.mmap(start, size, 3, flags | _FIXED, -1, 0) == start
    if before is not None:
        _libc.madvise(start, size, before)
    ctypes.memset(start, 0x41, size)
    try:
        pages.watch([(start, start + size)])
        yield Area(pages, start)
    finally:
        pages.close()
        _libc.munmap(room, size + (2 << 20))


def test_this_machine_can() -> None:
    """Linux 6.7 and later: elsewhere everything is compared (and this test is no use)."""
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    assert is_possible() == (release >= (6, 7))


def test_nothing_written() -> None:
    with watched() as area:
        assert area.written() == []
        assert ctypes.string_at(area.start, PAGES * PAGE) == b"\x41" * (PAGES * PAGE)
        assert area.written() == []


def test_own_writes_and_those_of_system_calls() -> None:
    with watched() as area:
        ctypes.memset(area.place(3, 17), 1, 1)
        read, write = os.pipe()
        os.write(write, b"x" * (2 * PAGE))
        assert _libc.read(read, ctypes.c_void_p(area.place(9, 100)), 2 * PAGE) == 2 * PAGE
        os.close(read)
        os.close(write)
        assert area.written() == [3, 9, 10, 11]


def test_writes_of_others() -> None:
    """process_vm_writev, /proc/PID/mem (as ptrace pokes), from this and from another process."""
    with watched() as area:
        memory = Memory(os.getpid())
        memory.write(area.place(1, 5), b"y")
        memory.write_forced(area.place(2, 5), b"y")
        script = (
            f"from instar.process.memory import Memory; memory = Memory({os.getpid()});"
            f"memory.write({area.place(40)}, b'z'); memory.write_forced({area.place(41)}, b'z')"
        )
        _libc.prctl(0x59616D61, -1, 0, 0, 0)  # PR_SET_PTRACER, any
        subprocess.run([sys.executable, "-c", script], check=True)
        assert area.written() == [1, 2, 40, 41]


def test_fork_and_copies() -> None:
    """What a child writes into its copy is nobody's business; what the parent writes is seen."""
    with watched() as area:
        child = os.fork()
        if child == 0:
            ctypes.memset(area.place(7), 2, 1)
            os._exit(0)
        ctypes.memset(area.place(8), 2, 1)
        os.waitpid(child, 0)
        ctypes.memset(area.place(9), 2, 1)
        assert area.written() == [8, 9]


@pytest.mark.parametrize("advice", [4, 8, 9])  # MADV_DONTNEED, MADV_FREE (then thrown away), MADV_REMOVE
def test_thrown_away(advice: int) -> None:
    with watched() as area:
        result = _libc.madvise(area.place(5), 3 * PAGE, advice)
        if advice == 9:
            assert result == -1  # not for private memory
            assert area.written() == []
            return
        if advice == 8:
            _libc.madvise(area.place(5), 3 * PAGE, 21)  # MADV_PAGEOUT: the system is short of memory
        gone = [page for page in (5, 6, 7) if ctypes.string_at(area.place(page), 1) != b"\x41"]
        assert set(gone) <= set(area.written()) <= {5, 6, 7}
        assert advice == 8 or gone == [5, 6, 7]


def test_mapped_anew_moved_away_moved_there() -> None:
    with watched() as area:
        assert _libc.mmap(area.place(20), 2 * PAGE, 3, _ANONYMOUS | _FIXED, -1, 0) == area.place(20)
        assert set(area.written()) >= {20, 21}
    with watched() as area:
        moved = _libc.mremap(area.place(20), 2 * PAGE, 2 * PAGE, 1 | 4, None)  # MAYMOVE | DONTUNMAP
        assert moved and set(area.written()) >= {20, 21}
        _libc.munmap(moved, 2 * PAGE)
    with watched() as area:
        other = _libc.mmap(None, 2 * PAGE, 3, _ANONYMOUS, -1, 0)
        ctypes.memset(other, 0x42, 2 * PAGE)
        assert _libc.mremap(other, 2 * PAGE, 2 * PAGE, 1 | 2, area.place(30)) == area.place(30)
        assert set(area.written()) >= {30, 31}
    with watched() as area:
        _libc.munmap(area.place(50), PAGE)
        assert set(area.written()) >= {50}
        _libc.mmap(area.place(50), PAGE, 3, _ANONYMOUS | _FIXED, -1, 0)


def test_huge_pages() -> None:
    """MADV_HUGEPAGE: a write to one of 512 pages that are mapped as one."""
    with watched(before=14) as area:
        ctypes.memset(area.place(11), 3, 1)
        assert 11 in area.written()


def test_empty_pages_and_protection() -> None:
    with watched() as area:
        _libc.madvise(area.place(0), PAGES * PAGE, 4)
        area.pages.watch([(area.start, area.end)])
        ctypes.string_at(area.start, PAGES * PAGE)  # reading maps the page of zeros
        ctypes.memset(area.place(33), 1, 1)
        assert 33 in area.written()
        _libc.mprotect(ctypes.c_void_p(area.place(12)), PAGE, 1)
        _libc.mprotect(ctypes.c_void_p(area.place(12)), PAGE, 3)
        ctypes.memset(area.place(12), 1, 1)
        assert 12 in area.written()


def test_watching_again_forgets() -> None:
    with watched() as area:
        ctypes.memset(area.place(6), 1, 1)
        assert area.written() == [6]
        area.pages.watch([(area.start, area.end)])
        assert area.written() == []
        ctypes.memset(area.place(6), 2, 1)
        assert area.written() == [6]


def test_what_is_not_watched_counts_as_written() -> None:
    with watched() as area:
        area.pages.watch([(area.place(0), area.place(4))])
        assert area.written() == list(range(4, PAGES))
        area.pages.watch([(0x1000, 0x2000)])  # nothing is there
        assert area.written() == list(range(PAGES))
        area.pages.close()
        assert area.written() == list(range(PAGES))


def test_many_runs() -> None:
    """More than one answer of the kernel's."""
    count = 20_000
    number = _libc.syscall(323, FLAGS)
    pages = WrittenPages(os.getpid(), number)
    with mmap.mmap(-1, count * PAGE, _ANONYMOUS) as memory:
        view = np.frombuffer(memory, np.uint8)
        view[::PAGE] = 1
        start = view.ctypes.data
        pages.watch([(start, start + count * PAGE)])
        view[:: 2 * PAGE] = 2
        runs = pages.unwritten(start, start + count * PAGE)
        assert (runs[:, 1] == PAGE).all() and len(runs) == count // 2
        assert (runs[:, 0] == start + PAGE + 2 * PAGE * np.arange(count // 2)).all()
        del view
    pages.close()


def test_no_trace_is_left() -> None:
    """When it is closed, the memory has no userfaultfd any more; writes are as they were."""
    with watched() as area:
        area.pages.close()
        again = WrittenPages(os.getpid(), _libc.syscall(323, FLAGS))
        again.watch([(area.start, area.end)])  # EBUSY if the other still had it
        assert again.unwritten(area.start, area.end).tolist() == [[area.start, PAGES * PAGE]]
        again.close()
