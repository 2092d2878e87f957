"""Faults in what the transfer is made of: mappings, targets, rewrites, output, the plan, its writing."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from faults.changes import Array, Change, mappings, objects, words, writes
from faults.injection import Injection

#: Puts something into the update's way that is called with what passes there.
Site = Callable[[Callable[[Any], None]], None]


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


_WAYS: dict[str, list[tuple[Site, Change]]] = {
    "wrong offset": [
        (_mappings, mappings.move("old_offset", mappings.beside)),
        (_mappings, mappings.move("new_offset", mappings.beside)),
        (_mappings, mappings.mapping_size),
        (_converted, objects.shifted_object),
        (_rewrites, words.beside_rewrite),
        (_targets, mappings.far_target),
        (_plan, writes.far_plan_write),
        (_plan, writes.wrong_register),
    ],
    "wrong width": [
        (_mappings, mappings.move("old_size", mappings.other_width)),
        (_mappings, mappings.move("new_size", mappings.other_width)),
        (_plan, writes.short_plan_write),
    ],
    "off-by-one count": [
        (_mappings, mappings.move("count", mappings.by_one)),
        (_mappings, mappings.fewer_moves),
        (_fates, objects.count),
    ],
    "missing initialisation": [(_converted, objects.garbage), (_converted, objects.unconverted)],
    "pointer to another object": [
        (_targets, mappings.other_target),
        (_rewrites, words.other_rewrite),
        (_fates, objects.same_place),
    ],
    "stale pointer": [
        (_targets, mappings.stale_target),
        (_rewrites, words.stale_rewrite),
        (_fates, objects.stays),
    ],
    "overflow of a neighbour": [
        (_converted, objects.overflow),
        (_writing, writes.behind_write),
        (_plan, writes.block_size),
    ],
    "leaked object": [(_fates, objects.leaked), (_plan, writes.lost_block)],
    "lost write": [
        (_mappings, mappings.lost_move),
        (_rewrites, words.lost_rewrite),
        (_plan, writes.lost_plan_write),
        (_plan, writes.lost_pages),
        (_plan, writes.lost_patch),
    ],
    "doubled write": [
        (_mappings, mappings.doubled_move),
        (_converted, objects.doubled_object),
        (_plan, writes.doubled_plan_write),
        (_writing, writes.stray_write),
    ],
}
KINDS = tuple(_WAYS)
