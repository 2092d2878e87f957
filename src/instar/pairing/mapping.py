"""Type pairing: the counterpart of every type, how the two relate, and the compiled mapping between them."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping as MappingOf
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from instar.metadata.model import TypeKind
from instar.pairing.assembly import assemble
from instar.pairing.compiler import Compiler, Renames
from instar.pairing.derived import DerivedTypes
from instar.pairing.identity import Identity, typedef_names, uses_of_globals
from instar.pairing.layout import TAGGED, VOID, Layout
from instar.pairing.members import similar_names
from instar.pairing.moves import (
    BITFIELD,
    ENUM_TABLE,
    ENUM_VALUE,
    MOVE,
    Mapping,
    MoveFlag,
    MoveOp,
)
from instar.pairing.offsets import OffsetMaps
from instar.pairing.problems import Problem
from instar.pairing.settled import Settled

if TYPE_CHECKING:
    from instar.metadata.version import Version

__all__ = [
    "BITFIELD",
    "ENUM_TABLE",
    "ENUM_VALUE",
    "MOVE",
    "Mapping",
    "MoveFlag",
    "MoveOp",
    "Relation",
    "TypePairing",
]


class Relation(Enum):
    """How an old type relates to a new one."""

    IDENTICAL = "identical"
    """Same size; every leaf has the same name, place, kind and encoding; pointers point at counterparts."""
    CONVERTIBLE = "convertible"
    REFUSED = "refused"


class TypePairing:
    """The types of two versions, paired. Pure and lazily evaluated; every answer is remembered.

    Args:
        old, new: Both versions.
        type_renames: Old type name -> new type name, as the user said (``struct conn``, ``conn_t``).
        member_renames: Old type name -> old member name -> new member name, as the user said.
        allow: Codes of problems that the user accepts: such data is dropped, or left as it is.
        settled: What handlers settle.
    """

    def __init__(
        self,
        old: Version,
        new: Version,
        *,
        type_renames: MappingOf[str, str] | None = None,
        member_renames: Renames | None = None,
        allow: Collection[str] = (),
        settled: Settled | None = None,
    ) -> None:
        self.settled = settled or Settled()
        self.old, self.new = Layout(old), Layout(new)
        renames = {**self.settled.type_renames, **(type_renames or {})}
        self.identity = Identity(self.old, self.new, renames, uses_of_globals(old, new))
        self._derived = DerivedTypes(self.old, self.new, self.identity)
        self.compiler = Compiler(self.old, self.new, self.identity, member_renames or {}, allow, self.settled)
        self._allow = frozenset(allow)
        self._mappings: dict[tuple[int, int], Mapping] = {}
        self._offsets = OffsetMaps(self.old, self.new, self.compiler)

    def counterpart(self, old_type: int) -> int | None:
        """New type row of an old type row; None when the new version has no such type, or no certain one.

        Structs, unions and enums by name (``Identity``); typedefs by name where they still mean the
        counterpart of what they meant, else what they stand for; pointers, arrays and functions by their
        parts; base types by encoding and size, the same name preferred. Void (-1) is its own counterpart.
        """
        return self._derived.counterpart(old_type)

    def relation(self, old_type: int, new_type: int) -> Relation:
        """How two types relate (not only counterparts: also the types of two paired variables)."""
        fragment = self.compiler.fragment(old_type, new_type)
        if fragment.is_refused:
            return Relation.REFUSED
        same_size = self.old.size(old_type) == self.new.size(new_type)
        if same_size and fragment.in_place and not fragment.changes:
            return Relation.IDENTICAL
        return Relation.CONVERTIBLE

    def problems_of(self, old_type: int, new_type: int) -> tuple[Problem, ...]:
        """Why two types cannot be converted, those of nested pairs included; none if they can."""
        fragment = self.compiler.fragment(old_type, new_type)
        return fragment.problems + fragment.nested_problems

    def stays_in_place(self, old_type: int, new_type: int) -> bool:
        """Whether an object can stay where it is, with its bytes but for its pointers.

        Wider than IDENTICAL: a pointer of another static type, ``char`` for ``unsigned char``, an alternative
        that was added to a union do not move anything.
        """
        return self.compiler.fragment(old_type, new_type).in_place

    def keeps(self, old_type: int) -> bool:
        """Whether objects of an old type stay in place wherever they are.

        Scalars and pointers always do, also where the new version does not use that type at all.
        """
        row = self.old.strip(old_type)
        while row >= 0 and self.old.kind(row) == TypeKind.ARRAY:
            row = self.old.strip(self.old.target(row))
        if row == VOID or self.old.kind(row) not in TAGGED:
            return True
        new_row = self.identity.counterpart(row)
        return new_row is not None and self.stays_in_place(row, new_row)

    def compile(self, old_type: int, new_type: int) -> Mapping:
        """The mapping of a pair; it has ``problems`` when the pair cannot be converted."""
        key = (old_type, new_type)
        found = self._mappings.get(key)
        if found is None:
            found = self._mappings[key] = assemble(self.old, self.new, self.compiler, *key)
        return found

    def offset_map(self, old_type: int, new_type: int, pointee: int | None = None) -> npt.NDArray[np.int64]:
        """Where each byte of an old object is in the new one.

        Args:
            old_type, new_type: The pair.
            pointee: Old type that the pointer to be translated points at. Several things can start at one
                offset (a struct and its first member); the one of this type is meant. None: the outermost.

        Returns:
            int64, one longer than the old size. -1 where a byte is dropped or was padding; the last entry is
            the new size (one past the end). Meant for one element: objects that are arrays are translated
            element by element.
        """
        return self._offsets.offset_map(old_type, new_type, pointee)

    def problem_of(self, old_type: int) -> Problem | None:
        """Why an old struct, union or enum has no counterpart; None when it has one or needs none."""
        row = self.old.strip(old_type)
        if row == VOID or self.old.kind(row) not in TAGGED:
            return None
        if row in self.identity.problems:
            problem = self.identity.problems[row]
            return None if problem.code in self._allow else problem
        if self.identity.counterpart(row) is not None:
            return None
        return self._vanished(row)

    def label(self, old_type: int) -> str:
        """What the user calls an old type: its C spelling, or the typedef that names an anonymous one."""
        return self._old_typedefs.get(old_type) or self.old.label(old_type)

    def new_label(self, new_type: int) -> str:
        """The same for a new type."""
        return self._new_typedefs.get(new_type) or self.new.label(new_type)

    def is_nameable(self, old_type: int) -> bool:
        """Whether an old tagged type has a tag or a typedef."""
        return bool(self.old.name(old_type)) or old_type in self._old_typedefs

    def new_only(self) -> list[int]:
        """New tagged types with a name that are no counterpart of an old one."""
        return self._new_only

    @cached_property
    def _old_typedefs(self) -> dict[int, str]:
        return typedef_names(self.old)

    @cached_property
    def _new_typedefs(self) -> dict[int, str]:
        return typedef_names(self.new)

    def _vanished(self, row: int) -> Problem:
        label = self.label(row)
        heir = self.likely_heir(row)
        if heir is None or "likely-rename" in self._allow:
            return Problem(
                "type-vanished",
                label,
                f"the new version has no {label}",
                "free such objects before the update, or write a handler for this type",
            )
        new_label = self.new_label(heir)
        return Problem(
            "likely-rename",
            label,
            f"{label} is gone and {new_label}, which looks the same, is new",
            f"keep the name, or say in a handler that {label} became {new_label}",
        )

    def likely_heir(self, row: int) -> int | None:
        """The new-only type that a vanished one was probably renamed to."""
        kind = self.old.kind(row)
        name = self.old.name(row) or self._old_typedefs.get(row, "")
        if not name:
            return None
        for heir in self._new_only:
            if self.new.kind(heir) != kind:
                continue
            if self.new.shape(heir) == self.old.shape(row) or self._same_members(row, heir):
                return heir
            new_name = self.new.name(heir) or self._new_typedefs.get(heir, "")
            if similar_names(name, new_name) and self._share_members(row, heir):
                return heir
        return None

    @cached_property
    def _new_only(self) -> list[int]:
        return [
            row
            for row in range(len(self.new))
            if self.new.kind(row) in TAGGED
            and self.identity.origin(row) is None
            and (self.new.name(row) or row in self._new_typedefs)
        ]

    def _same_members(self, row: int, heir: int) -> bool:
        """Members of the same names at the same places (a struct that points at itself has another shape)."""
        if self.old.kind(row) == TypeKind.ENUM or self.old.size(row) != self.new.size(heir):
            return False
        places = [(e.name, e.bit_offset) for e in self.old.entries(row)]
        return bool(places) and places == [(e.name, e.bit_offset) for e in self.new.entries(heir)]

    def _share_members(self, row: int, heir: int) -> bool:
        if self.old.kind(row) == TypeKind.ENUM:
            names = ({n for n, _ in self.old.enumerators(row)}, {n for n, _ in self.new.enumerators(heir)})
        else:
            names = ({e.name for e in self.old.entries(row)}, {e.name for e in self.new.entries(heir)})
        return 2 * len(names[0] & names[1]) >= len(names[0]) > 0
