"""What is left to be compared of ranges that were validated before and watched since. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

#: (start, end) -> (n, 2) u8: address and size of runs of pages of the future that nobody has written since.
Unwritten = Callable[[int, int], Array]

PAGE = 4096


def all_written(start: int, end: int) -> Array:
    """The ``Unwritten`` of somebody who does not know."""
    return np.zeros((0, 2), dtype=np.uint64)


def remaining_spans(spans: Array, unwritten: Array, changed: Array) -> Array:
    """Spans without the pages that need not be read again.

    Args:
        spans: (n, 2) u8, by address: what must hold the right bytes.
        unwritten: (m, 2) u8: runs of whole pages of the future that were not written since.
        changed: Addresses in pages of the past that changed since: there the future must have been written.

    Returns:
        (k, 2) u8: pieces of the spans, by address.
    """
    if not len(spans) or not len(unwritten):
        return spans
    first = int(spans[0, 0]) // PAGE
    count = int(spans[:, 0].max() + spans[np.argmax(spans[:, 0]), 1] - 1) // PAGE - first + 1
    left = np.ones(count + 1, dtype=bool)
    left[count] = False
    page = np.uint64(PAGE)
    low = np.clip((unwritten[:, 0] // page).astype(np.int64) - first, 0, count)
    high = np.clip(((unwritten[:, 0] + unwritten[:, 1]) // page).astype(np.int64) - first, 0, count)
    for begin, end in zip(low.tolist(), high.tolist(), strict=True):
        left[begin:end] = False
    again = (changed // page).astype(np.int64) - first
    left[again[(again >= 0) & (again < count)]] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[False], left]).astype(np.int8)))
    starts = (edges[::2].astype(np.uint64) + np.uint64(first)) * page
    ends = (edges[1::2].astype(np.uint64) + np.uint64(first)) * page
    return _intersect(spans, starts, ends)


def _intersect(spans: Array, starts: Array, ends: Array) -> Array:
    """What lies both in a span and in a run; both sorted, neither overlapping among themselves."""
    begin = np.searchsorted(spans[:, 0] + spans[:, 1], starts, side="right")
    stop = np.searchsorted(spans[:, 0], ends, side="left")
    counts = np.maximum(stop - begin, 0)
    run = np.repeat(np.arange(len(starts)), counts)
    row = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    span = spans[np.repeat(begin, counts) + row]
    low = np.maximum(span[:, 0], starts[run])
    high = np.minimum(span[:, 0] + span[:, 1], ends[run])
    return np.stack([low, high - low], axis=1)
