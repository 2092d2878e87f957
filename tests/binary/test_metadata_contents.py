"""What the walker says of the test program, against what its source says."""

import subprocess

import pytest
from tests.binary.metadata_support import COMPILERS, LEVELS, Workshop, base, facts, variable

from instar.metadata.model import Encoding, LocalFlag, TypeFlag, TypeKind, VariableFlag, VariableKind
from instar.metadata.version import Version

pytestmark = pytest.mark.parametrize("level", LEVELS)


@pytest.fixture(params=[(c, d) for c in COMPILERS for d in ("-gdwarf-4", "-gdwarf-5")], ids="".join)
def version(request: pytest.FixtureRequest, workshop: Workshop, level: str) -> Version:
    compiler, dwarf = request.param
    return workshop.load(workshop.build(compiler, level, dwarf))


def layout(version: Version, spelling: str) -> dict[str, tuple[int, int, str]]:
    row = version.find_type(spelling)
    assert row is not None, spelling
    return {
        version.text(m["name"]): (int(m["bit_offset"]), int(m["bit_size"]), version.type_name(int(m["type"])))
        for m in version.members_of(row)
    }


def test_bit_fields(version: Version) -> None:
    fields = {name: place[:2] for name, place in layout(version, "struct bits").items()}
    assert fields == {"a": (0, 3), "b": (3, 5), "c": (8, 9), "d": (17, 40), "e": (57, 1), "f": (64, 4)}


def test_packed_anonymous_and_flexible(version: Version) -> None:
    assert [place[0] for place in layout(version, "struct packed").values()] == [0, 8, 72]
    anonymous = layout(version, "struct anonymous")
    assert anonymous["kind"][0] == 0 and anonymous[""][0] == 64
    inner = int(version.members_of(version.find_type("struct anonymous"))[1]["type"])  # type: ignore[arg-type]
    assert version.types[inner]["kind"] == TypeKind.UNION and version.size_of(inner) == 24
    names = [version.text(m["name"]) for m in version.members_of(inner)]
    assert names == ["", "real", "text"]
    flexible = layout(version, "struct flexible")
    assert flexible["items"] == (64, 0, "struct point []")


def test_spellings_of_members(version: Version) -> None:
    node = layout(version, "struct node")
    assert {name: place[2] for name, place in node.items() if name != "named"} == {
        "next": "struct node *",
        "owner": "struct node **",
        "late": "later_t *",
        "points": "struct point **",
        "color": "enum color",
        "compare": "compare_t",
        "table": "int (*[3])(int, ...)",
        "deep": "void (*(*)(int))(char)",
        "names": "char [2][3][16]",
        "value": "union value",
        "big": "long double",
        "small": "float",
        "flag": "_Bool",
    }
    assert version.types[version.find_type("_Bool")]["encoding"] == Encoding.BOOLEAN


def test_enums(version: Version) -> None:
    color, level = version.find_type("enum color"), version.find_type("enum level")
    assert color is not None and level is not None
    values = [(version.text(e["name"]), int(e["value"])) for e in version.enumerators_of(color)]
    assert values == [("RED", 0), ("GREEN", 7), ("BLUE", 255)]
    assert [int(e["value"]) for e in version.enumerators_of(level)] == [-1, 1]
    assert version.types[color]["encoding"] == Encoding.UNSIGNED
    assert version.types[level]["encoding"] == Encoding.SIGNED


def test_equal_types_are_one_and_different_ones_stay_apart(version: Version) -> None:
    for spelling in ("struct node", "struct point", "later_t", "enum color", "int", "struct later"):
        assert len(version.find_types(spelling)) == 1, spelling
    for spelling in ("struct clash", "struct holder", "per_unit"):
        assert len(version.find_types(spelling)) == 2, spelling
    clashes = {int(v) for v in version.find_types("struct clash")}
    pointed = {
        version.types[int(version.members_of(row)[0]["type"])]["target"]
        for row in version.find_types("struct holder")
    }
    assert pointed == clashes
    # main.c only declares struct later; there it means the definition of other.c
    late = int(version.types[version.find_type("later_t")]["target"])
    assert not version.types[late]["flags"] & TypeFlag.INCOMPLETE
    assert version.size_of(late) == version.size_of(version.find_type("later_t") or 0) == 24


def test_variables_of_every_kind(version: Version, level: str) -> None:
    kinds = {
        "shared_counter": VariableKind.GLOBAL,
        "head": VariableKind.GLOBAL,
        "common_counter": VariableKind.GLOBAL,
    }
    assert {name: int(variable(version, name)["kind"]) for name in kinds} == kinds
    assert variable(version, "same_name", unit="main.c")["kind"] == VariableKind.FILE_STATIC
    assert (
        variable(version, "same_name", unit="main.c")["address"]
        != variable(version, "same_name", unit="other.c")["address"]
    )
    for name, scope, unit in (
        ("serial", "next_serial", "main.c"),
        ("calls", "twice", "main.c"),
        ("calls", "twice", "other.c"),
        ("times", "give_up", "main.c"),
        ("blocks", "visit", "main.c"),
    ):
        row = variable(version, name, scope=scope, unit=unit)
        assert row["kind"] == VariableKind.FUNCTION_STATIC
        function = int(row["function"])
        inlined_away = name == "serial" and level == "-O2"
        assert (function < 0) == inlined_away
        if function >= 0:
            assert version.text(version.functions[function]["name"]) == scope


