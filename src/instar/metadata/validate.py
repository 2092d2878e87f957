"""Checks columns that come from outside: references within bounds, nothing that could recurse without end.

What works on a ``Version`` takes all this for granted. The checks are whole-column operations: some
milliseconds for a program with a hundred thousand rows. A property is either needed for safety (bounds, no
cycles) or so easy to break by damage that it shows it (kinds, order of lines).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from instar.metadata.model import COLUMNS, NO_LOCATION, Encoding, TypeFlag, TypeKind, VariableKind

Array = npt.NDArray[Any]
DEPTH_LIMIT = 1000  # of types nested in each other by value, or of pointers to pointers
SIZE_LIMIT = 1 << 48  # bytes of one object: all of user space

STRING_FIELDS = {
    "types": ("name", "file"),
    "members": ("name",),
    "enumerators": ("name",),
    "variables": ("name", "scope", "file"),
    "functions": ("name", "file"),
    "locals": ("name", "origin"),
    "units": ("name", "directory", "producer"),
    "lines": ("file",),
}
# column, field, the column it is a row of; -1 is allowed where the field is signed
ROW_FIELDS = (
    ("types", "target", "types"),
    ("types", "unit", "units"),
    ("members", "type", "types"),
    ("variables", "type", "types"),
    ("variables", "unit", "units"),
    ("variables", "function", "functions"),
    ("functions", "type", "types"),
    ("functions", "unit", "units"),
    ("locals", "type", "types"),
)
# column, first, count, the column they are a part of, whether the parts are disjoint
PART_FIELDS = (
    ("functions", "first_range", "range_count", "ranges", True),
    ("functions", "first_local", "local_count", "locals", True),
    ("locals", "first_scope", "scope_count", "ranges", False),
    ("locals", "first_location", "location_count", "locations", True),
    ("locations", "expression", "length", "expressions", False),
)
COMPOUNDS = (TypeKind.STRUCT, TypeKind.UNION)
WITH_MEMBERS = (*COMPOUNDS, TypeKind.FUNCTION)


class InvalidColumnsError(Exception):
    """The columns are not those of any version; the message says what is wrong."""


def validate_columns(columns: Mapping[str, Array]) -> None:
    """Check all columns of ``model.COLUMNS``.

    Raises:
        InvalidColumnsError: A row refers outside, or types contain each other.
    """
    for name, dtype in COLUMNS.items():
        _require(
            name in columns and columns[name].dtype == dtype and columns[name].ndim == 1, f"column {name}"
        )
    _check_strings(columns)
    for column, field, target in ROW_FIELDS:
        _check_rows(columns, column, field, target)
    for column, first, count, target, is_disjoint in PART_FIELDS:
        rows = columns[column]
        _check_parts(rows[first], rows[count], len(columns[target]), f"{column}.{first}", is_disjoint)
    _check_types(columns)
    _check_code(columns)
    _check_nesting(columns)


def _require(is_good: bool | np.bool_, what: str) -> None:
    if not is_good:
        raise InvalidColumnsError(what)


def _check_strings(columns: Mapping[str, Array]) -> None:
    strings = columns["strings"]
    _require(len(strings) > 0 and strings[0] == 0 and strings[-1] == 0, "the string pool has no ends")
    for column, fields in STRING_FIELDS.items():
        for field in fields:
            values = columns[column][field]
            _require(not len(values) or values.max() < len(strings), f"{column}.{field} outside the strings")


def _check_rows(columns: Mapping[str, Array], column: str, field: str, target: str) -> None:
    values = columns[column][field]
    if len(values):
        lowest = -1 if values.dtype.kind == "i" else 0
        is_good = values.min() >= lowest and values.max() < len(columns[target])
        _require(is_good, f"{column}.{field} outside {target}")


def _check_parts(first: Array, count: Array, length: int, what: str, is_disjoint: bool) -> None:
    used = count > 0
    ends = first[used].astype(np.uint64) + count[used]
    _require(not len(ends) or ends.max() <= length, f"{what} outside")
    if is_disjoint:  # or the parts could add up to more than memory holds
        _require(int(count.astype(np.uint64).sum()) <= length, f"{what} overlap")


def _check_types(columns: Mapping[str, Array]) -> None:
    types, members = columns["types"], columns["members"]
    kinds = types["kind"]
    _require(not len(kinds) or kinds.max() <= max(TypeKind), "types.kind")
    _require(not len(kinds) or types["encoding"].max() <= max(Encoding), "types.encoding")
    _require(not len(kinds) or types["size"].max() < SIZE_LIMIT, "types.size")
    _require(not len(kinds) or types["elements"].min() >= -1, "types.elements")
    for wanted, table in ((WITH_MEMBERS, members), ((TypeKind.ENUM,), columns["enumerators"])):
        rows = types[np.isin(kinds, wanted)]
        _check_parts(rows["first"], rows["count"], len(table), "types.first", True)
    arrays = types[(kinds == TypeKind.ARRAY) & (types["elements"] > 0)]
    _require((arrays["target"] >= 0).all(), "an array of nothing")
    whole = types["size"][arrays["target"]].astype(np.float64) * arrays["elements"]
    _require((whole < SIZE_LIMIT).all(), "an array beyond memory")
    _require((types["target"][kinds == TypeKind.ARRAY] >= 0).all(), "an array of void")
    _check_members(types, members)


def _check_members(types: Array, members: Array) -> None:
    owners = types[np.isin(types["kind"], COMPOUNDS) & (types["flags"] & TypeFlag.INCOMPLETE == 0)]
    counts = owners["count"].astype(np.int64)
    rows = members[_spread(owners["first"], counts)]
    _require((rows["type"] >= 0).all(), "a member of type void")
    _require(not len(rows) or rows["bit_offset"].max() < 8 * SIZE_LIMIT, "members.bit_offset")
    is_field = rows["bit_size"] > 0
    bits = np.where(is_field, rows["bit_size"], 8 * types["size"][rows["type"]])
    limits = np.repeat(8 * owners["size"], counts)
    _require((rows["bit_offset"] + bits <= limits).all(), "a member outside its type")


def _spread(first: Array, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The row numbers of all parts, one after the other."""
    starts = np.cumsum(counts) - counts
    result: npt.NDArray[np.int64] = np.arange(int(counts.sum())) + np.repeat(
        first.astype(np.int64) - starts, counts
    )
    return result


