"""Typing of heap blocks on states made by hand."""

import struct
from itertools import pairwise

import numpy as np

from instar.state.columns import ObjectFlag, Strength, strength_of
from instar.state.kernel import State
from instar.state.typing import type_state
from instar.testing.states import StateBuilder
from instar.testing.versions import VersionBuilder

NOTHING = np.zeros((0, 2), dtype=np.uint64)


def word(value: int) -> bytes:
    return struct.pack("<Q", value)


def node_version() -> tuple[VersionBuilder, int]:
    """struct node { struct node *next; long value; }."""
    b = VersionBuilder()
    node = b.struct("node", 16)
    b.member(node, "next", b.pointer(node), 0)
    b.member(node, "value", b.c_long, 8)
    return b, node


def declare_pointers(b: VersionBuilder) -> None:
    """Declare a pointer to every type before the version is built."""
    for row in range(-1, len(b._types)):
        b.pointer(row)
        b.pointer(b.pointer(row))


def typed(state: State, address: int) -> tuple[int, int, int]:
    row = state.find(address)
    assert row is not None
    entry = state.objects[row]
    return int(entry["type"]), int(entry["count"]), int(strength_of(entry["flags"]))


def test_list_is_typed_to_its_end() -> None:
    b, node = node_version()
    declare_pointers(b)
    version = b.build()
    s = StateBuilder(version)
    blocks = [s.block(16) for _ in range(1000)]
    for this, following in pairwise(blocks):
        s.poke(this, following)
    leaked = s.block(16)
    s.root(b.pointer(node), word(blocks[0]))
    state = s.build()
    type_state(state, version, NOTHING)
    assert all(typed(state, a) == (node, 1, Strength.STRONG) for a in blocks)
    row = state.find(leaked)
    assert row is not None
    assert not state.objects["flags"][row] & ObjectFlag.REACHED
    assert state.objects["type"][row] == -1


def test_array_of_structs_is_counted() -> None:
    b, _ = node_version()
    wide = b.struct("wide", 40)
    b.member(wide, "next", b.pointer(wide), 32)
    declare_pointers(b)
    version = b.build()
    s = StateBuilder(version)
    table = s.block(40 * 10)
    inside = s.block(40)
    s.poke(table + 40 * 9 + 32, inside)
    s.root(b.pointer(wide), word(table))
    state = s.build()
    type_state(state, version, NOTHING)
    assert typed(state, table)[:2] == (wide, 10)
    assert typed(state, inside)[:2] == (wide, 1)


def test_array_that_only_its_elements_are_pointed_at() -> None:
    """A free list through a table of elements: nothing needs to point at the first one."""
    b, node = node_version()
    other = b.struct("other", 24)
    declare_pointers(b)
    version = b.build()
    s = StateBuilder(version)
    table, mixed = s.block(16 * 50), s.block(16 * 50)
    for this, following in ((3, 40), (40, 7), (7, 22)):
        s.poke(table + 16 * this, table + 16 * following)
    s.root(b.pointer(node), word(table + 16 * 3))
    s.root(b.pointer(node), word(mixed + 16 * 3))
    s.root(b.pointer(other), word(mixed + 16 * 9))
    state = s.build()
    type_state(state, version, NOTHING)
    assert typed(state, table) == (node, 50, Strength.INFERRED)
    assert typed(state, mixed)[0] == -1


def test_embedded_node_is_resolved_to_its_container() -> None:
    b = VersionBuilder()
    link = b.struct("link", 16)
    b.member(link, "next", b.pointer(link), 0)
    b.member(link, "prev", b.pointer(link), 8)
    item = b.struct("item", 72)
    b.member(item, "name", b.array(b.c_char, 48), 0)
    b.member(item, "links", link, 48)
    b.member(item, "owner", b.pointer(b.struct("owner", 8)), 64)
    declare_pointers(b)
    version = b.build()
    s = StateBuilder(version)
    head = s.root(link, word(0) * 2)
    items = [s.block(72) for _ in range(5)]
    ring = [head, *(a + 48 for a in items)]
    for i, place in enumerate(ring):
        s.poke(place, ring[(i + 1) % len(ring)])
        s.poke(place + 8, ring[i - 1])
    state = s.build()
    type_state(state, version, NOTHING)
    assert all(typed(state, a) == (item, 1, Strength.INFERRED) for a in items)


