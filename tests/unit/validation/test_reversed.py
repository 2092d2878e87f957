"""What the forward kernel made of random types comes back, and no changed bit of it goes unseen."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.unit.pairing.specs import Enumeration, Int, Member, Struct, random_value, size, write
from tests.unit.pairing.test_mapping_properties import struct_pairs
from tests.unit.transfer.test_convert import COUNT, build
from tests.unit.transfer.world import World

from instar.state.columns import WORD, Fate
from instar.validation.columns import COUNTERPART, CounterpartFlag, DifferenceKind
from instar.validation.comparison import Compared, Comparison
from instar.validation.counterparts import Counterparts
from instar.validation.inverse import InversePool
from instar.validation.walk import TypeWalk

Array = np.ndarray[Any, np.dtype[Any]]
BASE = 0x7000_0000


def compare(world: World, rows: list[int], memory: Array) -> Compared:
    """Transfer objects back from the future's memory at ``BASE``."""
    objects, inverse = world.state.objects, InversePool(world.pairing)
    counterparts = Counterparts(world.state, np.zeros(len(objects), dtype=COUNTERPART))
    counterparts.rows["mapping"] = -1
    for row in rows:
        entry = counterparts.rows[row : row + 1]
        compiled = world.pool.compiled[int(objects["mapping"][row])]
        assert objects["fate"][row] == Fate.MOVE
        entry["mapping"] = inverse.row(compiled.old_type, compiled.new_type)
        entry["flags"] = CounterpartFlag.PLACED | CounterpartFlag.COMPARED | CounterpartFlag.LISTED

    def read(address: int, buffer: Array) -> None:
        buffer[:] = memory[address - BASE : address - BASE + len(buffer)]

    none = np.zeros(0, dtype=np.int32)
    fixed = world.targets.build()
    pointees = np.full(len(world.state.table.types), -1, dtype=np.int32)
    words = np.zeros(0, dtype=WORD)
    comparison = Comparison(world.state, fixed, none, counterparts, inverse, pointees, words)
    return comparison.compare(np.array(sorted(rows), dtype=np.int64), read)


def converted(pair: tuple[Struct, Struct], seed: int) -> tuple[World, list[int], random.Random] | None:
    """Two blocks of random values, converted; None where something of them would be lost."""
    old, new = pair
    if not size(old) or not size(new):
        return None
    rng = random.Random(seed)
    elements = [bytearray(size(old)) for _ in range(2 * COUNT)]
    for one in elements:
        write(old, random_value(old, rng), one)
    world, mapping = build(old, new, [b"".join(elements[i : i + COUNT]) for i in (0, COUNT)])
    if mapping is None:
        return None
    scan = world.run()
    moved = np.flatnonzero(world.state.objects["mapping"] >= 0)
    if len(scan.faults) or np.isin(scan.findings["object"], moved).any():
        return None
    return world, moved.tolist(), rng


@settings(max_examples=150, deadline=None)
@given(struct_pairs(), st.integers(0, 2**32))
def test_comes_back(pair: tuple[Struct, Struct], seed: int) -> None:
    made = converted(pair, seed)
    assume(made is not None)
    assert made is not None
    world, rows, _ = made
    compared = compare(world, rows, world.output)
    kinds = [DifferenceKind(int(kind)) for kind in compared.differences["kind"]]
    assert not compared.count, (kinds, compared.differences[:3])


@settings(max_examples=150, deadline=None)
@given(struct_pairs(), st.integers(0, 2**32))
def test_no_changed_bit_goes_unseen(pair: tuple[Struct, Struct], seed: int) -> None:
    made = converted(pair, seed)
    assume(made is not None)
    assert made is not None
    world, rows, rng = made
    row = rng.choice(rows)
    compiled = world.pool.compiled[int(world.state.objects["mapping"][row])]
    walked = TypeWalk(world.pairing).pair(compiled.old_type, compiled.new_type)
    leaves = [leaf for leaf in walked.leaves if leaf.old_bits == leaf.new_bits]
    assume(leaves)
    leaf = rng.choice(leaves)
    element, bit = rng.randrange(COUNT), leaf.new_at + rng.randrange(leaf.new_bits)
    place = int(world.state.objects["out"][row]) + element * compiled.new_size + bit // 8
    memory = world.output.copy()
    memory[place] ^= 1 << (bit % 8)
    assert compare(world, rows, memory).count


WIDENED = [
    (Member("m", Int(2)), Member("m", Int(8))),
    (Member("m", Int(4)), Member("m", Int(8))),
    (Member("m", Int(2, signed=False)), Member("m", Int(4))),
    (Member("m", Int(1, boolean=True)), Member("m", Int(4))),
    (Member("m", Int(4), 5), Member("m", Int(4), 17)),
]


@pytest.mark.parametrize(("old", "new"), WIDENED)
@pytest.mark.parametrize("seed", range(4))
def test_bits_that_the_old_version_did_not_have_count(old: Member, new: Member, seed: int) -> None:
    """As when a conversion reads what lies beside a value, too."""
    rest = Member("rest", Int(8))
    made = converted((Struct("s", (old, rest)), Struct("s", (new, rest))), seed)
    assert made is not None
    world, rows, _ = made
    place = int(world.state.objects["out"][rows[0]])
    for bit in range(new.bits or 8 * new.type.size):
        memory = world.output.copy()
        memory[place + bit // 8] ^= 1 << (bit % 8)
        assert compare(world, rows, memory).count, bit


STATES = Enumeration("state", (("IDLE", 1), ("BUSY", 2), ("WAITING", 3), ("DONE", 4)))
FEWER = Enumeration("state", (("IDLE", 1), ("BUSY", 2), ("WAITING", 2), ("DONE", 7)))


@pytest.mark.parametrize("bits", [0, 5])
@pytest.mark.parametrize("seed", range(6))
def test_values_that_became_one_must_be_that_one(bits: int, seed: int) -> None:
    rest = Member("rest", Int(8))
    pair = Struct("s", (Member("m", STATES, bits), rest)), Struct("s", (rest, Member("m", FEWER, bits)))
    made = next(
        filter(None, (converted(pair, 100 * seed + i) for i in range(100)))
    )  # without values of no name
    world, rows, _ = made
    assert not compare(world, rows, world.output).count
    place = int(world.state.objects["out"][rows[0]]) + 8
    for bit in range(bits or 32):
        memory = world.output.copy()
        memory[place + bit // 8] ^= 1 << (bit % 8)
        assert compare(world, rows, memory).count, bit


def test_padding_is_neither_kept_nor_fresh() -> None:
    world = World()
    rows = []
    for builder, members in (
        (world.old, (("a", 0), ("b", 64))),
        (world.new, (("b", 0), ("c", 64), ("a", 128))),
    ):
        row = builder.struct("s", 16 if builder is world.old else 24)
        kinds = {"a": builder.c_char, "b": builder.c_long, "c": builder.c_char}
        for name, offset in members:
            builder.member(row, name, kinds[name], bit_offset=offset)
        rows.append(row)
    world.begin()
    pool = InversePool(world.pairing)
    row = pool.row(*rows)
    masks = pool.columns()["masks"][row]
    bits = pool.columns()["mask_bits"]
    assert bits[int(masks["keep"]) :][:16].tolist() == [255, *[0] * 7, *[255] * 8]
    assert bits[int(masks["fresh"]) :][:24].tolist() == [*[0] * 8, 255, *[0] * 15]
