"""Which words that lead nowhere are provably no pointers."""

from __future__ import annotations

import numpy as np
import pytest

from instar.transfer.wild import NoPointers

HEAP = (0x5555_0000_0000, 0x5555_0010_0000)
PLACE = HEAP[0] + 0x40
KNOWN = np.array([HEAP, (0x7FFF_0000_0000, 0x7FFF_0002_0000)], dtype=np.uint64)
WORDS = NoPointers(KNOWN, [HEAP])


def test_digest() -> None:
    assert WORDS.is_none(PLACE, 0x7E46_A402_A4F0_BAD2)
    assert WORDS.is_none(PLACE + 8, 0xD284_BE8B_391F_A50B)


@pytest.mark.parametrize(
    "value",
    [
        0x6666_0000_0000,  # an address, of nothing
        0xABCD << 48 | HEAP[0] + 0x100,  # a pointer with a tag above it
        (HEAP[0] + 0x100) << 16 | 0x77,  # and with one below it
    ],
)
def test_may_be_a_pointer(value: int) -> None:
    assert not WORDS.is_none(PLACE, value)


def test_link_of_a_free_list() -> None:
    assert WORDS.is_none(PLACE, PLACE >> 12)
    assert WORDS.is_none(PLACE, HEAP[0] + 0x80 ^ PLACE >> 12)


def test_no_link() -> None:
    assert not WORDS.is_none(PLACE, HEAP[0] + 0x88 ^ PLACE >> 12), "blocks lie on 16 bytes"
    assert not WORDS.is_none(PLACE + 8, HEAP[0] + 0x80 ^ PLACE >> 12), "links lie on 16 bytes"
    assert not WORDS.is_none(PLACE, 0x6666_0000_0000 ^ PLACE >> 12), "leads out of the heap"
    assert not WORDS.is_none(0x7FFF_0000_0010, 0x7FFF_0000_0010 >> 12), "is on the stack"
