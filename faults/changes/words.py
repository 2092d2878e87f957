"""Wrong rewrites: words of the state that are to lead elsewhere."""

from __future__ import annotations

import random

import numpy as np

from faults.changes import Array


def _rewritten(words: Array) -> list[int]:
    return [int(i) for i in np.flatnonzero(words["value"] != words["new_value"])]


def lost_rewrite(rng: random.Random, box: list[Array]) -> str | None:
    found = _rewritten(box[0])
    if not found:
        return None
    row = rng.choice(found)
    text = f"{int(box[0]['value'][row]):#x} is not rewritten"
    box[0] = np.delete(box[0], row)
    return text


def stale_rewrite(rng: random.Random, box: list[Array]) -> str | None:
    found = _rewritten(box[0])
    if not found:
        return None
    row = rng.choice(found)
    box[0]["new_value"][row] = box[0]["value"][row]
    return f"{int(box[0]['value'][row]):#x} is rewritten to itself"


def other_rewrite(rng: random.Random, box: list[Array]) -> str | None:
    found = _rewritten(box[0])
    if len(found) < 2:
        return None
    one, other = rng.sample(found, 2)
    if box[0]["new_value"][one] == box[0]["new_value"][other]:
        return None
    box[0]["new_value"][one] = box[0]["new_value"][other]
    return f"{int(box[0]['value'][one]):#x} is rewritten as {int(box[0]['value'][other]):#x} is"


def beside_rewrite(rng: random.Random, box: list[Array]) -> str | None:
    found = _rewritten(box[0])
    if not found:
        return None
    row = rng.choice(found)
    box[0]["offset"][row] += rng.choice((4, 8))
    return f"{int(box[0]['value'][row]):#x} is rewritten beside its place"
