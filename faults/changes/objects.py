"""Wrong objects: their converted bytes, whether they are carried at all, and where they go."""

from __future__ import annotations

import random

import numpy as np

from faults.changes import Array, of_one


def _moved(given: tuple[Array, Array]) -> list[int]:
    objects, output = given
    live = (objects["flags"] & (1 | 1024)) != 0
    inside = objects["out"] + objects["out_size"] < len(output)
    rows = np.flatnonzero(live & (objects["fate"] == 1) & (objects["out_size"] >= 8) & inside)
    return [int(row) for row in rows]


def _part(objects: Array, output: Array, row: int) -> Array:
    start = int(objects["out"][row])
    return output[start : start + int(objects["out_size"][row])]


@of_one(_moved)
def unconverted(rng: random.Random, given: tuple[Array, Array], row: int) -> str:
    objects, output = given
    _part(objects, output, row)[:] = 0
    return f"object {int(objects['address'][row]):#x} was never converted"


@of_one(_moved)
def garbage(rng: random.Random, given: tuple[Array, Array], row: int) -> str:
    """What was there before in a member that nobody writes."""
    objects, output = given
    part = _part(objects, output, row)
    at = rng.randrange(0, len(part) - 7, 8)
    part[at : at + 8] = rng.choice((0xA5, 0x5A, 0xFF))
    return f"garbage {at} bytes into the counterpart of {int(objects['address'][row]):#x}"


@of_one(_moved)
def overflow(rng: random.Random, given: tuple[Array, Array], row: int) -> str:
    objects, output = given
    end = int(objects["out"][row]) + int(objects["out_size"][row])
    size = rng.choice((1, 4, 8, 16, 64))
    output[end : end + size] = np.frombuffer(rng.randbytes(len(output[end : end + size])), np.uint8)
    return f"{size} bytes behind the counterpart of {int(objects['address'][row]):#x}"


def doubled_object(rng: random.Random, given: tuple[Array, Array]) -> str | None:
    objects, output = given
    found = _moved(given)
    if len(found) < 2:
        return None
    one, other = rng.sample(found, 2)
    size = int(min(objects["out_size"][one], objects["out_size"][other]))
    _part(objects, output, other)[:size] = _part(objects, output, one)[:size]
    return f"{int(objects['address'][one]):#x} is written over {int(objects['address'][other]):#x} too"


@of_one(_moved)
def shifted_object(rng: random.Random, given: tuple[Array, Array], row: int) -> str:
    objects, output = given
    part = _part(objects, output, row)
    delta = rng.choice((1, 4, 8)) % len(part)
    part[:] = np.roll(part, delta)
    return f"{int(objects['address'][row]):#x} is written {delta} bytes too far"


# Fates --------------------------------------------------------------------------------------------------


def _heap(objects: Array) -> list[int]:
    live = (objects["flags"] & 1) != 0
    return [int(row) for row in np.flatnonzero(live & (objects["kind"] == 0))]


def _leaving(objects: Array) -> list[int]:
    return [row for row in _heap(objects) if objects["fate"][row] == 1]


@of_one(_heap)
def leaked(rng: random.Random, objects: Array, row: int) -> str:
    objects["flags"][row] &= ~np.uint32(1)
    where = f"{int(objects['size'][row])} bytes, type {int(objects['type'][row])}"
    return (
        f"block {int(objects['address'][row]):#x} ({where}, fate {int(objects['fate'][row])}) is left behind"
    )


def same_place(rng: random.Random, objects: Array) -> str | None:
    found = _leaving(objects)
    if len(found) < 2:
        return None
    one, other = rng.sample(found, 2)
    objects["new_address"][one] = objects["new_address"][other]
    return f"{int(objects['address'][one]):#x} goes where {int(objects['address'][other]):#x} goes"


@of_one(_leaving)
def stays(rng: random.Random, objects: Array, row: int) -> str:
    objects["fate"][row] = 0
    where = f"{int(objects['size'][row])} bytes, flags {int(objects['flags'][row]):#x}"
    return f"{int(objects['address'][row]):#x} ({where}) stays although its layout changes"


@of_one(_leaving)
def count(rng: random.Random, objects: Array, row: int) -> str:
    before = int(objects["count"][row])
    objects["count"][row] = max(before + rng.choice((1, -1)), 0)
    return f"{int(objects['count'][row])} elements for {before} at {int(objects['address'][row]):#x}"
