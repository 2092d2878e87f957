"""Faults in what the transfer is made of: mappings, targets, rewrites, output, the plan, its writing."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from faults.injection import Injection

Array = Any
#: Changes one thing; returns what it did, None where there is nothing to change.
Change = Callable[[random.Random, Any], str | None]


def inject(injection: Injection) -> None:
    """Wrap one function of the forward transfer, so that what it returns is wrong in one place."""
    site, change = injection.random.choice(_WAYS[injection.kind])
    seed = injection.random.random()
    said: set[str] = set()

    def spoil(value: Any) -> None:
        try:
            text = change(random.Random(seed), value)  # the same in the pre-copy and in the pause
        except Exception as error:
            injection.failed(error)
            raise
        if text is not None and text not in said:
            said.add(text)
            injection.note(f"plan, {site.__name__.strip('_')}: {text}")

    site(spoil)


# Sites ----------------------------------------------------------------------------------------------------


def _after(owner: Any, name: str, then: Callable[[Any, Any, tuple[Any, ...]], Any]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        changed = then(arguments[0], result, arguments[1:])
        return result if changed is None else changed

    setattr(owner, name, wrapped)


def _mappings(spoil: Callable[[Any], None]) -> None:
    """The forward mappings, as the kernels see them."""
    from instar.transfer.mappings import MappingPool

    def then(_pool: Any, columns: dict[str, Array], _rest: Any) -> Any:
        copied = {name: column.copy() for name, column in columns.items()}
        spoil(copied)
        return copied

    _after(MappingPool, "columns", then)


def _targets(spoil: Callable[[Any], None]) -> None:
    """Where statics, functions, strings and libraries go."""
    from instar.transfer.planner import Planner

    def then(_planner: Any, rows: Array, _rest: Any) -> None:
        spoil(rows)

    _after(Planner, "fixed", then)


def _rewrites(spoil: Callable[[Any], None]) -> None:
    """Words of the state that are rewritten."""
    from instar.transfer.engine import Engine

    def then(_engine: Any, scan: Any, _rest: Any) -> Any:
        box = [scan.words.copy()]
        spoil(box)
        return replace(scan, words=box[0])

    _after(Engine, "run", then)


def _converted(spoil: Callable[[Any], None]) -> None:
    """The bytes of converted objects, before they are written."""
    from instar.transfer.engine import Engine

    def then(engine: Any, _scan: Any, rest: Any) -> None:
        spoil((engine.state.objects, rest[0]))

    _after(Engine, "run", then)


def _fates(spoil: Callable[[Any], None]) -> None:
    """Which objects there are, and where they go: right before everything is converted."""
    from instar.transfer.planner import Planner

    def then(planner: Any, _result: Any, _rest: Any) -> None:
        spoil(planner.state.objects)

    _after(Planner, "_pair_blocks", then)


def _plan(spoil: Callable[[Any], None]) -> None:
    """The finished plan."""
    from instar.transfer.planner import Planner

    def then(_planner: Any, plan: Any, _rest: Any) -> Any:
        box = [plan]
        spoil(box)
        return box[0]

    _after(Planner, "assemble", then)


def _writing(spoil: Callable[[Any], None]) -> None:
    """The future's memory, right after the plan was written."""
    from instar.update.driver import Driver

    def then(driver: Any, _written: Any, rest: Any) -> None:
        spoil((driver.future.tracee.memory, rest[0]))

    _after(Driver, "write", then)


# Mappings -------------------------------------------------------------------------------------------------


def _some(rng: random.Random, count: int) -> int | None:
    return rng.randrange(count) if count else None


def _move(field: str, change: Callable[[random.Random, int], int]) -> Change:
    """One field of one move."""

    def spoil(rng: random.Random, columns: dict[str, Array]) -> str | None:
        row = _some(rng, len(columns["moves"]))
        if row is None:
            return None
        before = int(columns["moves"][field][row])
        after = max(change(rng, before), 0)
        columns["moves"][field][row] = after
        return f"{field} of move {row}: {before} became {after}"

    return spoil


def _beside(rng: random.Random, value: int) -> int:
    return value + rng.choice((1, -1, 4, -4, 8, -8, 16))


def _by_one(rng: random.Random, value: int) -> int:
    return value + rng.choice((1, -1))


def _other_width(rng: random.Random, value: int) -> int:
    return rng.choice([size for size in (1, 2, 4, 8) if size != value])


def _lost_move(rng: random.Random, columns: dict[str, Array]) -> str | None:
    row = _some(rng, len(columns["moves"]))
    if row is None:
        return None
    for field in ("op", "old_size", "new_size", "flags"):
        columns["moves"][field][row] = 0
    return f"move {row} is lost"


