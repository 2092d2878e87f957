"""A wait inside libc's stdio: is part of what the program asked for in its buffer already?

``fgets`` and its like copy what has come to the program and wait for the rest. How much that was is only in
registers of libc's functions. The new version stands in the same functions of the same libc and has read
nothing: where the numbers and the pointers into the state that libc has in registers of its own are the same
in both, nothing has been read in the past either. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from instar.errors import FaultError
from instar.pairing.problems import Problem
from instar.process.numbering import CALLEE_SAVED
from instar.process.syscalls import NUMBERS
from instar.process.unwind import Frame
from instar.state.columns import Status
from instar.state.image import Image

Words = npt.NDArray[np.uint64]
Translate = Callable[[Words], tuple[npt.NDArray[np.uint8], Words]]

_READ = NUMBERS["read"]
_HEAD, _FIELDS = 72, ((0, 4), (56, 8), (64, 8))  # _flags, _IO_buf_base and _IO_buf_end in struct _IO_FILE
_MAGIC, _MAGIC_MASK = 0xFBAD0000, 0xFFFF0000
_TELLING = (Status.STAY, Status.MOVED)  # what leads elsewhere is left from earlier calls
_NUMBER = 1 << 32


def check_reading(past: Image, future: Image, translate: Translate) -> list[Problem]:
    """Refuse a wait in the middle of a line, or of what ``fread`` was asked for.

    Args:
        past, future: Both parked.
        translate: Statuses and new values of words.
    """
    if past.registers is None or not past.program_frames:
        return []
    outer = past.program_frames[0].frame.index
    number = past.registers.orig_rax if past.registers.in_syscall else past.registers.rax
    if outer <= 1 or number != _READ or not _fills_a_stream(past, outer):
        return []
    inner = past.frames[:outer], future.frames[: future.program_frames[0].frame.index]
    if [f.module for f in inner[0]] == [f.module for f in inner[1]]:
        pairs = np.array([*_own_words(past, future, outer)], dtype=np.uint64).reshape(-1, 2)
        statuses, values = translate(np.ascontiguousarray(pairs[:, 0]))
        telling = np.isin(statuses, _TELLING) | (pairs[:, 0] < _NUMBER)
        if (values[telling] == pairs[telling, 1]).all():
            return []
    name = past.program_frames[0].name
    return [
        Problem(
            "half-read-line",
            "",
            f"{name} waits in a reading function of libc, which may have part of a line already",
            "run it again when no line is begun; or wait with poll, and read when there is input",
        )
    ]


def _fills_a_stream(past: Image, outer: int) -> bool:
    """Whether the call reads into the buffer of a stream that libc's functions have in a register."""
    assert past.registers is not None
    buffer = past.registers.syscall_arguments()[1]
    held = {value for frame in past.frames[:outer] for value in frame.registers.values()}
    for address in held:
        try:
            data = past.subject.memory.read(address, _HEAD)
        except (FaultError, ValueError, OverflowError):
            continue
        magic, low, high = (int.from_bytes(data[at : at + n], "little") for at, n in _FIELDS)
        if magic & _MAGIC_MASK == _MAGIC and low <= buffer < high:
            return True
    return False


def _own_words(past: Image, future: Image, outer: int) -> Iterator[tuple[int, int]]:
    """Values of the registers that each of libc's functions uses for itself, past and future."""
    for index in range(outer):
        frames = past.frames[index], future.frames[index]
        for register in CALLEE_SAVED:
            if _is_own(past.frames, index, register) and all(register in f.registers for f in frames):
                yield frames[0].registers[register], frames[1].registers[register]


def _is_own(frames: Sequence[Frame], index: int, register: int) -> bool:
    """Whether the function of a frame has saved its caller's register, and so uses it."""
    return frames[index + 1].saved_at.get(register) != frames[index].saved_at.get(register)
