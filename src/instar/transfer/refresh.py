"""Brings a carried-out plan up to date with what the past did since, instead of planning anew.

A plan is a function of the past's memory, blocks, frames and mappings. Where all that differs are words that
no part of planning looks at (see ``native/kernels/changes.c``), everything that was decided stays decided:
only the objects with such words are converted again, and only changed pages are written. Whatever cannot be
shown to be harmless makes ``refresh_plan`` give up, and the caller plans from the start. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from instar.metadata.distinct import distinct
from instar.state.columns import Fate, ObjectKind
from instar.state.image import Image
from instar.state.kernel import Span, State
from instar.state.mirror import Changes, join_changes, merge
from instar.transfer.environment import changed_environment
from instar.transfer.library_blocks import library_rows, library_words
from instar.transfer.plan import KeptRange, TransferPlan, without_blocks
from instar.transfer.planner import Planner
from instar.transfer.stack import FramePair, stack_spans

Array = np.ndarray[Any, np.dtype[Any]]

_PAGE = 4096


def refresh_plan(
    planner: Planner, plan: TransferPlan, past: Image, pairs: Sequence[FramePair]
) -> TransferPlan | None:
    """What is to be written on top of a plan that was carried out.

    Args:
        planner: Made ``plan``; is at its end when None is returned.
        plan: The complete plan.
        past: A new image; shares the heap's bytes with the one that was planned from.
        pairs: Its program frames with the future's.

    Returns:
        None when a new plan is needed.
    """
    changes = past.changes
    if changes is None or past.round != planner.past.round + 1 or not _is_same_shape(planner, past, pairs):
        return None
    if changed_environment(past) != planner.environment:
        return None
    spans = _other_spans(planner, past, pairs)
    if spans is None:
        return None
    parts = [_merge(old, new) for old, new in spans]
    joined = join_changes([changes, *parts])
    planner.touched_pages = joined.pages
    rows = planner.engine.changed_rows(joined)
    if rows is None or not _is_library_same(planner, past):
        return None
    planner.past, planner.pairs, planner.changed_rows = past, pairs, rows
    scan = planner.scanned
    statics = [old for (old, _), part in zip(spans, parts, strict=True) if len(part.rows)]
    if np.isin(scan.findings["object"], rows).any() or not planner.statics.is_untouched_same(statics, past):
        return None
    put_back = _reuse_handlers(planner, joined, rows)
    if put_back is None or not planner.engine.convert_again(rows):
        return None
    again = scan.words[np.isin(scan.words["object"], rows)]
    planner.output.apply_moved(again[planner.state.objects["fate"][again["object"]] == Fate.MOVE])
    put_back()
    planner.changed_pages = np.union1d(planner.changed_pages, changes.rows["address"])
    past_ranges = plan.kept[: len(plan.kept) - len(planner.handled.ranges)]
    kept = tuple(_changed_pages(one, changes.rows) for one in past_ranges)
    arena = None if plan.arena is None else _changed_blocks(plan.arena, planner, rows)
    return without_blocks(replace(planner.assemble(kept, arena), refreshed=True))


def _reuse_handlers(planner: Planner, changes: Changes, rows: Array) -> Callable[[], None] | None:
    """Keep what handlers made, if they looked at nothing that changed; None: they must run again."""
    handlers = planner.prepared.handlers
    if handlers is None:
        return lambda: None
    words = changed_words(planner.state, changes)
    return None if words is None else handlers.reuse(planner, words, rows)


def changed_words(state: State, changes: Changes) -> Array | None:
    """Addresses of the aligned words that differ, ascending; None where the state has no copy of them.

    Args:
        state: As it is now.
        changes: Against what was before.
    """
    found = [np.zeros(0, np.uint64)]
    for row, saved in zip(changes.rows, changes.saved, strict=True):
        address, size = int(row["address"]), int(row["size"])
        data = state.bytes_at(address, size)
        if data is None:
            return None
        places = np.flatnonzero(np.frombuffer(data, np.uint8) != saved[:size]).astype(np.uint64)
        found.append((places + np.uint64(address)) & ~np.uint64(7))
    return np.unique(np.concatenate(found))


def _is_same_shape(planner: Planner, past: Image, pairs: Sequence[FramePair]) -> bool:
    """Whether everything but the contents of memory is as it was."""
    old, new = planner.past, past
    return (
        list(old.subject.maps) == list(new.subject.maps)
        and (old.subject.load_bias, old.subject.thread_pointer)
        == (new.subject.load_bias, new.subject.thread_pointer)
        and (old.canary, old.arguments) == (new.canary, new.arguments)
        and len(old.heap) == len(new.heap)
        and all(_is_same_span(a, b) for a, b in zip(old.heap, new.heap, strict=True))
        and len(planner.pairs) == len(pairs)
        and all(_is_same_frame(a, b) for a, b in zip(planner.pairs, pairs, strict=True))
    )


def _is_same_span(old: Span, new: Span) -> bool:
    """One heap range with the same blocks in the same memory."""
    if (old.start, len(old.data), old.data.ctypes.data) != (new.start, len(new.data), new.data.ctypes.data):
        return False
    if old.blocks is None or new.blocks is None or len(old.blocks) != len(new.blocks):
        return False
    return old.blocks is new.blocks or all(
        np.array_equal(old.blocks[name], new.blocks[name]) for name in ("address", "size")
    )


def _is_same_frame(old: FramePair, new: FramePair) -> bool:
    return (
        (old.old.function, old.old.low, old.old.high, old.old.locals, old.same_code)
        == (new.old.function, new.old.low, new.old.high, new.old.locals, new.same_code)
        and old.new is new.new
        and old.old.frame.saved_at == new.old.frame.saved_at
        and old.old.frame.registers.keys() == new.old.frame.registers.keys()
    )


def _other_spans(planner: Planner, past: Image, pairs: Sequence[FramePair]) -> list[tuple[Span, Span]] | None:
    """Static, thread-local and stack spans, the plan's with the new ones; None where they do not match."""
    fresh = [*past.statics, *([past.tls] if past.tls else [])]
    fresh += stack_spans(pairs, past.subject.memory.read, planner.old)
    olds = {span.start: span for span in planner.state.spans if not span.granular}
    if sorted(olds) != sorted(span.start for span in fresh):
        return None
    found = [(olds[span.start], span) for span in fresh]
    for old, new in found:
        if len(old.data) != len(new.data) or len(old.objects) != len(new.objects):
            return None
        if any((old.objects[name] != new.objects[name]).any() for name in ("address", "size", "kind")):
            return None
    return found


