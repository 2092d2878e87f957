"""Statics that are longer than their type."""

from __future__ import annotations

from instar.metadata.flexible import extend_flexible
from instar.metadata.model import VariableKind
from instar.metadata.validate import validate_columns
from instar.metadata.version import Version
from instar.testing.versions import VersionBuilder


def flexible(b: VersionBuilder) -> int:
    table = b.struct("table", 8)
    b.member(table, "count", b.c_int)
    b.member(table, "mark", b.c_char, 4)
    b.member(table, "rows", b.array(b.c_int, None), 8)
    return table


def extended(b: VersionBuilder) -> Version:
    version = b.build()
    columns = extend_flexible(version.columns, version.elf)
    validate_columns(columns)
    return Version(version.path, version.elf, columns)


def test_as_long_as_the_symbol() -> None:
    b = VersionBuilder()
    table = flexible(b)
    b.variable("config", b.typedef("table_t", table), 0x4000)
    b.symbol("config", 0x4000, 20)
    b.variable("rows", table, 0x4020, scope="f", kind=VariableKind.FUNCTION_STATIC)
    b.symbol("rows.17", 0x4020, 16)
    version = extended(b)
    for name, size, elements in (("config", 20, 3), ("rows", 16, 2)):
        row = int(version.variables["type"][version.find_variable(name)])
        assert version.type_name(row) == f"struct table in {name}" and version.size_of(row) == size
        assert [version.text(m["name"]) for m in version.members_of(row)] == ["count", "mark", "rows"]
        assert version.type_name(int(version.members_of(row)[-1]["type"])) == f"int [{elements}]"
    assert version.find_type("struct table") == table and version.size_of(table) == 8


def test_others_stay_as_they_are() -> None:
    b = VersionBuilder()
    table, plain = flexible(b), b.struct("plain", 4)
    b.member(plain, "count", b.c_int)
    b.variable("empty", table, 0x4000)
    b.symbol("empty", 0x4000, 8)
    b.variable("plain", plain, 0x4020)
    b.symbol("plain", 0x4020, 64)
    b.variable("unnamed", table, 0x4040)
    b.symbol("another", 0x4040, 64)
    version = b.build()
    assert extend_flexible(version.columns, version.elf) is version.columns
