"""The whole plan of two versions: what it pairs, refuses and tells."""

from __future__ import annotations

import json

from instar.metadata.version import Version
from instar.pairing.mapping import Relation
from instar.pairing.plan import plan_pairing
from instar.pairing.report import make_report
from instar.testing.versions import VersionBuilder


def server(
    *members: tuple[str, str], extra: str = "", count: str = "count", places: int = 4
) -> VersionBuilder:
    """A program with one struct, one table of it, one counter and two functions."""
    b = VersionBuilder()
    conn = b.struct("conn", 8 * len(members))
    for at, (name, kind) in enumerate(members):
        b.member(conn, name, b.floating("_Float64x8", 8) if kind == "wide" else getattr(b, kind), 8 * at)
    b.variable("clients", b.array(conn, places), 0x4000)
    b.variable(count, b.c_long, 0x5000)
    b.function("main", 0x1000, b"\x90\xc3")
    b.function("handle", 0x1010, b"\xc3")
    if extra:
        b.function(extra, 0x1020, b"\xc3")
    return b


BASE = (("fd", "c_int"), ("bytes", "c_long"))


def test_equal_versions_have_nothing_to_report() -> None:
    version = server(*BASE).build()
    report = make_report(plan_pairing(version, version))
    assert report.is_automatic
    assert report.types == report.variables == report.functions == ()


def test_added_member_is_automatic_and_told_once() -> None:
    new = server(*BASE, ("since", "c_long"), extra="fresh").build()
    report = make_report(plan_pairing(server(*BASE).build(), new))
    assert report.is_automatic
    assert [(one.name, one.status) for one in report.types] == [("struct conn", "changed")]
    assert [(change.kind, change.path) for change in report.types[0].changes] == [
        ("resized", ""),
        ("added", ".since"),
    ]
    assert [(one.name, one.status) for one in report.functions] == [("fresh", "added")]


def test_a_problem_of_a_type_is_told_once_however_often_the_type_is_used() -> None:
    new = server(("fd", "c_int"), ("octets", "c_long")).build()
    plan = plan_pairing(server(*BASE).build(), new)
    assert [(problem.code, problem.path) for problem in plan.problems] == [
        ("likely-rename", "struct conn.bytes")
    ]
    mapping = plan.types.compile(int(plan.old.variables["type"][0]), int(plan.new.variables["type"][0]))
    assert [problem.path for problem in mapping.problems] == ["[].bytes"]


def test_allowed_problems_are_not_asked_about() -> None:
    new = server(("fd", "c_int"), ("octets", "c_long")).build()
    plan = plan_pairing(server(*BASE).build(), new, allow=["likely-rename"])
    assert not plan.problems
    types = [int(version.variables["type"][0]) for version in (plan.old, plan.new)]
    assert not plan.types.compile(types[0], types[1]).problems
    assert plan.types.relation(types[0], types[1]) == Relation.CONVERTIBLE


def test_what_is_allowed_but_has_no_rule_keeps_the_new_value() -> None:
    new = server(("fd", "c_int"), ("bytes", "c_double")).build()
    old = server(("fd", "c_int"), ("bytes", "wide")).build()
    assert plan_pairing(old, new).problems
    plan = plan_pairing(old, new, allow=["needs-handler"])
    types = [int(version.variables["type"][0]) for version in (plan.old, plan.new)]
    assert not plan.types.stays_in_place(types[0], types[1])
    moves = plan.types.compile(types[0], types[1]).moves
    assert [(int(m["old_offset"]), int(m["old_size"])) for m in moves] == [(0, 4)]


def test_renamed_variable_is_refused() -> None:
    plan = plan_pairing(server(*BASE).build(), server(*BASE, count="connection_count").build())
    assert [(one.code, one.path) for one in plan.variable_problems] == [("likely-rename", "variable count")]


def test_array_variable_that_grows_is_reported_on_the_variable() -> None:
    report = make_report(plan_pairing(server(*BASE).build(), server(*BASE, places=8).build()))
    assert report.is_automatic
    assert [(one.name, one.status) for one in report.variables] == [("clients", "changed")]


def test_another_program_is_refused() -> None:
    other = VersionBuilder()
    other.function("run", 0x1000, b"\xc3")
    codes = [problem.code for problem in plan_pairing(server(*BASE).build(), other.build()).problems]
    assert "different-program" in codes


def test_constants_need_no_mapping() -> None:
    def build(kind: str) -> Version:
        b = server(*BASE)
        b.section(".rodata", 0x6000, 64)
        b.variable("limit", getattr(b, kind), 0x6000)
        return b.build()

    plan = plan_pairing(build("c_double"), build("c_char"))
    assert not plan.problems
    writable = server(*BASE)
    writable.variable("limit", writable.pointer(), 0x6000)
    integer = server(*BASE)
    integer.variable("limit", integer.c_long, 0x6000)
    problems = plan_pairing(writable.build(), integer.build()).problems
    assert [(one.code, one.path) for one in problems] == [("pointer-integer", "variable limit")]


def test_json_is_plain_data() -> None:
    new = server(("fd", "c_int"), ("octets", "c_long"), extra="fresh").build()
    document = json.loads(json.dumps(make_report(plan_pairing(server(*BASE).build(), new)).to_json()))
    assert document["schema"] == 1
    assert document["outcome"] == "needs-user"
    assert document["problems"][0].keys() == {"code", "path", "cause", "remedy"}
    assert document["types"][0]["automatic"] is False
    assert document["old"]["functions"] == 2