def test_thread_locals_are_offsets_in_the_block(version: Version, level: str) -> None:
    tls = {version.text(v["name"]): int(v["address"]) for v in version.variables if v["tls"]}
    segment = version.elf.tls
    assert segment is not None and {"thread_count", "thread_newest"} <= set(tls)
    assert all(offset < segment.size for offset in tls.values())
    start = segment.address + tls["thread_count"]
    assert version.elf.read(start, 4) == (5).to_bytes(4, "little")


def test_initial_image(version: Version) -> None:
    row = variable(version, "shared_counter")
    assert version.elf.read(int(row["address"]), 4) == (3).to_bytes(4, "little")
    found = version.variables[version.variable_at(int(row["address"]))]
    assert version.text(int(found["name"])) == "shared_counter"


def test_locals_at_every_depth(version: Version, level: str) -> None:
    names = {
        version.text(version.functions[row]["name"]): {
            version.text(one["name"]): one for one in version.locals_of(row)
        }
        for row in range(len(version.functions))
    }
    assert {"argc", "argv", "buffer", "total", "local", "i"} <= set(names["main"])
    assert {"node", "depth", "sum", "at", "inner"} <= set(names["visit"])
    assert names["visit"]["node"]["flags"] & LocalFlag.PARAMETER
    assert not names["visit"]["sum"]["flags"] & LocalFlag.PARAMETER
    if level == "-O0":
        assert all(len(version.locations_of(one)) == 1 for one in names["main"].values())
        assert len(version.scopes_of(names["visit"]["inner"])) and not len(
            version.scopes_of(names["visit"]["sum"])
        )


def test_functions_match_the_symbols(version: Version) -> None:
    elf = version.elf
    symbols = {
        elf.text(s["name"]).split(".")[0]: (int(s["value"]), int(s["size"]))
        for s in elf.symbols
        if s["kind"] == 2 and s["size"] and ".cold" not in elf.text(s["name"])
    }
    assert len(version.functions) > 5
    for row, one in enumerate(version.functions):
        name = version.text(one["name"])
        places = {
            (int(s["value"]), int(s["size"])) for s in elf.symbols[list(elf.find_symbols(name))] if s["size"]
        } or {symbols[name]}
        low, high = int(one["low"]), int(one["high"])
        assert any(low == start and high <= start + size for start, size in places), name
        assert version.function_at(low) == row and version.function_at(high - 1) == row
        for further in version.ranges_of(row):
            assert version.function_at(int(further["low"])) == row


def test_facts_do_not_depend_on_the_version_of_dwarf(workshop: Workshop, level: str) -> None:
    for compiler in COMPILERS:
        four, five = (
            facts(workshop.load(workshop.build(compiler, level, f"-gdwarf-{number}"))) for number in (4, 5)
        )
        for kind in ("types", "variables", "functions"):
            assert four[kind] == five[kind], (compiler, kind)


def test_clang_takes_statics_apart(workshop: Workshop, level: str) -> None:
    version = workshop.load(workshop.build("clang", level, files=("split.c",)))
    found = {
        version.text(v["name"]): (version.type_name(int(v["type"])), int(v["flags"]))
        for v in version.variables
    }
    if level == "-O0":
        assert found["state"][0] == "struct state" and found["done"] == ("int", 0)
        return
    piece, choice = int(VariableFlag.PIECE), int(VariableFlag.CHOICE)
    assert found == {
        "state.inner.count": ("int", piece),
        "state.rows[1]": ("long", piece),
        "state.name": ("char *", piece),
        "done": ("_Bool", choice),
        "mode": ("{3, 7}", choice),
        "whole": ("int", 0),
    }
    nm = subprocess.run(["nm", str(version.path)], capture_output=True, text=True, check=True).stdout
    places = {line.split()[2]: int(line.split()[0], 16) for line in nm.splitlines() if len(line.split()) == 3}
    for name, symbol in (("state.inner.count", "state.0"), ("done", "done"), ("whole", "whole")):
        assert variable(version, name)["address"] == places[symbol]


def test_lines_have_full_paths(version: Version, workshop: Workshop) -> None:
    main = version.find_function("main")
    assert main is not None
    place = version.line_at(int(version.functions[main]["low"]))
    assert place is not None and place[0] == str(workshop.source / "main.c")
    assert base(version.text(version.functions[main]["file"])) == "main.c"