def _doubled_move(rng: random.Random, columns: dict[str, Array]) -> str | None:
    moves = columns["moves"]
    if len(moves) < 2:
        return None
    row = rng.randrange(len(moves) - 1)
    moves[row + 1] = moves[row]
    moves["new_offset"][row + 1] += rng.choice((4, 8))
    return f"move {row} once more instead of the next"


def _mapping_size(rng: random.Random, columns: dict[str, Array]) -> str | None:
    row = _some(rng, len(columns["mappings"]))
    if row is None:
        return None
    field = rng.choice(("old_size", "new_size"))
    columns["mappings"][field][row] += np.uint64(8)
    return f"{field} of mapping {row}: 8 more"


def _fewer_moves(rng: random.Random, columns: dict[str, Array]) -> str | None:
    row = _some(rng, len(columns["mappings"]))
    if row is None or not columns["mappings"]["move_count"][row]:
        return None
    columns["mappings"]["move_count"][row] -= 1
    return f"the last move of mapping {row}"


# Targets --------------------------------------------------------------------------------------------------


def _paired(rows: Array) -> list[int]:
    return [int(i) for i in np.flatnonzero((rows["new_start"] != 0) & (rows["kind"] <= 3))]


def _other_target(rng: random.Random, rows: Array) -> str | None:
    found = _paired(rows)
    if len(found) < 2:
        return None
    one = rng.choice(found)
    same = [row for row in found if row != one and rows["kind"][row] == rows["kind"][one]]
    if not same:
        return None
    other = rng.choice(same)
    rows["new_start"][one] = rows["new_start"][other]
    return f"{int(rows['start'][one]):#x} goes where {int(rows['start'][other]):#x} goes"


def _stale_target(rng: random.Random, rows: Array) -> str | None:
    found = [row for row in _paired(rows) if rows["new_start"][row] != rows["start"][row]]
    if not found:
        return None
    row = rng.choice(found)
    rows["new_start"][row] = rows["start"][row]
    return f"{int(rows['start'][row]):#x} stays"


def _far_target(rng: random.Random, rows: Array) -> str | None:
    found = _paired(rows)
    if not found:
        return None
    row = rng.choice(found)
    rows["new_start"][row] += np.uint64(rng.choice((1, 8, 16)))
    return f"{int(rows['start'][row]):#x} goes too far"


# Rewrites -------------------------------------------------------------------------------------------------


def _rewritten(words: Array) -> list[int]:
    return [int(i) for i in np.flatnonzero(words["value"] != words["new_value"])]


def _lost_rewrite(rng: random.Random, box: list[Array]) -> str | None:
    found = _rewritten(box[0])
    if not found:
        return None
    row = rng.choice(found)
    text = f"{int(box[0]['value'][row]):#x} is not rewritten"
    box[0] = np.delete(box[0], row)
    return text


def _stale_rewrite(rng: random.Random, box: list[Array]) -> str | None:
    found = _rewritten(box[0])
    if not found:
        return None
    row = rng.choice(found)
    box[0]["new_value"][row] = box[0]["value"][row]
    return f"{int(box[0]['value'][row]):#x} is rewritten to itself"


def _other_rewrite(rng: random.Random, box: list[Array]) -> str | None:
    found = _rewritten(box[0])
    if len(found) < 2:
        return None
    one, other = rng.sample(found, 2)
    if box[0]["new_value"][one] == box[0]["new_value"][other]:
        return None
    box[0]["new_value"][one] = box[0]["new_value"][other]
    return f"{int(box[0]['value'][one]):#x} is rewritten as {int(box[0]['value'][other]):#x} is"


def _beside_rewrite(rng: random.Random, box: list[Array]) -> str | None:
    found = _rewritten(box[0])
    if not found:
        return None
    row = rng.choice(found)
    box[0]["offset"][row] += rng.choice((4, 8))
    return f"{int(box[0]['value'][row]):#x} is rewritten beside its place"


# Converted bytes ------------------------------------------------------------------------------------------


def _moved(objects: Array, output: Array) -> list[int]:
    live = (objects["flags"] & (1 | 1024)) != 0
    inside = objects["out"] + objects["out_size"] < len(output)
    rows = np.flatnonzero(live & (objects["fate"] == 1) & (objects["out_size"] >= 8) & inside)
    return [int(row) for row in rows]


def _part(objects: Array, output: Array, row: int) -> Array:
    start = int(objects["out"][row])
    return output[start : start + int(objects["out_size"][row])]


def _unconverted(rng: random.Random, given: tuple[Array, Array]) -> str | None:
    objects, output = given
    found = _moved(objects, output)
    if not found:
        return None
    row = rng.choice(found)
    _part(objects, output, row)[:] = 0
    return f"object {int(objects['address'][row]):#x} was never converted"


