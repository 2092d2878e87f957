"""Which struct, union or enum of the new version is the counterpart of which of the old.

By tag; an anonymous one by the typedef that names it; several of one name in different units by unit, then by
equal structure. Other anonymous types by where they are used: the members and variables that pair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from instar.metadata.model import TypeFlag, TypeKind
from instar.pairing.layout import RECORDS, TAGGED, Layout
from instar.pairing.members import pair_members
from instar.pairing.problems import Problem
from instar.pairing.units import pair_units

if TYPE_CHECKING:
    from instar.metadata.version import Version

Name = tuple[int, str]


class Identity:
    """Counterparts of tagged types (STRUCT, UNION, ENUM rows).

    Args:
        old, new: The types of both versions.
        type_renames: Old name -> new name (``struct conn`` -> ``struct client``), as the user said.
        uses: Pairs of types that variables of equal name have, to find anonymous types by their use.
    """

    def __init__(
        self,
        old: Layout,
        new: Layout,
        type_renames: Mapping[str, str],
        uses: Iterable[tuple[int, int]] = (),
    ) -> None:
        self._old, self._new = old, new
        self.units = pair_units(old.version, new.version)
        self.problems: dict[int, Problem] = {}
        self._forward: dict[int, int] = {}
        self._backward: dict[int, int] = {}
        self._conflicts: set[int] = set()
        self._typedefs = typedef_names(old)
        self._pair_named(type_renames)
        self._pair_by_use(uses)
        self._pair_by_shape()

    def counterpart(self, old_type: int) -> int | None:
        """New row of an old tagged row, None when there is none or none is certain."""
        return self._forward.get(old_type)

    def origin(self, new_type: int) -> int | None:
        """Old row of a new tagged row."""
        return self._backward.get(new_type)

    def _add(self, old_type: int, new_type: int) -> None:
        self._forward[old_type] = new_type
        self._backward.setdefault(new_type, old_type)

    # By name ------------------------------------------------------------------------------------------------

    def _pair_named(self, renames: Mapping[str, str]) -> None:
        old_groups, new_groups = name_groups(self._old), name_groups(self._new)
        for (kind, name), old_rows in old_groups.items():
            new_rows = new_groups.get((kind, _renamed(kind, name, renames)), [])
            if len(old_rows) == len(new_rows) == 1:
                self._add(old_rows[0], new_rows[0])
            elif new_rows:
                self._pair_group(old_rows, new_rows)

    def _pair_group(self, old_rows: list[int], new_rows: list[int]) -> None:
        """Several types of one name: by unit, then by equal structure, else ambiguous."""
        olds, news = list(old_rows), list(new_rows)
        self._match(
            olds, news, lambda row: self.units.get(self._old.unit[row]), lambda row: self._new.unit[row]
        )
        self._match(olds, news, self._old.shape, self._new.shape)
        kept_units = set(self.units.values())
        if not olds and any(self._new.unit[row] in kept_units for row in news):
            olds = [row for row in old_rows if self._new.shape(self._forward[row]) != self._old.shape(row)]
        for row in (row for row in olds if self._old.unit[row] in self.units):
            self.problems[row] = _ambiguous(self._old, row, len(old_rows), len(new_rows))

    def _match(self, olds: list[int], news: list[int], old_key: object, new_key: object) -> None:
        """Pair rows whose key occurs once on either side; paired rows are taken out of the lists."""
        assert callable(old_key) and callable(new_key)
        keyed: dict[object, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for row in olds:
            keyed[old_key(row)][0].append(row)
        for row in news:
            keyed[new_key(row)][1].append(row)
        for key, (left, right) in keyed.items():
            if key is not None and len(left) == len(right) == 1:
                self._add(left[0], right[0])
                olds.remove(left[0])
                news.remove(right[0])

    # By use -------------------------------------------------------------------------------------------------

    def _pair_by_use(self, uses: Iterable[tuple[int, int]]) -> None:
        pending = [*self._forward.items(), *uses]
        seen: set[tuple[int, int]] = set()
        while pending:
            old_type, new_type = self._core(*pending.pop())
            if (old_type, new_type) in seen or old_type < 0 or new_type < 0:
                continue
            seen.add((old_type, new_type))
            kind = self._old.kind(old_type)
            if kind not in TAGGED or kind != self._new.kind(new_type):
                continue
            self._adopt(old_type, new_type)
            if kind in RECORDS:
                entries = (self._old.entries(old_type), self._new.entries(new_type))
                pending += [(left.type, right.type) for left, right in pair_members(*entries).pairs]
        for row in self._conflicts:
            self._backward.pop(self._forward.pop(row), None)

    def _core(self, old_type: int, new_type: int) -> tuple[int, int]:
        """Both types without typedefs and without the arrays and pointers that they have in common."""
        while True:
            old_type, new_type = self._old.strip(old_type), self._new.strip(new_type)
            kind = self._old.kind(old_type)
            if kind != self._new.kind(new_type) or kind not in (TypeKind.ARRAY, TypeKind.POINTER):
                return old_type, new_type
            old_type, new_type = self._old.target(old_type), self._new.target(new_type)

    def _adopt(self, old_type: int, new_type: int) -> None:
        """Pair two types used alike, if one is anonymous; used differently elsewhere, neither is paired."""
        if self._old.name(old_type) and self._new.name(new_type):
            return
        known = self._forward.get(old_type)
        if known is None and new_type not in self._backward:
            self._add(old_type, new_type)
        elif known is not None and known != new_type and old_type not in self._typedefs:
            self._conflicts.add(old_type)

    # By shape -----------------------------------------------------------------------------------------------

    def _pair_by_shape(self) -> None:
        olds = [
            row
            for row in range(len(self._old))
            if self._old.kind(row) in TAGGED and row not in self._forward and not self._old.name(row)
        ]
        taken = self._backward
        news = [
            row
            for row in range(len(self._new))
            if self._new.kind(row) in TAGGED and row not in taken and not self._new.name(row)
        ]
        self._match(olds, news, self._old.shape, self._new.shape)


def typedef_names(layout: Layout) -> dict[int, str]:
    """Anonymous tagged row -> the first typedef name that names it directly."""
    names: dict[int, str] = {}
    for row in range(len(layout)):
        if layout.kind(row) == TypeKind.TYPEDEF:
            target = layout.target(row)
            if target >= 0 and layout.kind(target) in TAGGED and not layout.name(target):
                names.setdefault(target, layout.name(row))
    return names


def name_groups(layout: Layout) -> dict[Name, list[int]]:
    """(kind, tag or ``typedef:name``) -> rows; a declaration counts only where no definition exists."""
    groups: dict[Name, list[int]] = defaultdict(list)
    typedefs = typedef_names(layout)
    for row in range(len(layout)):
        kind = layout.kind(row)
        if kind not in TAGGED:
            continue
        name = layout.name(row) or ("typedef:" + typedefs[row] if row in typedefs else "")
        if name:
            groups[(int(kind), name)].append(row)
    for key, rows in groups.items():
        complete = [row for row in rows if not layout.flags[row] & TypeFlag.INCOMPLETE]
        groups[key] = complete or rows[:1]
    return groups


def _renamed(kind: int, name: str, renames: Mapping[str, str]) -> str:
    if not renames:
        return name
    keyword = TypeKind(kind).name.lower()
    plain = name.removeprefix("typedef:")
    wanted = renames.get(f"{keyword} {name}") or renames.get(plain)
    if wanted is None:
        return name
    return wanted.removeprefix(f"{keyword} ") if wanted.startswith(keyword + " ") else f"typedef:{wanted}"


def _ambiguous(layout: Layout, row: int, old_count: int, new_count: int) -> Problem:
    label = layout.label(row)
    return Problem(
        "ambiguous-type",
        label,
        f"{label} has {old_count} definitions in the old version and {new_count} in the new one",
        "give the different types different names, or write a handler",
    )


def uses_of_globals(old: Version, new: Version) -> list[tuple[int, int]]:
    """Types of the variables whose name occurs once in each version."""
    sides: list[dict[str, int]] = []
    for version in (old, new):
        types: dict[str, list[int]] = defaultdict(list)
        for name, row in zip(
            version.variables["name"].tolist(), version.variables["type"].tolist(), strict=True
        ):
            types[version.text(name)].append(row)
        sides.append({name: rows[0] for name, rows in types.items() if len(rows) == 1})
    return [(row, sides[1][name]) for name, row in sides[0].items() if name in sides[1]]
