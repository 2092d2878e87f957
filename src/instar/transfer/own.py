"""What the program mapped itself stays where it is, whole, or the update is refused by name. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from instar.metadata.distinct import distinct
from instar.metadata.version import Version
from instar.pairing.mapping import Relation
from instar.pairing.problems import Problem
from instar.process.maps import Mapping, find_mapping
from instar.state.columns import Fate, FixedKind, ObjectFlag
from instar.state.kernel import Span, State
from instar.state.mapped import Mapped
from instar.transfer.fates import TypeFates
from instar.transfer.plan import KeptRange
from instar.transfer.targets import Target

Array = np.ndarray[Any, np.dtype[Any]]

_REFUSED, _HEAP = "mapping-not-carried", "heap-protected"


def own_rows(state: State) -> list[tuple[int, Span]]:
    """(object row, span) of every range that the program mapped."""
    return [
        (int(state.regions["first"][index]), span)
        for index, span in enumerate(state.spans)
        if span.mapped is not None
    ]


def reach_pieces(state: State) -> None:
    """What was mapped as one piece, and is several by mprotect(2), is reached as one piece."""
    rows = [(row, span) for row, span in own_rows(state) if span.mapped and span.mapped.anonymous]
    pieces = list(_pieces(sorted(rows, key=lambda one: one[1].start)))
    flags = state.objects["flags"]
    live = np.uint32(ObjectFlag.REACHED | ObjectFlag.ROOT)
    left = [piece for piece in pieces if len(piece) > 1]
    while found := [piece for piece in left if (flags[piece] & live).any()]:
        left = [piece for piece in left if piece not in found]
        flags[[row for piece in found for row in piece]] |= np.uint32(ObjectFlag.ROOT)
        state.reach()


def _pieces(rows: Sequence[tuple[int, Span]]) -> Iterator[list[int]]:
    """Rows of ranges with nothing but memory that was never opened between them."""
    piece: list[int] = []
    behind = {-1}
    for row, span in rows:
        if span.start not in behind and piece:
            yield piece
            piece = []
        assert span.mapped is not None
        piece.append(row)
        behind = {span.end, *(high for low, high in span.mapped.reserved if low == span.end)}
    if piece:
        yield piece


def refuse_closed(state: State, maps: Sequence[Mapping]) -> Iterator[tuple[int, Problem]]:
    """Memory that the program closed to itself with something in it: beside what goes over, or in its heap.

    Args:
        state: The past's.
        maps: Its mappings.
    """
    yield from _protected_heap(state, maps)
    for row, span in own_rows(state):
        assert span.mapped is not None
        if span.mapped.closed and state.objects["flags"][row] & (ObjectFlag.REACHED | ObjectFlag.ROOT):
            start, end = span.mapped.closed[0]
            cause = f"memory beside {_name(span)} holds something and may not be read (PROT_NONE at "
            cause += f"{start:#x}-{end:#x})"
            remedy = "make it readable before the update, or give its pages back (MADV_DONTNEED)"
            yield row, Problem(_REFUSED, "", cause, remedy)


def _protected_heap(state: State, maps: Sequence[Mapping]) -> Iterator[tuple[int, Problem]]:
    """Pages of the heap that may not be written: in the new version they could be."""
    for index, span in enumerate(state.spans):
        if not span.granular or span.mapped is not None:
            continue
        for mapping in maps:
            if not mapping.writable and mapping.start < span.end and mapping.end > span.start:
                cause = "a part of the heap may only be read (mprotect, "
                cause += f"{mapping.start:#x}-{mapping.end:#x}), which does not go over"
                remedy = "undo that before the update, keep such data in memory from mmap, or pass --allow "
                yield int(state.regions["first"][index]), Problem(_HEAP, "", cause, remedy + _HEAP)


def refuse_changed(state: State, version: Version) -> Iterator[tuple[int, Problem]]:
    """Blocks of the program's own whose type changes: they stay, so they cannot be laid out anew."""
    for row, span in own_rows(state):
        if state.objects["fate"][row] == Fate.MOVE:
            state.objects["fate"][row] = Fate.STAY
            state.objects["mapping"][row] = -1
            kind = version.type_name(int(state.objects["type"][row]))
            cause = (
                f"memory that the program mapped itself ({_name(span)}) holds {kind}, whose layout changes"
            )
            remedy = "leave the type's layout as it is, or keep such objects in memory from malloc"
            yield row, Problem("mapping-retyped", "", cause, remedy)


