"""Statics whose initialiser fills a flexible array member: they are longer than their type.

``struct table { int count; int rows[]; } table = {3, {1, 2, 3}};`` has a symbol of 16 bytes and a type of 4.
Each gets a type of its own, ``struct table in table``, in which the array has the elements that the symbol
has room for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from instar.metadata.elf import ElfFile, SymbolKind
from instar.metadata.model import MEMBER, TYPE, TypeKind
from instar.metadata.text import StringPool
from instar.metadata.walker import Columns


def extend_flexible(columns: Columns, elf: ElfFile) -> Columns:
    """The columns with types that are as long as the symbols; the same ones where nothing is to be done."""
    pool = StringPool(columns["strings"])
    strings = bytearray(pool.data)
    types, members = [columns["types"]], [columns["members"]]
    variables = columns["variables"].copy()
    for row, struct, size in _longer(columns, elf, pool):
        name = (
            f"{pool.text(int(columns['types']['name'][struct]))} in {pool.text(int(variables['name'][row]))}"
        )
        next_type, next_member = sum(map(len, types)), sum(map(len, members))
        new_types, new_members = _fitted(columns, struct, size, next_type, next_member)
        new_types["name"][0] = len(strings)
        strings += name.encode("utf-8", "surrogateescape") + b"\0"
        types.append(new_types)
        members.append(new_members)
        variables["type"][row] = next_type
    if len(types) == 1:
        return columns
    return {
        **columns,
        "types": np.concatenate(types),
        "members": np.concatenate(members),
        "variables": variables,
        "strings": np.frombuffer(bytes(strings), np.uint8).copy(),
    }


def _longer(columns: Columns, elf: ElfFile, pool: StringPool) -> Iterator[tuple[int, int, int]]:
    """(variable, its struct type, bytes of its symbol) where the symbol is longer."""
    types, variables = columns["types"], columns["variables"]
    flexible = _flexible_structs(columns)
    if not len(flexible):
        return
    stripped = variables["type"].copy()
    for _ in range(len(types)):
        is_typedef = (stripped >= 0) & (types["kind"][stripped] == TypeKind.TYPEDEF)
        if not is_typedef.any():
            break
        stripped[is_typedef] = types["target"][stripped[is_typedef]]
    for row in np.flatnonzero(np.isin(stripped, flexible) & (variables["tls"] == 0)).tolist():
        name = pool.text(int(variables["name"][row]))
        size = _symbol_size(elf, int(variables["address"][row]), name)
        if size > int(types["size"][stripped[row]]):
            yield row, int(stripped[row]), size


def _flexible_structs(columns: Columns) -> npt.NDArray[np.intp]:
    """Structs whose last member is an array of unknown length."""
    types, members = columns["types"], columns["members"]
    structs = np.flatnonzero((types["kind"] == TypeKind.STRUCT) & (types["count"] > 0))
    last = members["type"][types["first"][structs].astype(np.int64) + types["count"][structs] - 1]
    is_open = (types["kind"][last] == TypeKind.ARRAY) & (types["elements"][last] < 0) & (last >= 0)
    found: npt.NDArray[np.intp] = structs[is_open]
    return found


def _symbol_size(elf: ElfFile, address: int, name: str) -> int:
    """Of the symbol of that name (function statics: ``name.123``) at that address; 0: there is none."""
    sizes = [0]
    for row in elf.symbols_at(address):
        symbol = elf.symbols[row]
        own = elf.text(int(symbol["name"]))
        if symbol["kind"] == SymbolKind.OBJECT and (own == name or own.startswith(f"{name}.")):
            sizes.append(int(symbol["size"]))
    return max(sizes)


def _fitted(
    columns: Columns, struct: int, size: int, next_type: int, next_member: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Rows of a struct and its array with as many elements as fit."""
    types, members = columns["types"], columns["members"]
    first, count = int(types["first"][struct]), int(types["count"][struct])
    new_members = members[first : first + count].astype(MEMBER)
    array = int(new_members["type"][-1])
    element = max(1, int(types["size"][types["target"][array]]))
    new_types = np.array([types[struct], types[array]], TYPE)
    new_types["size"][0], new_types["first"][0] = size, next_member
    new_types["elements"][1] = (size - int(new_members["bit_offset"][-1]) // 8) // element
    new_types["size"][1] = new_types["elements"][1] * element
    new_members["type"][-1] = next_type + 1
    return new_types, new_members
