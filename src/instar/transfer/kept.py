"""Which ranges the future maps at the past's addresses, and what has to be copied into them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from instar.process.memory import Memory
from instar.state.columns import Fate, ObjectFlag, ObjectKind
from instar.state.kernel import Span, State
from instar.transfer.own import kept_mapping
from instar.transfer.plan import PATCH, KeptRange

Array = np.ndarray[Any, np.dtype[Any]]

PAGE = 4096
_MERGE = 8 * PAGE
_ROWS = 1 << 16  # at a time


def sort_patches(addresses: Array, values: Array) -> Array:
    """``PATCH`` rows by address."""
    patches = np.empty(len(addresses), dtype=PATCH)
    patches["address"], patches["value"] = addresses, values
    if (addresses[1:] < addresses[:-1]).any():
        patches = patches[np.argsort(addresses, kind="stable")]
    return patches


def block_table(addresses: Array, sizes: Array, chosen: Array, memory: Memory) -> Array:
    """(n, 2) u8: address and size of the chosen blocks, where no further copy of it is needed."""
    count = int(np.count_nonzero(chosen))
    table: Array = memory.room(16 * count).view(np.uint64).reshape(count, 2)
    end = 0
    for at in range(0, len(chosen), _ROWS):
        some = chosen[at : at + _ROWS]
        begin, end = end, end + int(np.count_nonzero(some))
        table[begin:end, 0] = addresses[at : at + _ROWS][some]
        table[begin:end, 1] = sizes[at : at + _ROWS][some]
    return table


def kept_ranges(state: State, heap: Sequence[Span], patches: Array, memory: Memory) -> tuple[KeptRange, ...]:
    """The heap ranges with at least one block that stays, block tables and pages to copy.

    Args:
        state: Fates decided.
        heap: The past's.
        patches: ``PATCH`` rows by address: words of staying blocks that are rewritten.
        memory: Of the past: has the room for tables.
    """
    result: list[KeptRange] = []
    for span in heap:
        rows = span.objects
        live = (rows["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT)) != 0
        stay = live & (rows["fate"] == Fate.STAY)
        if not stay.any():
            continue
        start = span.start & ~(PAGE - 1)
        end = (span.end + PAGE - 1) & ~(PAGE - 1)
        blocks = block_table(rows["address"], rows["size"], stay, memory)
        first, last = np.searchsorted(patches["address"], [span.start, span.end])
        if span.mapped is not None:
            known = {
                one.start for one in result if one.plain
            }  # two ranges may have the same room between them
            mapped = kept_mapping(span, span.mapped, patches[first:last])
            result.extend(one for one in mapped if one.start not in known)
            continue
        pages = page_spans(blocks, span)
        own = patches[first:last]
        result.append(KeptRange(start, end - start, blocks, pages, span.data, span.start, patches=own))
    return tuple(result)


def page_spans(blocks: Array, span: Span) -> Array:
    """(address, size) of what must be copied so that all blocks are: page runs, small gaps included."""
    low = blocks[:, 0] & ~np.uint64(PAGE - 1)
    high = (blocks[:, 0] + blocks[:, 1] + np.uint64(PAGE - 1)) & ~np.uint64(PAGE - 1)
    high = np.maximum.accumulate(high)
    breaks = np.flatnonzero(low[1:] > high[:-1] + np.uint64(_MERGE)) + 1
    starts = low[np.concatenate([[0], breaks])]
    ends = high[np.concatenate([breaks - 1, [len(high) - 1]])]
    starts = np.maximum(starts, np.uint64(span.start))
    ends = np.minimum(ends, np.uint64(span.end))
    return np.stack([starts, ends - starts], axis=1)


def arena_range(
    state: State, base: int, size: int, output: Array, carried: int, pinned: Sequence[int], memory: Memory
) -> KeptRange | None:
    """The new range with the blocks that moved, and room for strings that the new version does not have.

    Args:
        state: Fates decided.
        base: Address of the range.
        size: Bytes of the blocks.
        output: Begins with them.
        carried: Bytes of strings behind them.
        pinned: Rows of blocks that lie elsewhere.
        memory: Of the past: has the room for tables.
    """
    objects = state.objects
    live = (objects["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT)) != 0
    inside = live & (objects["kind"] == ObjectKind.HEAP) & (objects["fate"] == Fate.MOVE)
    inside[list(pinned)] = False
    blocks = block_table(objects["new_address"], objects["out_size"], inside, memory)
    if (blocks[1:, 0] < blocks[:-1, 0]).any():
        blocks = blocks[np.argsort(blocks[:, 0], kind="stable")]
    if carried:  # nobody frees it, so the range is never given back while a string lies in it
        blocks = np.concatenate([blocks, np.array([[base + size, carried]], dtype=np.uint64)])
    total = size + carried
    if not total:
        return None
    length = (total + PAGE - 1) & ~(PAGE - 1)
    spans = np.array([[base, size]] if size else np.zeros((0, 2)), dtype=np.uint64)
    return KeptRange(base, length, blocks, spans, output[:size], base)
