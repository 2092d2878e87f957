"""Layouts compared by names and offsets alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from tests.unit.pairing.specs import Array, Enumeration, Float, Int, Member, Pointer, Struct, Union, declare
from tests.unit.pairing.test_mapping_properties import struct_pairs

from instar.pairing.mapping import TypePairing
from instar.pairing.settled import Owned, Settled
from instar.testing.versions import VersionBuilder
from instar.validation.layouts import Layouts

INT, LONG, CHAR = Int(4), Int(8), Int(1, char=True)
COLOUR = Enumeration("colour", (("RED", 0), ("GREEN", 1)))
BLUE = replace(COLOUR, names=(*COLOUR.names, ("BLUE", 2)))
SWAPPED = replace(COLOUR, names=(("GREEN", 0), ("RED", 1)))
INNER = Struct("inner", (Member("a", INT), Member("b", INT)))
BOTH = Union("both", (Member("n", LONG), Member("text", Array(CHAR, 8))))


def struct_of(*members: Any, tag: str = "it") -> Struct:
    """A struct with members m0, m1, ... of these types, or those given."""
    named = [one if isinstance(one, Member) else Member(f"m{i}", one) for i, one in enumerate(members)]
    return Struct(tag, tuple(named))


INSIDE = replace(INNER, members=INNER.members[::-1])
WITH_POINTER = replace(BOTH, members=(*BOTH.members, Member("p", Pointer())))
LARGER = replace(BOTH, members=(*BOTH.members, Member("p", Array(LONG, 2))))
A, B = Member("a", INT, 3), Member("b", INT, 5)
M0, M1 = Member("m0", INT), Member("m1", INT)
M2 = Member("m2", LONG)
BEFORE = struct_of(INT, INT, LONG)
CASES: dict[str, tuple[Struct, Struct, bool]] = {
    "the same": (BEFORE, BEFORE, True),
    "a member was added behind": (BEFORE, struct_of(INT, INT, LONG, LONG), False),
    "a member in what was padding": (struct_of(M0, M2), struct_of(M0, Member("x", INT), M2), True),
    "members changed places": (BEFORE, struct_of(M1, M0, M2), False),
    "a member is gone, the others stand": (BEFORE, struct_of(M0, Member("y", INT), M2), True),
    "wider": (struct_of(INT, LONG), struct_of(LONG, LONG), False),
    "another sign": (struct_of(INT), struct_of(Int(4, signed=False)), True),
    "float for int": (struct_of(INT), struct_of(Float(4)), False),
    "a pointer of another type": (struct_of(Pointer()), struct_of(Pointer()), True),
    "renumbered": (struct_of(COLOUR), struct_of(SWAPPED), False),
    "one enumerator more": (struct_of(COLOUR), struct_of(BLUE), True),
    "longer array": (struct_of(Array(INT, 2), LONG), struct_of(Array(INT, 3), LONG), False),
    "inside a member": (struct_of(INNER), struct_of(INSIDE), False),
    "inside elements": (struct_of(Array(INNER, 2)), struct_of(Array(INSIDE, 2)), False),
    "a bit-field moved": (struct_of(A, B), struct_of(B, A), False),
    "a bit-field got wider": (struct_of(A), struct_of(replace(A, bits=4)), False),
    "now in an anonymous struct": (BEFORE, struct_of(Member("", struct_of(M0, M1, M2, tag=""))), True),
    "an alternative more": (struct_of(BOTH), struct_of(WITH_POINTER), True),
    "a larger union": (struct_of(BOTH), struct_of(LARGER), False),
}


Settle = Callable[[int, int], Settled]


def layouts_of(old: Struct, new: Struct, settle: Settle | None = None) -> tuple[Layouts, int, int]:
    builders = VersionBuilder(), VersionBuilder()
    rows = declare(builders[0], old), declare(builders[1], new)
    versions = [builder.build() for builder in builders]
    settled = None if settle is None else settle(*rows)
    return Layouts(TypePairing(*versions, settled=settled)), *rows


@pytest.mark.parametrize("case", CASES)
def test_what_may_stay(case: str) -> None:
    old, new, stays = CASES[case]
    layouts, old_row, new_row = layouts_of(old, new)
    assert layouts.stays(old_row, new_row) is stays
    assert layouts.namesakes(old_row) == [new_row]
    assert layouts.may_stay(old_row) is stays


@settings(max_examples=400, deadline=None)
@given(struct_pairs())
def test_no_false_alarm(pair: tuple[Struct, Struct]) -> None:
    """What the pairing leaves in place stays here too."""
    layouts, old_row, new_row = layouts_of(*pair)
    if layouts._pairing.stays_in_place(old_row, new_row):
        assert layouts.stays(old_row, new_row)


def test_a_type_without_namesake_may_stay() -> None:
    layouts, row, _ = layouts_of(BEFORE, struct_of(LONG, tag="another"))
    assert layouts.namesakes(row) == [] and layouts.may_stay(row)


def test_what_the_user_says_counts() -> None:
    def named(old_row: int, new_row: int) -> Settled:
        return Settled(type_renames={"struct it": "struct other"})

    layouts, row, other = layouts_of(BEFORE, struct_of(LONG, LONG, tag="other"), named)
    assert layouts.namesakes(row) == [other] and not layouts.may_stay(row)
    handled: list[Settle] = [
        lambda old_row, new_row: Settled(types={new_row: Owned(whole=True)}),
        lambda old_row, new_row: Settled(types={new_row: Owned(new=frozenset({"m0", "m1", "m2"}))}),
    ]
    for settle in handled:
        layouts, row, other = layouts_of(
            BEFORE, struct_of(Member("m1", INT), Member("m0", INT), LONG), settle
        )
        assert layouts.stays(row, other)


def test_typedefs_name_what_has_no_tag() -> None:
    versions = []
    for members in ("ab", "ba"):
        builder = VersionBuilder()
        row = builder.struct("", 8)
        for at, name in enumerate(members):
            builder.member(row, name, builder.c_int, 4 * at)
        builder.typedef("thing", row)
        versions.append((builder.build(), row))
    layouts = Layouts(TypePairing(versions[0][0], versions[1][0]))
    assert layouts.namesakes(versions[0][1]) == [versions[1][1]]
    assert not layouts.may_stay(versions[0][1])


def test_it_ends_with_what_points_at_itself() -> None:
    versions = []
    for size in (16, 24):
        builder = VersionBuilder()
        row = builder.struct("node", size)
        builder.member(row, "next", builder.pointer(row), 0)
        builder.member(row, "key", builder.c_int, size - 8)
        versions.append((builder.build(), row))
    layouts = Layouts(TypePairing(versions[0][0], versions[1][0]))
    assert not layouts.may_stay(versions[0][1])
    assert Layouts(TypePairing(versions[0][0], versions[0][0])).may_stay(versions[0][1])
