"""``FILE`` objects as glibc has them in memory.

The offsets are those of ``struct _IO_FILE`` (bits/types/struct_FILE.h) and its vtable, fixed for binary
compatibility; every object is checked by its magic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from instar.errors import RefusedError
from instar.process.exports import Exports, find_exports
from instar.process.maps import Mapping
from instar.process.memory import Memory

#: ``struct _IO_FILE_plus``, the fields that matter.
FILE = np.dtype(
    {
        "names": [
            "flags", "read_ptr", "read_end", "read_base", "write_base", "write_ptr", "buf_base", "buf_end",
            "save_base", "save_end", "chain", "fileno", "column", "lock", "offset", "mode", "vtable",
        ],
        "offsets": [0, 8, 16, 24, 32, 40, 56, 64, 72, 88, 104, 112, 128, 136, 144, 192, 216],
        "formats": [
            "<u4", "<u8", "<u8", "<u8", "<u8", "<u8", "<u8", "<u8",
            "<u8", "<u8", "<u8", "<i4", "<u2", "<u8", "<i8", "<i4", "<u8",
        ],
        "itemsize": 224,
    }
)  # fmt: skip
MAGIC, MAGIC_MASK = 0xFBAD0000, 0xFFFF0000
NO_READS, NO_WRITES, IN_BACKUP, PUTTING, APPENDING = 0x4, 0x8, 0x100, 0x800, 0x1000
STANDARD = ("_IO_2_1_stdin_", "_IO_2_1_stdout_", "_IO_2_1_stderr_")

_LIBC = ("libc.so.6",)
_LONGEST_CHAIN = 1 << 16


@dataclass(frozen=True, slots=True)
class Stream:
    """A ``FILE``; pairs of addresses are (begin, end).

    Attributes:
        address: Of the object.
        number: Its descriptor; negative for none.
        read: Base, next and end of what can be read; while ``flags & IN_BACKUP``, of what was pushed back.
        write: What was not written yet, while ``flags & PUTTING``.
        buffer: The whole buffer.
        saved: The read area proper, while ``flags & IN_BACKUP``.
        chain: The next stream.
        offset: What it takes for the descriptor's offset, -1 for unknown.
        orientation: 0 none yet, -1 bytes, 1 wide characters.
    """

    address: int
    flags: int
    number: int
    read: tuple[int, int, int]
    write: tuple[int, int]
    buffer: tuple[int, int]
    saved: tuple[int, int]
    chain: int
    column: int
    lock: int
    offset: int
    orientation: int
    vtable: int


def parse_stream(address: int, data: bytes) -> Stream | None:
    """Read the bytes of a ``struct _IO_FILE_plus``; None when the magic is not there."""
    row = dict(zip(FILE.names or (), np.frombuffer(data, FILE)[0].tolist(), strict=True))
    if row["flags"] & MAGIC_MASK != MAGIC:
        return None
    return Stream(
        address,
        row["flags"],
        row["fileno"],
        (row["read_base"], row["read_ptr"], row["read_end"]),
        (row["write_base"], row["write_ptr"]),
        (row["buf_base"], row["buf_end"]),
        (row["save_base"], row["save_end"]),
        row["chain"],
        row["column"],
        row["lock"],
        row["offset"],
        row["mode"],
        row["vtable"],
    )


def resolve_libc(memory: Memory, maps: Sequence[Mapping]) -> Exports:
    """The libc of a process; raises RefusedError "libc-unknown"."""
    exports = find_exports(memory, maps, *_LIBC)
    if exports is None or "_IO_list_all" not in exports.symbols:
        raise RefusedError(
            "libc-unknown",
            f"process {memory.pid} has no glibc whose streams could be listed",
            "only dynamically linked programs on glibc can be updated",
        )
    return exports


def list_streams(memory: Memory, libc: Exports) -> list[Stream]:
    """All open streams of a stopped process, the newest first; the standard ones also if they were closed."""
    found: dict[int, Stream] = {}
    address = memory.u64(libc.symbols["_IO_list_all"])
    while address and address not in found and len(found) < _LONGEST_CHAIN:
        stream = parse_stream(address, memory.read(address, FILE.itemsize))
        if stream is None:
            raise RefusedError(
                "libc-unknown",
                f"the list of streams of process {memory.pid} has no stream at {address:#x}",
                "this version of glibc is not known; report it (`ldd --version`)",
            )
        found[address] = stream
        address = stream.chain
    for name in STANDARD:
        address = libc.symbols[name]
        stream = parse_stream(address, memory.read(address, FILE.itemsize))
        if stream is not None and address not in found:
            found[address] = stream
    return list(found.values())


def plain_vtable(memory: Memory, libc: Exports) -> int:
    """What plain file streams point at (taken from stdin where the symbol is not exported any more)."""
    found = libc.symbols.get("_IO_file_jumps")
    return found if found is not None else memory.u64(libc.symbols[STANDARD[0]] + FILE.itemsize - 8)
