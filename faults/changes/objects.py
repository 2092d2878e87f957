"""Wrong objects: their converted bytes, whether they are carried at all, and where they go."""

from __future__ import annotations

import random

import numpy as np

from faults.changes import Array


def _moved(objects: Array, output: Array) -> list[int]:
    live = (objects["flags"] & (1 | 1024)) != 0
    inside = objects["out"] + objects["out_size"] < len(output)
    rows = np.flatnonzero(live & (objects["fate"] == 1) & (objects["out_size"] >= 8) & inside)
    return [int(row) for row in rows]


def _part(objects: Array, output: Array, row: int) -> Array:
    start = int(objects["out"][row])
    return output[start : start + int(objects["out_size"][row])]


def unconverted(rng: random.Random, given: tuple[Array, Array]) -> str | None:
    objects, output = given
    found = _moved(objects, output)
    if not found:
        return None
    row = rng.choice(found)
    _part(objects, output, row)[:] = 0
    return f"object {int(objects['address'][row]):#x} was never converted"


def garbage(rng: random.Random, given: tuple[Array, Array]) -> str | None:
    """What was there before in a member that nobody writes."""
    objects, output = given
    found = _moved(objects, output)
    if not found:
        return None
    row = rng.choice(found)
    part = _part(objects, output, row)
    at = rng.randrange(0, len(part) - 7, 8)
    part[at : at + 8] = rng.choice((0xA5, 0x5A, 0xFF))
    return f"garbage {at} bytes into the counterpart of {int(objects['address'][row]):#x}"


def overflow(rng: random.Random, given: tuple[Array, Array]) -> str | None:
    objects, output = given
    found = _moved(objects, output)
    if not found:
        return None
    row = rng.choice(found)
    end = int(objects["out"][row]) + int(objects["out_size"][row])
    size = rng.choice((1, 4, 8, 16, 64))
    output[end : end + size] = np.frombuffer(rng.randbytes(len(output[end : end + size])), np.uint8)
    return f"{size} bytes behind the counterpart of {int(objects['address'][row]):#x}"


def doubled_object(rng: random.Random, given: tuple[Array, Array]) -> str | None:
    objects, output = given
    found = _moved(objects, output)
    if len(found) < 2:
        return None
    one, other = rng.sample(found, 2)
    size = int(min(objects["out_size"][one], objects["out_size"][other]))
    _part(objects, output, other)[:size] = _part(objects, output, one)[:size]
    return f"{int(objects['address'][one]):#x} is written over {int(objects['address'][other]):#x} too"


def shifted_object(rng: random.Random, given: tuple[Array, Array]) -> str | None:
    objects, output = given
    found = _moved(objects, output)
    if not found:
        return None
    row = rng.choice(found)
    part = _part(objects, output, row)
    delta = rng.choice((1, 4, 8)) % len(part)
    part[:] = np.roll(part, delta)
    return f"{int(objects['address'][row]):#x} is written {delta} bytes too far"


# Fates --------------------------------------------------------------------------------------------------


def _heap(objects: Array) -> list[int]:
    live = (objects["flags"] & 1) != 0
    return [int(row) for row in np.flatnonzero(live & (objects["kind"] == 0))]


def leaked(rng: random.Random, objects: Array) -> str | None:
    found = _heap(objects)
    if not found:
        return None
    row = rng.choice(found)
    objects["flags"][row] &= ~np.uint32(1)
    where = f"{int(objects['size'][row])} bytes, type {int(objects['type'][row])}"
    return (
        f"block {int(objects['address'][row]):#x} ({where}, fate {int(objects['fate'][row])}) is left behind"
    )


def same_place(rng: random.Random, objects: Array) -> str | None:
    found = [row for row in _heap(objects) if objects["fate"][row] == 1]
    if len(found) < 2:
        return None
    one, other = rng.sample(found, 2)
    objects["new_address"][one] = objects["new_address"][other]
    return f"{int(objects['address'][one]):#x} goes where {int(objects['address'][other]):#x} goes"


def stays(rng: random.Random, objects: Array) -> str | None:
    found = [row for row in _heap(objects) if objects["fate"][row] == 1]
    if not found:
        return None
    row = rng.choice(found)
    objects["fate"][row] = 0
    where = f"{int(objects['size'][row])} bytes, flags {int(objects['flags'][row]):#x}"
    return f"{int(objects['address'][row]):#x} ({where}) stays although its layout changes"


def count(rng: random.Random, objects: Array) -> str | None:
    found = [row for row in _heap(objects) if objects["fate"][row] == 1]
    if not found:
        return None
    row = rng.choice(found)
    before = int(objects["count"][row])
    objects["count"][row] = max(before + rng.choice((1, -1)), 0)
    return f"{int(objects['count'][row])} elements for {before} at {int(objects['address'][row]):#x}"
