"""Words of opaque data that are elements of static arrays."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.transfer.world import World

from instar.state.columns import FixedFlag, FixedKind
from instar.state.kernel import Span
from instar.transfer.elements import ElementWords, Verdict
from instar.transfer.targets import NOTHING, Target

TABLE, NEW, COUNT, SIZE = 0x60_0000, 0x71_0040, 32, 24
TEXT = b"12345678"


class Pool(World):
    """A block with words, of a program with a table of structs of three words."""

    def __init__(self, *words: bytes | int, flags: FixedFlag = NOTHING, mapping: int = -1) -> None:
        super().__init__()
        entry = self.old.struct("entry", SIZE)
        for index in range(3):
            self.old.member(entry, f"word{index}", self.old.c_long, 8 * index)
        self.begin()
        data = b"".join(w if isinstance(w, bytes) else w.to_bytes(8, "little") for w in words)
        self.block = self.heap.block(len(data), data)
        self.heap.root(entry, bytes(SIZE))
        self.settle()
        end = TABLE + COUNT * SIZE
        self.targets.add(Target(TABLE, end, NEW, FixedKind.STATIC, flags, entry, COUNT, mapping))

    def judge(self, offset: int, value: int, made: bytes = b"") -> Verdict | None:
        data = np.frombuffer(made, np.uint8)
        spans = [Span(0x1000, data, np.zeros(0), np.zeros(0, np.int32))] if made else []
        return self.words(spans).judge(self.block, offset, value)

    def words(self, made: list[Span] | None = None) -> ElementWords:
        return ElementWords(self.state, self.targets.build(), made or [])


def with_low(low: int) -> int:
    """The address of an element with this low byte."""
    return next(TABLE + i * SIZE for i in range(COUNT) if (TABLE + i * SIZE) & 0xFF == low)


LETTER, NO_LETTER = with_low(0x30), with_low(0x90)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (TABLE + 5 * SIZE, NEW + 5 * SIZE),
        (TABLE + 5 * SIZE + 8, None),  # a member
        (TABLE + 5 * SIZE + 1, None),
        (TABLE + COUNT * SIZE, None),  # one past the end
        (TABLE - SIZE, None),
        (0x1234, None),
    ],
)
def test_where_an_element_goes(value: int, expected: int | None) -> None:
    assert Pool(value).words().place(value) == expected


@pytest.mark.parametrize("case", [{"flags": FixedFlag.UNPAIRED}, {"mapping": 0}])
def test_elements_without_a_counterpart_or_of_another_layout_go_nowhere(case: dict[str, int]) -> None:
    assert Pool(0, **case).words().place(TABLE + SIZE) is None  # type: ignore[arg-type]


def test_an_element_is_a_pointer() -> None:
    value = TABLE + 7 * SIZE
    assert Pool(0, value).judge(8, value) is Verdict.MEMBER


def test_behind_letters_it_is_one_if_it_begins_with_none() -> None:
    assert Pool(TEXT, NO_LETTER).judge(8, NO_LETTER) is Verdict.MEMBER


def test_a_text_may_run_on_into_it() -> None:
    assert Pool(TEXT, LETTER).judge(8, LETTER) is Verdict.KEEP
    assert Pool(b"\0\0\0\0\0\0\0A", LETTER).judge(8, LETTER) is Verdict.KEEP


@pytest.mark.parametrize(
    ("before", "value", "expected"),
    [
        (TEXT, NEW + LETTER - TABLE, Verdict.MEMBER),
        (TEXT, LETTER, Verdict.KEEP),  # the old address: what start-up makes has the new one
        (b"87654321", NEW + LETTER - TABLE, Verdict.KEEP),
    ],
)
def test_the_start_of_the_new_version_says_which(before: bytes, value: int, expected: Verdict) -> None:
    made = bytes(16) + before + value.to_bytes(8, "little")
    assert Pool(TEXT, LETTER).judge(8, LETTER, made) is expected


def test_the_end_of_a_text_over_an_old_pointer() -> None:
    value = TABLE + 0x100 + ord("1")  # in the last member of an element
    assert Pool(TEXT, value).judge(8, value) is Verdict.STALE
    assert Pool(b"1234567\0", value).judge(8, value) is None


def test_a_tag_on_an_element_is_none() -> None:
    value = next(v for v in range(TABLE + SIZE, TABLE + COUNT * SIZE, SIZE) if 0x20 <= v & 0xFF < 0x78) | 1
    assert Pool(TEXT, value).judge(8, value) is None


def test_a_tag_on_the_table_is_none() -> None:
    assert Pool(TEXT, TABLE | 1).judge(8, TABLE | 1) is None
