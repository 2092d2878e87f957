"""A block that kept its place although its type changed is found, whatever else is claimed in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from instar.pairing.mapping import TypePairing
from instar.state.columns import OBJECT, Fate, ObjectFlag, ObjectKind
from instar.testing.versions import VersionBuilder
from instar.transfer.planner import Planner
from instar.validation.blocks import unconverted
from instar.validation.columns import COUNTERPART, CounterpartFlag
from instar.validation.counterparts import Counterparts
from instar.validation.layouts import Layouts


def _version(size: int) -> tuple[Any, int]:
    b = VersionBuilder()
    node = b.struct("node", size)
    b.member(node, "key", b.c_int, size - 8)
    b.variable("first", b.pointer(node), address=0x4000)
    return b.build(), node


def _found(
    flags: ObjectFlag, *, pinned: bool = False, handlers: object = None, believed: str = ""
) -> list[int]:
    (old, node), (new, _) = _version(16), _version(24)
    objects = np.zeros(1, OBJECT)
    objects["address"], objects["size"], objects["type"] = 0x10000, 24, node
    objects["kind"], objects["fate"], objects["flags"] = ObjectKind.HEAP, Fate.STAY, flags
    rows = np.zeros(1, COUNTERPART)
    rows["flags"] = CounterpartFlag.PLACED
    pairing = TypePairing(old, new)
    layouts = Layouts(pairing)
    if believed:
        told = None if believed == "gone" else node
        vars(pairing).update(counterpart=lambda row: told, stays_in_place=lambda *types: True)
    planner = SimpleNamespace(
        state=SimpleNamespace(objects=objects),
        prepared=SimpleNamespace(pool=SimpleNamespace(pairing=pairing), handlers=handlers),
        past=SimpleNamespace(heap=[]),
        pinned=[0] if pinned else [],
        old=old,
    )
    counterparts = Counterparts(cast(Any, planner.state), rows)
    return unconverted(cast(Planner, planner), counterparts, layouts).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("flags", [ObjectFlag.REACHED, ObjectFlag.REACHED | ObjectFlag.POOL])
@pytest.mark.parametrize("handlers", [None, object()])
def test_it_is_found(flags: ObjectFlag, handlers: object) -> None:
    assert _found(flags, handlers=handlers) == [0]


@pytest.mark.parametrize("believed", ["gone", "the same"])
def test_it_is_found_whatever_the_pairing_says(believed: str) -> None:
    assert _found(ObjectFlag.REACHED, believed=believed) == [0]


def test_what_a_handler_placed_is_not_meant() -> None:
    assert _found(ObjectFlag.REACHED, pinned=True, handlers=object()) == []
