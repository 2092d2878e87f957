"""Each property that validate_columns promises, broken once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from instar.metadata.model import COLUMNS, TypeKind
from instar.metadata.validate import (
    PART_FIELDS,
    ROW_FIELDS,
    STRING_FIELDS,
    InvalidColumnsError,
    validate_columns,
)
from instar.testing.versions import VersionBuilder

Columns = dict[str, npt.NDArray[Any]]


def columns_of(build: Callable[[VersionBuilder], None]) -> Columns:
    b = VersionBuilder()
    build(b)
    return {name: column.copy() for name, column in b.build().columns.items()}


@pytest.fixture
def columns() -> Columns:
    def build(b: VersionBuilder) -> None:
        node = b.struct("node", 16)
        b.member(node, "next", b.pointer(node))
        b.member(node, "color", b.enum("color", {"RED": 1}), 8)
        main = b.function(
            "main", 0x1000, 16, type_row=b.function_type(b.c_int, [b.c_int]), ranges=[(0x90, 0x91)]
        )
        b.local(main, "x", b.array(b.typedef("t", b.c_int), 4), b"\x91\x6c", scope=[(0x1000, 0x1008)])
        b.variable("head", b.pointer(node), 0x4000, function=main)
        b.line(0x1000, "a.c", 3)
        b.line(0x1010, "", 0)

    return columns_of(build)


def test_good_columns_pass(columns: Columns) -> None:
    validate_columns(columns)
    validate_columns(
        {name: np.empty(0, COLUMNS[name]) for name in COLUMNS} | {"strings": np.zeros(1, np.uint8)}
    )


def test_an_array_of_unknown_length_passes(columns: Columns) -> None:
    columns["types"]["elements"][columns["types"]["kind"] == TypeKind.ARRAY] = -1
    validate_columns(columns)


@pytest.mark.parametrize("column, field", [(c, f) for c, fields in STRING_FIELDS.items() for f in fields])
def test_names_are_in_the_pool(columns: Columns, column: str, field: str) -> None:
    columns[column][field][-1] = len(columns["strings"])
    with pytest.raises(InvalidColumnsError):
        validate_columns(columns)


@pytest.mark.parametrize("column, field, target", ROW_FIELDS)
def test_rows_are_in_their_column(columns: Columns, column: str, field: str, target: str) -> None:
    good = columns[column][field][-1]
    for bad in (
        len(columns[target]),
        np.iinfo(good.dtype).max,
        np.iinfo(good.dtype).min or len(columns[target]),
    ):
        columns[column][field][-1] = bad
        with pytest.raises(InvalidColumnsError):
            validate_columns(columns)


@pytest.mark.parametrize("column, first, count", [part[:3] for part in PART_FIELDS])
def test_parts_are_in_their_column(columns: Columns, column: str, first: str, count: str) -> None:
    for field, bad in ((first, 0xFFFFFFFF), (count, 0xFFFFFFFF), (count, 10_000)):
        broken = {name: rows.copy() for name, rows in columns.items()}
        broken[column][field][0] = bad
        with pytest.raises(InvalidColumnsError):
            validate_columns(broken)


@pytest.mark.parametrize(
    "column, first, count, target, is_disjoint", PART_FIELDS, ids=lambda value: str(value)
)
def test_parts_do_not_add_up_to_more_than_there_is(
    columns: Columns, column: str, first: str, count: str, target: str, is_disjoint: bool
) -> None:
    """A thousand rows that share one part would be copied a thousand times; some columns share on purpose."""
    part = columns[column][columns[column][count] > 0][:1]
    assert len(part)
    columns[column] = np.repeat(part, len(columns[target]) + 1)
    if is_disjoint:
        with pytest.raises(InvalidColumnsError, match=f"{column}.{first} overlap"):
            validate_columns(columns)
    else:
        try:
            validate_columns(columns)
        except InvalidColumnsError as error:
            assert f"{column}.{first} overlap" not in str(error)


def broken_strings(c: Columns) -> None:
    c["strings"][-1] = 65


def broken_start(c: Columns) -> None:
    c["strings"][0] = 65


def broken_kind(c: Columns) -> None:
    c["types"]["kind"][0] = 11


def broken_size(c: Columns) -> None:
    c["types"]["size"][0] = 1 << 60


def broken_members(c: Columns) -> None:
    c["types"]["count"][0] = 1000


def broken_line_order(c: Columns) -> None:
    c["lines"]["address"][0] = 2**64 - 1


def broken_function(c: Columns) -> None:
    c["functions"]["low"][0] = 2**63


def broken_frame_base(c: Columns) -> None:
    c["functions"]["frame_base"][0] = 77


def broken_frame_base_behind_the_last(c: Columns) -> None:
    c["functions"]["frame_base"][0] = len(c["locations"])


def broken_member_offset(c: Columns) -> None:
    c["members"]["bit_offset"][0] = 65


def broken_member_type(c: Columns) -> None:
    c["members"]["type"][0] = -1


def broken_variable_kind(c: Columns) -> None:
    c["variables"]["kind"][0] = 3


def broken_array(c: Columns) -> None:
    c["types"]["elements"][c["types"]["kind"] == TypeKind.ARRAY] = 1 << 62


def broken_length(c: Columns) -> None:
    c["types"]["elements"][c["types"]["kind"] == TypeKind.ARRAY] = -2


def broken_dtype(c: Columns) -> None:
    c["types"] = c["types"].view(np.uint8)


def broken_absence(c: Columns) -> None:
    del c["units"]


@pytest.mark.parametrize(
    "damage", [value for name, value in list(globals().items()) if name.startswith("broken_")]
)
def test_other_properties(columns: Columns, damage: Callable[[Columns], None]) -> None:
    damage(columns)
    with pytest.raises(InvalidColumnsError):
        validate_columns(columns)


def test_cycles() -> None:
    def itself(b: VersionBuilder) -> None:
        row = b.struct("s", 8)
        b.member(row, "s", row)

    def two(b: VersionBuilder) -> None:
        one, other = b.struct("one", 8), b.struct("other", 8)
        b.member(one, "x", b.typedef("t", other))
        b.member(other, "x", b.array(one, 1))

    for build in (itself, two):
        with pytest.raises(InvalidColumnsError, match="contain each other"):
            validate_columns(columns_of(build))

    def chain(b: VersionBuilder) -> None:
        b.pointer(b.pointer())

    for kind in (7, 3):  # typedefs, pointers
        loop = columns_of(chain)
        loop["types"]["kind"] = kind
        loop["types"]["target"] = [1, 0]
        with pytest.raises(InvalidColumnsError, match="contain each other"):
            validate_columns(loop)


def test_pointers_through_structs_may_come_back() -> None:
    def build(b: VersionBuilder) -> None:
        row = b.struct("s", 16)
        b.member(row, "self", b.pointer(b.pointer(row)))
        b.member(row, "call", b.pointer(b.function_type(b.pointer(row), [b.pointer(row)])), 8)

    validate_columns(columns_of(build))
