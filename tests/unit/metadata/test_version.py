"""What a Version answers, on versions that are built from plain declarations."""

import pytest

from instar.metadata.model import TypeFlag, VariableKind
from instar.testing.versions import VersionBuilder


@pytest.fixture
def b() -> VersionBuilder:
    return VersionBuilder()


def test_spelling_of_declarators(b: VersionBuilder) -> None:
    conn = b.struct("conn", 8)
    anonymous = b.union("", 8)
    handler = b.function_type(-1, [b.c_int, b.pointer(conn)])
    printf = b.function_type(b.c_int, [b.pointer(b.c_char)], varargs=True)
    rows = {
        "struct conn": conn,
        "struct conn *": b.pointer(conn),
        "struct conn **": b.pointer(b.pointer(conn)),
        "char [16]": b.array(b.c_char, 16),
        "char [2][16]": b.array(b.array(b.c_char, 16), 2),
        "char []": b.array(b.c_char, None),
        "char *[4]": b.array(b.pointer(b.c_char), 4),
        "char (*)[4]": b.pointer(b.array(b.c_char, 4)),
        "void (int, struct conn *)": handler,
        "void (*)(int, struct conn *)": b.pointer(handler),
        "void (*[3])(int, struct conn *)": b.array(b.pointer(handler), 3),
        "int (*)(char *, ...)": b.pointer(printf),
        "void (*(*)(void))(int, struct conn *)": b.pointer(b.function_type(b.pointer(handler))),
        "void *": b.pointer(),
        "union {...}": anonymous,
        "enum color": b.enum("color", {"RED": 0}),
        "size_t": b.typedef("size_t", b.c_long),
    }
    version = b.build()
    assert {name: version.type_name(row) for name, row in rows.items()} == {name: name for name in rows}
    assert version.declare(rows["void (*[3])(int, struct conn *)"], "table") == (
        "void (*table[3])(int, struct conn *)"
    )
    assert version.type_name(-1) == "void"


def test_strip_resolves_chains_of_typedefs(b: VersionBuilder) -> None:
    one = b.typedef("one", b.c_int)
    two = b.typedef("two", one)
    nothing = b.typedef("nothing", -1)
    version = b.build()
    assert version.strip(two) == version.strip(one) == b.c_int
    assert version.strip(nothing) == -1 == version.strip(-1)
    assert version.size_of(two) == 4 and version.size_of(nothing) == 0 == version.size_of(-1)


def test_members_and_enumerators(b: VersionBuilder) -> None:
    first = b.struct("first", 16)
    second = b.struct("second", 4)
    color = b.enum("color", {"RED": 0, "BLUE": -7}, signed=True)
    b.member(second, "flag", b.c_unsigned, bit_offset=3, bits=2)
    b.member(first, "x", b.c_int)
    b.member(first, "next", b.pointer(first), 8)
    version = b.build()
    assert [version.text(m["name"]) for m in version.members_of(first)] == ["x", "next"]
    assert version.members_of(first)["bit_offset"].tolist() == [0, 64]
    assert version.members_of(second)[["bit_offset", "bit_size"]].tolist() == [(3, 2)]
    assert version.enumerators_of(color)["value"].tolist() == [0, -7]
    assert not len(version.members_of(color)) and not len(version.enumerators_of(first))


def test_find_type_is_silent_about_ambiguous_names(b: VersionBuilder) -> None:
    b.unit("a.c")
    b.unit("b.c")
    declared = b.struct("node")
    one = b.struct("node", 8)
    other = b.typedef("node", b.c_long)
    twice = [b.struct("twice", 8), b.struct("twice", 16, unit=1)]
    version = b.build()
    assert version.types["flags"][declared] == TypeFlag.INCOMPLETE
    assert version.find_type("struct node") == one
    assert version.find_type("node") == other
    assert version.find_type("struct twice") is None
    assert list(version.find_types("struct  twice")) == twice
    assert version.find_type("union node") is None
    assert version.find_type("long int") == b.c_long


def test_variables_by_name_unit_and_address(b: VersionBuilder) -> None:
    a, c = b.unit("src/a.c"), b.unit("c.c")
    shared = b.variable("shared", b.c_int, 0x4000, data=b"\x05\0\0\0")
    here = b.variable("local", b.c_long, 0x4008, kind=VariableKind.FILE_STATIC, unit=a)
    there = b.variable("local", b.c_long, 0x4010, kind=VariableKind.FILE_STATIC, unit=c)
    main = b.function("main", 0x1000, b"\x90\xc3")
    count = b.variable("count", b.c_int, 0x4018, function=main)
    thread = b.variable("thread", b.c_int, 0x4, tls=True)
    version = b.build()
    assert version.find_variable("shared") == shared
    assert version.find_variable("local") is None
    assert version.find_variable("local", "a.c") == here
    assert version.find_variable("local", c) == there
    assert version.text(version.variables["scope"][count]) == "main"
    assert version.variables["kind"][count] == VariableKind.FUNCTION_STATIC
    assert version.variable_at(0x4003) == shared and version.variable_at(0x4004) is None
    assert version.variable_at(0x4017) == there and version.variable_at(0x3FFF) is None
    assert version.variable_at(4) is None and version.variables["tls"][thread]
    assert version.elf.read(0x4000, 4) == b"\x05\0\0\0"
    assert version.elf.read(0x4008, 8) == bytes(8)
    with pytest.raises(ValueError):
        version.elf.read(0x9000, 4)


def test_functions_by_address_cold_parts_and_lines(b: VersionBuilder) -> None:
    f = b.function("f", 0x1000, 0x20, ranges=[(0x800, 0x810)])
    g = b.function("g", 0x1030, b"\xc3")
    b.line(0x1000, "f.c", 10)
    b.line(0x1008, "f.c", 11)
    b.line(0x1020, "", 0)
    b.local(f, "x", b.c_int, b"\x91\x6c", parameter=True)
    b.local(f, "y", b.c_int, [(0x1000, 0x1008, b"\x55")], scope=[(0x1000, 0x1010)], origin="inlined")
    b.local(f, "gone", b.c_int)
    version = b.build()
    assert [version.function_at(a) for a in (0x7FF, 0x800, 0x810, 0x1000, 0x101F, 0x1020, 0x1030)] == [
        None, f, None, f, f, None, g,
    ]  # fmt: skip
    assert version.line_at(0x100F) == ("f.c", 11)
    assert version.line_at(0x1020) is None and version.line_at(0) is None
    assert version.frame_base(f) == b"\x9c"
    x, y, gone = version.locals_of(f)
    assert version.expression(version.locations_of(x)[0]) == b"\x91\x6c"
    assert version.scopes_of(y).tolist() == [(0x1000, 0x1010)]
    assert version.text(y["origin"]) == "inlined"
    assert not len(version.locations_of(gone))
    assert [version.elf.text(version.elf.symbols[s]["name"]) for s in version.elf.symbols_at(0x1030)] == ["g"]
