"""The program's own mappings as spans: one block over each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from instar.heap.image import BlockKind, HeapImage
from instar.heap.inherited import BLOCK
from instar.heap.modules import Module
from instar.process.maps import Mapping
from instar.process.memory import Memory
from instar.state.columns import ObjectKind
from instar.state.kernel import Span, make_objects
from instar.state.mapped import PAGE, Range, copy_mapped, own_mappings

Array = np.ndarray[Any, np.dtype[Any]]

_NONE = make_objects(0, ObjectKind.HEAP)
_NO_ORIGINS = np.zeros(0, dtype=np.int32)
_ARENA = 64 << 20  # HEAP_MAX_SIZE: what an arena reserves is aligned to it


def heap_ranges(image: HeapImage) -> Iterator[Range]:
    """All that malloc got from the system, reserved memory of arenas included."""
    for region in image.regions:
        start = region.start & ~(PAGE - 1)
        yield start, (region.limit + PAGE - 1) & ~(PAGE - 1)
        if region.kind == BlockKind.ARENA:
            base = start & ~(_ARENA - 1)
            yield base, base + _ARENA


def mapped_spans(
    memory: Memory,
    maps: Sequence[Mapping],
    modules: Sequence[Module],
    thread_pointer: int | None,
    taken: Iterable[Range],
    read: Callable[[int, int], Array],
) -> list[Span]:
    """Spans of what the program mapped itself; what cannot be read has none, and nothing may point there."""
    spans = []
    for mapped in own_mappings(memory, maps, modules, thread_pointer, taken):
        data = copy_mapped(memory, mapped, read)
        if data is not None:
            blocks = np.array([(mapped.start, len(data))], BLOCK)
            spans.append(
                Span(mapped.start, data, _NONE, _NO_ORIGINS, granular=True, blocks=blocks, mapped=mapped)
            )
    return spans
