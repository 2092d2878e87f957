"""Pointers across two words of a frame."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from instar.state.columns import Status
from instar.transfer.packed import rewrite_packed, words_at

OLD, NEW, STAYS = 0x5555_0000_1000, 0x7777_0000_2000, 0x5555_0000_3000


def translate(words: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    statuses = [
        Status.MOVED if w == OLD else Status.STAY if w == STAYS else Status.SMALL if w < 4096 else Status.WILD
        for w in words.tolist()
    ]
    return np.array(statuses), np.array([NEW if w == OLD else w for w in words.tolist()], dtype=np.uint64)


def carried(past: bytes, offsets: list[int]) -> tuple[bytes, list[tuple[int, str]]]:
    """What becomes of a frame whose words the future has as zeros where they were not carried."""
    words = np.frombuffer(past, dtype=np.uint64)
    statuses, values = translate(words)
    current = np.where(statuses == Status.WILD, 0, values).astype(np.uint64)
    unsettled = rewrite_packed(offsets, words, current, statuses, translate)
    return current.tobytes(), unsettled


def test_events_of_epoll() -> None:
    past = struct.pack("<IQIQ", 1, OLD, 4, STAYS)
    assert words_at(past, [4]).tolist() == [OLD]
    assert carried(past, [4]) == (struct.pack("<IQIQ", 1, NEW, 4, STAYS), [])


def test_numbers_in_their_place_stay() -> None:
    past = struct.pack("<IQI", 1, 17, 9)
    assert carried(past, [4]) == (past, [])


def test_pointers_that_share_a_word() -> None:
    past = struct.pack("<BQBQ6x", 1, OLD, 2, OLD)
    assert carried(past, [1, 10]) == (struct.pack("<BQBQ6x", 1, NEW, 2, NEW), [])


def test_a_word_that_is_a_pointer_itself_is_kept() -> None:
    """The described local is not alive any more, and its place is used for something else."""
    past = struct.pack("<QQ", STAYS, OLD)
    assert carried(past, [4])[0] == struct.pack("<QQ", STAYS, NEW)


def test_two_readings_are_told() -> None:
    past = struct.pack("<I4xQ8x", 7, OLD)[:4] + struct.pack("<Q12x", OLD)
    words = np.frombuffer(past, dtype=np.uint64)
    statuses = np.array([Status.MOVED, Status.WILD, Status.SMALL])
    current = words.copy()
    assert rewrite_packed([4], words, current, statuses, translate) == [(4, "overlaps another pointer")]
    assert (current == words).all()
