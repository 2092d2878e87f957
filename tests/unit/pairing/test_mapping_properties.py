"""Random pairs of structs: the moves do what a reader and writer that goes name by name does."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.pairing.interpreter import Refusal, execute
from tests.unit.pairing.specs import (
    Array,
    Enumeration,
    Float,
    Int,
    Lost,
    Member,
    Pointer,
    Struct,
    Union,
    convert,
    declare,
    flat_places,
    random_value,
    read,
    size,
    write,
)

from instar.pairing.mapping import Relation, TypePairing
from instar.testing.versions import VersionBuilder

INTS = [Int(n, signed) for n in (1, 2, 4, 8) for signed in (True, False)]
INTS += [Int(1, boolean=True, signed=False), Int(1, char=True)]
FLOATS = [Float(4), Float(8)]
COLOURS = [
    Enumeration("colour", (("RED", 0), ("GREEN", 1), ("BLUE", 2))),
    Enumeration("colour", (("BLUE", 0), ("RED", 1), ("GREEN", 2), ("GREY", 9))),
    Enumeration("colour", (("RED", 0), ("GREEN", 1), ("BLUE", 2), ("GREY", 3))),
    Enumeration("colour", (("RED", -1), ("GREEN", 1))),
]
UNIONS = [
    Union("any", (Member("a", Int(4)), Member("b", Array(Int(1, char=True), 11)))),
    Union("any", (Member("a", Int(4)), Member("b", Array(Int(1, char=True), 23)), Member("c", Int(8)))),
    Union("any", (Member("a", Int(4)), Member("b", Array(Int(1, char=True), 11)), Member("p", Pointer()))),
]
# Names that nobody takes for renames of each other.
NAMES = ["alpha", "bravo", "delta", "fox", "golf", "hotel", "india", "kilo", "lima", "mike", "nov", "quebec"]


def drawn(draw: Any, strategy: st.SearchStrategy[tuple[Any, Any]]) -> tuple[Any, Any]:
    pair: tuple[Any, Any] = draw(strategy)
    return pair


@st.composite
def type_pairs(draw: Any, depth: int = 2) -> tuple[Any, Any]:
    """An old type and one that it may become."""
    choice = draw(st.integers(0, 9 if depth else 5))
    if choice <= 2:
        return draw(st.sampled_from(INTS)), draw(st.sampled_from(INTS))
    if choice == 3:
        numbers = FLOATS + [one for one in INTS if not one.boolean]
        return draw(st.sampled_from(FLOATS)), draw(st.sampled_from(numbers))
    if choice == 4:
        return draw(st.sampled_from(COLOURS)), draw(st.sampled_from(COLOURS))
    if choice == 5:
        return drawn(draw, st.sampled_from([(Pointer(), Pointer()), (UNIONS[0], UNIONS[0])]))
    if choice == 6:
        return drawn(
            draw, st.sampled_from([(UNIONS[0], UNIONS[1]), (UNIONS[0], UNIONS[2]), (UNIONS[2], UNIONS[2])])
        )
    if choice == 7:
        return drawn(draw, struct_pairs(depth - 1))
    old, new = draw(type_pairs(depth - 1))
    counts = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    return Array(old, counts[0]), Array(new, counts[1])


@st.composite
def struct_pairs(draw: Any, depth: int = 2) -> tuple[Struct, Struct]:
    """An old struct and its next version: members changed, removed, added, reordered, gathered."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=7))
    tag = draw(st.sampled_from(["one", "two", "three"])) + str(depth)
    old_members, new_members = [], []
    for name in names:
        fate = draw(st.integers(0, 9))
        old, new = draw(type_pairs(depth))
        if fate <= 4:
            new = old
        old_member, new_member = Member(name, old), Member(name, new)
        if isinstance(old, Int) and isinstance(new, Int) and draw(st.booleans()):
            old_member = replace(old_member, bits=1 if old.boolean else draw(st.integers(1, 8 * old.size)))
            if draw(st.integers(0, 3)):
                same = old == new and draw(st.booleans())
                width = old_member.bits if same else draw(st.integers(1, 8 * new.size))
                new_member = replace(new_member, bits=1 if new.boolean else width)
        if fate != 9:
            old_members.append(old_member)
        if fate != 8:
            new_members.append(new_member)
    if draw(st.booleans()):
        new_members = draw(st.permutations(new_members))
    return (
        Struct(tag, draw(grouped(old_members)), draw(st.integers(0, 5)) == 0),
        Struct(tag, draw(grouped(new_members)), draw(st.integers(0, 5)) == 0),
    )


