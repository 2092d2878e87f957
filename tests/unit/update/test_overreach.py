"""What a plan may not do to the future is refused before it is done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from instar.errors import RefusedError
from instar.process.maps import Mapping
from instar.process.numbering import DWARF_RIP, DWARF_RSP
from instar.transfer.plan import Figures, KeptRange, TransferPlan, Write
from instar.update.overreach import require_ranges, require_writes

PROGRAM = "/opt/server"
START, SIZE = 0x10000, 0x2000


def mapping(start: int, end: int, perms: str, path: str) -> Mapping:
    return Mapping(start, end, perms, 0, (0, 1), 1 if path.startswith("/") else 0, path)


MAPS = [
    mapping(0x1000, 0x2000, "r-xp", PROGRAM),
    mapping(0x2000, 0x3000, "rw-p", PROGRAM),
    mapping(0x3000, 0x4000, "rw-p", ""),
    mapping(0x6000, 0x7000, "rw-p", "/lib/libc.so.6"),
    mapping(0x9000, 0xA000, "r--p", ""),
    mapping(0x7FFE0000, 0x7FFF0000, "rw-p", "[stack]"),
]


def plan(*writes: Write, registers: dict[int, int] | None = None) -> TransferPlan:
    figures = Figures({}, 0, 0, 0, 0, 0)
    return TransferPlan((), None, writes, registers or {}, (), (), figures)


def kept(**changes: Any) -> KeptRange:
    pages = np.array([[START, SIZE]], np.uint64)
    blocks = np.zeros((0, 2), np.uint64)
    return replace(KeptRange(START, SIZE, blocks, pages, np.zeros(SIZE, np.uint8), START), **changes)


@pytest.mark.parametrize("address", [0x2000, 0x2FF8, 0x3FF0, 0x7FFE0000])
def test_the_programs_own_memory_may_be_written(address: int) -> None:
    require_writes(plan(Write(address, bytes(16)), registers={3: 1, 15: 2}), MAPS, PROGRAM)


@pytest.mark.parametrize(
    "address", [0, 0x1000, 0x1FF8, 0x3FF8, 0x4000, 0x6000, 0x9000, 0x7FFEFFF8, (1 << 64) - 8, -1, 1 << 64]
)
def test_other_memory_may_not(address: int) -> None:
    with pytest.raises(RefusedError) as caught:
        require_writes(plan(Write(0x2000, b"x"), Write(address, bytes(16))), MAPS, PROGRAM)
    assert caught.value.code == "worker-overreach"
    assert f"{address:#x}" in caught.value.cause


@pytest.mark.parametrize("number", [DWARF_RIP, DWARF_RSP, 0, 2, 99])
def test_only_registers_that_a_frame_keeps_are_set(number: int) -> None:
    with pytest.raises(RefusedError, match="register"):
        require_writes(plan(registers={3: 1, number: 1}), MAPS, PROGRAM)


def test_a_range_with_its_content() -> None:
    require_ranges([kept(), kept(start=START + SIZE, data_start=START, data=np.zeros(2 * SIZE, np.uint8),
                                 pages=np.array([[START + SIZE, 4096]], np.uint64))])  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"start": START + 1},
        {"size": 0},
        {"size": -4096},
        {"start": 0, "data_start": 0},
        {"start": 1 << 47},
        {"size": 1 << 48},
        {"protection": 8},
        {"pages": np.array([[START - 4096, 4096]], np.uint64)},
        {"pages": np.array([[START, SIZE + 1]], np.uint64)},
        {"pages": np.array([[START, (1 << 64) - START]], np.uint64)},
        {"data": np.zeros(SIZE - 1, np.uint8)},
        {"data_start": START + 8},
    ],
)
def test_a_range_that_is_none(changes: dict[str, object]) -> None:
    with pytest.raises(RefusedError) as caught:
        require_ranges([kept(**changes)])
    assert caught.value.code == "worker-overreach"


def test_ranges_do_not_overlap() -> None:
    with pytest.raises(RefusedError):
        require_ranges([kept(), kept()])


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_a_register_holds_a_word(value: int) -> None:
    with pytest.raises(RefusedError) as caught:
        require_writes(plan(registers={3: value}), MAPS, PROGRAM)
    assert caught.value.code == "worker-overreach"


@pytest.mark.parametrize("start", [-1, 1 << 64])
def test_bytes_come_from_somewhere(start: int) -> None:
    with pytest.raises(RefusedError) as caught:
        require_ranges([kept(data_start=start)])
    assert caught.value.code == "worker-overreach"
