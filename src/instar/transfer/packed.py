"""Pointers across two words of a frame: locals of packed structs, such as the kernel's epoll_event. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from instar.state.columns import Status
from instar.state.frames import ProgramFrame
from instar.state.slots import TypeTable

Array = np.ndarray[Any, np.dtype[Any]]
Translate = Callable[[Array], tuple[Array, Array]]

_LEADS = (Status.STAY, Status.MOVED, Status.LIBRARY)
_HARMLESS = (Status.NULL, Status.SMALL, Status.DANGLING, Status.WILD)


def packed_offsets(frame: ProgramFrame, table: TypeTable) -> list[int]:
    """Where a frame's described locals have pointers at odd offsets, in bytes from its low end."""
    low, size = frame.low, (frame.high - frame.low) // 8 * 8
    found: set[int] = set()
    for local in frame.locals:
        if local.address is None or local.type < 0 or table.stripped[local.type] < 0:
            continue
        kind = table.types[table.stripped[local.type]]
        for slot in table.slots[kind["first_slot"] : kind["first_slot"] + kind["slot_count"]]:
            first, step = local.address - low + int(slot["offset"]), int(slot["stride"]) or 8
            places = range(first, first + int(slot["count"]) * step, step)
            found.update(at for at in places if at % 8 and 0 <= at <= size - 8)
    return sorted(found)


def words_at(data: bytes, offsets: Sequence[int]) -> Array:
    """The words that start at these bytes."""
    return np.array([int.from_bytes(data[at : at + 8], "little") for at in offsets], dtype=np.uint64)


def rewrite_packed(
    offsets: Sequence[int], past: Array, current: Array, statuses: Array, translate: Translate
) -> list[tuple[int, str]]:
    """Put the counterparts of such pointers into a frame that was translated word by word.

    Where a word of the frame leads somewhere itself, debug information describes a local that is not alive
    any more: then neither reading is proven.

    Args:
        offsets: See ``packed_offsets``.
        past, current: The past's words, and the translated ones, which are changed.
        statuses: Of the past's words.
        translate: Statuses and new values of words.

    Returns:
        (offset, why) of those that are not carried.
    """
    unsettled = []
    found, values = translate(words_at(past.tobytes(), offsets))
    old, new = past.view(np.uint8), current.view(np.uint8)
    settled = []
    for at, status, value in zip(offsets, found, values, strict=True):
        first = at // 8
        if status in _LEADS and any(one in _LEADS for one in statuses[first : first + 2]):
            unsettled.append((at, "overlaps another pointer"))
        elif status in _LEADS or status in _HARMLESS:
            settled.append((at, int(value)))
        else:
            unsettled.append((at, Status(int(status)).name.lower()))
    for at, _ in settled:
        for word in (at // 8, at // 8 + 1):
            if statuses[word] not in _LEADS:
                new[8 * word : 8 * word + 8] = old[8 * word : 8 * word + 8]
    for at, value in settled:
        if not any(one in _LEADS for one in statuses[at // 8 : at // 8 + 2]):
            new[at : at + 8] = np.frombuffer(value.to_bytes(8, "little"), dtype=np.uint8)
    return unsettled
