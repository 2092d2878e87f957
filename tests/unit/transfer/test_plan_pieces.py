"""Pieces of a plan: page spans, patches, untouched statics, frames, block pairing, merged copies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.state.kernel import Span, make_objects
from instar.state.mirror import PAGE, merge
from instar.transfer.kept import page_spans, sort_patches
from instar.transfer.plan import KeptRange
from instar.transfer.untouched import untouched
from instar.update.apply import patched


def span_of(start: int, size: int) -> Span:
    data = np.arange(size, dtype=np.uint64).astype(np.uint8)
    return Span(start, data, make_objects(0, 0), np.zeros(0, np.int32), granular=True)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 400)), min_size=1, max_size=30))
def test_page_spans_cover_every_block_and_stay_inside(gaps: list[tuple[int, int]]) -> None:
    start, at, blocks = 0x5000_0010, 0x5000_0020, []
    for gap, size in gaps:
        at += gap * 16
        blocks.append((at, size * 8))
        at += size * 8 + 8
        at += -at % 16
    span = span_of(start, at + 16 - start)
    pages = page_spans(np.array(blocks, np.uint64), span)
    assert all(low >= span.start and low + size <= span.end for low, size in pages.tolist())
    assert (pages[1:, 0] > pages[:-1, 0] + pages[:-1, 1]).all()
    for address, size in blocks:
        assert any(low <= address and address + size <= low + n for low, n in pages.tolist())


@given(st.lists(st.integers(0, 1000), unique=True, max_size=8), st.integers(0, 1016), st.integers(1, 600))
def test_patches_are_written_over_the_copy(places: list[int], first: int, size: int) -> None:
    """Also those that begin before a piece or end behind it."""
    places = [p for p in sorted(places) if all(abs(p - q) >= 8 for q in places if q != p)]
    data = np.arange(1024, dtype=np.uint64).astype(np.uint8)
    whole = bytearray(data.tobytes())
    for place in places:
        whole[place : place + 8] = (0x1122334455667788 + place).to_bytes(8, "little")
    addresses = np.array([0x9000 + place for place in places], np.uint64)
    patches = sort_patches(
        addresses[::-1], addresses[::-1] - np.uint64(0x9000) + np.uint64(0x1122334455667788)
    )
    kept = KeptRange(0x9000, 4096, np.zeros((0, 2)), np.zeros((0, 2)), data, 0x9000, patches=patches)
    size = min(size, 1024 - first)
    assert patched(kept, 0x9000 + first, size).tobytes() == whole[first : first + size]
    assert data.tobytes() == np.arange(1024, dtype=np.uint64).astype(np.uint8).tobytes()


@given(st.integers(0, PAGE), st.integers(1, 4 * PAGE), st.lists(st.integers(0, 4 * PAGE), max_size=5))
def test_merging_tells_exactly_what_differs(lead: int, size: int, places: list[int]) -> None:
    address = 0x7000_0000 + lead
    old = np.zeros(size, np.uint8)
    fresh = old.copy()
    for place in places:
        fresh[place % size] ^= 1
    copy = old.copy()
    changes = merge(copy, fresh, address)
    assert changes is not None
    assert (copy == fresh).all()
    rebuilt = fresh.copy()
    for row, saved in zip(changes.rows, changes.saved, strict=True):
        at, length = int(row["address"]) - address, int(row["size"])
        assert int(row["address"]) // PAGE == (int(row["address"]) + length - 1) // PAGE
        rebuilt[at : at + length] = saved[:length]
    assert (rebuilt == old).all()
    different = {(address + int(i)) // PAGE for i in np.flatnonzero(fresh != old)}
    assert different == {int(row["address"]) // PAGE for row in changes.rows}


def test_too_many_changes_are_not_told_apart() -> None:
    copy, fresh = np.zeros(3 * PAGE, np.uint8), np.ones(3 * PAGE, np.uint8)
    assert merge(copy, fresh, 0x1000, 2) is None
    assert (copy == 1).all()


@pytest.mark.parametrize(("changed", "expected"), [((), [1, 1, 1]), ((7,), [1, 1, 1]), ((8, 40), [0, 1, 0])])
def test_untouched_statics(changed: tuple[int, ...], expected: list[int]) -> None:
    span = span_of(0x4000, 64)
    image = span.data.copy()
    for place in changed:
        span.data[place] ^= 0xFF
    starts, sizes = np.array([0x4008, 0x4010, 0x4028], np.uint64), np.array([8, 16, 4], np.uint64)
    assert untouched(span, image, starts, sizes).tolist() == [bool(one) for one in expected]
