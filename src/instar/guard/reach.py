"""What the guard takes out of the past: bytes of its memory, and duplicates of its descriptors."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from instar.errors import FaultError

_PIDFD_GETFD = 438
VECTOR = struct.Struct("<QQ")  # struct iovec
_libc = ctypes.CDLL(None, use_errno=True)
_readv = _libc.process_vm_readv
_readv.restype = ctypes.c_ssize_t
_readv.argtypes = (
    ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong
)  # fmt: skip


def read(pid: int, address: int, size: int) -> bytes:
    """``size`` bytes of a process; raises FaultError, or OSError when it is gone."""
    buffer = ctypes.create_string_buffer(max(size, 1))
    copy(pid, VECTOR.pack(address, size), ctypes.addressof(buffer))
    return buffer.raw[:size]


def write(pid: int, address: int, data: bytes) -> None:
    """Replace bytes of a process; its stack grows for that, as if it had written there itself."""
    try:
        with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
            if os.pwrite(memory.fileno(), data, address) == len(data):
                return
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    raise FaultError(address, len(data), pid)


def copy(pid: int, vectors: bytes, own: int) -> None:
    """Copy spans of a process (at most 1024 of ``VECTOR``), one after the other, to an address here."""
    spans = list(VECTOR.iter_unpack(vectors))
    wanted = sum(size for _, size in spans)
    ours = VECTOR.pack(own, wanted)
    done = _readv(pid, _place(ours), 1, _place(vectors), len(spans), 0)
    if done == wanted:
        return
    code = ctypes.get_errno()
    if done < 0 and code != errno.EFAULT:
        raise OSError(code, os.strerror(code))
    at = max(done, 0)
    for address, size in spans:
        if at < size:
            raise FaultError(address + at, size - at, pid)
        at -= size


def _place(data: bytes) -> int:
    """Where CPython keeps the contents of a bytes object (alive as long as the caller holds it)."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def duplicates(pid: int, numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(number, duplicate here) of a process's descriptors; those that are closed are left out."""
    pidfd = os.pidfd_open(pid)
    try:
        for number in numbers:
            own = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
            if own >= 0:
                yield number, own
            elif (code := ctypes.get_errno()) != errno.EBADF:
                raise OSError(code, os.strerror(code))
    finally:
        os.close(pidfd)