def _check_code(columns: Mapping[str, Array]) -> None:
    functions, lines, variables = columns["functions"], columns["lines"], columns["variables"]
    for name in ("functions", "ranges", "locations"):
        _require((columns[name]["low"] <= columns[name]["high"]).all(), f"{name}: low above high")
    bases = functions["frame_base"]
    is_good = (bases == NO_LOCATION) | (bases < len(columns["locations"]))
    _require(is_good.all(), "functions.frame_base outside locations")
    _require((lines["address"][1:] >= lines["address"][:-1]).all(), "lines are not in order")
    _require(not len(variables) or variables["kind"].max() <= max(VariableKind), "variables.kind")
    _require(not len(variables) or variables["tls"].max() <= 1, "variables.tls")


def _check_nesting(columns: Mapping[str, Array]) -> None:
    """No type contains itself by value; no typedef or pointer chain comes back to itself."""
    types, members = columns["types"], columns["members"]
    kinds = types["kind"]
    by_value = _edges(types, members, np.isin(kinds, (TypeKind.TYPEDEF, TypeKind.ARRAY)), COMPOUNDS)
    chains = (TypeKind.TYPEDEF, TypeKind.ARRAY, TypeKind.POINTER, TypeKind.FUNCTION)
    by_name = _edges(types, members, np.isin(kinds, chains), (TypeKind.FUNCTION,))
    for outer, inner in (by_value, by_name):
        _require(_is_acyclic(len(types), outer, inner), "types that contain each other")


def _edges(
    types: Array, members: Array, with_target: Array, with_members: tuple[TypeKind, ...]
) -> tuple[Array, Array]:
    rows = np.flatnonzero(with_target)
    owners = np.flatnonzero(np.isin(types["kind"], with_members))
    counts = types["count"][owners].astype(np.int64)
    outer = np.concatenate([rows, np.repeat(owners, counts)])
    inner = np.concatenate(
        [types["target"][rows], members["type"][_spread(types["first"][owners], counts)]]
    ).astype(np.int64)
    return outer[inner >= 0], inner[inner >= 0]


def _is_acyclic(count: int, outer: Array, inner: Array) -> bool:
    """Takes leaves away until nothing is left."""
    for _ in range(DEPTH_LIMIT):
        if not len(outer):
            return True
        is_open = np.zeros(count, np.bool_)
        is_open[outer] = True
        keep = is_open[inner]
        if keep.all():
            return False
        outer, inner = outer[keep], inner[keep]
    return False
