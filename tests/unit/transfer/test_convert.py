"""The kernel that converts does what the slow interpreter of moves does, for random pairs of types."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.pairing.interpreter import Refusal, execute
from tests.unit.pairing.specs import Struct, declare, random_value, size, write
from tests.unit.pairing.test_mapping_properties import struct_pairs
from tests.unit.transfer.world import World, words

from instar.pairing.moves import Mapping
from instar.state.columns import FaultKind

COUNT = 3


def build(old: Struct, new: Struct, images: list[bytes]) -> tuple[World, Mapping | None]:
    """Blocks of several elements each; None when the types cannot be converted."""
    world = World()
    rows = declare(world.old, old), declare(world.new, new)
    root = world.old.pointer(rows[0])
    world.begin()
    addresses = [world.heap.block(len(image), image) for image in images]
    world.heap.root(root, words(*addresses))
    world.settle()
    mapping = world.pairing.compile(*rows)
    if {problem.code for problem in mapping.problems} - {"likely-rename"}:
        return world, None
    for index, address in enumerate(addresses):
        world.move(address, rows[0], rows[1], 0x7000_0000 + 4096 * index, count=COUNT, out=4096 * index)
    return world, mapping


@settings(max_examples=150, deadline=None)
@given(struct_pairs(), st.integers(0, 2**32))
def test_converts_as_the_interpreter_does(pair: tuple[Struct, Struct], seed: int) -> None:
    old, new = pair
    if not size(old) or not size(new):
        return
    rng = random.Random(seed)
    elements = [bytearray(size(old)) for _ in range(2 * COUNT)]
    for one in elements:
        write(old, random_value(old, rng), one)
    images = [b"".join(elements[i : i + COUNT]) for i in (0, COUNT)]
    world, mapping = build(old, new, images)
    if mapping is None:
        return
    default = rng.randbytes(size(new))
    for index in range(2):
        start = 4096 * index
        world.output[start : start + COUNT * size(new)] = np.frombuffer(default * COUNT, np.uint8)
    scan = world.run()
    refused = set()
    for index, one in enumerate(elements):
        block, element = divmod(index, COUNT)
        try:
            expected = execute(mapping, bytes(one), bytearray(default))
        except Refusal:
            refused.add((block, element))
            continue
        start = 4096 * block + element * size(new)
        assert world.output[start : start + size(new)].tobytes() == bytes(expected)
    lost = {(int(f["object"]), int(f["element"])): FaultKind(int(f["kind"])) for f in scan.faults}
    assert refused <= set(lost)
    # a float that is rounded is a loss for the kernel, and none for the interpreter
    assert {place for place, kind in lost.items() if kind is not FaultKind.FLOAT} <= refused


@settings(max_examples=50, deadline=None)
@given(struct_pairs(), st.integers(0, 2**32))
def test_converting_again_changes_nothing(pair: tuple[Struct, Struct], seed: int) -> None:
    old, new = pair
    if not size(old) or not size(new):
        return
    rng = random.Random(seed)
    image = bytearray(size(old))
    write(old, random_value(old, rng), image)
    world, mapping = build(old, new, [bytes(image) * COUNT])
    if mapping is None:
        return
    scan = world.run()
    before = world.output.copy()
    clean = world.bound.convert_again(np.array([0]))
    assert clean == (not len(scan.faults))
    assert (world.output == before).all()
