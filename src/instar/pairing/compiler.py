"""Compiles the pair of two types into a fragment: the rules of docs/internals/pairing.md."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Protocol

from instar.metadata.model import TypeKind
from instar.pairing import scalars
from instar.pairing.fragments import Coalescer, Fragment, RawMove, Tail, repeat
from instar.pairing.layout import INTEGRAL, TAGGED, VOID, Entry, Layout
from instar.pairing.members import MemberPairs, pair_members, similar_names
from instar.pairing.moves import MoveFlag, MoveOp
from instar.pairing.pointers import PointerRules
from instar.pairing.problems import Change, Problem
from instar.pairing.settled import (
    NOTHING_OWNED,
    Owned,
    Settled,
    handled_value,
    settle_member,
    unchecked,
)
from instar.pairing.unions import UnionRules

Renames = Mapping[str, Mapping[str, str]]
_KEPT_NEW = Fragment(
    changes=(Change("kept-new", "", "NOXFER: the new version's value stays"),), settled=False
)


class Counterparts(Protocol):
    """Who knows which tagged type is the counterpart of which."""

    def counterpart(self, old_type: int) -> int | None:
        """New type row of an old one, None when it has none."""

    def origin(self, new_type: int) -> int | None:
        """Old type row of a new one."""


class Compiler:
    """Fragments of type pairs, each compiled once.

    Args:
        old, new: The types of both versions.
        identity: Pairing of tagged types.
        renames: Type name (``struct conn``) -> old member name -> new member name, as the user said.
        allow: Codes of problems that the user accepts: what no move carries keeps the new version's value.
        settled: What handlers settle.
    """

    def __init__(
        self,
        old: Layout,
        new: Layout,
        identity: Counterparts,
        renames: Renames,
        allow: Collection[str] = (),
        settled: Settled | None = None,
    ) -> None:
        self._old, self._new = old, new
        self._settled = settled or Settled()
        self._identity = identity
        self._renames = renames
        self._allow = frozenset(allow)
        self._fragments: dict[tuple[int, int], Fragment] = {}
        self._pointers = PointerRules(self, old, new, identity)
        self._unions = UnionRules(self, old, new)

    def fragment(self, old_type: int, new_type: int) -> Fragment:
        """The compiled pair; its problems are not empty when it cannot be converted."""
        key = (old_type, new_type)
        found = self._fragments.get(key)
        if found is None:
            found = self._fragments[key] = self._accepted(self._annotated(old_type, new_type))
        return found

    def _accepted(self, fragment: Fragment) -> Fragment:
        """The fragment without the problems that the user accepts."""
        if not self._allow or not fragment.problems:
            return fragment
        return replace(
            fragment, problems=tuple(one for one in fragment.problems if one.code not in self._allow)
        )

    def pairs(self, old_type: int, new_type: int) -> MemberPairs:
        """The paired members of two stripped records."""
        renamed = self._settled.members.get(old_type) or self._renames.get(self._old.label(old_type))
        return pair_members(self._old.entries(old_type), self._new.entries(new_type), renamed)

    def is_named(self, old_type: int) -> bool:
        """Whether a type is reported on its own, wherever it is nested."""
        row = self._old.strip(old_type)
        while row >= 0 and self._old.kind(row) == TypeKind.ARRAY:
            row = self._old.strip(self._old.target(row))
        return row >= 0 and self._old.kind(row) in TAGGED and self._identity.counterpart(row) is not None

    def _annotated(self, old_type: int, new_type: int) -> Fragment:
        old, new = self._old, self._new
        wish = new.annotation(new_type)
        if wish == "noxfer":
            return _KEPT_NEW
        wish = wish or old.annotation(old_type)
        if wish == "noxfer":
            wish = ""  # the new version took the annotation back
        old_bits, new_bits = 8 * old.size(old_type), 8 * new.size(new_type)
        if wish and old_bits != new_bits:
            return scalars.refuse(
                "needs-handler", old, new, old_type, new_type, "annotated, but sizes differ"
            )
        if wish == "ixfer":
            return Fragment((RawMove(MoveOp.COPY, 0, 0, old_bits, new_bits),))
        if wish == "pxfer" and old_bits != 64:
            return scalars.refuse("needs-handler", old, new, old_type, new_type, "PXFER needs 8 bytes")
        if wish == "pxfer":
            return Fragment((RawMove(MoveOp.POINTER, 0, 0, 64, 64, extra=self._pointee(old_type)),))
        return self._plain(old.strip(old_type), new.strip(new_type))

    def _pointee(self, old_type: int) -> int:
        row = self._old.strip(old_type)
        return self._old.strip(self._old.target(row)) if self._old.kind(row) == TypeKind.POINTER else VOID

    def _plain(self, old_type: int, new_type: int) -> Fragment:
        old, new = self._old, self._new
        kinds = (old.kind(old_type), new.kind(new_type))
        if self._is_handled_enum(old_type, new_type):
            return handled_value(old.size(old_type) == new.size(new_type))
        if kinds[0] in INTEGRAL and kinds[1] in INTEGRAL:
            return scalars.compile_integral(old, new, old_type, new_type)
        if kinds == (TypeKind.FLOAT, TypeKind.FLOAT):
            return scalars.compile_floats(old, new, old_type, new_type)
        if TypeKind.FLOAT in kinds and (kinds[0] in INTEGRAL or kinds[1] in INTEGRAL):
            return scalars.compile_int_float(old, new, old_type, new_type)
        if kinds == (TypeKind.POINTER, TypeKind.POINTER):
            return self._pointers.compile(old_type, new_type)
        if kinds == (TypeKind.ARRAY, TypeKind.ARRAY):
            return self._arrays(old_type, new_type)
        if kinds == (TypeKind.STRUCT, TypeKind.STRUCT):
            return self._records(old_type, new_type)
        if kinds == (TypeKind.UNION, TypeKind.UNION):
            return self._union(old_type, new_type)
        return self._mismatch(old_type, new_type)

    def _union(self, old_type: int, new_type: int) -> Fragment:
        found = self._unions.compile(old_type, new_type)
        if not self._settled.between(old_type, new_type).whole:
            return found
        size = 8 * min(self._old.size(old_type), self._new.size(new_type))
        moves = found.moves or unchecked([RawMove(MoveOp.COPY, 0, 0, size, size)])
        return replace(found, moves=moves, problems=())

    def _is_handled_enum(self, old_type: int, new_type: int) -> bool:
        kinds = (self._old.kind(old_type), self._new.kind(new_type))
        return kinds == (TypeKind.ENUM, TypeKind.ENUM) and self._settled.between(old_type, new_type).whole

    def _mismatch(self, old_type: int, new_type: int) -> Fragment:
        old, new = self._old, self._new
        kinds = (old.kind(old_type), new.kind(new_type))
        if kinds[0] == kinds[1] and kinds[0] in (TypeKind.OPAQUE, TypeKind.FUNCTION, TypeKind.VOID):
            size = 8 * old.size(old_type)
            if kinds[0] != TypeKind.OPAQUE or (
                size == 8 * new.size(new_type) and old.name(old_type) == new.name(new_type)
            ):
                return Fragment((RawMove(MoveOp.COPY, 0, 0, size, size),) if size else ())
        if TypeKind.POINTER in kinds and (kinds[0] in INTEGRAL or kinds[1] in INTEGRAL):
            return scalars.refuse(
                "pointer-integer",
                old,
                new,
                old_type,
                new_type,
                "whether the integer is an address is unknown",
            )
        return scalars.refuse(
            "shape-changed", old, new, old_type, new_type, "no rule between these kinds of type"
        )

    # Arrays -------------------------------------------------------------------------------------------------

    def _arrays(self, old_type: int, new_type: int) -> Fragment:
        old, new = self._old, self._new
        elements = (old.target(old_type), new.target(new_type))
        inner = self.fragment(*elements).under("[]", 0, 0, self.is_named(elements[0]))
        old_count, new_count = old.elements(old_type), new.elements(new_type)
        strides = (old.size(elements[0]), new.size(elements[1]))
        moves = repeat(inner.moves, min(old_count, new_count), *strides)
        changes = inner.changes
        if old_count != new_count and not (old.is_flexible(old_type) or new.is_flexible(new_type)):
            changes += (Change("resized", "", f"{old.label(old_type)} -> {new.label(new_type)}"),)
            if old_count > new_count:
                moves += (self._lost_tail(elements[0], new_count, old_count),)
        settled = inner.settled and old_count == new_count and strides[0] == strides[1]
        return Fragment(moves, inner.problems, inner.nested_problems, changes, settled=settled)

    def _lost_tail(self, element: int, kept: int, count: int) -> RawMove:
        """The check that a cut loses nothing; text must keep its terminator, so its last kept byte counts."""
        if kept and self._old.is_plain_char(self._old.strip(element)):
            kept -= 1
        bits = 8 * self._old.size(element)
        flags = int(MoveFlag.CHECK_ZERO_TAIL)
        return RawMove(MoveOp.COPY, kept * bits, 0, (count - kept) * bits, 0, flags=flags)

    # Structs ------------------------------------------------------------------------------------------------

    def _records(self, old_type: int, new_type: int) -> Fragment:
        old, new = self._old, self._new
        misfit = self.tag_misfit(old_type, new_type)
        if misfit:
            return Fragment(problems=(misfit,), settled=False)
        members = self.pairs(old_type, new_type)
        owned = self._settled.between(old_type, new_type)
        parts = [
            settle_member(owned, pair, self.member(*pair), self.is_named(pair[0].type))
            for pair in members.pairs
        ]
        moves = tuple(move for part in parts for move in part.moves)
        problems = () if owned.whole else members.problems
        problems += tuple(problem for part in parts for problem in part.problems)
        changes = tuple(change for part in parts for change in part.changes)
        changes += tuple(Change("removed", e.label(), old.label(e.type)) for e in members.removed)
        changes += tuple(Change("added", e.label(), new.label(e.type)) for e in members.added)
        tail, tail_problems = self._tail(old_type, new_type, members, parts)
        problems += () if owned.whole else (*self.renames_of(members, owned), *tail_problems)
        settled = all(part.settled for part in parts) and not (members.removed or members.added)
        settled = settled and old.size(old_type) == new.size(new_type)
        return Fragment(
            Coalescer(old, new, old_type, new_type).join(moves),
            problems,
            tuple(problem for part in parts for problem in part.nested_problems),
            changes,
            tail,
            settled,
        )

    def tag_misfit(self, old_type: int, new_type: int) -> Problem | None:
        """Why two records cannot be one: both have tags, and the tags are not counterparts."""
        names = (self._old.name(old_type), self._new.name(new_type))
        if not all(names) or names[0] == names[1] or self._identity.counterpart(old_type) == new_type:
            return None
        cause = f"{self._old.label(old_type)} -> {self._new.label(new_type)}: a different type"
        if self._old.shape(old_type) == self._new.shape(new_type) or similar_names(*names):
            return Problem("likely-rename", "", cause, "keep the tag, or declare the rename in a handler")
        return Problem("shape-changed", "", cause, "write a handler for this member")

    def member(self, old_entry: Entry, new_entry: Entry) -> Fragment:
        """The fragment of a member pair, as seen from the records that hold them."""
        label = old_entry.label()
        if old_entry.bit_size or new_entry.bit_size:
            if self._new.annotation(new_entry.type) == "noxfer":
                part = _KEPT_NEW
            elif self._is_handled_enum(self._old.strip(old_entry.type), self._new.strip(new_entry.type)):
                places = [(one.bit_offset, one.bit_size) for one in (old_entry, new_entry)]
                part = handled_value(places[0] == places[1])
            else:
                part = scalars.compile_bits(self._old, self._new, old_entry, new_entry)
            part = part.under(label, 0, 0, False)
        else:
            inner = self.fragment(old_entry.type, new_entry.type)
            named = self.is_named(old_entry.type)
            part = inner.under(label, old_entry.bit_offset, new_entry.bit_offset, named)
            if named and not self._is_unchanged(old_entry, new_entry):
                part = self._with_change(part, old_entry, new_entry)
        if old_entry.bit_offset != new_entry.bit_offset:
            detail = f"{_place(old_entry)} -> {_place(new_entry)}"
            part = _add_change(part, Change("moved", label, detail))
        return part

    def _is_unchanged(self, old_entry: Entry, new_entry: Entry) -> bool:
        inner = self.fragment(old_entry.type, new_entry.type)
        return not inner.changes and not inner.is_refused

    def _with_change(self, part: Fragment, old_entry: Entry, new_entry: Entry) -> Fragment:
        sizes = (self._old.size(old_entry.type), self._new.size(new_entry.type))
        detail = f"{self._old.label(old_entry.type)} changes"
        if sizes[0] != sizes[1]:
            detail += f" ({sizes[0]} -> {sizes[1]} bytes)"
        return _add_change(part, Change("retyped", old_entry.label(), detail))

    def renames_of(self, members: MemberPairs, owned: Owned = NOTHING_OWNED) -> list[Problem]:
        """Removed members that a new one of the same type seems to continue under another name."""
        problems: list[Problem] = []
        for gone in members.removed:
            for fresh in members.added:
                if owned.has_seen(gone) or owned.takes(fresh):
                    continue
                if not (gone.name and fresh.name) or not self._same_member_type(gone, fresh):
                    continue
                if gone.bit_offset == fresh.bit_offset or similar_names(gone.name, fresh.name):
                    problems.append(_likely_rename(gone, fresh))
                    break
        return problems

    def _same_member_type(self, gone: Entry, fresh: Entry) -> bool:
        if gone.bit_size != fresh.bit_size:
            return False
        if self._old.size(gone.type) != self._new.size(fresh.type):
            return False
        fragment = self.fragment(gone.type, fresh.type)
        return not fragment.changes and not fragment.is_refused and bool(fragment.moves)

    def _tail(
        self, old_type: int, new_type: int, members: MemberPairs, parts: list[Fragment]
    ) -> tuple[Tail | None, tuple[Problem, ...]]:
        old_last = _last_entry(self._old.entries(old_type))
        new_last = _last_entry(self._new.entries(new_type))
        for (old_entry, new_entry), part in zip(members.pairs, parts, strict=True):
            if old_entry != old_last:
                continue
            if part.tail is not None:
                return (part.tail, ()) if new_entry == new_last else (None, (_lost_flexible(old_entry),))
            return self._trailing_array(old_entry, new_entry, new_entry == new_last)
        return None, ()

    def _trailing_array(
        self, old_entry: Entry, new_entry: Entry, is_last: bool
    ) -> tuple[Tail | None, tuple[Problem, ...]]:
        rows = (self._old.strip(old_entry.type), self._new.strip(new_entry.type))
        if self._old.kind(rows[0]) != TypeKind.ARRAY or self._new.kind(rows[1]) != TypeKind.ARRAY:
            return None, ()
        flexible = self._old.is_flexible(rows[0])
        if not flexible and self._old.elements(rows[0]) > 1:
            return None, ()
        if not is_last or self._new.elements(rows[1]) > 1:
            return None, (_lost_flexible(old_entry),) if flexible else ()
        return Tail(
            self._old.target(rows[0]),
            self._new.target(rows[1]),
            old_entry.bit_offset // 8,
            new_entry.bit_offset // 8,
            flexible,
        ), ()


def _add_change(part: Fragment, change: Change) -> Fragment:
    return replace(part, changes=(*part.changes, change))


def _place(entry: Entry) -> str:
    if entry.bit_size:
        return f"bit {entry.bit_offset}"
    return f"offset {entry.bit_offset // 8}"


def _last_entry(entries: tuple[Entry, ...]) -> Entry | None:
    return max(entries, key=lambda entry: entry.bit_offset) if entries else None


def _likely_rename(gone: Entry, fresh: Entry) -> Problem:
    return Problem(
        "likely-rename",
        gone.label(),
        f"`{gone.name}` is gone and `{fresh.name}`, of the same type, is new: its value would be lost",
        f"keep the name, or say in a handler that `{gone.name}` became `{fresh.name}`",
    )


def _lost_flexible(entry: Entry) -> Problem:
    return Problem(
        "needs-handler",
        entry.label(),
        "a flexible array no longer ends its struct, so its elements have no place",
        "write a handler for this type",
    )
