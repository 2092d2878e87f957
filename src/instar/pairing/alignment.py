"""Types side by side: the members of a changed type with those of its counterpart, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from instar.metadata.model import TypeFlag, TypeKind
from instar.pairing.layout import TAGGED, Entry, Layout
from instar.pairing.mapping import TypePairing
from instar.pairing.members import MemberPairs
from instar.pairing.plan import type_changes

RowChange = Literal["same", "moved", "retyped", "renamed", "added", "removed"]
MOST_ROWS = 400
"""Members and enumerators shown of one type."""


@dataclass(frozen=True, slots=True)
class Place:
    """A member in one version, or an enumerator.

    Attributes:
        name: As declared; an anonymous union is ``{a|b}``.
        type: C spelling; "" for an enumerator.
        at: Offset in bytes; the value of an enumerator.
        bits: "first bit:width" of a bit-field, else "".
        size: Bytes, 0 for an enumerator.
    """

    name: str
    type: str
    at: int
    bits: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One member of both versions; one of the two is None where it was added or removed."""

    change: RowChange
    old: Place | None
    new: Place | None


@dataclass(frozen=True)
class AlignedType:
    """A changed struct, union or enum.

    Attributes:
        name, new_name: C spelling in both versions.
        kind: ``struct``, ``union`` or ``enum``.
        old_size, new_size: Bytes.
        rows: In the order of the new version, removed ones where they were; ``left_out`` more are not listed.
    """

    name: str
    new_name: str
    kind: str
    old_size: int
    new_size: int
    rows: tuple[Row, ...]
    left_out: int = 0


def changed_types(types: TypePairing) -> Iterator[tuple[int, int]]:
    """(old row, new row) of every struct, union and enum that differs, or that cannot be paired as it is."""
    for row in range(len(types.old)):
        if types.old.kind(row) not in TAGGED or types.old.flags[row] & TypeFlag.INCOMPLETE:
            continue
        new_row = types.identity.counterpart(row)
        if new_row is None or types.problem_of(row) is not None:
            continue
        if type_changes(types, row, new_row) or types.compiler.fragment(row, new_row).problems:
            yield row, new_row


def align_type(types: TypePairing, old_row: int, new_row: int) -> AlignedType:
    """The two sides of a changed type."""
    if types.old.kind(old_row) == TypeKind.ENUM:
        rows = _align_enumerators(types.old.enumerators(old_row), types.new.enumerators(new_row))
    else:
        rows = _align_members(types, types.compiler.pairs(old_row, new_row), old_row, new_row)
    return AlignedType(
        types.label(old_row),
        types.new_label(new_row),
        types.old.kind(old_row).name.lower(),
        types.old.size(old_row),
        types.new.size(new_row),
        tuple(rows[:MOST_ROWS]),
        max(len(rows) - MOST_ROWS, 0),
    )


def _align_enumerators(olds: Sequence[tuple[str, int]], news: Sequence[tuple[str, int]]) -> list[Row]:
    values = dict(news)
    places = {name: Place(name, "", value) for name, value in news}
    rows = [
        Row("same" if values[name] == value else "moved", Place(name, "", value), places[name])
        if name in places
        else Row("removed", Place(name, "", value), None)
        for name, value in olds
    ]
    return _in_order(rows, [Row("added", None, place) for place in places.values()])


def _align_members(types: TypePairing, members: MemberPairs, old_row: int, new_row: int) -> list[Row]:
    partner = dict(members.pairs)
    rows = []
    for entry in types.old.entries(old_row):
        here, there = _place(types.old, entry), partner.get(entry)
        if there is None:
            rows.append(Row("removed", here, None))
        else:
            place = _place(types.new, there)
            rows.append(Row(_change(types, (entry, there), (here, place)), here, place))
    fresh = [Row("added", None, _place(types.new, entry)) for entry in types.new.entries(new_row)]
    return _in_order(rows, fresh)


def _in_order(rows: list[Row], fresh: list[Row]) -> list[Row]:
    """Rows of the old version's order, put into the new one's; ``fresh`` has a row for all of the new."""
    follow: dict[Place | None, list[Row]] = {}  # removed rows by the last one before that lives on
    paired: dict[Place, Row] = {}
    before: Place | None = None
    for row in rows:
        if row.new is None:
            follow.setdefault(before, []).append(row)
        else:
            before = row.new
            paired[row.new] = row
    found = list(follow.get(None, ()))
    for row in fresh:
        assert row.new is not None
        found.append(paired.pop(row.new, row))
        found += follow.get(row.new, ())
    return [*found, *paired.values()]  # a member that moved into a union is in no row of the new version


def _place(layout: Layout, entry: Entry) -> Place:
    bits = f"{entry.bit_offset % 8}:{entry.bit_size}" if entry.bit_size else ""
    name = entry.label().removeprefix(".")
    return Place(name, layout.label(entry.type), entry.bit_offset // 8, bits, layout.size(entry.type))


def _change(types: TypePairing, entries: tuple[Entry, Entry], places: tuple[Place, Place]) -> RowChange:
    old, new = places
    if old.name != new.name:
        return "renamed"
    fragment = types.compiler.fragment(entries[0].type, entries[1].type)
    if (old.type, old.size) != (new.type, new.size) or fragment.changes or fragment.problems:
        return "retyped"
    return "same" if (old.at, old.bits) == (new.at, new.bits) else "moved"
