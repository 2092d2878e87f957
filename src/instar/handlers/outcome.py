"""The future's memory over a plan's output, and what handlers changed as parts of the plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from instar.errors import InternalError
from instar.handlers.inputs import Inputs
from instar.handlers.memory import PAGE, Blocks, FutureMemory, Pages, Read, checked_read, gather
from instar.state.columns import Fate, ObjectFlag, ObjectKind
from instar.transfer.kept import sort_patches
from instar.transfer.plan import KeptRange, Write
from instar.transfer.planner import Planner
from instar.transfer.prepared import Changes
from instar.transfer.startup_blocks import FutureHeap

Array = np.ndarray[Any, np.dtype[Any]]

_BLOCKS_OFFSET = 1 << 39
"""Where handlers' allocations lie in the room for the arena; choose_arena asks for twice that."""


def blocks_of(arena_base: int) -> Blocks:
    """Where handlers allocate in a plan."""
    return Blocks(arena_base + _BLOCKS_OFFSET)


def future_memory(planner: Planner, blocks: Blocks, inputs: Inputs | None = None) -> FutureMemory:
    """The future's bytes as the plan has them."""
    output, objects = planner.output.buffer, planner.state.objects
    regions = [(planner.arena_base, output[: planner.fates.arena_size])]
    regions += [(span.start, output[base : base + len(span.data)]) for span, base in planner.output.bases]
    for row in planner.pinned:
        start, size = int(objects["out"][row]), int(objects["out_size"][row])
        regions.append((int(objects["new_address"][row]), output[start : start + size]))
    ranges = sorted((s.start & ~(PAGE - 1), (s.end + PAGE - 1) & ~(PAGE - 1)) for s in planner.past.heap)
    starts = np.array([low for low, _ in ranges], np.uint64)

    def is_kept(address: int) -> bool:
        index = int(np.searchsorted(starts, np.uint64(address), side="right")) - 1
        return index >= 0 and address < ranges[index][1]

    kept = Pages(
        lambda address, size: _kept_bytes(planner, address, size), lambda a, n: _stays(planner, a, n)
    )
    heap = FutureHeap(planner.future.heap)
    read = planner.future.subject.memory.read
    own = Pages(lambda a, n: _own_bytes(heap, read, a, n), lambda a, n: heap.bytes_at(a, n) is not None)
    return FutureMemory(regions, blocks, kept, own, is_kept, KeptObjects(planner), inputs)


def _own_bytes(heap: FutureHeap, read: Read, address: int, size: int) -> bytes:
    """What the future's start-up made: its copy, because the future itself has the plan before in it."""
    data = bytearray(checked_read(read, address, size))
    for span in heap.spans:
        low, high = max(address, span.start), min(address + size, span.end)
        if low < high:
            data[low - address : high - address] = span.data[low - span.start : high - span.start].tobytes()
    return bytes(data)


