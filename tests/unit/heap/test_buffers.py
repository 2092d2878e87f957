"""A buffer is handed out again only when nothing refers to it."""

from __future__ import annotations

import numpy as np

from instar.heap.buffers import BufferPool


def where(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_in_use_is_not_handed_out() -> None:
    pool = BufferPool()
    first = pool.take(100)
    second = pool.take(100)
    assert where(first) != where(second)


def test_unused_is_handed_out_again() -> None:
    pool = BufferPool()
    address = where(pool.take(100))
    assert where(pool.take(90)) == address


def test_a_view_keeps_it() -> None:
    pool = BufferPool()
    view = pool.take(96)[8:24].view(np.uint64)
    address = where(view) - 8
    assert where(pool.take(96)) != address
    view[:] = 7
    del view
    assert where(pool.take(96)) == address


def test_large_is_not_wasted_on_small() -> None:
    pool = BufferPool()
    address = where(pool.take(8 << 20))
    assert where(pool.take(10)) != address
    assert where(pool.take(4 << 20)) == address


def test_shrink_keeps_what_is_used() -> None:
    pool = BufferPool()
    kept = pool.take(100)
    pool.take(1 << 20)
    pool.shrink()
    kept[:] = 3
    assert where(pool.take(100)) != where(kept)
    assert (kept == 3).all()


def test_empty() -> None:
    assert BufferPool().take(0).nbytes == 0
