"""Which words of a heap decide about its blocks."""

from __future__ import annotations

import numpy as np
import pytest

from instar.heap.image import BLOCK, BlockKind, HeapImage, HeapRegion
from instar.heap.mapped import Counters
from instar.heap.unchanged import Basis, changed_words, has_same_blocks

START, MAPPED = 0x10000, 0x7F0000000000


def make_basis() -> Basis:
    """A thread cache, a block, a cached block, a block, a free chunk, a block; and a mapped one."""
    heads = {0x0: 0x291, 0x290: 0x31, 0x2C0: 0x31, 0x2F0: 0x31, 0x320: 0x51, 0x370: 0x30, 0x3A0: 0xC61}
    data = np.zeros(0x3B0, np.uint8)
    for place, head in heads.items():
        data[place + 8 : place + 16].view("<u8")[0] = head
    data[0x370:0x378].view("<u8")[0] = 0x50  # the size of the free chunk before
    rows = [(START + 0x2A0, 0x28), (START + 0x300, 0x28), (START + 0x380, 0x28)]
    rows.append((MAPPED + 16, 0x1FF0))
    image = HeapImage(
        "glibc",
        np.array(rows, BLOCK),
        (
            HeapRegion(START, data, START + 0x1000, BlockKind.MAIN),
            HeapRegion(MAPPED, np.zeros(0x2000, np.uint8), MAPPED + 0x2000, BlockKind.MAPPED),
        ),
        np.array([START + 0x10], np.uint64),
        1,
    )
    dead = np.array([START + 0x2D0], np.uint64)
    nothing = np.zeros((1, 0), np.uint64)
    return Basis((), Counters(0, 0, 0), (), (), nothing, image, dead)


def has_same(address: int) -> bool:
    basis = make_basis()
    for region in basis.image.regions:
        if region.start <= address < region.end:
            saved = np.zeros((1, 4096), np.uint8)
            page = address & ~0xFFF
            first = max(page, region.start)
            size = min(page + 4096, region.end) - first
            saved[0, :size] = region.data[first - region.start :][:size]
            region.data[address - region.start] ^= 0x80
            rows = np.array([(first, size)], [("address", "u8"), ("size", "u8")])
            words, behind = changed_words(rows, saved, basis.image.regions)
            assert words.tolist() == [address & ~7]
            return has_same_blocks(basis, words, behind)
    raise AssertionError(hex(address))


@pytest.mark.parametrize(
    ("place", "what"),
    [
        (0x8, "the first head"),
        (0x10, "the counts of the thread cache"),
        (0x90, "a list of the thread cache"),
        (0x298, "the head of a block"),
        (0x2C8, "the head of a cached block"),
        (0x2D0, "the link of a cached block"),
        (0x2F8, "the head of a block behind a cached one"),
        (0x328, "the head of a free chunk"),
        (0x370, "the size of a free chunk, before the one behind it"),
        (0x378, "the head of a block behind a free chunk"),
        (0x3A8, "the head of the top chunk"),
        (MAPPED - START, "how far a mapped chunk is from the start of its mapping"),
        (MAPPED - START + 8, "the head of a mapped chunk"),
    ],
)
def test_a_word_that_decides(place: int, what: str) -> None:
    assert not has_same(START + place), what


@pytest.mark.parametrize(
    "place", [0x2A0, 0x2C0, 0x2D8, 0x300, 0x320, 0x330, 0x380, 0x3A0, MAPPED - START + 16]
)
def test_data_decides_nothing(place: int) -> None:
    """Data to the last word of a block, the rest of a cached one, what a free chunk holds."""
    assert has_same(START + place)
