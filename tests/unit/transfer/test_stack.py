"""What is written on the future's stack."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from instar.process.numbering import CALLEE_SAVED, DWARF_RSP
from instar.process.unwind import Frame
from instar.state.columns import Status
from instar.state.frames import ProgramFrame
from instar.state.slots import TypeTable
from instar.transfer.stack import FramePair, plan_stack

_NOTHING = np.zeros(0, dtype=np.int64)
_NO_TYPES = TypeTable(_NOTHING, _NOTHING, _NOTHING, _NOTHING, _NOTHING)
_INNER, _OUTER, _END = 0x7000, 0x7040, 0x7080


def _frame(index: int, low: int, high: int, saved: dict[int, int], register: int) -> ProgramFrame:
    registers = {DWARF_RSP: low} | dict.fromkeys(CALLEE_SAVED, register)
    frame = Frame(index, 0x1000, 0x1000, 0x1000, high + 8, "program", 0, registers, saved)
    return ProgramFrame(frame, 0, f"function {index}", 0xF00, low, high, ())


def _pair(index: int, low: int, high: int, saved: dict[int, int], registers: tuple[int, int]) -> FramePair:
    old, new = (_frame(index, low, high, saved, value) for value in registers)
    return FramePair(old, new, same_code=True)


def _translate(words: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.full(len(words), Status.SMALL), words


def test_no_two_writes_overlap() -> None:
    """What an inner frame saved for an outer one is written once, with the outer frame's value."""
    saved = {register: _INNER + 8 + 8 * place for place, register in enumerate(CALLEE_SAVED)}
    inner = _pair(1, _INNER, _OUTER - 8, {}, (11, 12))
    outer = _pair(2, _OUTER, _END - 8, saved, (21, 22))

    def read_old(address: int, size: int) -> bytes:
        return np.arange(address, address + size, 8, dtype=np.uint64).tobytes()

    plan = plan_stack(
        [inner, outer],
        [(saved, saved), ({}, {})],
        read_old,
        lambda _, size: bytes(size),
        _translate,
        (1, 2),
        _NO_TYPES,
    )
    covered = sorted((address, address + len(data)) for address, data in plan.writes)
    assert all(end <= start for (_, end), (start, _) in pairwise(covered))
    written = {address + i: data[i : i + 8] for address, data in plan.writes for i in range(0, len(data), 8)}
    assert {written[place] for place in saved.values()} == {(21).to_bytes(8, "little")}
    assert written[_INNER] == _INNER.to_bytes(8, "little")
