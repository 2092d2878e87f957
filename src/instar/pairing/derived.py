"""Counterparts of types that have no name of their own: pointers, arrays, functions, base types, typedefs."""

from __future__ import annotations

from typing import Any

from instar.metadata.model import TypeKind
from instar.pairing.identity import Identity
from instar.pairing.layout import TAGGED, VOID, Layout

UNKNOWN = -2  # stands for a part that has no counterpart


class DerivedTypes:
    """Finds the new row of any old row from the pairing of the tagged ones."""

    def __init__(self, old: Layout, new: Layout, identity: Identity) -> None:
        self._old, self._new = old, new
        self._identity = identity
        self._known: dict[int, int] = {VOID: VOID}
        self._rows: dict[Any, int] | None = None

    def counterpart(self, old_type: int) -> int | None:
        """New row, VOID for void, None without one."""
        found = self._known.get(old_type)
        if found is None:
            found = self._known[old_type] = self._find(old_type)
        return None if found == UNKNOWN else found

    def _find(self, old_type: int) -> int:
        kind = self._old.kind(old_type)
        if kind == TypeKind.VOID:
            return VOID
        if kind in TAGGED:
            row = self._identity.counterpart(old_type)
            return UNKNOWN if row is None else row
        if kind == TypeKind.TYPEDEF:
            return self._find_typedef(old_type)
        rows = self._new_rows()
        if kind in (TypeKind.POINTER, TypeKind.ARRAY, TypeKind.FUNCTION):
            return int(rows.get(_parts(self._old, old_type, self._counterpart_of_part), UNKNOWN))
        exact, loose = _base_keys(self._old, old_type)
        return int(rows.get(exact, rows.get(loose, UNKNOWN)))

    def _counterpart_of_part(self, old_type: int) -> int:
        found = self.counterpart(self._old.strip(old_type))
        return UNKNOWN if found is None else found

    def _find_typedef(self, old_type: int) -> int:
        meaning = self._counterpart_of_part(old_type)
        for row in self._new_rows().get(("typedef", self._old.name(old_type)), ()):
            if self._new.strip(row) == meaning:
                return int(row)
        return meaning

    def _new_rows(self) -> dict[Any, Any]:
        """Keys of all new rows -> row (typedefs: list of rows)."""
        if self._rows is None:
            rows: dict[Any, Any] = {}
            for row in range(len(self._new)):
                kind = self._new.kind(row)
                if kind == TypeKind.TYPEDEF:
                    rows.setdefault(("typedef", self._new.name(row)), []).append(row)
                elif kind in (TypeKind.POINTER, TypeKind.ARRAY, TypeKind.FUNCTION):
                    rows.setdefault(_parts(self._new, row, self._new.strip), row)
                elif kind not in TAGGED:
                    for key in _base_keys(self._new, row):
                        rows.setdefault(key, row)
            self._rows = rows
        return self._rows


def _parts(layout: Layout, row: int, part: Any) -> Any:
    kind = layout.kind(row)
    target = part(layout.target(row))
    if kind == TypeKind.ARRAY:
        return (int(kind), target, layout.elements(row))
    if kind == TypeKind.FUNCTION:
        return (int(kind), target, tuple(part(one) for one in layout.parameters(row)))
    return (int(kind), target)


def _base_keys(layout: Layout, row: int) -> tuple[Any, Any]:
    loose = ("base", *layout.shape(row))
    return (*loose, layout.name(row)), loose
