"""Descriptors of a process as columns, cheap enough for ten thousand in a pause (native/kernels)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import stat
from collections.abc import Iterable
from functools import cache

import numpy as np
import numpy.typing as npt

from instar.errors import HostError
from instar.native import load
from instar.process.access import Access, access_to
from instar.process.descriptors import list_numbers
from instar.process.failures import lost_process

Rows = npt.NDArray[np.void]

#: ``struct instar_descriptor``. ``own`` is a duplicate in this process or -1; ``flags`` has O_CLOEXEC, or is
#: NOT_READ.
OBSERVED = np.dtype(
    [
        ("device", "<u8"),
        ("inode", "<u8"),
        ("number", "<i4"),
        ("own", "<i4"),
        ("mode", "<u4"),
        ("flags", "<u4"),
    ]
)
#: ``struct instar_epoll_entry``: one registration; ``device`` as the kernel counts it (20 bits minor).
EPOLL_ENTRY = np.dtype(
    [("descriptor", "<i4"), ("events", "<u4"), ("data", "<u8"), ("inode", "<u8"), ("device", "<u8")]
)
O_CLOEXEC = 0o2000000
NOT_READ = 0xFFFFFFFF


@cache
def _library() -> ctypes.CDLL:
    library = load("kernels")
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    number = ctypes.c_int32
    library.instar_descriptors_duplicate.argtypes = (number, number, pointer, count)
    library.instar_descriptors_observe.argtypes = (number, pointer, count)
    library.instar_descriptors_compare.argtypes = (number, pointer, number, pointer, count, pointer)
    library.instar_epoll_parse.argtypes = (ctypes.c_char_p, count, pointer, count)
    library.instar_descriptors_describe.argtypes = (pointer, count)
    library.instar_descriptors_owners.argtypes = (pointer, count, pointer)
    for name in (
        "descriptors_duplicate",
        "descriptors_describe",
        "descriptors_owners",
        "descriptors_observe",
        "descriptors_compare",
        "epoll_parse",
    ):
        getattr(library, f"instar_{name}").restype = ctypes.c_int64
    return library


def observe(pid: int, numbers: npt.ArrayLike) -> Rows:
    """What the numbered descriptors are now (rows of ``OBSERVED``); those that are closed are left out."""
    rows = np.zeros(len(np.asarray(numbers)), OBSERVED)
    rows["number"] = numbers
    rows["own"] = -1
    _check(_library().instar_descriptors_observe(pid, rows.ctypes.data, len(rows)), pid)
    found: Rows = rows[rows["inode"] != 0]
    return found


def read_flags(pid: int, rows: Rows) -> None:
    """Fill in ``flags`` of rows that have a duplicate."""
    copy = np.ascontiguousarray(rows)
    _check(_library().instar_descriptors_observe(pid, copy.ctypes.data, len(copy)), pid)
    rows["flags"] = copy["flags"]


def duplicate_all(pidfd: int, pid: int, limit: int) -> Rows:
    """Duplicate all descriptors below a number; rows of ``OBSERVED`` without flags, by number.

    The process must stand still: while it runs, a duplicate of ours would keep what it closes open, which its
    peers and its epoll sets would notice.
    """
    _raise_own_limit(limit)
    other = access_to(pid)
    if other is not None:
        return _duplicate_by(other, pid)
    rows = np.zeros(limit, OBSERVED)
    count = _library().instar_descriptors_duplicate(pidfd, limit, rows.ctypes.data, limit)
    _check(count, pid)
    return rows[:count]


def _duplicate_by(other: Access, pid: int) -> Rows:
    try:
        found = other.duplicate(list_numbers(pid))
    except OSError as error:
        _check(-(error.errno or errno.EIO), pid)
        raise
    rows = np.zeros(len(found), OBSERVED)
    rows["number"], rows["own"] = list(found), list(found.values())
    rows["flags"] = NOT_READ
    _check(_library().instar_descriptors_describe(rows.ctypes.data, len(rows)), pid)
    return rows


def reserve_table(count: int) -> None:
    """Make this process's table of descriptors large enough for so many more.

    The kernel grows it by doubling, and waits each time for all processors when the process has threads
    (fs/file.c, expand_fdtable): 100 ms for ten thousand, which must not fall into the pause.
    """
    _raise_own_limit(count)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 256 if soft == resource.RLIM_INFINITY else min(count + 256, soft - 1)
    spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.close(fcntl.fcntl(spare, fcntl.F_DUPFD_CLOEXEC, wanted))
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.EINVAL):
            raise
    finally:
        os.close(spare)


def close_all(rows: Rows) -> None:
    """Close the duplicates."""
    for own in rows["own"].tolist():
        if own >= 0:
            os.close(own)
    rows["own"] = -1


def compare_files(
    pid: int, numbers: npt.ArrayLike, other: int, other_numbers: npt.ArrayLike
) -> npt.NDArray[np.bool_] | None:
    """Which pairs of descriptors are one open file; None where the kernel cannot tell (kcmp)."""
    ours, theirs = np.ascontiguousarray(numbers, np.int32), np.ascontiguousarray(other_numbers, np.int32)
    same = np.zeros(len(ours), np.uint8)
    result = _library().instar_descriptors_compare(
        pid, ours.ctypes.data, other, theirs.ctypes.data, len(ours), same.ctypes.data
    )
    return None if result < 0 else same.astype(np.bool_)


def read_owners(rows: Rows) -> npt.NDArray[np.int32]:
    """Whom the kernel signals for each row with a duplicate (F_SETOWN): a process, minus a group, or 0."""
    own = np.ascontiguousarray(rows["own"], np.int32)
    owners = np.zeros(len(own), np.int32)
    _library().instar_descriptors_owners(own.ctypes.data, len(own), owners.ctypes.data)
    return owners


def read_epoll(pid: int, number: int) -> Rows:
    """The registrations of an epoll set, rows of ``EPOLL_ENTRY`` in the kernel's order."""
    path = f"/proc/{pid}/fdinfo/{number}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise lost_process(pid, error) from error
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        text = file.readall() or b""
    rows = np.zeros(text.count(b"tfd:"), EPOLL_ENTRY)
    count = _library().instar_epoll_parse(text, len(text), rows.ctypes.data, len(rows))
    if count != len(rows):
        raise HostError(
            "epoll-unreadable", f"{path} has an unknown form", "report the kernel version (`uname -r`)"
        )
    return rows


