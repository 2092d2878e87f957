"""A wrong plan: what is to be written, and what is written besides."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np

from instar.errors import FaultError


def lost_plan_write(rng: random.Random, box: list[Any]) -> str | None:
    writes = box[0].writes
    if not writes:
        return None
    row = rng.randrange(len(writes))
    box[0] = replace(box[0], writes=(*writes[:row], *writes[row + 1 :]))
    return f"the write to {writes[row].address:#x} is lost"


def short_plan_write(rng: random.Random, box: list[Any]) -> str | None:
    rows = [row for row, write in enumerate(box[0].writes) if len(write.data) > 8]
    if not rows:
        return None
    row = rng.choice(rows)
    write = box[0].writes[row]
    cut = replace(write, data=write.data[: -rng.choice((1, 8))])
    box[0] = replace(box[0], writes=(*box[0].writes[:row], cut, *box[0].writes[row + 1 :]))
    return f"the write to {write.address:#x} is too short"


def far_plan_write(rng: random.Random, box: list[Any]) -> str | None:
    writes = box[0].writes
    if not writes:
        return None
    row = rng.randrange(len(writes))
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


def _ranges(plan: Any) -> list[Any]:
    return [*plan.kept, *([plan.arena] if plan.arena is not None else [])]


def _put_range(plan: Any, old: Any, new: Any) -> Any:
    if plan.arena is old:
        return replace(plan, arena=new)
    return replace(plan, kept=tuple(new if one is old else one for one in plan.kept))


def lost_pages(rng: random.Random, box: list[Any]) -> str | None:
    found = [one for one in _ranges(box[0]) if len(one.pages)]
    if not found:
        return None
    kept = rng.choice(found)
    row = rng.randrange(len(kept.pages))
    box[0] = _put_range(box[0], kept, replace(kept, pages=np.delete(kept.pages, row, axis=0)))
    return f"the bytes at {int(kept.pages[row][0]):#x} are not copied"


def lost_block(rng: random.Random, box: list[Any]) -> str | None:
    found = [one for one in _ranges(box[0]) if len(one.blocks)]
    if not found:
        return None
    kept = rng.choice(found)
    row = rng.randrange(len(kept.blocks))
    box[0] = _put_range(box[0], kept, replace(kept, blocks=np.delete(kept.blocks, row, axis=0)))
    return f"the runtime is not told of block {int(kept.blocks[row][0]):#x}"


def block_size(rng: random.Random, box: list[Any]) -> str | None:
    found = [one for one in _ranges(box[0]) if len(one.blocks)]
    if not found:
        return None
    kept = rng.choice(found)
    row, delta = rng.randrange(len(kept.blocks)), rng.choice((16, 64))
    blocks = kept.blocks.copy()
    blocks[row][1] += np.uint64(delta)
    box[0] = _put_range(box[0], kept, replace(kept, blocks=blocks))
    return f"the runtime is told that block {int(blocks[row][0]):#x} has {delta} bytes more"


def wrong_register(rng: random.Random, box: list[Any]) -> str | None:
    registers = dict(box[0].registers)
    if not registers:
        return None
    number = rng.choice(sorted(registers))
    registers[number] += 8
    box[0] = replace(box[0], registers=registers)
    return f"register {number} is 8 more"


def lost_patch(rng: random.Random, box: list[Any]) -> str | None:
    found = [one for one in box[0].kept if len(one.patches)]
    if not found:
        return None
    kept = rng.choice(found)
    row = rng.randrange(len(kept.patches))
    box[0] = _put_range(box[0], kept, replace(kept, patches=np.delete(kept.patches, row)))
    return f"{int(kept.patches['address'][row]):#x} is not patched"


def _written_places(rng: random.Random, plan: Any) -> tuple[int, int] | None:
    spans = [(int(start), int(size)) for one in _ranges(plan) for start, size in one.pages]
    spans += [(write.address, len(write.data)) for write in plan.writes if len(write.data) >= 16]
    return rng.choice(spans) if spans else None


def stray_write(rng: random.Random, given: tuple[Any, Any]) -> str | None:
    memory, plan = given
    span = _written_places(rng, plan)
    if span is None:
        return None
    at = span[0] + rng.randrange(0, max(span[1] - 8, 1))
    memory.write(at, rng.randbytes(rng.choice((1, 8))))
    return f"a stray write to {at:#x}"


def behind_write(rng: random.Random, given: tuple[Any, Any]) -> str | None:
    memory, plan = given
    span = _written_places(rng, plan)
    if span is None:
        return None
    at = span[0] + span[1]
    try:
        memory.write(at, rng.randbytes(rng.choice((4, 16, 64))))
    except FaultError:  # nothing is mapped there: no harm is done
        return f"a write behind {at:#x}, where nothing is"
    return f"a write behind {at:#x}"