def refuse_inside(state: State, types: TypeFates) -> Iterator[tuple[int, Problem]]:
    """Objects inside the program's own memory whose type changes: an arena holds objects of many types."""
    ranges = np.array([(span.start, span.end) for _, span in own_rows(state)], dtype=np.uint64)
    if not len(ranges):
        return
    found = state.inside(ranges)
    for kind, first in zip(*np.unique(found["type"], return_index=True), strict=True):
        if types.of(int(kind))[0] is not Relation.IDENTICAL:
            row, address = int(found["row"][first]), int(found["address"][first])
            cause = f"at {address:#x}, inside memory that the program shares out itself, lies "
            cause += f"{types.name(int(kind))}, whose layout changes"
            remedy = "leave the type's layout as it is, or keep such objects in memory from malloc"
            yield row, Problem("mapping-retyped", "", cause, remedy)


def refuse_rewritten(state: State, words: Array) -> Iterator[tuple[int, Problem]]:
    """Memory that others see, or that is not written, must not hold words that have to be rewritten."""
    for row, span in own_rows(state):
        assert span.mapped is not None
        if span.mapped.fixed and (words["object"] == row).any():
            word = words[words["object"] == row][0]
            cause = (
                f"the mapping {_name(span)} has a pointer at +{int(word['offset']):#x} to something that has "
                "another address in the new version"
            )
            yield row, Problem(_REFUSED, "", cause, "unmap it before the update, or keep offsets in it")


def end_targets(state: State) -> Iterator[Target]:
    """One past the end of each range, where a pool's limit points, and the reserved memory beside it."""
    for row, span in own_rows(state):
        assert span.mapped is not None
        for low, high in span.mapped.reserved:
            last = high if high == span.start else high + 1
            yield Target(low + (low == span.end), last, low + (low == span.end), FixedKind.LIBRARY)
        moved = state.objects["fate"][row] == Fate.MOVE
        end = int(state.objects["new_address"][row]) + len(span.data) if moved else span.end
        yield Target(span.end, span.end + 1, end, FixedKind.LIBRARY)


def kept_mapping(span: Span, mapped: Mapped, patches: Array) -> Iterator[KeptRange]:
    """The range itself, and the reserved memory beside it."""
    nothing = np.zeros((0, 2), np.uint64)
    source = None if mapped.anonymous else mapped.mapping
    pages = np.concatenate([mapped.pages, _patched_pages(mapped, patches)])
    yield KeptRange(
        span.start, len(span.data), nothing, _merge(pages), span.data, span.start,
        plain=True, protection=mapped.protection, source=source, patches=patches,
    )  # fmt: skip
    for start, end in mapped.reserved:
        yield KeptRange(start, end - start, nothing, nothing, span.data, start, plain=True, protection=0)


def _patched_pages(mapped: Mapped, patches: Array) -> Array:
    """A page that is as fresh has no pointer, so this is for files only."""
    pages = distinct(patches["address"] & ~np.uint64(4095)) if len(patches) else np.zeros(0, np.uint64)
    return np.stack([pages, np.full(len(pages), 4096, np.uint64)], axis=1)


def _merge(pages: Array) -> Array:
    """Runs by address without overlaps."""
    rows: list[tuple[int, int]] = []
    for start, size in sorted(pages.tolist()):
        if rows and start <= sum(rows[-1]):
            rows[-1] = rows[-1][0], max(sum(rows[-1]), start + size) - rows[-1][0]
        else:
            rows.append((start, size))
    return np.array(rows, dtype=np.uint64).reshape(-1, 2)


def refused_mapping(
    maps: Sequence[Mapping], address: int, images: set[str], heap: Sequence[Span]
) -> str | None:
    """What lies at an address that the update cannot carry: a file, what others share, a part of the break.

    Args:
        maps: Of the past.
        address: What leads there.
        images: Paths of loaded files.
        heap: What malloc has.
    """
    mapping = find_mapping(maps, address)
    if mapping is None or (mapping.path in images and not mapping.shared):
        return None
    if mapping.path == "[heap]" and not any(span.start <= address <= span.end for span in heap):
        return f"the part of {mapping.start:#x}-{mapping.end:#x} that the program took with sbrk"
    if mapping.path.startswith("["):
        return None
    return f"{mapping.path or 'anonymous memory'} {mapping.perms} at {mapping.start:#x}-{mapping.end:#x}"


def _name(span: Span) -> str:
    assert span.mapped is not None
    mapping = span.mapped.mapping
    return f"{mapping.path or 'anonymous'} at {span.start:#x}-{span.end:#x}"


def not_leaked(state: State) -> Array:
    """Rows that are nobody's leak when nothing reaches them: memory of libraries and the loader."""
    rows = np.zeros(len(state.objects), dtype=bool)
    rows[[row for row, _ in own_rows(state)]] = True
    return rows
