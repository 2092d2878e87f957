"""Which type of one version is which of the other."""

from __future__ import annotations

from instar.pairing.mapping import Relation, TypePairing
from instar.testing.versions import VersionBuilder


def test_anonymous_struct_is_known_by_its_typedef_even_if_it_changes() -> None:
    rows, versions = [], []
    for size in (8, 16):
        b = VersionBuilder()
        row = b.struct("", size)
        b.member(row, "n", b.c_long, 0)
        if size == 16:
            b.member(row, "fresh", b.c_long, 8)
        b.typedef("conn_t", row)
        rows.append(row)
        versions.append(b.build())
    pairing = TypePairing(*versions)
    assert pairing.counterpart(rows[0]) == rows[1]
    assert pairing.label(rows[0]) == "conn_t"


def test_renamed_typedef_of_an_unchanged_struct_pairs_by_structure() -> None:
    rows, versions = [], []
    for name in ("conn_t", "client_t"):
        b = VersionBuilder()
        row = b.struct("", 8)
        b.member(row, "n", b.c_long, 0)
        rows.append((row, b.typedef(name, row)))
        versions.append(b.build())
    pairing = TypePairing(*versions)
    assert pairing.counterpart(rows[0][0]) == rows[1][0]
    assert pairing.counterpart(rows[0][1]) == rows[1][0]
    assert pairing.relation(rows[0][1], rows[1][1]) == Relation.IDENTICAL


def test_anonymous_member_type_pairs_where_it_is_used() -> None:
    rows, versions = [], []
    for size in (8, 16):
        b = VersionBuilder()
        outer, inner = b.struct("outer", 8 + size), b.struct("", size)
        b.member(inner, "n", b.c_long, 0)
        if size == 16:
            b.member(inner, "fresh", b.c_long, 8)
        b.member(outer, "n", b.c_long, 0)
        b.member(outer, "inner", inner, 8)
        rows.append(inner)
        versions.append(b.build())
    assert TypePairing(*versions).counterpart(rows[0]) == rows[1]


def two_units(first: str, second: str, *, swap: bool = False, change_second: bool = False) -> tuple:  # type: ignore[type-arg]
    b = VersionBuilder()
    units = [b.unit(first), b.unit(second)]
    if swap:
        units.reverse()
    rows = []
    for index, unit in enumerate(units):
        row = b.struct("item", 8, unit=unit)
        b.member(
            row, f"in{first if unit == 0 else second}"[:3], b.c_long if not change_second else b.c_int, 0
        )
        rows.append(row)
        del index
    return b.build(), rows


def test_same_tag_in_two_files_pairs_by_file() -> None:
    old, old_rows = two_units("src/a.c", "src/b.c")
    new, new_rows = two_units("/elsewhere/src/a.c", "/elsewhere/src/b.c", swap=True, change_second=True)
    pairing = TypePairing(old, new)
    assert [pairing.counterpart(row) for row in old_rows] == new_rows[::-1]


def test_same_tag_in_two_files_that_moved_pairs_by_structure() -> None:
    versions, rows = [], []
    for units in (("a.c", "b.c"), ("c.c", "d.c")):
        b = VersionBuilder()
        for unit, name in enumerate(units):
            b.unit(name)
            row = b.struct("item", 8, unit=unit)
            b.member(row, "x" if name in "b.c c.c" else "y", b.c_long, 0)
            rows.append(row)
        versions.append(b.build())
    pairing = TypePairing(*versions)
    assert [pairing.counterpart(row) for row in rows[:2]] == [rows[3], rows[2]]


def test_same_tag_in_one_more_file_than_before_is_ambiguous() -> None:
    b = VersionBuilder()
    b.unit("a.c"), b.unit("b.c")
    old_row = b.struct("item", 8, unit=0)
    b.member(old_row, "x", b.c_long, 0)
    old = b.build()
    b = VersionBuilder()
    b.unit("a.c"), b.unit("b.c")
    for unit, name in enumerate(("x", "y")):
        row = b.struct("item", 8 + 8 * unit, unit=unit)
        b.member(row, name, b.c_int, 0)
    pairing = TypePairing(old, b.build())
    problem = pairing.problem_of(old_row)
    assert problem is not None
    assert problem.code == "ambiguous-type"


def test_vanished_type_has_no_counterpart_and_a_renamed_one_is_suggested() -> None:
    versions, rows = [], []
    for tag in ("connection", "client"):
        b = VersionBuilder()
        row = b.struct(tag, 16)
        b.member(row, "fd", b.c_int, 0)
        b.member(row, "bytes", b.c_long, 8)
        rows.append(row)
        if tag == "connection":
            lone = b.struct("lone", 4)
            b.member(lone, "only_here", b.c_int, 0)
        versions.append(b.build())
    pairing = TypePairing(*versions)
    assert pairing.counterpart(rows[0]) is None
    problems = [pairing.problem_of(row) for row in (rows[0], lone)]
    assert [problem.code for problem in problems if problem] == ["likely-rename", "type-vanished"]
    assert "struct client" in problems[0].cause  # type: ignore[union-attr]
    renamed = TypePairing(*versions, type_renames={"struct connection": "struct client"})
    assert renamed.counterpart(rows[0]) == rows[1]
    assert renamed.relation(*rows) == Relation.IDENTICAL


def test_counterparts_of_derived_types_follow_their_parts() -> None:
    versions, rows = [], []
    for size in (8, 16):
        b = VersionBuilder()
        if size == 16:
            b.struct("unrelated", 4)
        row = b.struct("node", size)
        pointer = b.pointer(row)
        rows.append(
            (
                row,
                pointer,
                b.array(pointer, 4),
                b.pointer(b.function_type(-1, [pointer])),
                b.pointer(),
                b.c_int,
            )
        )
        versions.append(b.build())
    pairing = TypePairing(*versions)
    assert [pairing.counterpart(row) for row in rows[0]] == list(rows[1])
    assert pairing.counterpart(-1) == -1


def test_scalars_are_kept_even_where_the_new_version_does_not_use_them() -> None:
    b = VersionBuilder()
    row = b.integer("unsigned short", 2, signed=False)
    pairing = TypePairing(b.build(), VersionBuilder().build())
    assert pairing.counterpart(row) is None
    assert pairing.keeps(row)