def _garbage(rng: random.Random, given: tuple[Array, Array]) -> str | None:
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


def _overflow(rng: random.Random, given: tuple[Array, Array]) -> str | None:
    objects, output = given
    found = _moved(objects, output)
    if not found:
        return None
    row = rng.choice(found)
    end = int(objects["out"][row]) + int(objects["out_size"][row])
    size = rng.choice((1, 4, 8, 16, 64))
    output[end : end + size] = np.frombuffer(rng.randbytes(len(output[end : end + size])), np.uint8)
    return f"{size} bytes behind the counterpart of {int(objects['address'][row]):#x}"


def _doubled_object(rng: random.Random, given: tuple[Array, Array]) -> str | None:
    objects, output = given
    found = _moved(objects, output)
    if len(found) < 2:
        return None
    one, other = rng.sample(found, 2)
    size = int(min(objects["out_size"][one], objects["out_size"][other]))
    _part(objects, output, other)[:size] = _part(objects, output, one)[:size]
    return f"{int(objects['address'][one]):#x} is written over {int(objects['address'][other]):#x} too"


def _shifted_object(rng: random.Random, given: tuple[Array, Array]) -> str | None:
    objects, output = given
    found = _moved(objects, output)
    if not found:
        return None
    row = rng.choice(found)
    part = _part(objects, output, row)
    delta = rng.choice((1, 4, 8)) % len(part)
    part[:] = np.roll(part, delta)
    return f"{int(objects['address'][row]):#x} is written {delta} bytes too far"


# Fates ----------------------------------------------------------------------------------------------------


def _heap(objects: Array) -> list[int]:
    live = (objects["flags"] & 1) != 0
    return [int(row) for row in np.flatnonzero(live & (objects["kind"] == 0))]


def _leaked(rng: random.Random, objects: Array) -> str | None:
    found = _heap(objects)
    if not found:
        return None
    row = rng.choice(found)
    objects["flags"][row] &= ~np.uint32(1)
    where = f"{int(objects['size'][row])} bytes, type {int(objects['type'][row])}"
    return (
        f"block {int(objects['address'][row]):#x} ({where}, fate {int(objects['fate'][row])}) is left behind"
    )


def _same_place(rng: random.Random, objects: Array) -> str | None:
    found = [row for row in _heap(objects) if objects["fate"][row] == 1]
    if len(found) < 2:
        return None
    one, other = rng.sample(found, 2)
    objects["new_address"][one] = objects["new_address"][other]
    return f"{int(objects['address'][one]):#x} goes where {int(objects['address'][other]):#x} goes"


def _stays(rng: random.Random, objects: Array) -> str | None:
    found = [row for row in _heap(objects) if objects["fate"][row] == 1]
    if not found:
        return None
    row = rng.choice(found)
    objects["fate"][row] = 0
    where = f"{int(objects['size'][row])} bytes, flags {int(objects['flags'][row]):#x}"
    return f"{int(objects['address'][row]):#x} ({where}) stays although its layout changes"


def _count(rng: random.Random, objects: Array) -> str | None:
    found = [row for row in _heap(objects) if objects["fate"][row] == 1]
    if not found:
        return None
    row = rng.choice(found)
    before = int(objects["count"][row])
    objects["count"][row] = max(before + rng.choice((1, -1)), 0)
    return f"{int(objects['count'][row])} elements for {before} at {int(objects['address'][row]):#x}"


# The plan and its writing ---------------------------------------------------------------------------------


def _lost_plan_write(rng: random.Random, box: list[Any]) -> str | None:
    writes = box[0].writes
    if not writes:
        return None
    row = rng.randrange(len(writes))
    box[0] = replace(box[0], writes=(*writes[:row], *writes[row + 1 :]))
    return f"the write to {writes[row].address:#x} is lost"


def _short_plan_write(rng: random.Random, box: list[Any]) -> str | None:
    rows = [row for row, write in enumerate(box[0].writes) if len(write.data) > 8]
    if not rows:
        return None
    row = rng.choice(rows)
    write = box[0].writes[row]
    cut = replace(write, data=write.data[: -rng.choice((1, 8))])
    box[0] = replace(box[0], writes=(*box[0].writes[:row], cut, *box[0].writes[row + 1 :]))
    return f"the write to {write.address:#x} is too short"


def _far_plan_write(rng: random.Random, box: list[Any]) -> str | None:
    writes = box[0].writes
    if not writes:
        return None
    row = rng.randrange(len(writes))
    far = replace(writes[row], address=writes[row].address + rng.choice((8, -8, 1)))
    box[0] = replace(box[0], writes=(*writes[:row], far, *writes[row + 1 :]))
    return f"the write to {writes[row].address:#x} goes to {far.address:#x}"


