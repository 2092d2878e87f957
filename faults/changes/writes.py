"""A wrong plan: what is to be written, and what is written besides."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np

from faults.changes import of_one
from instar.errors import FaultError


def _writes(box: list[Any]) -> range:
    return range(len(box[0].writes))


def _long_writes(box: list[Any]) -> list[int]:
    return [row for row, write in enumerate(box[0].writes) if len(write.data) > 8]


def _ranges(plan: Any) -> list[Any]:
    return [*plan.kept, *([plan.arena] if plan.arena is not None else [])]


def _with_pages(box: list[Any]) -> list[Any]:
    return [one for one in _ranges(box[0]) if len(one.pages)]


def _with_blocks(box: list[Any]) -> list[Any]:
    return [one for one in _ranges(box[0]) if len(one.blocks)]


def _with_patches(box: list[Any]) -> list[Any]:
    return [one for one in box[0].kept if len(one.patches)]


def _registers(box: list[Any]) -> list[int]:
    return sorted(box[0].registers)


@of_one(_writes)
def lost_plan_write(rng: random.Random, box: list[Any], row: int) -> str:
    writes = box[0].writes
    box[0] = replace(box[0], writes=(*writes[:row], *writes[row + 1 :]))
    return f"the write to {writes[row].address:#x} is lost"


@of_one(_long_writes)
def short_plan_write(rng: random.Random, box: list[Any], row: int) -> str:
    write = box[0].writes[row]
    cut = replace(write, data=write.data[: -rng.choice((1, 8))])
    box[0] = replace(box[0], writes=(*box[0].writes[:row], cut, *box[0].writes[row + 1 :]))
    return f"the write to {write.address:#x} is too short"


@of_one(_writes)
def far_plan_write(rng: random.Random, box: list[Any], row: int) -> str:
    writes = box[0].writes
    far = replace(writes[row], address=writes[row].address + rng.choice((8, -8, 1)))
    box[0] = replace(box[0], writes=(*writes[:row], far, *writes[row + 1 :]))
    return f"the write to {writes[row].address:#x} goes to {far.address:#x}"


def doubled_plan_write(rng: random.Random, box: list[Any]) -> str | None:
    writes = box[0].writes
    if len(writes) < 2:
        return None
    one, other = rng.sample(range(len(writes)), 2)
    size = min(len(writes[one].data), len(writes[other].data))
    again = replace(writes[other], data=writes[one].data[:size])
    box[0] = replace(box[0], writes=(*writes, again))
    return f"what goes to {writes[one].address:#x} is written to {writes[other].address:#x} too"


def _put_range(plan: Any, old: Any, new: Any) -> Any:
    if plan.arena is old:
        return replace(plan, arena=new)
    return replace(plan, kept=tuple(new if one is old else one for one in plan.kept))


@of_one(_with_pages)
def lost_pages(rng: random.Random, box: list[Any], kept: Any) -> str:
    row = rng.randrange(len(kept.pages))
    box[0] = _put_range(box[0], kept, replace(kept, pages=np.delete(kept.pages, row, axis=0)))
    return f"the bytes at {int(kept.pages[row][0]):#x} are not copied"


@of_one(_with_blocks)
def lost_block(rng: random.Random, box: list[Any], kept: Any) -> str:
    row = rng.randrange(len(kept.blocks))
    box[0] = _put_range(box[0], kept, replace(kept, blocks=np.delete(kept.blocks, row, axis=0)))
    return f"the runtime is not told of block {int(kept.blocks[row][0]):#x}"


@of_one(_with_blocks)
def block_size(rng: random.Random, box: list[Any], kept: Any) -> str:
    row, delta = rng.randrange(len(kept.blocks)), rng.choice((16, 64))
    blocks = kept.blocks.copy()
    blocks[row][1] += np.uint64(delta)
    box[0] = _put_range(box[0], kept, replace(kept, blocks=blocks))
    return f"the runtime is told that block {int(blocks[row][0]):#x} has {delta} bytes more"


@of_one(_registers)
def wrong_register(rng: random.Random, box: list[Any], number: int) -> str:
    registers = dict(box[0].registers)
    registers[number] += 8
    box[0] = replace(box[0], registers=registers)
    return f"register {number} is 8 more"


@of_one(_with_patches)
def lost_patch(rng: random.Random, box: list[Any], kept: Any) -> str:
    row = rng.randrange(len(kept.patches))
    box[0] = _put_range(box[0], kept, replace(kept, patches=np.delete(kept.patches, row)))
    return f"{int(kept.patches['address'][row]):#x} is not patched"


def _written(given: tuple[Any, Any]) -> list[tuple[int, int]]:
    plan = given[1]
    spans = [(int(start), int(size)) for one in _ranges(plan) for start, size in one.pages]
    spans += [(write.address, len(write.data)) for write in plan.writes if len(write.data) >= 16]
    return spans


@of_one(_written)
def stray_write(rng: random.Random, given: tuple[Any, Any], span: tuple[int, int]) -> str:
    at = span[0] + rng.randrange(0, max(span[1] - 8, 1))
    given[0].write(at, rng.randbytes(rng.choice((1, 8))))
    return f"a stray write to {at:#x}"


@of_one(_written)
def behind_write(rng: random.Random, given: tuple[Any, Any], span: tuple[int, int]) -> str:
    at = span[0] + span[1]
    try:
        given[0].write(at, rng.randbytes(rng.choice((4, 16, 64))))
    except FaultError:  # nothing is mapped there: no harm is done
        return f"a write behind {at:#x}, where nothing is"
    return f"a write behind {at:#x}"
