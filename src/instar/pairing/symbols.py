"""Which static variable and which function of the new version is the counterpart of which of the old."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from instar.metadata.elf import SECTION_WRITE
from instar.metadata.model import VariableKind
from instar.pairing.problems import Problem

if TYPE_CHECKING:
    from instar.metadata.version import Version

NONE = -1
Key = Callable[[int], Hashable | None]
IntRows = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class SymbolPairing:
    """Rows of the new version for rows of the old one, and back; -1 where there is none.

    Attributes:
        variables, functions: int32, one entry per old row.
        old_variables, old_functions: int32, one entry per new row.
        problems: Variables that cannot be told apart.
    """

    variables: IntRows
    functions: IntRows
    old_variables: IntRows
    old_functions: IntRows
    problems: tuple[Problem, ...]

    def variable(self, old_row: int) -> int | None:
        """New row of an old variable."""
        found = int(self.variables[old_row])
        return None if found == NONE else found

    def function(self, old_row: int) -> int | None:
        """New row of an old function."""
        found = int(self.functions[old_row])
        return None if found == NONE else found


class _Matcher:
    """Pairs rows stage by stage: each stage pairs what its key names exactly once on both sides."""

    def __init__(self, old_count: int, new_count: int) -> None:
        self.forward = np.full(old_count, NONE, np.int32)
        self.backward = np.full(new_count, NONE, np.int32)

    def pair(self, old_row: int, new_row: int) -> None:
        self.forward[old_row] = new_row
        self.backward[new_row] = old_row

    def stage(self, old_key: Key, new_key: Key, *, among_all: bool = False) -> dict[Hashable, Any]:
        """Pair by key; with ``among_all`` a key must be unique among paired rows too.

        Returns:
            The keys that occur on both sides and not once on each: key -> (old rows, new rows), unpaired.
        """
        groups: dict[Hashable, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for side, (table, key) in enumerate(((self.forward, old_key), (self.backward, new_key))):
            for row in range(len(table)):
                if among_all or table[row] == NONE:
                    value = key(row)
                    if value is not None:
                        groups[value][side].append(row)
        unclear = {}
        for value, (olds, news) in groups.items():
            if len(olds) == len(news) == 1:
                if self.forward[olds[0]] == NONE and self.backward[news[0]] == NONE:
                    self.pair(olds[0], news[0])
            elif olds and news:
                unclear[value] = (olds, news)
        return unclear


def pair_symbols(old: Version, new: Version, units: Mapping[int, int]) -> SymbolPairing:
    """Pair variables and functions.

    Args:
        old, new: Both versions.
        units: Old unit row -> new unit row (``pair_units``).
    """
    variables, problems = _pair_variables(_Variables(old), _Variables(new), units)
    functions = _pair_functions(_Functions(old), _Functions(new), units)
    arrays = (variables.forward, functions.forward, variables.backward, functions.backward)
    for array in arrays:
        array.flags.writeable = False
    return SymbolPairing(*arrays, problems=tuple(problems))


class _Variables:
    def __init__(self, version: Version) -> None:
        rows = version.variables
        self.count = len(rows)
        self.name = [version.text(one) for one in rows["name"].tolist()]
        self.scope = [version.text(one) for one in rows["scope"].tolist()]
        self.kind: list[int] = rows["kind"].tolist()
        self.unit: list[int] = rows["unit"].tolist()
        self.order: list[tuple[int, int]] = list(
            zip(rows["line"].tolist(), rows["address"].tolist(), strict=True)
        )

    def is_local(self, row: int) -> bool:
        return self.kind[row] == VariableKind.FUNCTION_STATIC

    def by_unit(self, row: int, unit: int | None) -> Hashable | None:
        """(unit, scope, name) of a static."""
        if unit is None or self.kind[row] == VariableKind.GLOBAL:
            return None
        return (unit, self.scope[row] if self.is_local(row) else "", self.name[row])

    def by_file(self, row: int, unit: int | None, local: bool) -> Hashable | None:
        """(unit, name) of a variable that is (not) in a function."""
        return None if unit is None or self.is_local(row) != local else (unit, self.name[row])


def _pair_variables(
    old: _Variables, new: _Variables, units: Mapping[int, int]
) -> tuple[_Matcher, list[Problem]]:
    matcher = _Matcher(old.count, new.count)
    sides = (old, new)

    def keys(key: Callable[[_Variables, int], Hashable | None]) -> tuple[Key, Key]:
        return (lambda row: key(old, row)), (lambda row: key(new, row))

    matcher.stage(*keys(lambda v, row: v.name[row] if v.kind[row] == VariableKind.GLOBAL else None))
    unclear = matcher.stage(
        lambda row: old.by_unit(row, units.get(old.unit[row])), lambda row: new.by_unit(row, new.unit[row])
    )
    _pair_in_order(matcher, sides, unclear)
    # Moved to another file, or from static to global and back: where the name is the only one of its kind.
    matcher.stage(*keys(lambda v, row: None if v.is_local(row) else v.name[row]), among_all=True)
    matcher.stage(
        *keys(lambda v, row: (v.scope[row], v.name[row]) if v.is_local(row) else None), among_all=True
    )
    for was_local in (True, False):  # from a function to its file and back
        matcher.stage(
            lambda row, local=was_local: old.by_file(row, units.get(old.unit[row]), local),  # type: ignore[misc]
            lambda row, local=not was_local: new.by_file(row, new.unit[row], local),  # type: ignore[misc]
        )
    left = {
        key: rows for key, rows in unclear.items() if any(matcher.forward[row] == NONE for row in rows[0])
    }
    return matcher, [_ambiguous(old, rows[0][0]) for rows in left.values()]


def _pair_in_order(
    matcher: _Matcher, sides: tuple[_Variables, _Variables], unclear: Mapping[Hashable, Any]
) -> None:
    """Statics of one name in several blocks of one function: in the order of the source, if as many."""
    for olds, news in unclear.values():
        if len(olds) == len(news):
            ordered = (
                sorted(olds, key=lambda r: sides[0].order[r]),
                sorted(news, key=lambda r: sides[1].order[r]),
            )
            for old_row, new_row in zip(*ordered, strict=True):
                matcher.pair(old_row, new_row)


def _ambiguous(variables: _Variables, row: int) -> Problem:
    where = f"{variables.scope[row]}.{variables.name[row]}" if variables.scope[row] else variables.name[row]
    return Problem(
        "ambiguous-variable",
        f"variable {where}",
        f"several static variables `{where}` in one file, and not as many in the new version",
        "give them different names",
    )


class _Functions:
    def __init__(self, version: Version) -> None:
        rows = version.functions
        self.count = len(rows)
        self.name = [version.text(one) for one in rows["name"].tolist()]
        self.unit: list[int] = rows["unit"].tolist()
        self.external: list[int] = rows["external"].tolist()
        self._low: list[int] = rows["low"].tolist()
        self._version = version
        self._suffix = [self._find_suffix(row) for row in range(self.count)]

    def _find_suffix(self, row: int) -> str:
        """``.constprop.0``, ``.part.0``: compilers make several functions of one."""
        elf = self._version.elf
        names = [elf.text(int(elf.symbols["name"][s])) for s in elf.symbols_at(self._low[row])]
        if self.name[row] in names:
            return ""
        prefix = self.name[row] + "."
        return next((name[len(prefix) - 1 :] for name in names if name.startswith(prefix)), "")

    def full_name(self, row: int) -> str:
        return self.name[row] + self._suffix[row]


def _pair_functions(old: _Functions, new: _Functions, units: Mapping[int, int]) -> _Matcher:
    matcher = _Matcher(old.count, new.count)
    matcher.stage(
        lambda row: old.full_name(row) if old.external[row] else None,
        lambda row: new.full_name(row) if new.external[row] else None,
    )
    matcher.stage(
        lambda row: (units[old.unit[row]], old.full_name(row)) if old.unit[row] in units else None,
        lambda row: (new.unit[row], new.full_name(row)),
    )
    matcher.stage(old.full_name, new.full_name, among_all=True)
    return matcher


def is_constant(version: Version, row: int) -> bool:
    """Whether a variable lies where the program never writes: its value is the file's, in every process."""
    if version.variables["tls"][row]:
        return False
    section = version.elf.section_at(int(version.variables["address"][row]))
    if section is None:
        return False
    return not section.flags & SECTION_WRITE or section.name.startswith(".data.rel.ro")