@st.composite
def grouped(draw: Any, members: list[Member]) -> tuple[Member, ...]:
    """The same members, some of them inside an anonymous struct."""
    if len(members) < 2 or draw(st.integers(0, 3)):
        return tuple(members)
    low = draw(st.integers(0, len(members) - 1))
    high = draw(st.integers(low + 1, len(members)))
    return (*members[:low], Member("", Struct("", tuple(members[low:high]))), *members[high:])


def pair_of(old: Any, new: Any) -> tuple[TypePairing, int, int]:
    builders = (VersionBuilder(), VersionBuilder())
    rows = [declare(builder, spec) for builder, spec in zip(builders, (old, new), strict=True)]
    return TypePairing(builders[0].build(), builders[1].build()), rows[0], rows[1]


@settings(max_examples=400, deadline=None)
@given(struct_pairs(), st.integers(0, 2**32))
def test_moves_convert_as_a_name_by_name_reader_does(pair: tuple[Struct, Struct], seed: int) -> None:
    old, new = pair
    pairing, old_row, new_row = pair_of(old, new)
    mapping = pairing.compile(old_row, new_row)
    refused = {problem.code for problem in mapping.problems} - {"likely-rename"}
    rng = random.Random(seed)
    for _ in range(4):
        value, default = random_value(old, rng), random_value(new, rng)
        source, target = bytearray(size(old)), bytearray(size(new))
        write(old, value, source)
        write(new, default, target)
        if refused:
            continue
        try:
            expected = convert(old, new, value, default)
        except Lost:
            expected = None
        try:
            found = read(new, execute(mapping, bytes(source), target))
        except Refusal:
            found = None
        assert found == expected


@settings(max_examples=200, deadline=None)
@given(struct_pairs(), st.integers(0, 2**32))
def test_identical_means_that_bytes_need_not_change(pair: tuple[Struct, Struct], seed: int) -> None:
    old, new = pair
    pairing, old_row, new_row = pair_of(old, new)
    if pairing.relation(old_row, new_row) != Relation.IDENTICAL:
        assert old != new
        return
    value = random_value(old, random.Random(seed))
    source = bytearray(size(old))
    write(old, value, source)
    assert read(new, source) == value
    mapping = pairing.compile(old_row, new_row)
    assert not mapping.changes
    target = bytearray(size(new))
    assert read(new, execute(mapping, bytes(source), target)) == value


@settings(max_examples=100, deadline=None)
@given(struct_pairs())
def test_a_type_is_identical_to_itself(pair: tuple[Struct, Struct]) -> None:
    pairing, old_row, new_row = pair_of(pair[0], pair[0])
    assert pairing.relation(old_row, new_row) == Relation.IDENTICAL
    assert pairing.counterpart(old_row) == new_row
    offsets = pairing.offset_map(old_row, new_row)
    assert offsets.tolist() == list(range(size(pair[0]) + 1))


def starts(spec: Any, path: str = "", at: int = 0) -> dict[str, int]:
    """Path of every member, element and leaf that has an address -> byte offset; bytes of unions as one.

    Empty structs (of GNU C) are nowhere: no byte is theirs.
    """
    found = {path: at} if size(spec) or not path else {}
    if isinstance(spec, Array):
        for index in range(spec.count):
            found |= starts(spec.element, f"{path}[{index}]", at + index * size(spec.element))
    elif isinstance(spec, Struct):
        for member, place in flat_places(spec):
            if not member.bits:
                found |= starts(member.type, f"{path}.{member.name}", at + place // 8)
    return found


def is_scalar(path: str, paths: dict[str, int]) -> bool:
    return not any(one.startswith((path + ".", path + "[")) for one in paths)


@settings(max_examples=200, deadline=None)
@given(struct_pairs())
def test_offsets_inside_lead_to_what_has_the_same_path(pair: tuple[Struct, Struct]) -> None:
    old, new = pair
    pairing, old_row, new_row = pair_of(old, new)
    offsets = pairing.offset_map(old_row, new_row).tolist()
    old_places, new_places = starts(old), starts(new)
    assert offsets[-1] == size(new)
    assert not size(old) or offsets[0] == 0
    outermost: dict[int, str] = {}
    for path, at in old_places.items():
        if at < size(old) and len(path) < len(outermost.get(at, path + "x")):
            outermost[at] = path
    for at, path in outermost.items():
        if path in new_places:
            assert offsets[at] == new_places[path], path
        elif is_scalar(path, old_places) and pairing.relation(old_row, new_row) != Relation.REFUSED:
            assert offsets[at] in (-1, *new_places.values())
