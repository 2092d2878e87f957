"""Reading and writing the memory of another process in bulk (process_vm_readv(2), process_vm_writev(2))."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from instar.errors import FaultError, HostError, InstarError, InternalError
from instar.process.access import access_to, read_proc
from instar.process.failures import ProcessDiedError, lost_process
from instar.process.smaps import read_smaps

Bytes = npt.NDArray[np.uint8]
Addresses = npt.NDArray[np.uint64]

_PAGE = 4096
_VECTORS = 1024  # UIO_MAXIOV
_CHUNK = 1 << 30  # below MAX_RW_COUNT, so that a short transfer always means a fault
_IOVEC = np.dtype([("base", np.uint64), ("length", np.uint64)])

_libc = ctypes.CDLL(None, use_errno=True)
_SIGNATURE = (
    ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong,
)  # fmt: skip
_readv = _libc.process_vm_readv
_writev = _libc.process_vm_writev
for _function in (_readv, _writev):
    _function.argtypes = _SIGNATURE
    _function.restype = ctypes.c_ssize_t

_Call = Callable[[int, int, int, int, int, int], int]


class Memory:
    """The address space of one process, seen from outside.

    The process need not be stopped, but what is read while it runs may be torn. Needs the right to trace it.
    Every method raises FaultError for an address that is not accessible, ProcessDiedError when the process
    is gone, HostError when it is out of reach; a write that fails may have been done in part.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``."""
        buffer = ctypes.create_string_buffer(max(size, 1))
        self._one(_readv, address, size, ctypes.addressof(buffer))
        return buffer.raw[:size]

    def read_into(self, address: int, buffer: Bytes) -> None:
        """Fill a contiguous u1 array from ``address``."""
        if not buffer.flags.c_contiguous:
            raise ValueError("the buffer must be contiguous")
        self._one(_readv, address, buffer.nbytes, buffer.ctypes.data)

    def write(self, address: int, data: bytes | Bytes) -> None:
        """Replace the bytes at ``address``; the pages must be writable for the process itself."""
        source = np.ascontiguousarray(np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data)
        self._one(_writev, address, source.nbytes, source.ctypes.data)

    def write_forced(self, address: int, data: bytes | Bytes) -> None:
        """Write where the process itself may not (text, RELRO), into private copies of the pages."""
        if access_to(self.pid) is not None:
            raise InternalError(f"process {self.pid} is held by another, which writes nothing into it")
        payload = bytes(data) if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
        try:
            descriptor = os.open(f"/proc/{self.pid}/mem", os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise lost_process(self.pid, error) from error
        try:
            done = 0
            while done < len(payload):
                done += os.pwrite(descriptor, payload[done:], address + done)
        except OSError as error:
            raise FaultError(address + done, len(payload) - done, self.pid) from error
        finally:
            os.close(descriptor)

    def read_spans(self, starts: npt.ArrayLike, sizes: npt.ArrayLike) -> Bytes:
        """The bytes of many spans, one after the other, in the order given.

        Args:
            starts: Addresses, u8.
            sizes: Bytes of each, same length.
        """
        starts, sizes = _columns(starts, sizes)
        result = np.empty(int(sizes.sum()), np.uint8)
        self._many(_readv, starts, sizes, result.ctypes.data)
        return result

    def copy_spans(self, starts: npt.ArrayLike, sizes: npt.ArrayLike, local: int) -> None:
        """The same, to an address here."""
        self._many(_readv, *_columns(starts, sizes), local)

    def write_spans(self, starts: npt.ArrayLike, sizes: npt.ArrayLike, data: Bytes) -> None:
        """Write the pieces of ``data``, one after the other, to many spans."""
        starts, sizes = _columns(starts, sizes)
        source = np.ascontiguousarray(data)
        if source.nbytes != int(sizes.sum()):
            raise ValueError(f"{source.nbytes} bytes for spans of {int(sizes.sum())}")
        self._many(_writev, starts, sizes, source.ctypes.data)

    def read_cstring(self, address: int, limit: int = 1 << 16) -> bytes:
        """The bytes before the first NUL; raises InstarError "string-too-long" past ``limit``."""
        found = b""
        while len(found) < limit:
            piece = min(_PAGE - (address + len(found)) % _PAGE, limit - len(found))
            chunk = self.read(address + len(found), piece)
            end = chunk.find(b"\0")
            if end >= 0:
                return found + chunk[:end]
            found += chunk
        raise InstarError(
            "string-too-long",
            f"no end within {limit} bytes of the string at {address:#x} of process {self.pid}",
            "this address holds no C string",
        )

    def u64(self, address: int) -> int:
        """The unsigned little-endian word at ``address``."""
        value: int = struct.unpack("<Q", self.read(address, 8))[0]
        return value

    def u32(self, address: int) -> int:
        """The unsigned little-endian 32-bit word at ``address``."""
        value: int = struct.unpack("<I", self.read(address, 4))[0]
        return value

    def room(self, size: int) -> Bytes:
        """An array of ``size`` bytes to be read into, from where no further copy is needed."""
        other = access_to(self.pid)
        return np.empty(size, np.uint8) if other is None else other.room(size)

    def page_entries(self, start: int, end: int) -> Addresses:
        """The entries of /proc/PID/pagemap for whole pages."""
        raw = read_proc(self.pid, "pagemap", (end - start) // _PAGE * 8, start // _PAGE * 8)
        return np.frombuffer(raw, np.uint64)

    def filled(self) -> set[int]:
        """Where mappings start that have any page (/proc/PID/smaps)."""
        return {mapping.start for mapping in read_smaps(self.pid) if mapping.filled}

    def _one(self, call: _Call, address: int, size: int, local: int) -> None:
        if size == 0:
            return
        if not 0 <= address < 1 << 63:
            raise FaultError(address, size, self.pid)
        if size > _CHUNK or access_to(self.pid) is not None:
            self._many(call, *_columns([address], [size]), local)
            return
        ours = struct.pack("QQ", local, size)
        theirs = struct.pack("QQ", address, size)
        done = call(self.pid, _address(ours), 1, _address(theirs), 1, 0)
        if done != size:
            self._fail(address, size, done)

    def _many(self, call: _Call, starts: Addresses, sizes: Addresses, local: int) -> None:
        starts, sizes = _split(starts, sizes)
        other = access_to(self.pid)
        if other is not None:
            if call is not _readv:
                raise InternalError(f"process {self.pid} is held by another, which writes nothing into it")
            if len(sizes):
                other.copy(starts, sizes, local)
            return
        vectors = np.empty(len(starts), _IOVEC)
        vectors["base"] = starts
        vectors["length"] = sizes
        ends = np.cumsum(sizes)
        first = 0
        while first < len(vectors):
            begin = int(ends[first - 1]) if first else 0
            last = min(first + _VECTORS, int(np.searchsorted(ends, begin + _CHUNK, side="right")))
            total = int(ends[last - 1]) - begin
            ours = struct.pack("QQ", local + begin, total)
            theirs = vectors.ctypes.data + first * _IOVEC.itemsize
            done = call(self.pid, _address(ours), 1, theirs, last - first, 0)
            if done != total:
                code = ctypes.get_errno()
                index = int(np.searchsorted(ends, begin + max(done, 0), side="right"))
                inside = begin + max(done, 0) - (int(ends[index - 1]) if index else 0)
                ctypes.set_errno(code)
                self._fail(int(starts[index]), int(sizes[index]), inside if done >= 0 else -1)
            first = last

    def _fail(self, address: int, size: int, done: int) -> None:
        if done >= 0:
            raise FaultError(address + done, size - done, self.pid)
        code = ctypes.get_errno()
        if code == errno.EFAULT:
            raise FaultError(address, size, self.pid)
        if code == errno.ENOMEM:
            raise HostError("out-of-memory", f"no memory to reach process {self.pid}", "free some memory")
        if code == errno.ESRCH:
            raise ProcessDiedError(self.pid, None)
        raise lost_process(self.pid, OSError(code, os.strerror(code)))


def _address(data: bytes) -> int:
    """Where CPython keeps the contents of a bytes object (alive as long as the caller holds it)."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def _columns(starts: npt.ArrayLike, sizes: npt.ArrayLike) -> tuple[Addresses, Addresses]:
    begin = np.ascontiguousarray(starts, np.uint64).reshape(-1)
    length = np.ascontiguousarray(sizes, np.uint64).reshape(-1)
    if len(begin) != len(length):
        raise ValueError(f"{len(begin)} starts for {len(length)} sizes")
    return begin, length


def _split(starts: Addresses, sizes: Addresses) -> tuple[Addresses, Addresses]:
    """Drop empty spans and cut those over the limit of one call."""
    if len(sizes) and int(sizes.max()) > _CHUNK:
        pieces = [
            (start + done, min(_CHUNK, size - done))
            for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
            for done in range(0, size, _CHUNK)
        ]
        return _columns([start for start, _ in pieces], [size for _, size in pieces])
    keep = sizes > 0
    if keep.all():
        return starts, sizes
    return starts[keep], sizes[keep]
