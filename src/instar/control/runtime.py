"""The preload runtime inside a parked future (native/runtime): its calls, with columns for arguments.

Every method makes remote calls, so the future must stand at a stop, and leaves it at the same stop. Arguments
go through scratch memory in the future, which the gate unmaps.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from instar.errors import HostError, InstarError, RefusedError
from instar.heap.inherited import (
    INTERPOSED,
    LIBRARY,
    NARROW_BLOCK,
    RANGE,
    WIDE_BLOCK,
    find_state,
    read_state,
)
from instar.process.exports import find_exports
from instar.process.maps import read_maps
from instar.process.memory import Memory
from instar.process.registers import signed
from instar.process.tracee import Tracee

Column = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.void]

REQUEST = np.dtype(
    [
        ("start", "<u8"), ("size", "<u8"), ("block_count", "<u8"), ("blocks", "<u8"),
        ("protection", "<u4"), ("granule_shift", "<u4"), ("flags", "<u4"), ("result", "<i4"),
    ]
)  # fmt: skip
EPOLL_ITEM = np.dtype(
    [
        ("epoll", "<i4"), ("operation", "<i4"), ("descriptor", "<i4"), ("source", "<i4"),
        ("events", "<u4"), ("result", "<i4"), ("data", "<u8"), ("flags", "<u4"), ("reserved", "<u4"),
    ]
)  # fmt: skip
LOCK = np.dtype(
    [("descriptor", "<i4"), ("type", "<i2"), ("reserved", "<i2"), ("start", "<i8"), ("length", "<i8")]
)
WIDE, PLAIN = 1, 2
EPOLL_FIRE = 1
CLOEXEC, REPLACE = 1, 2

_READ_WRITE = 3
_BATCH = 253  # SCM_MAX_FD
_MESSAGES = 16  # in flight at a time: well below the limits on queued messages and on descriptors in flight
_NARROW_EXTENT = 1 << 36
_NARROW_SIZE = 1 << 32
_BLOCKS, _HELD = 1 << 16, 1 << 20  # of tables that are written at a time


class RuntimeCallError(InstarError):
    """A call of the runtime failed inside the future."""

    def __init__(self, name: str, code: int, what: str) -> None:
        super().__init__(
            "runtime-call",
            f"{name} in the new version: {what}: {os.strerror(code)}",
            "see the limits of the process (open files, memory) with `instar doctor PID`",
        )
        self.errno = code


class AddressTakenError(RefusedError):
    """Memory of the past cannot keep its address: something of the future lies there.

    Attributes:
        start: Of the range that could not be mapped.
        size: Its bytes.
    """

    def __init__(self, start: int, size: int) -> None:
        super().__init__(
            "address-taken",
            f"the new version has something of its own in {start:#x}-{start + size:#x}",
            "try again: the system puts libraries and stack elsewhere each time",
        )
        self.start = start
        self.size = size


class Runtime:
    """Calls into ``libinstar-runtime.so`` of a parked future.

    Attributes:
        tracee: The future's thread.
        state_address: Of ``instar_runtime_state``.
        symbols: Exported name -> address.
    """

    def __init__(self, tracee: Tracee) -> None:
        """Find the library; raises RefusedError when the future runs without it or around it."""
        self.tracee = tracee
        self.memory: Memory = tracee.memory
        maps = read_maps(tracee.pid)
        address = find_state(self.memory, maps)
        exports = find_exports(self.memory, maps, LIBRARY)
        if address is None or exports is None:
            raise RefusedError(
                "runtime-missing",
                f"process {tracee.pid} runs without {LIBRARY}: the new version executed another program, "
                "or the loader may not preload",
                "start the program itself (no script, no set-user-id program)",
            )
        self.state_address = address
        self.symbols = exports.symbols
        self._scratch = self._room = 0
        if not int(self.state()["flags"]) & INTERPOSED:
            raise RefusedError(
                "allocator-in-executable",
                "the new version brings a `free` of its own: memory of the old version cannot be freed there",
                "link the allocator dynamically, or build without the sanitizer",
            )

    def state(self) -> np.void:
        """The row of ``STATE`` as it is now."""
        return read_state(self.memory, self.state_address)

    def call(self, name: str, *arguments: int, what: str = "failed") -> int:
        """Call ``instar_runtime_<name>``; raises RuntimeCallError for a negative answer."""
        result = signed(self.tracee.call(self.symbols[f"instar_runtime_{name}"], *arguments))
        if result < 0:
            raise RuntimeCallError(name, -result, what)
        return result

    # ------------------------------------------------------------------------------------ arguments

    def scratch(self, size: int) -> int:
        """Fresh memory in the future until the gate is passed; its address."""
        return self.call("scratch", size, what=f"{size} bytes of scratch memory")

    def _stage(self, *arrays: npt.NDArray[np.generic]) -> list[int]:
        """Write arrays into the scratch memory of calls; their addresses. Valid until the next ``_stage``."""
        sizes = [(array.nbytes + 63) & ~63 for array in arrays]
        total = max(sum(sizes), 4096)
        if total > self._room:
            room = max(total, 2 * self._room)
            self._scratch, self._room = self.scratch(room), room
        addresses, address = [], self._scratch
        for array, size in zip(arrays, sizes, strict=True):
            self.memory.write(address, np.ascontiguousarray(array).view(np.uint8).reshape(-1))
            addresses.append(address)
            address += size
        return addresses

    def stage(self, array: npt.NDArray[np.generic]) -> int:
        """The same for one array; its address."""
        return self._stage(array)[0]

    def fetch(self, address: int, like: npt.NDArray[np.generic]) -> None:
        """Read an array that a call has changed back in place."""
        like[...] = np.frombuffer(self.memory.read(address, like.nbytes), like.dtype).reshape(like.shape)

    # ------------------------------------------------------------------------------------ memory

    def map_ranges(
        self,
        starts: npt.ArrayLike,
        sizes: npt.ArrayLike,
        *,
        protections: npt.ArrayLike = _READ_WRITE,
        plain: npt.ArrayLike = False,
    ) -> None:
        """Map private anonymous memory at exactly these places, all or none.

        Args:
            starts: Page-aligned addresses. A range that was mapped before with this start is resized.
            sizes: Bytes, multiples of the page.
            protections: PROT_* for each or all.
            plain: True for memory of the program's own mmap, which no allocator owns.

        Raises:
            AddressTakenError: A place is not free.
        """
        requests = _requests(starts, sizes)
        requests["protection"] = protections
        requests["flags"] = np.where(plain, PLAIN, 0)
        if not len(requests):
            return
        (address,) = self._stage(requests)
        try:
            self.call("map_ranges", address, len(requests), what="memory of the old version")
        except RuntimeCallError as error:
            self.fetch(address, requests)
            failed = requests[requests["result"] != 0]
            if error.errno == errno.EEXIST and len(failed):
                raise AddressTakenError(int(failed["start"][0]), int(failed["size"][0])) from error
            raise

    def unmap_ranges(
        self, starts: npt.ArrayLike, sizes: npt.ArrayLike, *, plain: npt.ArrayLike = False
    ) -> None:
        """Undo ``map_ranges`` (ranges that were entered are unmapped whole)."""
        requests = _requests(starts, sizes)
        requests["flags"] = np.where(plain, PLAIN, 0)
        if len(requests):
            self.call("unmap_ranges", *self._stage(requests), len(requests))

    def ranges(self) -> Rows:
        """Rows of ``RANGE``: what is mapped and entered now."""
        state = self.state()
        raw = self.memory.read(int(state["ranges"]), int(state["range_count"]) * RANGE.itemsize)
        return np.frombuffer(raw, RANGE)

    def set_blocks(self, blocks: Rows) -> None:
        """Say which blocks live in the mapped ranges; replaces what was said before about these ranges.

        Args:
            blocks: Rows of ``instar.heap.inherited.BLOCK`` by ascending address, not overlapping, each
                inside one range.
        """
        ranges = self.ranges()
        if not len(ranges):
            return
        first = np.searchsorted(blocks["address"], ranges["start"])
        last = np.searchsorted(blocks["address"], ranges["end"])
        requests = _requests(ranges["start"], ranges["end"] - ranges["start"])
        requests["block_count"] = last - first
        tables = [blocks[begin:end] for begin, end in zip(first.tolist(), last.tolist(), strict=True)]
        for row, table in zip(requests, tables, strict=True):
            _choose_encoding(row, table)
        (address,) = self._stage(requests)
        self.call("reserve_blocks", address, len(requests), what="tables of inherited blocks")
        self.fetch(address, requests)
        self._write_tables(requests, tables)
        self.call("set_blocks", address, len(requests), what="blocks overlap or lie outside of their range")

    def _write_tables(self, requests: Rows, tables: Sequence[Rows]) -> None:
        """Many small tables at once, a large one piece by piece: it may be as large as what it describes."""
        starts, pieces, held = [], [], 0
        for request, table in zip(requests, tables, strict=True):
            place = int(request["blocks"])
            for at in range(0, len(table), _BLOCKS):
                piece = _encode(request, table[at : at + _BLOCKS])
                starts.append(place)
                pieces.append(piece)
                place, held = place + piece.nbytes, held + piece.nbytes
                if held >= _HELD:
                    self._write_pieces(starts, pieces)
                    starts, pieces, held = [], [], 0
        self._write_pieces(starts, pieces)

    def _write_pieces(self, starts: Sequence[int], pieces: Sequence[npt.NDArray[np.uint8]]) -> None:
        if starts:
            sizes = np.array([piece.nbytes for piece in pieces], np.uint64)
            self.memory.write_spans(np.array(starts, np.uint64), sizes, np.concatenate(pieces))

    def allocate(self, sizes: npt.ArrayLike, alignments: npt.ArrayLike | None = None) -> Column:
        """Addresses of new blocks from the future's own allocator, one per size; contents are arbitrary."""
        wanted = np.ascontiguousarray(sizes, np.uint64)
        addresses = np.zeros(len(wanted), np.uint64)
        if not len(wanted):
            return addresses
        columns = [wanted, addresses]
        if alignments is not None:
            columns.append(np.ascontiguousarray(np.broadcast_to(alignments, wanted.shape), np.uint64))
        staged = self._stage(*columns)
        done = self.call(
            "allocate", staged[0], staged[2] if alignments is not None else 0, staged[1], len(wanted)
        )
        self.fetch(staged[1], addresses)
        if done < len(wanted):
            self.release(addresses[:done])
            raise HostError(
                "out-of-memory",
                f"the new version could not allocate {int(wanted.sum())} bytes in {len(wanted)} blocks",
                "free some memory or raise the limit of the process",
            )
        return addresses

    def release(self, addresses: Column) -> None:
        """Free blocks of the future."""
        if len(addresses):
            (address,) = self._stage(addresses)
            self.call("release", address, len(addresses))

    # ------------------------------------------------------------------------------------ descriptors

    def import_descriptors(
        self, channel: socket.socket, numbers: Sequence[int], sources: Sequence[int], flags: npt.ArrayLike = 0
    ) -> None:
        """Give the future descriptors of ours under the numbers wanted.

        Args:
            channel: Our end of the channel (``instar.control.channel``).
            numbers: In the future; sorted ones need the least work.
            sources: Descriptors of this process, duplicated.
            flags: CLOEXEC | REPLACE for each or all; without REPLACE a number in use is refused (EEXIST).
        """
        wanted = np.asarray(numbers, np.int32)
        bits = np.ascontiguousarray(np.broadcast_to(flags, wanted.shape), np.uint32)
        step = _BATCH * _MESSAGES
        for begin in range(0, len(wanted), step):
            part = slice(begin, begin + step)
            staged = self._stage(wanted[part], bits[part])
            for first in range(begin, min(begin + step, len(wanted)), _BATCH):
                last = min(first + _BATCH, begin + step)
                socket.send_fds(channel, [b"d"], list(sources[first:last]))
            count = len(wanted[part])
            self.call("import", *staged, count, what=f"descriptors {wanted[part].min()}-{wanted[part].max()}")

    def close_descriptors(self, numbers: Sequence[int]) -> None:
        """Close descriptors of the future."""
        column = np.asarray(numbers, np.int32)
        if len(column):
            self.call("close", *self._stage(column), len(column), what="a descriptor to close")

    def control_epoll(self, items: Rows) -> None:
        """Run rows of ``EPOLL_ITEM`` in order; ``result`` of each row is filled in (0 or -errno)."""
        if len(items):
            (address,) = self._stage(items)
            self.call("epoll", address, len(items))
            self.fetch(address, items)