def _merge(old: Span, new: Span) -> Changes:
    changes = merge(old.data, new.data, old.start)
    assert changes is not None
    return changes


def _is_library_same(planner: Planner, past: Image) -> bool:
    """Whether libraries hold on to the same blocks."""
    words = library_words(past.subject, past.program, past.heap)
    return library_rows(planner.state, words, planner.stream_rows) == planner.library_rows


def _changed_pages(kept: KeptRange, changes: Array) -> KeptRange:
    """What of a range has to be written again: changed pages, where they were written at all."""
    ends = changes["address"] + changes["size"]
    starts, stops = [], []
    for low, size in kept.pages:
        high = low + size
        inside = (ends > low) & (changes["address"] < high)
        starts.append(np.maximum(changes["address"][inside], low))
        stops.append(np.minimum(ends[inside], high))
    if not starts:
        return kept
    begin, end = np.concatenate(starts), np.concatenate(stops)
    return replace(kept, pages=np.stack([begin, end - begin], axis=1))


def _changed_blocks(arena: KeptRange, planner: Planner, rows: Array) -> KeptRange:
    """The pages of the arena that hold blocks which were converted again."""
    objects = planner.state.objects[rows]
    moved = (objects["kind"] == ObjectKind.HEAP) & (objects["fate"] == Fate.MOVE)
    moved &= ~np.isin(rows, planner.pinned)
    low = objects["new_address"][moved] & ~np.uint64(_PAGE - 1)
    high = objects["new_address"][moved] + objects["out_size"][moved]
    pages = [np.zeros(0, np.uint64)]
    pages += [np.arange(a, b, _PAGE, dtype=np.uint64) for a, b in zip(low, high, strict=True)]
    starts = distinct(np.concatenate(pages))
    end = np.uint64(arena.start + len(arena.data))
    spans = np.stack([starts, np.minimum(end - starts, np.uint64(_PAGE))], axis=1)
    return replace(arena, pages=spans)