def _doubled_plan_write(rng: random.Random, box: list[Any]) -> str | None:
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


def _lost_pages(rng: random.Random, box: list[Any]) -> str | None:
    found = [one for one in _ranges(box[0]) if len(one.pages)]
    if not found:
        return None
    kept = rng.choice(found)
    row = rng.randrange(len(kept.pages))
    box[0] = _put_range(box[0], kept, replace(kept, pages=np.delete(kept.pages, row, axis=0)))
    return f"the bytes at {int(kept.pages[row][0]):#x} are not copied"


def _lost_block(rng: random.Random, box: list[Any]) -> str | None:
    found = [one for one in _ranges(box[0]) if len(one.blocks)]
    if not found:
        return None
    kept = rng.choice(found)
    row = rng.randrange(len(kept.blocks))
    box[0] = _put_range(box[0], kept, replace(kept, blocks=np.delete(kept.blocks, row, axis=0)))
    return f"the runtime is not told of block {int(kept.blocks[row][0]):#x}"


def _block_size(rng: random.Random, box: list[Any]) -> str | None:
    found = [one for one in _ranges(box[0]) if len(one.blocks)]
    if not found:
        return None
    kept = rng.choice(found)
    row, delta = rng.randrange(len(kept.blocks)), rng.choice((16, 64))
    blocks = kept.blocks.copy()
    blocks[row][1] += np.uint64(delta)
    box[0] = _put_range(box[0], kept, replace(kept, blocks=blocks))
    return f"the runtime is told that block {int(blocks[row][0]):#x} has {delta} bytes more"


def _wrong_register(rng: random.Random, box: list[Any]) -> str | None:
    registers = dict(box[0].registers)
    if not registers:
        return None
    number = rng.choice(sorted(registers))
    registers[number] += 8
    box[0] = replace(box[0], registers=registers)
    return f"register {number} is 8 more"


def _lost_patch(rng: random.Random, box: list[Any]) -> str | None:
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


def _stray_write(rng: random.Random, given: tuple[Any, Any]) -> str | None:
    memory, plan = given
    span = _written_places(rng, plan)
    if span is None:
        return None
    at = span[0] + rng.randrange(0, max(span[1] - 8, 1))
    memory.write(at, rng.randbytes(rng.choice((1, 8))))
    return f"a stray write to {at:#x}"


def _behind_write(rng: random.Random, given: tuple[Any, Any]) -> str | None:
    memory, plan = given
    span = _written_places(rng, plan)
    if span is None:
        return None
    at = span[0] + span[1]
    try:
        memory.write(at, rng.randbytes(rng.choice((4, 16, 64))))
    except Exception:  # nothing is mapped there: no harm is done
        return f"a write behind {at:#x}, where nothing is"
    return f"a write behind {at:#x}"


_WAYS: dict[str, list[tuple[Callable[[Callable[[Any], None]], None], Change]]] = {
    "wrong offset": [
        (_mappings, _move("old_offset", _beside)),
        (_mappings, _move("new_offset", _beside)),
        (_mappings, _mapping_size),
        (_converted, _shifted_object),
        (_rewrites, _beside_rewrite),
        (_targets, _far_target),
        (_plan, _far_plan_write),
        (_plan, _wrong_register),
    ],
    "wrong width": [
        (_mappings, _move("old_size", _other_width)),
        (_mappings, _move("new_size", _other_width)),
        (_plan, _short_plan_write),
    ],
    "off-by-one count": [
        (_mappings, _move("count", _by_one)),
        (_mappings, _fewer_moves),
        (_fates, _count),
    ],
    "missing initialisation": [(_converted, _garbage), (_converted, _unconverted)],
    "pointer to another object": [
        (_targets, _other_target),
        (_rewrites, _other_rewrite),
        (_fates, _same_place),
    ],
    "stale pointer": [(_targets, _stale_target), (_rewrites, _stale_rewrite), (_fates, _stays)],
    "overflow of a neighbour": [(_converted, _overflow), (_writing, _behind_write), (_plan, _block_size)],
    "leaked object": [(_fates, _leaked), (_plan, _lost_block)],
    "lost write": [
        (_mappings, _lost_move),
        (_rewrites, _lost_rewrite),
        (_plan, _lost_plan_write),
        (_plan, _lost_pages),
        (_plan, _lost_patch),
    ],
    "doubled write": [
        (_mappings, _doubled_move),
        (_converted, _doubled_object),
        (_plan, _doubled_plan_write),
        (_writing, _stray_write),
    ],
}
KINDS = tuple(_WAYS)
