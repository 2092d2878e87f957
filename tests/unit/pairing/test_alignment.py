"""Types side by side: every member of both versions is in one row, in the order of the new version."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from instar.pairing.alignment import MOST_ROWS, AlignedType, align_type, changed_types
from instar.pairing.mapping import TypePairing
from instar.testing.versions import VersionBuilder

Members = list[tuple[str, str]]


def version(members: Members, size: int | None = None) -> VersionBuilder:
    builder = VersionBuilder()
    row = builder.struct("conn", size or 8 * len(members))
    for at, (name, kind) in enumerate(members):
        builder.member(row, name, getattr(builder, kind), 8 * at)
    builder.variable("clients", builder.array(row, 4), 0x4000)
    return builder


def align(old: VersionBuilder, new: VersionBuilder, **options: object) -> list[AlignedType]:
    types = TypePairing(old.build(), new.build(), **options)  # type: ignore[arg-type]
    return [align_type(types, *pair) for pair in changed_types(types)]


def told(aligned: AlignedType) -> list[tuple[str, str | None, str | None]]:
    return [(r.change, r.old.name if r.old else None, r.new.name if r.new else None) for r in aligned.rows]


def test_equal_types_are_not_listed() -> None:
    members = [("fd", "c_int"), ("bytes", "c_long")]
    assert align(version(members), version(members)) == []


def test_members_that_came_went_and_moved() -> None:
    old = version([("fd", "c_int"), ("gone", "c_long"), ("bytes", "c_int"), ("last", "c_long")])
    new = version([("fresh", "c_long"), ("fd", "c_int"), ("bytes", "c_long"), ("last", "c_long")])
    (aligned,) = align(old, new)
    assert (aligned.name, aligned.kind, aligned.old_size, aligned.new_size) == (
        "struct conn",
        "struct",
        32,
        32,
    )
    assert told(aligned) == [
        ("added", None, "fresh"),
        ("moved", "fd", "fd"),
        ("removed", "gone", None),
        ("retyped", "bytes", "bytes"),
        ("same", "last", "last"),
    ]
    moved = aligned.rows[1]
    assert moved.old is not None and moved.new is not None
    assert (moved.old.at, moved.new.at, moved.old.type, moved.old.size) == (0, 8, "int", 4)


def test_a_rename_that_was_said_is_one_row() -> None:
    old, new = version([("bytes", "c_long")]), version([("octets", "c_long"), ("fd", "c_int")])
    (aligned,) = align(old, new, member_renames={"struct conn": {"bytes": "octets"}})
    assert told(aligned) == [("renamed", "bytes", "octets"), ("added", None, "fd")]


def test_enumerators_are_aligned_by_name() -> None:
    sides = []
    for names in ({"IDLE": 0, "BUSY": 1, "DEAD": 2}, {"IDLE": 0, "FRESH": 1, "BUSY": 2}):
        builder = VersionBuilder()
        row = builder.enum("mode", names)
        builder.variable("mode", row, 0x4000)
        sides.append(builder)
    (aligned,) = align(*sides)
    assert aligned.kind == "enum"
    assert told(aligned) == [
        ("same", "IDLE", "IDLE"),
        ("added", None, "FRESH"),
        ("moved", "BUSY", "BUSY"),
        ("removed", "DEAD", None),
    ]


def test_of_a_huge_type_the_first_members_are_listed() -> None:
    old: Members = [(f"m{index}", "c_long") for index in range(MOST_ROWS + 50)]
    (aligned,) = align(version(old), version([*old, ("more", "c_long")]))
    assert (len(aligned.rows), aligned.left_out) == (MOST_ROWS, 51)


names = st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1)
kinds = st.sampled_from(["c_int", "c_long", "c_char"])


@settings(max_examples=60, deadline=None)
@given(names.flatmap(lambda n: st.tuples(*(st.tuples(st.just(x), kinds) for x in n))), names, st.data())
def test_nothing_is_lost_or_told_twice(
    old: tuple[tuple[str, str], ...], new: list[str], data: st.DataObject
) -> None:
    fresh = [(name, data.draw(kinds)) for name in new]
    found = align(version(list(old)), version(fresh))
    assert len(found) == (list(old) != fresh)
    for aligned in found:
        rows = told(aligned)
        assert sorted(o for _, o, _ in rows if o) == sorted(name for name, _ in old)
        assert [n for _, _, n in rows if n] == new
