"""What of character data is a text, and what is an array of pointers that looks like one."""

from __future__ import annotations

import struct
from typing import Any, cast

import numpy as np
import pytest

from instar.state.columns import ObjectKind
from instar.state.kernel import State, make_objects
from instar.transfer.unexplained import Settler, _is_text

BLOCK = 0x555555000000
LETTERS = 0x564142434440  # "@DCBAV": an address all of whose bytes are letters
HOLED = 0x564142430040  # "@", and a zero


def settler(*words: int) -> Settler:
    """A block of characters with these words, and blocks at both addresses."""
    objects = make_objects(3, ObjectKind.HEAP)
    objects["address"] = [BLOCK, LETTERS, HOLED]
    objects["size"] = 8 * len(words), 24, 24
    data = np.frombuffer(struct.pack(f"<{len(words)}Q", *words), np.uint8)

    class Objects:
        def __init__(self) -> None:
            self.objects = objects

        def find(self, address: int) -> int | None:
            found = np.flatnonzero(
                (objects["address"] <= address) & (address < objects["address"] + objects["size"])
            )
            return int(found[0]) if len(found) else None

        def bytes_at(self, address: int, size: int) -> bytes:
            return bytes(data[address - BLOCK : address - BLOCK + size])

        def word(self, address: int) -> int:
            return int.from_bytes(self.bytes_at(address, 8), "little")

    return Settler(cast(State, Objects()), cast(Any, None), cast(Any, None), strict=False)


def is_text(words: tuple[int, ...], offset: int) -> bool:
    one = settler(*words)
    return one._is_at_text(one._state.objects[0], 0, offset)


def test_an_array_of_pointers_may_begin_with_letters() -> None:
    assert not any(is_text((LETTERS, HOLED, LETTERS), offset) for offset in (0, 8, 16))
    assert not any(is_text((HOLED, LETTERS, LETTERS), offset) for offset in (0, 8, 16))


def test_a_short_text_in_front_of_an_old_pointer_is_one() -> None:
    text = int.from_bytes(b"@\0" + LETTERS.to_bytes(8, "little")[2:], "little")
    assert all(is_text((text, 0x1234, LETTERS), offset) for offset in (0, 8, 16))


def test_letters_that_lead_nowhere_are_a_text() -> None:
    assert all(is_text((int.from_bytes(b"letters", "little"), LETTERS), offset) for offset in (0, 8))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"text", True),
        ("Grüße".encode(), True),
        ("Grü".encode()[:-1], True),
        (b"", False),
        (b"abc\xff\x7f", False),
        (b"abc\x01", False),
        (b"\x40\x41\x42\x80\x81\x82", False),
    ],
)
def test_only_the_last_character_may_be_cut(data: bytes, expected: bool) -> None:
    assert _is_text(data) == expected


def test_pointers_behind_a_number_that_looks_like_a_letter() -> None:
    text = int.from_bytes(b"a text..", "little")
    one = settler(ord("A"), HOLED, LETTERS, HOLED, text, HOLED, LETTERS, text, LETTERS, text)
    places = [BLOCK + 8 * index for index in (1, 2, 3, 5, 6, 8)]
    assert [one._is_in_array(place) for place in places] == [True, True, True, False, True, False]