def test_void_pointer_types_nothing_but_keeps() -> None:
    b, _ = node_version()
    declare_pointers(b)
    version = b.build()
    s = StateBuilder(version)
    block = s.block(100)
    s.root(b.pointer(-1), word(block))
    state = s.build()
    type_state(state, version, NOTHING)
    row = state.find(block)
    assert row is not None
    assert state.objects["type"][row] == -1
    assert state.objects["flags"][row] & ObjectFlag.REACHED
    assert state.objects["flags"][row] & ObjectFlag.VOID


def test_tagged_word_keeps_a_block() -> None:
    b, _ = node_version()
    declare_pointers(b)
    version = b.build()
    s = StateBuilder(version)
    block = s.block(64)
    s.root(b.c_long, word(block | 1))
    state = s.build()
    type_state(state, version, NOTHING)
    row = state.find(block)
    assert row is not None
    assert state.objects["flags"][row] & ObjectFlag.REACHED


def test_outer_type_beats_first_member() -> None:
    b, node = node_version()
    outer = b.struct("outer", 32)
    b.member(outer, "base", node, 0)
    b.member(outer, "extra", b.array(b.c_long, 2), 16)
    declare_pointers(b)
    version = b.build()
    for order in ((node, outer), (outer, node)):
        s = StateBuilder(version)
        block = s.block(32)
        for kind in order:
            s.root(b.pointer(kind), word(block))
        state = s.build()
        type_state(state, version, NOTHING)
        assert typed(state, block)[:2] == (outer, 1)


def test_longer_of_common_prefix_wins_and_strangers_conflict() -> None:
    b = VersionBuilder()
    short = b.struct("short_form", 16)
    b.member(short, "kind", b.c_long, 0)
    b.member(short, "size", b.c_long, 8)
    longer = b.struct("long_form", 24)
    b.member(longer, "kind", b.c_long, 0)
    b.member(longer, "size", b.c_long, 8)
    b.member(longer, "more", b.pointer(-1), 16)
    other = b.struct("stranger", 24)
    b.member(other, "ratio", b.c_double, 0)
    b.member(other, "x", b.array(b.c_long, 2), 8)
    declare_pointers(b)
    version = b.build()
    s = StateBuilder(version)
    prefixed, contested = s.block(24), s.block(24)
    s.root(b.pointer(short), word(prefixed))
    s.root(b.pointer(longer), word(prefixed))
    s.root(b.pointer(longer), word(contested))
    s.root(b.pointer(other), word(contested))
    state = s.build()
    type_state(state, version, NOTHING)
    assert typed(state, prefixed)[0] == longer
    row = state.find(contested)
    assert row is not None
    assert state.objects["flags"][row] & ObjectFlag.CONFLICT


def test_flexible_and_truncated_tails() -> None:
    b = VersionBuilder()
    packet = b.struct("packet", 8)
    b.member(packet, "length", b.c_long, 0)
    b.member(packet, "data", b.array(b.c_char, None), 8)
    name = b.union("name", 56)
    b.member(name, "text", b.array(b.c_char, 50), 0)
    b.member(name, "big", b.pointer(packet), 0)
    record = b.struct("record", 112)
    b.member(record, "next", b.pointer(record), 0)
    b.member(record, "name", name, 56)
    declare_pointers(b)
    version = b.build()
    s = StateBuilder(version)
    first, cut = s.block(300), s.block(69)
    s.root(b.pointer(packet), word(first))
    s.root(b.pointer(record), word(cut))
    state = s.build()
    type_state(state, version, NOTHING)
    assert typed(state, first)[:2] == (packet, 1)
    assert typed(state, cut)[:2] == (record, 1)
    row = state.find(cut)
    assert row is not None
    assert state.objects["flags"][row] & ObjectFlag.TRUNCATED


def test_pointer_arrays_and_union_evidence() -> None:
    b, node = node_version()
    big = b.struct("big", 1032)
    b.member(big, "text", b.array(b.c_char, 1032), 0)
    choice = b.union("choice", 8)
    b.member(choice, "big", b.pointer(big), 0)
    b.member(choice, "text", b.pointer(b.c_char), 0)
    holder = b.struct("holder", 16)
    b.member(holder, "tag", b.c_long, 0)
    b.member(holder, "value", choice, 8)
    declare_pointers(b)
    version = b.build()
    s = StateBuilder(version)
    nodes = [s.block(16) for _ in range(7)]
    array = s.block(8 * 8, b"".join(word(a) for a in nodes) + word(0))
    held = s.block(1032)
    s.root(b.pointer(b.pointer(node)), word(array))
    s.root(holder, word(1) + word(held))
    state = s.build()
    type_state(state, version, NOTHING)
    assert all(typed(state, a)[0] == node for a in nodes)
    assert typed(state, held)[0] == big
