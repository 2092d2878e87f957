"""One rule of mapping types a test."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.unit.pairing.interpreter import Refusal, execute

from instar.pairing.mapping import Mapping, MoveFlag, MoveOp, Relation, TypePairing
from instar.testing.versions import VersionBuilder

Declare = Callable[[VersionBuilder], int]


def pair(old: Declare, new: Declare) -> tuple[TypePairing, int, int]:
    builders = (VersionBuilder(), VersionBuilder())
    rows = (old(builders[0]), new(builders[1]))
    return TypePairing(builders[0].build(), builders[1].build()), *rows


def mapping(old: Declare, new: Declare) -> Mapping:
    pairing, old_row, new_row = pair(old, new)
    return pairing.compile(old_row, new_row)


def codes(found: Mapping) -> list[str]:
    return [problem.code for problem in found.problems]


def struct(name: str, size: int, *members: tuple[str, str | Declare, int]) -> Declare:
    """A struct of (member, attribute of the builder or what declares its type, offset)."""

    def declare(b: VersionBuilder) -> int:
        row = b.struct(name, size)
        for member, kind, offset in members:
            b.member(row, member, getattr(b, kind) if isinstance(kind, str) else kind(b), offset)
        return row

    return declare


def test_unchanged_struct_without_pointers_is_one_copy() -> None:
    shape = struct("s", 24, ("a", "c_char", 0), ("b", "c_int", 4), ("c", "c_double", 8), ("d", "c_char", 16))
    found = mapping(shape, shape)
    assert len(found.moves) == 1
    assert (found.moves[0]["op"], found.moves[0]["old_size"]) == (MoveOp.COPY, 24)


def test_unchanged_run_before_an_added_member_is_one_copy_and_leaves_the_new_member() -> None:
    old = struct("s", 16, ("a", "c_char", 0), ("b", "c_int", 4), ("c", "c_int", 8))
    new = struct("s", 24, ("a", "c_char", 0), ("b", "c_int", 4), ("c", "c_int", 8), ("extra", "c_long", 16))
    found = mapping(old, new)
    assert [(int(m["op"]), int(m["old_offset"]), int(m["old_size"])) for m in found.moves] == [(0, 0, 12)]
    assert execute(found, bytes(range(16)), bytearray(b"\xee" * 24))[16:] == b"\xee" * 8
    assert [(change.kind, change.path) for change in found.changes] == [("added", ".extra")]


def test_member_added_into_padding_is_not_overwritten() -> None:
    old = struct("s", 8, ("a", "c_char", 0), ("b", "c_int", 4))
    new = struct("s", 8, ("a", "c_char", 0), ("flag", "c_char", 1), ("b", "c_int", 4))
    pairing, old_row, new_row = pair(old, new)
    assert pairing.relation(old_row, new_row) == Relation.CONVERTIBLE
    assert not pairing.stays_in_place(old_row, new_row)
    result = execute(pairing.compile(old_row, new_row), bytes(range(1, 9)), bytearray(b"\xee" * 8))
    assert result[1] == 0xEE


def test_reordered_members_change_places() -> None:
    old = struct("s", 16, ("a", "c_long", 0), ("b", "c_long", 8))
    new = struct("s", 16, ("b", "c_long", 0), ("a", "c_long", 8))
    found = mapping(old, new)
    assert execute(found, bytes(range(16)), bytearray(16)) == bytes([*range(8, 16), *range(8)])
    assert {change.kind for change in found.changes} == {"moved"}


def test_narrowed_integer_refuses_what_does_not_fit_and_names_the_member() -> None:
    inner = [struct("in", size, ("n", kind, 0)) for size, kind in ((8, "c_long"), (4, "c_int"))]
    old, new = (struct("out", 16, ("deep", one, 8)) for one in inner)
    found = mapping(old, new)
    fits = (-5).to_bytes(8, "little", signed=True)
    assert execute(found, bytes(8) + fits, bytearray(12))[8:12] == fits[:4]
    with pytest.raises(Refusal, match=r"^\.deep\.n$"):
        execute(found, bytes(8) + (1 << 31).to_bytes(8, "little"), bytearray(12))


def test_negative_value_does_not_become_unsigned() -> None:
    found = mapping(struct("s", 4, ("n", "c_int", 0)), struct("s", 4, ("n", "c_unsigned", 0)))
    assert found.moves[0]["flags"] == MoveFlag.OLD_SIGNED
    with pytest.raises(Refusal):
        execute(found, b"\xff" * 4, bytearray(4))


def test_array_of_structs_is_one_move_a_member() -> None:
    def table(size: int, *members: tuple[str, str, int]) -> Declare:
        return lambda b: b.array(struct("row", size, *members)(b), 1000)

    old = table(16, ("key", "c_int", 0), ("value", "c_long", 8))
    new = table(24, ("value", "c_long", 0), ("key", "c_long", 8), ("hits", "c_long", 16))
    found = mapping(old, new)
    assert sorted((int(m["op"]), int(m["count"])) for m in found.moves) == [(0, 1000), (1, 1000)]
    assert [found.paths[move["path"]] for move in found.moves] == ["[].key", "[].value"]


def test_two_dimensional_array_of_changed_elements_is_one_move() -> None:
    def grid(kind: str) -> Declare:
        return lambda b: b.array(b.array(getattr(b, kind), 7), 5)

    found = mapping(grid("c_int"), grid("c_long"))
    assert [int(move["count"]) for move in found.moves] == [35]


def test_rows_that_touch_only_in_the_old_version_stay_apart() -> None:
    def table(kind: str, size: int) -> Declare:
        row = struct("row", size, ("cells", lambda b: b.array(getattr(b, kind), 3), 0))
        return lambda b: b.array(row(b), 4)

    old, new = table("c_int", 12), table("c_long", 32)
    data = b"".join(n.to_bytes(4, "little") for n in range(12))
    result = execute(mapping(old, new), data, bytearray(128))
    assert [int.from_bytes(result[at : at + 8], "little") for at in range(0, 128, 8)] == [
        *(0, 1, 2, 0),
        *(3, 4, 5, 0),
        *(6, 7, 8, 0),
        *(9, 10, 11, 0),
    ]


def test_cut_inner_dimension_checks_every_row() -> None:
    found = mapping(lambda b: b.array(b.array(b.c_int, 3), 2), lambda b: b.array(b.array(b.c_int, 2), 2))
    data = b"".join(n.to_bytes(4, "little") for n in (1, 2, 0, 3, 4, 0))
    assert execute(found, data, bytearray(16)) == data[:8] + data[12:20]
    with pytest.raises(Refusal):
        execute(found, data[:20] + b"\1\0\0\0", bytearray(16))


def test_cut_text_keeps_its_terminator() -> None:
    found = mapping(lambda b: b.array(b.c_char, 8), lambda b: b.array(b.c_char, 4))
    assert execute(found, b"abc\0\0\0\0\0", bytearray(4)) == b"abc\0"
    with pytest.raises(Refusal):
        execute(found, b"abcd\0\0\0\0", bytearray(4))


def test_enum_is_mapped_by_name_and_unknown_values_are_refused() -> None:
    found = mapping(lambda b: b.enum("e", {"A": 0, "B": 1}), lambda b: b.enum("e", {"B": 0, "A": 5}))
    assert execute(found, b"\0\0\0\0", bytearray(4)) == b"\5\0\0\0"
    assert execute(found, b"\1\0\0\0", bytearray(4)) == b"\0\0\0\0"
    with pytest.raises(Refusal):
        execute(found, b"\7\0\0\0", bytearray(4))


def test_two_names_of_one_value_that_part_are_refused() -> None:
    found = mapping(
        lambda b: b.enum("e", {"A": 1, "ALSO_A": 1, "B": 2}),
        lambda b: b.enum("e", {"A": 1, "ALSO_A": 5, "B": 3}),
    )
    assert execute(found, b"\2\0\0\0", bytearray(4)) == b"\3\0\0\0"
    with pytest.raises(Refusal):
        execute(found, b"\1\0\0\0", bytearray(4))


def test_flag_set_is_copied_while_all_old_flags_keep_their_values() -> None:
    old = {"READ": 1, "WRITE": 2}
    found = mapping(lambda b: b.enum("e", old), lambda b: b.enum("e", {**old, "RUN": 4}))
    assert execute(found, b"\3\0\0\0", bytearray(4)) == b"\3\0\0\0"
    assert not found.changes


def test_enums_without_a_common_name_need_a_handler() -> None:
    assert codes(mapping(lambda b: b.enum("e", {"A": 0}), lambda b: b.enum("e", {"X": 0}))) == [
        "needs-handler"
    ]


def test_bit_field_that_moves_leaves_its_neighbours_alone() -> None:
    def flags(*fields: tuple[str, int, int]) -> Declare:
        def declare(b: VersionBuilder) -> int:
            row = b.struct("s", 4)
            for name, start, bits in fields:
                b.member(row, name, b.c_unsigned, bit_offset=start, bits=bits)
            return row

        return declare

    found = mapping(flags(("a", 0, 3), ("b", 3, 7)), flags(("fresh", 0, 5), ("a", 5, 3), ("b", 8, 9)))
    old = (5 | 100 << 3).to_bytes(4, "little")
    result = int.from_bytes(execute(found, old, bytearray(b"\xff" * 4)), "little")
    assert (result & 31, result >> 5 & 7, result >> 8 & 511, result >> 17) == (31, 5, 100, 0x7FFF)


def test_unchanged_bit_fields_join_their_neighbours_in_one_copy() -> None:
    def declare(b: VersionBuilder) -> int:
        row = b.struct("s", 16)
        b.member(row, "x", b.c_unsigned, bit_offset=0, bits=3)
        b.member(row, "y", b.c_int, bit_offset=3, bits=11)
        b.member(row, "z", b.c_long, 8)
        return row

    found = mapping(declare, declare)
    assert [(int(m["op"]), int(m["old_size"])) for m in found.moves] == [(MoveOp.COPY, 16)]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_pointer_and_integer_do_not_become_each_other(size: int) -> None:
    pointer, integer = (lambda b: b.pointer()), (lambda b: b.integer("n", size))
    assert codes(mapping(pointer, integer)) == codes(mapping(integer, pointer)) == ["pointer-integer"]


def test_scalar_becomes_no_array_and_no_struct() -> None:
    scalar, array = (lambda b: b.c_int), (lambda b: b.array(b.c_int, 1))
    assert codes(mapping(scalar, array)) == ["shape-changed"]
    assert codes(mapping(scalar, struct("s", 4, ("n", "c_int", 0)))) == ["shape-changed"]


def node(size: int, name: str = "node", *, extra: bool = False) -> Declare:
    def declare(b: VersionBuilder) -> int:
        row = b.struct(name, size)
        b.member(row, "next", b.pointer(row), 0)
        b.member(row, "n", b.c_int, 8)
        if extra:
            b.member(row, "fresh", b.c_long, 16)
        return row

    return declare


def test_pointer_keeps_its_old_pointee_for_the_executor() -> None:
    pairing, old_row, new_row = pair(node(16), node(24, extra=True))
    found = pairing.compile(old_row, new_row)
    assert [(int(m["op"]), int(m["extra"])) for m in found.moves if m["op"] == MoveOp.POINTER] == [
        (4, old_row)
    ]


def test_a_pointer_to_a_changed_struct_is_identical_itself() -> None:
    def holder(inner: Declare) -> Declare:
        def declare(b: VersionBuilder) -> int:
            row = b.struct("holder", 8)
            b.member(row, "head", b.pointer(inner(b)), 0)
            return row

        return declare

    pairing, old_row, new_row = pair(holder(node(16)), holder(node(24, extra=True)))
    assert pairing.relation(old_row, new_row) == Relation.IDENTICAL


def test_pointer_to_another_struct_is_a_problem() -> None:
    def holder(name: str) -> Declare:
        def declare(b: VersionBuilder) -> int:
            targets = {one: struct(one, 4, ("n", "c_int", 0))(b) for one in ("red", "blue")}
            row = b.struct("holder", 8)
            b.member(row, "p", b.pointer(targets[name]), 0)
            return row

        return declare

    assert codes(mapping(holder("red"), holder("blue"))) == ["pointer-retargeted"]
    assert not codes(mapping(holder("red"), holder("red")))


def test_pointer_to_wider_integers_is_a_problem() -> None:
    assert codes(mapping(lambda b: b.pointer(b.c_int), lambda b: b.pointer(b.c_long))) == [
        "pointer-retargeted"
    ]
    assert not codes(mapping(lambda b: b.pointer(b.c_int), lambda b: b.pointer(b.c_unsigned)))


def test_void_pointer_may_become_typed_unless_that_type_changes() -> None:
    def void_pointer(inner: Declare) -> Declare:
        return lambda b: (inner(b), b.pointer())[1]

    same, changed = node(16), node(24, extra=True)
    assert not codes(mapping(void_pointer(same), lambda b: b.pointer(same(b))))
    assert codes(mapping(void_pointer(same), lambda b: b.pointer(changed(b)))) == ["pointer-retargeted"]


def test_untyped_link_of_a_list_may_become_typed() -> None:
    def new(b: VersionBuilder) -> int:
        row = b.struct("node", 16)
        b.member(row, "next", b.pointer(row), 0)
        b.member(row, "n", b.c_int, 8)
        return row

    old = struct("node", 16, ("next", lambda b: b.pointer(), 0), ("n", "c_int", 8))
    pairing, old_row, new_row = pair(old, new)
    assert pairing.relation(old_row, new_row) == Relation.CONVERTIBLE
    assert pairing.stays_in_place(old_row, new_row)


def union(size: int, *members: tuple[str, Declare], name: str = "u") -> Declare:
    def declare(b: VersionBuilder) -> int:
        row = b.union(name, size)
        for member, kind in members:
            b.member(row, member, kind(b), 0)
        return row

    return declare


def chars(count: int) -> Declare:
    return lambda b: b.array(b.c_char, count)


def test_union_with_pointers_goes_by_evidence() -> None:
    same = union(8, ("p", lambda b: b.pointer()), ("raw", chars(8)))
    found = mapping(same, same)
    assert [(int(m["op"]), int(m["old_size"])) for m in found.moves] == [(MoveOp.EVIDENCE, 8)]


def test_grown_union_keeps_its_old_bytes() -> None:
    old = union(1032, ("name", chars(1025)), ("next", lambda b: b.pointer()))
    new = union(2056, ("name", chars(2049)), ("next", lambda b: b.pointer()))
    found = mapping(old, new)
    assert not found.problems
    assert [(int(m["op"]), int(m["old_size"])) for m in found.moves] == [(MoveOp.EVIDENCE, 1025)]


def test_union_that_shrinks_or_whose_members_change_needs_a_handler() -> None:
    old = union(8, ("a", lambda b: b.c_int), ("raw", chars(8)))
    for new in (
        union(4, ("a", lambda b: b.c_int), ("raw", chars(4))),
        union(8, ("a", lambda b: b.c_long), ("raw", chars(8))),
    ):
        assert codes(mapping(old, new)) == ["needs-handler"]


def test_a_member_that_grows_into_bytes_another_alternative_uses_needs_a_handler() -> None:
    old = union(16, ("s", struct("s", 4, ("a", "c_int", 0))), ("raw", chars(16)))
    new = union(16, ("s", struct("s", 8, ("a", "c_int", 0), ("b", "c_int", 4))), ("raw", chars(16)))
    assert codes(mapping(old, new)) == ["needs-handler"]


def test_anonymous_members_are_matched_by_their_leaves() -> None:
    def old(b: VersionBuilder) -> int:
        row, inner, deep = b.struct("s", 12), b.struct("", 8), b.struct("", 4)
        b.member(deep, "c", b.c_int, 0)
        b.member(inner, "b", b.c_int, 0)
        b.member(inner, "", deep, 4)
        b.member(row, "a", b.c_int, 0)
        b.member(row, "", inner, 4)
        return row

    new = struct("s", 12, ("c", "c_int", 0), ("b", "c_int", 4), ("a", "c_int", 8))
    found = mapping(old, new)
    assert execute(found, bytes(range(12)), bytearray(12)) == bytes([8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3])


def test_anonymous_union_pairs_with_the_one_that_shares_a_member() -> None:
    def holder(offset: int, *names: str) -> Declare:
        def declare(b: VersionBuilder) -> int:
            row = b.struct("s", offset + 8)
            inner = union(8, *((name, lambda b: b.c_long) for name in names), name="")(b)
            b.member(row, "", inner, offset)
            return row

        return declare

    found = mapping(holder(0, "first", "second"), holder(8, "second", "third"))
    assert [int(m["new_offset"]) for m in found.moves] == [8]


def test_anonymous_union_that_is_taken_apart_needs_a_handler() -> None:
    def old(b: VersionBuilder) -> int:
        row = b.struct("s", 8)
        b.member(row, "", union(8, ("x", lambda b: b.c_long), ("y", lambda b: b.c_long), name="")(b), 0)
        return row

    assert codes(mapping(old, struct("s", 16, ("x", "c_long", 0), ("y", "c_long", 8)))) == ["needs-handler"]


def test_members_that_come_to_share_a_union_need_a_handler() -> None:
    def new(b: VersionBuilder) -> int:
        row = b.struct("s", 8)
        b.member(row, "", union(8, ("x", lambda b: b.c_long), ("y", lambda b: b.c_long), name="")(b), 0)
        return row

    assert codes(mapping(struct("s", 16, ("x", "c_long", 0), ("y", "c_long", 8)), new)) == ["needs-handler"]
    assert not codes(mapping(struct("s", 8, ("x", "c_long", 0)), new))


@pytest.mark.parametrize(
    ("gone", "fresh", "refused"),
    [
        (("size", "c_long", 8), ("length", "c_long", 8), True),  # same place
        (("conn_count", "c_long", 8), ("connection_count", "c_long", 16), True),  # similar name
        (("size", "c_long", 8), ("owner", "c_long", 16), False),
        (("size", "c_long", 8), ("length", "c_int", 8), False),
    ],
)
def test_likely_rename(gone: tuple[str, str, int], fresh: tuple[str, str, int], refused: bool) -> None:
    old = struct("s", 24, ("kept", "c_long", 0), gone)
    new = struct("s", 24, ("kept", "c_long", 0), fresh)
    found = mapping(old, new)
    assert codes(found) == (["likely-rename"] if refused else [])
    if refused:
        assert found.problems[0].path == f".{gone[0]}"


def test_declared_rename_moves_the_value() -> None:
    builders = (VersionBuilder(), VersionBuilder())
    old_row = struct("s", 16, ("kept", "c_long", 0), ("size", "c_long", 8))(builders[0])
    new_row = struct("s", 16, ("kept", "c_long", 0), ("length", "c_long", 8))(builders[1])
    versions = [builder.build() for builder in builders]
    pairing = TypePairing(*versions, member_renames={"struct s": {"size": "length"}})
    found = pairing.compile(old_row, new_row)
    assert not found.problems
    assert execute(found, bytes(range(16)), bytearray(16)) == bytes(range(16))


def flexible(b: VersionBuilder, size: int, element: int, offset: int, count: int | None = None) -> int:
    row = b.struct("msg", size)
    b.member(row, "n", b.c_int, 0)
    b.member(row, "data", b.array(element, count), offset)
    return row


def test_flexible_array_member_has_a_mapping_for_its_elements() -> None:
    found = mapping(lambda b: flexible(b, 4, b.c_int, 4), lambda b: flexible(b, 8, b.c_long, 8))
    assert found.tail is not None
    assert (found.tail_old_offset, found.tail_new_offset, found.tail_flexible) == (4, 8, True)
    assert (found.tail.old_size, found.tail.new_size) == (4, 8)
    assert [int(move["op"]) for move in found.tail.moves] == [MoveOp.INTEGER]


def test_array_of_one_at_the_end_has_a_tail_too_and_others_have_none() -> None:
    one = mapping(lambda b: flexible(b, 8, b.c_int, 4, 1), lambda b: flexible(b, 8, b.c_int, 4, 1))
    assert one.tail is not None
    assert not one.tail_flexible
    two = mapping(lambda b: flexible(b, 12, b.c_int, 4, 2), lambda b: flexible(b, 12, b.c_int, 4, 2))
    assert two.tail is None


def test_flexible_array_that_gets_a_follower_needs_a_handler() -> None:
    def new(b: VersionBuilder) -> int:
        row = flexible(b, 16, b.c_int, 4, 2)
        b.member(row, "end", b.c_int, 12)
        return row

    assert codes(mapping(lambda b: flexible(b, 4, b.c_int, 4), new)) == ["needs-handler"]


@pytest.mark.parametrize(
    ("prefix", "op"),
    [("instar_ixfer_", MoveOp.COPY), ("instar_pxfer_", MoveOp.POINTER), ("instar_noxfer_", None)],
)
def test_annotations(prefix: str, op: MoveOp | None) -> None:
    annotated: Declare = lambda b: b.typedef(prefix + "word", b.integer("unsigned long", 8, signed=False))  # noqa: E731
    found = mapping(annotated, annotated)
    assert [int(move["op"]) for move in found.moves] == ([] if op is None else [op])


def test_annotated_pointer_is_copied() -> None:
    annotated: Declare = lambda b: b.typedef("instar_ixfer_handle", b.pointer())  # noqa: E731
    pairing, old_row, new_row = pair(annotated, annotated)
    assert [int(move["op"]) for move in pairing.compile(old_row, new_row).moves] == [MoveOp.COPY]


def test_offsets_inside_follow_the_members() -> None:
    old = struct("s", 24, ("gone", "c_long", 0), ("a", "c_int", 8), ("b", "c_long", 16))
    new = struct("s", 32, ("b", "c_long", 0), ("fresh", "c_long", 8), ("a", "c_long", 24))
    pairing, old_row, new_row = pair(old, new)
    offsets = pairing.offset_map(old_row, new_row).tolist()
    assert offsets[0] == 0  # the struct itself; its first member is gone
    assert offsets[1:8] == [-1] * 7
    assert offsets[8:12] == [24, 25, 26, 27]
    assert offsets[16:25] == [*range(8), 32]


def test_offset_of_a_struct_and_of_its_first_member_differ_by_what_is_meant() -> None:
    def holder(swapped: bool) -> Declare:
        def declare(b: VersionBuilder) -> int:
            inner = struct("link", 8, ("n", "c_long", 0))(b)
            row = b.struct("holder", 16)
            b.member(row, "link", inner, 8 if swapped else 0)
            b.member(row, "n", b.c_int, 0 if swapped else 8)
            return row

        return declare

    pairing, old_row, new_row = pair(holder(False), holder(True))
    link = pairing.old.version.find_type("struct link")
    assert link is not None
    assert pairing.offset_map(old_row, new_row)[0] == 0
    assert pairing.offset_map(old_row, new_row, old_row)[0] == 0
    assert pairing.offset_map(old_row, new_row, link)[0] == 8


def test_problem_paths_lead_through_the_nesting() -> None:
    old = struct(
        "out", 16, ("list", lambda b: b.array(struct("in", 8, ("p", lambda b: b.pointer(), 0))(b), 2), 0)
    )
    new = struct("out", 16, ("list", lambda b: b.array(struct("in", 8, ("p", "c_long", 0))(b), 2), 0))
    assert [problem.path for problem in mapping(old, new).problems] == [".list[].p"]


def test_float_formats() -> None:
    found = mapping(lambda b: b.floating("double", 8), lambda b: b.floating("float", 4))
    assert [int(move["op"]) for move in found.moves] == [MoveOp.FLOAT]
    assert codes(mapping(lambda b: b.floating("long double", 16), lambda b: b.floating("_Float128", 16)))