def _requests(starts: npt.ArrayLike, sizes: npt.ArrayLike) -> Rows:
    begin = np.atleast_1d(np.asarray(starts, np.uint64))
    requests = np.zeros(len(begin), REQUEST)
    requests["start"] = begin
    requests["size"] = sizes
    return requests


def _choose_encoding(request: np.void, blocks: Rows) -> None:
    """Set granule_shift and flags of the request for the blocks of one range."""
    wide = int(request["size"]) > _NARROW_EXTENT or bool((blocks["size"] >= _NARROW_SIZE).any())
    if wide:
        request["flags"] |= WIDE
    else:
        request["granule_shift"] = _granule_shift(blocks["address"])


def _encode(request: np.void, blocks: Rows) -> npt.NDArray[np.uint8]:
    """Blocks of one range as the runtime reads them."""
    offsets = blocks["address"] - request["start"]
    if request["flags"] & WIDE:
        table: Rows = np.empty(len(blocks), WIDE_BLOCK)
        table["offset"] = offsets
    else:
        table = np.empty(len(blocks), NARROW_BLOCK)
        table["granule"] = offsets >> np.uint64(request["granule_shift"])
    table["size"] = blocks["size"]
    return table.view(np.uint8)


def _granule_shift(addresses: Column) -> int:
    """How many low bits of all offsets from a page are zero, up to 4 (glibc aligns to 16)."""
    bits = int(np.bitwise_or.reduce(addresses)) if len(addresses) else 0
    return min(4, (bits & -bits).bit_length() - 1) if bits else 4
