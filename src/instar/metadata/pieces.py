"""Statics that the compiler has split in one of two versions only.

At -O2 clang keeps the members of a static struct whose address nobody takes as variables of their own
(``state.port``; ``VariableFlag.PIECE``), and drops those that no code reads. Whether it does so can differ
between two builds. Before two versions are paired, the one that has the variable whole gets rows for the same
pieces, so that the pieces are paired by their names like all variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from instar.metadata.model import TypeKind, VariableFlag
from instar.metadata.version import Version

STEP = re.compile(r"\.([^.\[\]{}]+)|\[(\d+)\]")
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Place:
    """A part of a variable: its path, its offset in bytes, its type."""

    path: str
    offset: int
    type: int


def align_pieces(old: Version, new: Version) -> tuple[Version, Version]:
    """Both versions with the same variables split; the same objects where nothing is to be done.

    Row numbers of ``variables`` change, so do this before anything refers to them.
    """
    return _split_like(old, new), _split_like(new, old)


def _split_like(version: Version, other: Version) -> Version:
    """``version`` with every variable split that ``other`` has in pieces."""
    pieces: dict[Key, list[str]] = {}
    for piece in np.flatnonzero(other.variables["flags"] & VariableFlag.PIECE).tolist():
        key, path = _key(other, piece)
        pieces.setdefault(key, []).append(path)
    if not pieces:
        return version
    whole = {
        _key(version, row)[0]: row for row in range(len(version.variables)) if not _is_piece(version, row)
    }
    replaced: dict[int, list[Place]] = {}
    for key, paths in pieces.items():
        row = whole.get(key, _only(whole, pieces, key))
        places = [place for path in paths for place in _find_place(version, row, path)] if row >= 0 else []
        if places:
            replaced[row] = places
    return _replace(version, replaced) if replaced else version


def _only(whole: dict[Key, int], pieces: dict[Key, list[str]], key: Key) -> int:
    """The variable of that name in another file, if both versions have one only; -1: none."""
    rows = [row for other, row in whole.items() if other[1:] == key[1:]]
    return rows[0] if len(rows) == 1 and sum(other[1:] == key[1:] for other in pieces) == 1 else -1


def _is_piece(version: Version, row: int) -> bool:
    return bool(version.variables["flags"][row] & VariableFlag.PIECE)


def _key(version: Version, row: int) -> tuple[Key, str]:
    """(unit, scope, name of the whole variable), and the path of a piece."""
    one = version.variables[row]
    name = version.text(one["name"])
    end = min((place for mark in ".[{" if (place := name.find(mark)) > 0), default=len(name))
    path = name[end:] if one["flags"] & VariableFlag.PIECE else ""
    unit = version.text(version.units[one["unit"]]["name"]) if one["kind"] else ""
    return (unit, version.text(one["scope"]), name[: len(name) - len(path)]), path


def _find_place(version: Version, row: int, path: str) -> Iterator[Place]:
    """The place that a path names in a whole variable; none if the type has no such member (any more)."""
    kind, offset = int(version.variables["type"][row]), 0
    rest = path
    while rest:
        step = STEP.match(rest)
        found = step and (
            _member(version, kind, step[1]) if step[1] else _element(version, kind, int(step[2]))
        )
        if not step or not found:
            return
        kind, offset, rest = found[0], offset + found[1], rest[step.end() :]
    yield Place(path, offset, kind)


def _member(version: Version, kind: int, name: str) -> tuple[int, int] | None:
    """Type and offset of a named member, also inside anonymous ones."""
    kind = version.strip(kind)
    if kind < 0 or version.types["kind"][kind] not in (TypeKind.STRUCT, TypeKind.UNION):
        return None
    for member in version.members_of(kind):
        inner, start = int(member["type"]), int(member["bit_offset"]) // 8
        if member["bit_size"]:
            continue
        if version.text(member["name"]) == name:
            return inner, start
        deeper = None if member["name"] else _member(version, inner, name)
        if deeper:
            return deeper[0], start + deeper[1]
    return None


def _element(version: Version, kind: int, index: int) -> tuple[int, int] | None:
    kind = version.strip(kind)
    if kind < 0 or version.types["kind"][kind] != TypeKind.ARRAY:
        return None
    element = int(version.types["target"][kind])
    if index >= int(version.types["elements"][kind]):
        return None
    return element, index * version.size_of(element)


def _replace(version: Version, replaced: dict[int, list[Place]]) -> Version:
    strings = bytearray(version.strings.tobytes())
    rows = []
    for row, places in replaced.items():
        name = version.text(version.variables["name"][row])
        for place in places:
            piece = version.variables[row : row + 1].copy()
            piece["address"] += place.offset
            piece["type"], piece["name"] = place.type, len(strings)
            piece["flags"] = int(piece["flags"][0]) | VariableFlag.PIECE
            strings += (name + place.path).encode("utf-8", "surrogateescape") + b"\0"
            rows.append(piece)
    kept = np.delete(version.variables, list(replaced))
    columns = {
        **version.columns,
        "variables": np.concatenate([kept, *rows]),
        "strings": np.frombuffer(bytes(strings), np.uint8),
    }
    return Version(version.path, version.elf, columns, build_id=version.build_id)
