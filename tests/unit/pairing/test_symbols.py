"""Variables and functions by name, unit and scope."""

from __future__ import annotations

import pytest

from instar.metadata.model import VariableKind
from instar.pairing.symbols import SymbolPairing, is_constant, pair_symbols
from instar.pairing.units import common_suffix, pair_units
from instar.testing.versions import VersionBuilder

STATIC = VariableKind.FILE_STATIC


def with_units(*names: str) -> VersionBuilder:
    b = VersionBuilder()
    for name in names:
        b.unit(name)
    return b


def pair_of(old: VersionBuilder, new: VersionBuilder) -> SymbolPairing:
    versions = (old.build(), new.build())
    return pair_symbols(*versions, pair_units(*versions))


def test_units_pair_by_the_end_of_their_path() -> None:
    old = with_units("src/core/main.c", "src/util/main.c", "gone.c", "other.c").build()
    new = with_units("/b/src/util/main.c", "/b/src/core/main.c", "fresh.c", "more.c").build()
    assert pair_units(old, new) == {0: 1, 1: 0}


def test_the_one_unit_left_over_was_renamed() -> None:
    assert pair_units(with_units("v1.c").build(), with_units("v2.c").build()) == {0: 0}


def test_a_unit_that_is_compiled_twice_is_ambiguous() -> None:
    twice = with_units("a.c", "a.c", "b.c").build()
    assert pair_units(twice, twice) == {2: 2}


def test_common_suffix_counts_components() -> None:
    assert common_suffix(("x", "src", "a.c"), ("y", "src", "a.c")) == 2


def test_globals_pair_by_name() -> None:
    def fill(*names: str) -> VersionBuilder:
        b = VersionBuilder()
        for place, name in enumerate(names):
            b.variable(name, b.c_int, 0x1000 + 16 * place)
        return b

    assert pair_of(fill("one", "two", "gone"), fill("fresh", "two", "one")).variables.tolist() == [2, 1, -1]


def statics(*places: tuple[str, int]) -> VersionBuilder:
    b = with_units("a.c", "b.c", "c.c")
    for at, (name, unit) in enumerate(places):
        b.variable(name, b.c_int, 0x1000 + 16 * at, kind=STATIC, unit=unit)
    return b


def test_file_statics_of_one_name_pair_by_file() -> None:
    assert pair_of(statics(("n", 0), ("n", 1)), statics(("n", 1), ("n", 0))).variables.tolist() == [1, 0]


def test_a_static_that_moved_pairs_only_if_its_name_is_unique() -> None:
    assert pair_of(statics(("n", 0)), statics(("n", 2))).variables.tolist() == [0]
    assert pair_of(statics(("n", 0), ("n", 1)), statics(("n", 0), ("n", 2))).variables.tolist() == [0, -1]


def test_static_and_global_pair_when_unique() -> None:
    b = with_units("a.c", "b.c", "c.c")
    b.variable("n", b.c_int, 0x1000)
    found = pair_of(statics(("n", 0)), b)
    assert found.variables.tolist() == [0]
    assert found.old_variables.tolist() == [0]


def test_thread_locals_pair_by_name_and_are_no_statics_of_that_address() -> None:
    def fill(*rows: tuple[str, bool]) -> VersionBuilder:
        b = VersionBuilder()
        for at, (name, tls) in enumerate(rows):
            b.variable(name, b.c_int, 8 * at, tls=tls)
        return b

    old = fill(("errors", True), ("count", False))
    assert pair_of(old, fill(("count", False), ("errors", True))).variables.tolist() == [1, 0]
    assert pair_of(old, fill(("count", True), ("errors", False))).variables.tolist() == [1, 0]


def function_statics(*rows: tuple[str, str]) -> VersionBuilder:
    b = VersionBuilder()
    for at, (scope, name) in enumerate(rows):
        if scope:
            b.variable(name, b.c_int, 0x1000 + 16 * at, scope=scope)
        else:
            b.variable(name, b.c_int, 0x1000 + 16 * at, kind=STATIC)
    return b


def test_function_statics_pair_by_function_and_name() -> None:
    old = function_statics(("f", "n"), ("g", "n"), ("h", "n"))
    assert pair_of(old, function_statics(("g", "n"), ("f", "n"), ("k", "n"))).variables.tolist() == [1, 0, -1]


def test_statics_of_one_name_in_one_function_pair_in_order_if_as_many() -> None:
    two = function_statics(("f", "n"), ("f", "n"))
    assert pair_of(two, two).variables.tolist() == [0, 1]
    found = pair_of(two, function_statics(("f", "n"), ("f", "n"), ("f", "n")))
    assert found.variables.tolist() == [-1, -1]
    assert [problem.code for problem in found.problems] == ["ambiguous-variable"]


def test_function_static_that_became_a_file_static() -> None:
    assert pair_of(function_statics(("f", "n")), function_statics(("", "n"))).variables.tolist() == [0]
    assert pair_of(function_statics(("f", "n")), function_statics(("g", "n"))).variables.tolist() == [-1]


def functions(*rows: tuple[str, int, bool]) -> VersionBuilder:
    b = with_units("a.c", "b.c")
    for at, (name, unit, external) in enumerate(rows):
        b.function(name, 0x1000 + 32 * at, unit=unit, external=external)
    return b


def test_functions_pair_like_variables() -> None:
    old = functions(("main", 0, True), ("on_read", 0, False), ("on_read", 1, False), ("gone", 0, True))
    new = functions(("on_read", 1, False), ("on_read", 0, False), ("main", 1, True))
    assert pair_of(old, new).functions.tolist() == [2, 1, 0, -1]


def test_a_compilers_clone_is_not_its_original() -> None:
    def build(*symbols: str) -> VersionBuilder:
        b = VersionBuilder()
        for at, symbol in enumerate(symbols):
            b.function("f", 0x1000 + 32 * at, external=False)
            b._symbols.pop()
            b.symbol(symbol, 0x1000 + 32 * at, 16, kind=2)  # type: ignore[arg-type]
        return b

    assert pair_of(build("f.constprop.0", "f"), build("f", "f.constprop.0")).functions.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("name", "flags", "constant"), [(".rodata", 2, True), (".data", 3, False), (".data.rel.ro", 3, True)]
)
def test_constants_are_known_by_their_section(name: str, flags: int, constant: bool) -> None:
    b = VersionBuilder()
    b.section(name, 0x1000, 64, flags)
    b.variable("v", b.c_int, 0x1000)
    assert is_constant(b.build(), 0) == constant
