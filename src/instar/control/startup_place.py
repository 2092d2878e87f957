"""Puts the program file of the future where the past has its own.

What a program computes from the address of a static, a function or a string (a hash of the pointer's bytes,
an order of pointers) is state like any other, and no description tells which word it went into. Where both
versions lie at the same address, as much of it as possible stays true, and most pointers into the program
stay what they are. The kernel chooses the place of a position-independent program at random; before its first
instruction only the auxiliary vector tells where it is.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from instar.errors import InstarError, RefusedError
from instar.process.maps import Mapping, read_maps
from instar.process.memory import Memory
from instar.process.tracee import Tracee

_MREMAP, _PRCTL = 25, 157
_MREMAP_TO = 1 | 2  # MREMAP_MAYMOVE | MREMAP_FIXED
_PR_SET_MM, _PR_SET_MM_AUXV = 35, 12
_AT_NULL, _AT_PHDR, _AT_ENTRY = 0, 3, 9
_ET_DYN = 3
_PAGE = 4096


def place_program(tracee: Tracee, past: int) -> bool:
    """Move the program of a process, before its first instruction, to where the past has its own.

    Args:
        tracee: The future, right after its exec.
        past: PID of the past.

    Returns:
        Whether it lies there now; False when one of the two is not position-independent, or when there is no
        room: something of the future, or of the past beside its program (its heap), lies in that place.
    """
    theirs = _program(past)
    ours = _program(tracee.pid)
    if (
        theirs is None
        or ours is None
        or not _movable(tracee.memory, ours)
        or not _movable(Memory(past), theirs)
    ):
        return False
    delta = theirs[0].start - ours[0].start
    if delta == 0:
        return True
    span = (ours[0].start + delta, ours[-1].end + delta)
    if abs(delta) < span[1] - span[0]:
        return False  # a mapping cannot be moved onto itself
    if _taken(tracee.pid, ours, span) or _taken(past, theirs, span):
        return False
    for mapping in ours:
        target = mapping.start + delta
        moved = tracee.inject_syscall(_MREMAP, mapping.start, mapping.size, mapping.size, _MREMAP_TO, target)
        if moved != target:
            raise RefusedError(
                "launch-failed",
                f"the program of process {tracee.pid} cannot be moved to {target:#x}: {os.strerror(-moved)}",
                "try again; if it stays, please report it with the output of `instar doctor PID`",
            )
    _correct_vector(tracee, delta)
    return True


def _program(pid: int) -> list[Mapping] | None:
    """The mappings of the program file and the anonymous rest of its last segment, in order."""
    identity = Path(f"/proc/{pid}/exe").stat()
    device = (os.major(identity.st_dev), os.minor(identity.st_dev))
    maps = read_maps(pid)
    mine = [index for index, m in enumerate(maps) if m.inode == identity.st_ino and m.device == device]
    if not mine:
        return None
    last = mine[-1] + 1
    result = maps[mine[0] : last]
    while last < len(maps) and maps[last].start == result[-1].end and not maps[last].path:
        result.append(maps[last])
        last += 1
    whole = all(m.inode == identity.st_ino or not m.path for m in result)
    return result if whole and result[0].offset == 0 else None


def _movable(memory: Memory, program: Sequence[Mapping]) -> bool:
    header = memory.read(program[0].start, 20)
    return header[:4] == b"\x7fELF" and struct.unpack_from("<H", header, 16)[0] == _ET_DYN


def _taken(pid: int, program: Sequence[Mapping], span: tuple[int, int]) -> bool:
    """Whether something other than the program itself lies in the span."""
    own = {mapping.start for mapping in program}
    return any(m.start < span[1] and span[0] < m.end for m in read_maps(pid) if m.start not in own)


def _correct_vector(tracee: Tracee, delta: int) -> None:
    """The loader finds the program by the auxiliary vector on the stack, debuggers by the kernel's copy."""
    stack = tracee.registers().rsp
    memory = tracee.memory
    entries = dict(_vector(memory, stack))
    for address, (kind, value) in entries.items():
        if kind in (_AT_PHDR, _AT_ENTRY):
            memory.write(address + 8, struct.pack("<Q", value + delta))
    first, size = min(entries), 16 * len(entries)
    with contextlib.suppress(InstarError):  # needs CAP_SYS_RESOURCE, and is only for debuggers
        tracee.inject_syscall(_PRCTL, _PR_SET_MM, _PR_SET_MM_AUXV, first, size, 0)


def _vector(memory: Memory, stack: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Address -> (kind, value) of the auxiliary vector, its end included."""
    (count,) = struct.unpack("<Q", memory.read(stack, 8))
    address = stack + 8 * (count + 2)
    while memory.u64(address):
        address += 8
    address += 8
    while True:
        kind, value = struct.unpack("<QQ", memory.read(address, 16))
        yield address, (kind, value)
        if kind == _AT_NULL:
            return
        address += 16
