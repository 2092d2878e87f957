"""How long it takes to find the types of a million heap blocks, once they are copied."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from bench.measure import Row, store
from instar.metadata.version import Version
from instar.state.capture import known_ranges
from instar.state.columns import ObjectFlag, ObjectKind
from instar.state.image import Image
from instar.state.kernel import State
from instar.state.slots import build_type_table
from instar.state.typing import type_state
from instar.update.examine import copy_process

_LIMIT_MS = 1000.0
_ROUNDS = 3


def run(*, quick: bool) -> Iterator[Row]:
    count = 100_000 if quick else 1_000_000
    with store("blocks", f"{count} 50") as one:
        version, image = copy_process(one.pid)
    times = [_typed(version, image, count) for _ in range(_ROUNDS)]
    note = ", ".join(f"{ms:.0f}" for ms in times)
    yield Row(f"{count:,} blocks typed", min(times), "ms", _LIMIT_MS, "1 s", 1.0, note)


def _typed(version: Version, image: Image, count: int) -> float:
    """Milliseconds; every block of the program has a type afterwards."""
    state = State(build_type_table(version), [*image.statics, *image.heap])
    started = time.perf_counter()
    type_state(state, version, known_ranges(image.subject.maps))
    seconds = time.perf_counter() - started
    objects = state.objects
    blocks = (objects["kind"] == ObjectKind.HEAP) & ((objects["flags"] & ObjectFlag.REACHED) != 0)
    typed = int((blocks & (objects["type"] >= 0)).sum())
    assert typed == count == int(np.count_nonzero(blocks)), (typed, int(np.count_nonzero(blocks)))
    return seconds * 1e3
