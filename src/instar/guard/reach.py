"""What the guard takes out of the past: bytes of its memory, and duplicates of its descriptors."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Iterator

from instar.errors import FaultError

_PIDFD_GETFD = 438
_VECTORS = 1024  # UIO_MAXIOV
_libc = ctypes.CDLL(None, use_errno=True)
for _function in (_libc.process_vm_readv, _libc.process_vm_writev):
    _function.restype = ctypes.c_ssize_t
    _function.argtypes = (
        ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong
    )  # fmt: skip


def read(pid: int, address: int, size: int) -> bytes:
    """``size`` bytes of a process; raises FaultError, or OSError when it is gone."""
    buffer = ctypes.create_string_buffer(max(size, 1))
    copy(pid, [(address, size, ctypes.addressof(buffer))])
    return buffer.raw[:size]


def write(pid: int, address: int, data: bytes) -> None:
    """Replace bytes of a process."""
    buffer = ctypes.create_string_buffer(data, len(data))
    _transfer(_libc.process_vm_writev, pid, [(address, len(data), ctypes.addressof(buffer))])


def copy(pid: int, spans: list[tuple[int, int, int]]) -> None:
    """Copy spans (address, size, address here) of a process; raises FaultError for what is not there."""
    for first in range(0, len(spans), _VECTORS):
        _transfer(_libc.process_vm_readv, pid, spans[first : first + _VECTORS])


def _transfer(call: ctypes._NamedFuncPointer, pid: int, spans: list[tuple[int, int, int]]) -> None:
    wanted = sum(size for _, size, _ in spans)
    theirs = b"".join(struct.pack("QQ", address, size) for address, size, _ in spans)
    ours = b"".join(struct.pack("QQ", own, size) for _, size, own in spans)
    done = call(pid, _place(ours), len(spans), _place(theirs), len(spans), 0)
    if done == wanted:
        return
    code = ctypes.get_errno()
    if done < 0 and code != errno.EFAULT:
        raise OSError(code, os.strerror(code))
    at = max(done, 0)
    for address, size, _ in spans:
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
