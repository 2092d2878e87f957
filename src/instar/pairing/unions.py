"""Unions: bytes as they are, where every alternative keeps its place; which one is in use is never known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from instar.metadata.model import TypeKind
from instar.pairing.fragments import Fragment, RawMove
from instar.pairing.layout import Entry, Layout
from instar.pairing.moves import MoveOp
from instar.pairing.problems import Change, Problem

if TYPE_CHECKING:
    from instar.pairing.compiler import Compiler


class UnionRules:
    """Compiles union pairs."""

    def __init__(self, compiler: Compiler, old: Layout, new: Layout) -> None:
        self._compiler = compiler
        self._old, self._new = old, new

    def compile(self, old_type: int, new_type: int) -> Fragment:
        """Bytes as they are where every alternative keeps its place; which one is in use is never known."""
        old, new = self._old, self._new
        misfit = self._compiler.tag_misfit(old_type, new_type)
        if misfit:
            return Fragment(problems=(misfit,), settled=False)
        members = self._compiler.pairs(old_type, new_type)
        sizes = (8 * old.size(old_type), 8 * new.size(new_type))
        changes = tuple(Change("removed", e.label(), old.label(e.type)) for e in members.removed)
        changes += tuple(Change("added", e.label(), new.label(e.type)) for e in members.added)
        broken = [(o, n) for o, n in members.pairs if not self._is_prefix(old_type, o, n)]
        if broken or members.problems or sizes[0] > sizes[1]:
            problem = self._union_problem(old_type, new_type, broken)
            return Fragment(problems=(problem,), changes=changes, settled=False)
        problems = tuple(self._compiler.renames_of(members))
        used = sizes[0]
        if sizes[0] != sizes[1]:
            changes += (Change("resized", "", f"{sizes[0] // 8} -> {sizes[1] // 8} bytes"),)
            while used and old.is_padding(old_type, used - 8, used):
                used -= 8
        evidence = old.has_pointers(old_type) or new.has_pointers(new_type)
        op = MoveOp.EVIDENCE if evidence else MoveOp.COPY
        moves = (RawMove(op, 0, 0, used, used),) if used else ()
        return Fragment(moves, problems, (), changes, settled=sizes[0] == sizes[1])

    def _is_prefix(self, union: int, old_entry: Entry, new_entry: Entry) -> bool:
        """Whether an alternative's bytes mean the same in both versions, as far as the old one has them."""
        if old_entry.bit_offset != new_entry.bit_offset:
            return False
        if old_entry.bit_size or new_entry.bit_size:
            return self._compiler.member(old_entry, new_entry).in_place
        rows = (self._old.strip(old_entry.type), self._new.strip(new_entry.type))
        if self._compiler.fragment(old_entry.type, new_entry.type).in_place:
            return True
        kinds = (self._old.kind(rows[0]), self._new.kind(rows[1]))
        if kinds == (TypeKind.ARRAY, TypeKind.ARRAY):
            return self._is_array_prefix(union, old_entry.bit_offset, rows)
        if kinds == (TypeKind.STRUCT, TypeKind.STRUCT):
            return self._is_struct_prefix(union, old_entry.bit_offset, rows)
        return False

    def _is_array_prefix(self, union: int, base: int, rows: tuple[int, int]) -> bool:
        elements = (self._old.target(rows[0]), self._new.target(rows[1]))
        ends = (base + 8 * self._old.size(rows[0]), base + 8 * self._new.size(rows[1]))
        if not self._compiler.fragment(*elements).in_place or ends[0] > ends[1]:
            return False
        return self._is_free(union, *ends)

    def _is_struct_prefix(self, union: int, base: int, rows: tuple[int, int]) -> bool:
        members = self._compiler.pairs(*rows)
        if members.removed or members.problems or self._compiler.tag_misfit(*rows):
            return False
        for entry in members.added:
            start = base + entry.bit_offset
            if not self._is_free(union, start, start + (entry.bit_size or 8 * self._new.size(entry.type))):
                return False
        return all(
            self._is_prefix(union, _shifted(old_entry, base), _shifted(new_entry, base))
            for old_entry, new_entry in members.pairs
        )

    def _is_free(self, union: int, low: int, high: int) -> bool:
        """Whether no old alternative has data in bits that only the new version gives a meaning."""
        return self._old.is_padding(union, low, min(high, 8 * self._old.size(union)))

    def _union_problem(self, old_type: int, new_type: int, broken: list[tuple[Entry, Entry]]) -> Problem:
        sizes = (self._old.size(old_type), self._new.size(new_type))
        names = ", ".join(old_entry.label().lstrip(".") for old_entry, _ in broken)
        why = f"its member {names} changes" if broken else f"it shrinks from {sizes[0]} to {sizes[1]} bytes"
        cause = f"{self._old.label(old_type)}: {why}, and which member is in use is unknown"
        return Problem(
            "needs-handler", "", cause, "write a handler for this union that knows which member is in use"
        )


def _shifted(entry: Entry, base: int) -> Entry:
    return replace(entry, bit_offset=entry.bit_offset + base)