def kernel_device(device: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """``st_dev`` numbers as the kernel counts them (include/linux/kdev_t.h)."""
    major = ((device >> np.uint64(8)) & np.uint64(0xFFF)) | ((device >> np.uint64(32)) & ~np.uint64(0xFFF))
    minor = (device & np.uint64(0xFF)) | ((device >> np.uint64(12)) & ~np.uint64(0xFF))
    return (major << np.uint64(20)) | (minor & np.uint64(0xFFFFF))


def is_among(numbers: npt.ArrayLike, wanted: Iterable[int]) -> npt.NDArray[np.bool_]:
    """Which of the numbers are among the wanted ones (numpy.isin loads a module for 25 ms)."""
    column, found = np.asarray(numbers, np.int64), np.array(sorted(wanted), np.int64)
    if not len(found):
        return np.zeros(len(column), np.bool_)
    position = np.minimum(np.searchsorted(found, column), len(found) - 1)
    among: npt.NDArray[np.bool_] = found[position] == column
    return among


def is_anonymous(rows: Rows) -> npt.NDArray[np.bool_]:
    """Rows whose inode says nothing: all anonymous files share it, and its mode has no type."""
    kind: npt.NDArray[np.bool_] = (rows["mode"] & stat.S_IFMT(0xFFFF)) == 0
    return kind


def _check(result: int, pid: int) -> None:
    if result >= 0:
        return
    code = -result
    if code in (errno.ENFILE, errno.EMFILE):
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise HostError(
            "descriptor-limit",
            f"process {pid} has more open files than instar may have ({soft})",
            "raise the limit of the shell that runs instar: ulimit -n",
        )
    raise lost_process(pid, OSError(code, os.strerror(code)))


def _raise_own_limit(wanted: int) -> None:
    """As far as it goes; whether that suffices shows when the descriptors are there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted + 256:
        return
    target = wanted + 256
    if hard != resource.RLIM_INFINITY and hard < target:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, target))
            return
        except (ValueError, PermissionError):
            target = hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