class KeptObjects:
    """Objects of the past that stay, read and written as words of the plan's patches.

    Args:
        planner: Has applied what its scan found.
    """

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._ranges = sorted(((span.start, span.data) for span in planner.past.heap), key=lambda one: one[0])

    def read(self, addresses: Array, size: int) -> tuple[Array, Array]:
        """Bytes with their patches."""
        rows = np.zeros((len(addresses), size), np.uint8)
        held = gather(self._ranges, addresses, size, rows)
        patches = self._planner.patches
        if (patches["address"] % np.uint64(8)).any():
            return rows, np.zeros(len(addresses), bool)
        held &= (addresses % np.uint64(8) == 0) & (size % 8 == 0)
        order = np.argsort(addresses, kind="stable")
        at = np.searchsorted(addresses[order], patches["address"], side="right") - 1
        offsets = (patches["address"] - addresses[order][np.maximum(at, 0)]).astype(np.int64)
        inside = (at >= 0) & (offsets < size)
        if size % 8 == 0:
            words = rows.view(np.uint64)
            words[order[at[inside]], offsets[inside] // 8] = patches["value"][inside]
        return rows, held

    def write(self, addresses: Array, before: Array, after: Array) -> Array:
        """Put what differs into the patches; only whole, aligned words of live objects."""
        size = after.shape[1]
        done = np.zeros(len(addresses), bool)
        if size % 8 or (self._planner.patches["address"] % np.uint64(8)).any():
            return done
        inside = np.zeros(len(addresses), bool)
        for start, data in self._ranges:
            inside |= (addresses >= np.uint64(start)) & (addresses < np.uint64(start + len(data)))
        done = np.asarray(inside & (addresses % np.uint64(8) == 0))
        row, word = np.nonzero(before[done].view(np.uint64) != after[done].view(np.uint64))
        places = addresses[done][row] + (word * 8).astype(np.uint64)
        old = self._planner.patches
        rest = old[~np.isin(old["address"], places)]
        values = after[done].view(np.uint64)[row, word]
        self._planner.patches = sort_patches(
            np.concatenate([rest["address"], places]), np.concatenate([rest["value"], values])
        )
        return done


def _stays(planner: Planner, address: int, size: int) -> bool:
    """Whether a range is in one live block that keeps its address."""
    row = planner.state.find(address)
    if row is None:
        return False
    entry = planner.state.objects[row]
    live = int(entry["flags"]) & (ObjectFlag.REACHED | ObjectFlag.ROOT)
    inside = address + size <= int(entry["address"]) + int(entry["size"])
    return bool(live and entry["kind"] == ObjectKind.HEAP and entry["fate"] == Fate.STAY and inside)


def _kept_bytes(planner: Planner, address: int, size: int) -> bytes:
    """The past's bytes with the plan's patches; zero where nothing was copied."""
    wide = np.zeros(size + 16, np.uint8)
    span = planner.state.span_of(address) or planner.state.span_of(address + size - 1)
    if span is not None:
        low, high = max(address, span.start), min(address + size, span.end)
        wide[8 + low - address : 8 + high - address] = span.data[low - span.start : high - span.start]
    patches = planner.patches
    first, last = np.searchsorted(
        patches["address"], np.array([max(address - 7, 0), address + size], np.uint64)
    )
    for row in patches[first:last]:
        at = int(row["address"]) - address + 8
        wide[at : at + 8] = np.frombuffer(int(row["value"]).to_bytes(8, "little"), np.uint8)
    return wide[8 : 8 + size].tobytes()


def collect(planner: Planner, memory: FutureMemory, before: dict[int, bytes]) -> Changes:
    """Put what handlers wrote into the plan: patches of what stays, ranges and writes.

    Args:
        planner: The plan.
        memory: Of the future, as handlers left it.
        before: Words of the future's own blocks that plans before wrote, with what its start-up had there;
            added to.
    """
    _copy_into_segments(planner)
    _merge_patches(planner, memory.kept)
    writes = [
        Write(int(row["address"]), int(row["value"]).to_bytes(8, "little")) for row in memory.own.changes()
    ]
    written = {write.address for write in writes}
    writes += [Write(address, word) for address, word in before.items() if address not in written]
    heap = FutureHeap(planner.future.heap)
    for address in written:
        before.setdefault(address, _own_bytes(heap, planner.future.subject.memory.read, address, 8))
    blocks = memory.blocks
    ranges: tuple[KeptRange, ...] = ()
    if blocks.blocks:
        _copy_into_blocks(planner, blocks)
        size = -(-blocks.used // PAGE) * PAGE
        rows = np.array(blocks.blocks, np.uint64)
        pages = np.array([[blocks.base, size]], np.uint64)
        ranges = (KeptRange(blocks.base, size, rows, pages, blocks.data, blocks.base),)
    return Changes(ranges=ranges, writes=tuple(writes))


def reuse(planner: Planner, inputs: Inputs, words: Array, rows: Array) -> Callable[[], None] | None:
    """What handlers wrote, kept though some objects are converted again.

    Args:
        planner: Its output is what handlers left.
        inputs: What they looked at.
        words: Addresses of the past's words that changed since, whole and aligned.
        rows: The objects that these lie in.

    Returns:
        To be called when the objects were converted again; None when handlers must run again.
    """
    ends = words + np.uint64(8)
    objects = planner.state.objects[rows]
    moves = objects["fate"] == Fate.MOVE
    starts = np.where(moves, objects["new_address"], objects["address"])
    sizes = np.where(moves, objects["out_size"], objects["size"]).astype(np.uint64)
    if planner.handled.writes:
        return None  # what they wrote into the future's own blocks is part of no object of the past
    if inputs.elsewhere or np.isin(rows, planner.pinned).any() or inputs.past.meets(words, ends):
        return None
    if inputs.future.meets(starts, starts + sizes) or inputs.written.meets(words, ends):
        return None  # of what stays, whole words are written
    moved = objects[moves]
    low, high = inputs.written.ranges
    saved: list[tuple[int, Array]] = []
    for row in moved:
        first, last = np.searchsorted(low, [row["new_address"], row["new_address"] + row["out_size"]])
        for start, end in zip(low[first:last].tolist(), high[first:last].tolist(), strict=True):
            at = int(row["out"]) + start - int(row["new_address"])
            saved.append((at, planner.output.buffer[at : at + end - start].copy()))

    def put_back() -> None:
        for at, data in saved:
            planner.output.buffer[at : at + len(data)] = data

    return put_back


def _copy_into_segments(planner: Planner) -> None:
    """Blocks that became statics were made apart: the segment's bytes are to be the same."""
    objects, output = planner.state.objects, planner.output.buffer
    for row in planner.pinned:
        start, size = int(objects["out"][row]), int(objects["out_size"][row])
        address = int(objects["new_address"][row])
        for span, base in planner.output.bases:
            if span.start <= address and address + size <= span.end:
                at = base + address - span.start
                output[at : at + size] = output[start : start + size]


def _copy_into_blocks(planner: Planner, blocks: Blocks) -> None:
    """Statics that became blocks were made apart, too: the range is to hold what the future has."""
    objects, output = planner.state.objects, planner.output.buffer
    for row in planner.pinned:
        start, size = int(objects["out"][row]), int(objects["out_size"][row])
        address = int(objects["new_address"][row])
        if address in blocks:
            blocks.data[address - blocks.base : address - blocks.base + size] = output[start : start + size]


def _merge_patches(planner: Planner, kept: Pages) -> None:
    """Handlers read the plan's patches before they wrote, so their words win; a word across two is split."""
    changed = kept.changes()
    if not len(changed):
        return
    old = planner.patches
    starts = changed["address"]
    at = np.searchsorted(starts, old["address"] + np.uint64(7), side="right") - 1
    overlaps = (at >= 0) & (starts[np.maximum(at, 0)] + np.uint64(8) > old["address"])
    extra = []
    for row in old[overlaps & (old["address"] % np.uint64(8) != 0)]:
        for base in (int(row["address"]) & ~7, (int(row["address"]) & ~7) + 8):
            extra.append((base, int.from_bytes(kept.read(base, 8), "little")))
    rest = old[~overlaps]
    known = set(starts.tolist())
    extra = [(a, v) for a, v in dict(extra).items() if a not in known]
    addresses = np.concatenate([rest["address"], starts, np.array([a for a, _ in extra], np.uint64)])
    values = np.concatenate([rest["value"], changed["value"], np.array([v for _, v in extra], np.uint64)])
    if len(addresses) < len(changed):
        raise InternalError("patches were lost")
    planner.patches = sort_patches(addresses, values)
