"""Checks what a plan wants done to the future, before it is done: whoever computed it is not trusted.

A plan may write into memory of the program itself (its segments, its stack, its heap, what was mapped for
it), never into that of a library, of ld.so or of the kernel, and may set the registers that a frame keeps and
the arguments of the waiting call, nothing else. This module knows nothing of how plans come about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from instar.errors import RefusedError
from instar.process.maps import Mapping
from instar.process.numbering import CALLEE_SAVED, DWARF_NAMES
from instar.process.registers import SYSCALL_ARGUMENTS
from instar.transfer.plan import KeptRange, TransferPlan

Words = npt.NDArray[np.uint64]

_PAGE = 4096
_END = 1 << 47
_LONGEST = 1 << 40
_PROTECTIONS = range(8)
_REGISTERS = {*CALLEE_SAVED, *(DWARF_NAMES.index(name) for name in SYSCALL_ARGUMENTS)}


def require_ranges(ranges: Sequence[KeptRange]) -> None:
    """Refuse ranges that are not what they should be; in order of address.

    Raises:
        RefusedError: "worker-overreach".
    """
    end = _PAGE
    for kept in ranges:
        whole = kept.start % _PAGE == 0 and kept.size % _PAGE == 0 and 0 < kept.size <= _LONGEST
        if not whole or not end <= kept.start <= kept.start + kept.size <= _END:
            raise _overreach(f"to map {kept.size} bytes at {kept.start:#x}")
        if kept.protection not in _PROTECTIONS:
            raise _overreach(f"to map memory at {kept.start:#x} with protection {kept.protection}")
        end = kept.start + kept.size
        _require_content(kept)


def _require_content(kept: KeptRange) -> None:
    """What is written into a range lies in it, and is there."""
    if not 0 <= kept.data_start <= _END:
        raise _overreach(f"to take bytes at {kept.data_start:#x}")
    starts, sizes = _columns(kept.pages)
    held = kept.data_start, kept.data_start + len(kept.data)
    low = np.maximum(np.uint64(kept.start), np.uint64(held[0]))
    high = np.uint64(min(kept.start + kept.size, held[1]))
    outside = (starts < low) | (sizes > np.uint64(_LONGEST)) | (starts + sizes > high)
    if outside.any():
        address = int(starts[outside][0])
        raise _overreach(f"to write at {address:#x}, outside of the range at {kept.start:#x}")


def require_writes(plan: TransferPlan, maps: Iterable[Mapping], program: str) -> None:
    """Refuse writes outside of the program's own memory, and other registers than a frame keeps.

    Args:
        plan: Its ranges are mapped already.
        maps: Of the future, as the kernel tells.
        program: Path of its file.

    Raises:
        RefusedError: "worker-overreach".
    """
    own = _join((m.start, m.end) for m in maps if _is_own(m, program))
    beyond = [write.address for write in plan.writes if not 0 <= write.address < _END]
    if beyond:
        raise _overreach(f"to write at {beyond[0]:#x}, which is not the program's")
    starts = np.array([write.address for write in plan.writes], np.uint64)
    sizes = np.array([len(write.data) for write in plan.writes], np.uint64)
    index = np.searchsorted(own[:, 0], starts, side="right").astype(np.int64) - 1
    ends = own[np.maximum(index, 0), 1] if len(own) else np.zeros(len(starts), np.uint64)
    outside = (index < 0) | (starts + sizes > ends) | (starts + sizes < starts)
    if outside.any():
        raise _overreach(f"to write at {int(starts[outside][0]):#x}, which is not the program's")
    others = [n for n, value in plan.registers.items() if n not in _REGISTERS or not 0 <= value < 1 << 64]
    if others:
        raise _overreach(f"to set register {others[0]}")


def require_own(address: int, size: int, maps: Iterable[Mapping], program: str) -> None:
    """Refuse one write outside of the program's own memory; raises RefusedError "worker-overreach"."""
    own = _join((m.start, m.end) for m in maps if _is_own(m, program))
    if not any(low <= address and address + size <= high for low, high in own.tolist()):
        raise _overreach(f"to write at {address:#x}, which is not the program's")


def require_sources(ranges: Sequence[KeptRange], maps: Iterable[Mapping]) -> None:
    """Refuse to map any file but one that the past has mapped there; raises RefusedError "worker-overreach".

    Args:
        ranges: Of a plan.
        maps: Of the past, as the kernel tells.
    """
    known = set(maps)
    for kept in ranges:
        if kept.source is not None and kept.source not in known:
            raise _overreach(f"to map {kept.source.path} at {kept.start:#x}")


def _is_own(mapping: Mapping, program: str) -> bool:
    """Writable memory of the program itself."""
    if not mapping.writable or mapping.path in ("[vvar]", "[vdso]", "[vsyscall]"):
        return False
    return not mapping.file or mapping.file == program


def _join(bounds: Iterable[tuple[int, int]]) -> Words:
    """Ranges by address, those that touch as one."""
    joined: list[tuple[int, int]] = []
    for start, end in bounds:
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return np.array(joined, np.uint64).reshape(-1, 2)


def _columns(pages: npt.NDArray[np.uint64]) -> tuple[Words, Words]:
    column = np.asarray(pages, np.uint64).reshape(-1, 2)
    return column[:, 0], column[:, 1]


def _overreach(what: str) -> RefusedError:
    return RefusedError(
        "worker-overreach",
        f"the plan of the transfer wants {what}",
        "please report it: a plan must never do that",
    )
