"""Blocks that seem to hold several objects of a type that changes, but may hold one and other data behind it.

``malloc(sizeof *p + length)`` without a flexible member looks like an array from outside. Converting the data
behind the first object as if it were more of them would destroy it, so evidence is asked for. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from instar.state.columns import KernelType, ObjectFlag, ObjectKind, SlotKind
from instar.state.kernel import State

Array = np.ndarray[Any, np.dtype[Any]]

_PAGE, _SLACK = 4096, 31
_COUNTS = 1 << 16
_SHOWN = 64


def find_behind(state: State, rows: Array) -> tuple[list[int], list[int]]:
    """Which blocks are not shown to be arrays: rows with text behind the first object, rows without evidence.

    Args:
        state: Typed.
        rows: Heap blocks of one type that changes.
    """
    texts: list[int] = []
    unknown: list[int] = []
    several = rows[state.objects["count"][rows] > 1]
    several = several[(state.objects["flags"][several] & ObjectFlag.INTERIOR) == 0]
    for row in several.tolist():
        if len(texts) >= _SHOWN or len(unknown) >= _SHOWN:
            break
        entry = state.objects[row]
        one = int(state.table.types[entry["type"]]["size"])
        data = state.bytes_at(int(entry["address"]), int(entry["size"]))
        if data is None or not any(data[one:]) or _has_pointers_behind(state, entry, data):
            continue
        if _is_text(data[one:]) and not _has_characters(state, int(entry["type"])):
            texts.append(row)
        elif not any(_is_count(entry, one, value) for value in _numbers_beside(state, entry)):
            unknown.append(row)
    return texts, unknown


def find_small_arrays(state: State, rows: Array) -> list[int]:
    """Blocks taken for one object that may be several: small ones fit into what the allocator rounds up.

    Args:
        state: Typed.
        rows: Heap blocks of one type that changes.

    Returns:
        Rows with data other than text where a second object would lie; without any it makes no difference.
    """
    if not len(rows):
        return []
    one = int(state.table.types[state.objects["type"][rows[0]]]["size"])
    if not 0 < one <= _SLACK:
        return []
    single = rows[(state.objects["count"][rows] == 1) & (state.objects["size"][rows] >= 2 * one)]
    single = single[(state.objects["flags"][single] & ObjectFlag.TRUNCATED) == 0]
    found: list[int] = []
    for row in single.tolist():
        entry = state.objects[row]
        data = state.bytes_at(int(entry["address"]), int(entry["size"]))
        if data is None or not any(data[one : len(data) // one * one]):
            continue
        if _is_text(data[one:]) and not _has_characters(state, int(entry["type"])):
            continue  # a header and its text, which goes with it
        found.append(row)
        if len(found) == _SHOWN:
            break
    return found


def _has_pointers_behind(state: State, entry: Any, data: bytes) -> bool:
    """Whether a pointer slot of the second object or a later one leads to an object of the state."""
    kind = state.table.types[entry["type"]]
    size = int(kind["size"])
    slots = state.table.slots[kind["first_slot"] : kind["first_slot"] + kind["slot_count"]]
    for slot in slots[slots["kind"] != SlotKind.UNION]:
        for element in range(1, min(int(entry["count"]), _SHOWN)):
            at = element * size + int(slot["offset"])
            word = int.from_bytes(data[at : at + 8], "little")
            if word >= _PAGE and state.find(word) is not None:
                return True
    return False


def _is_text(data: bytes) -> bool:
    """Whether what lies there is a text up to its NUL, or characters only."""
    text = data.split(b"\0", 1)[0]
    return bool(text) and all(0x20 <= byte < 0x7F or byte in b"\t\r\n" for byte in text)


def _has_characters(state: State, kind: int) -> bool:
    """Whether a type begins with character data, so that text there says nothing."""
    types = state.table.types
    while kind >= 0 and types[kind]["kind"] == KernelType.AGGREGATE:
        kind = int(types[kind]["inner"])
    return kind >= 0 and bool(types[kind]["kind"] == KernelType.BYTES)


def _is_count(entry: Any, one: int, value: int) -> bool:
    """Whether a number of objects fills the block but for the allocator's rounding."""
    rest = int(entry["size"]) - value * one
    slack = _PAGE + _SLACK if int(entry["size"]) >= (128 << 10) - 64 else _SLACK
    return value > 1 and 0 <= rest <= slack


def _numbers_beside(state: State, entry: Any) -> Iterator[int]:
    """The numbers in the object that points at a block; for a static pointer, all static numbers."""
    parent = int(entry["parent"])
    if parent < 0:
        return
    holder = state.objects[parent]
    if holder["type"] >= 0 and state.table.types[holder["type"]]["kind"] == KernelType.POINTER:
        yield from _static_numbers(state)
        return
    data = state.bytes_at(int(holder["address"]), min(int(holder["size"]), _COUNTS) & ~7)
    if data:
        for width in (np.uint32, np.uint64):
            yield from np.frombuffer(data, width).tolist()


def _static_numbers(state: State) -> Iterator[int]:
    objects = state.objects
    wide = (objects["kind"] == ObjectKind.STATIC) & np.isin(objects["size"], (4, 8)) & (objects["type"] >= 0)
    scalars = state.table.types["kind"][objects["type"]] == KernelType.SCALAR
    for row in np.flatnonzero(wide & scalars)[:_COUNTS].tolist():
        value = state.bytes_at(int(objects["address"][row]), int(objects["size"][row]))
        if value is not None:
            yield int.from_bytes(value, "little")
