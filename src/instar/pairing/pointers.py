"""When a pointer may keep leading where it led although its static type changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instar.metadata.model import TypeKind
from instar.pairing.fragments import Fragment, RawMove
from instar.pairing.layout import RECORDS, TAGGED, VOID, Layout
from instar.pairing.moves import MoveOp
from instar.pairing.problems import Change, Problem

if TYPE_CHECKING:
    from instar.pairing.compiler import Compiler, Counterparts


class PointerRules:
    """Compiles pointer pairs; what they point at is converted as its own object, wherever it is."""

    def __init__(self, compiler: Compiler, old: Layout, new: Layout, identity: Counterparts) -> None:
        self._compiler = compiler
        self._old, self._new = old, new
        self._identity = identity

    def compile(self, old_type: int, new_type: int) -> Fragment:
        """The fragment of two stripped POINTER rows."""
        old_target = self._old.strip(self._old.target(old_type))
        new_target = self._new.strip(self._new.target(new_type))
        move = RawMove(MoveOp.POINTER, 0, 0, 64, 64, extra=old_target)
        verdict = self._retarget(old_target, new_target)
        if verdict == "same":
            return Fragment((move,))
        detail = f"{self._old.label(old_type)} -> {self._new.label(new_type)}"
        if verdict == "":
            return Fragment((move,), changes=(Change("retyped", "", detail),))
        problem = self._renamed(old_target, new_target) or Problem(
            "pointer-retargeted",
            "",
            f"{detail}: {verdict}",
            "write a handler for what it points at, or keep the pointer's type",
        )
        return Fragment((move,), problems=(problem,))

    def _renamed(self, old_target: int, new_target: int) -> Problem | None:
        """The suggestion when the pointee of the old version seems to continue under another tag."""
        if not self._old.kind(old_target) == self._new.kind(new_target) in TAGGED:
            return None
        if self._identity.counterpart(old_target) is not None:
            return None
        misfit = self._compiler.tag_misfit(old_target, new_target)
        return misfit if misfit is not None and misfit.code == "likely-rename" else None

    def _retarget(self, old_target: int, new_target: int) -> str:
        """``same``, "" (harmless) or why new code would misread what the pointer leads to."""
        old, new = self._old, self._new
        kinds = (old.kind(old_target), new.kind(new_target))
        if VOID in (old_target, new_target):
            return self._untyped(old_target, new_target)
        if kinds[0] in TAGGED and kinds[0] == kinds[1]:
            return self._retag(old_target, new_target)
        if kinds == (TypeKind.FUNCTION, TypeKind.FUNCTION):
            return "same"  # functions pair by name; what calls them was compiled anew
        if kinds == (TypeKind.POINTER, TypeKind.POINTER):
            return self._retarget(old.strip(old.target(old_target)), new.strip(new.target(new_target)))
        if kinds == (TypeKind.ARRAY, TypeKind.ARRAY):
            if old.elements(old_target) != new.elements(new_target) and old.elements(old_target):
                return "arrays of different length"
            return self._retarget(old.strip(old.target(old_target)), new.strip(new.target(new_target)))
        if TypeKind.FUNCTION in kinds:
            return "a function on one side only"
        if 1 in (old.size(old_target), new.size(new_target)) and (
            old.is_plain_char(old_target) or new.is_plain_char(new_target)
        ):
            return self._untyped(old_target, new_target)
        return self._retarget_scalar(old_target, new_target)

    def _retarget_scalar(self, old_target: int, new_target: int) -> str:
        fragment = self._compiler.fragment(old_target, new_target)
        if fragment.is_refused:
            return "the pointee is of another kind"
        if self._old.size(old_target) != self._new.size(new_target):
            return "the pointee changes its size"
        if any(move.op != MoveOp.COPY for move in fragment.moves if move.op != MoveOp.INTEGER):
            return "the pointee changes its representation"
        return "" if fragment.changes else "same"

    def _untyped(self, old_target: int, new_target: int) -> str:
        """``void *`` or ``char *`` on one side: harmless unless the typed side's layout changes."""
        if old_target == new_target == VOID:
            return "same"
        if self._old.kind(old_target) == TypeKind.FUNCTION or self._new.kind(new_target) == TypeKind.FUNCTION:
            return "a function on one side only"
        if self._new.kind(new_target) in RECORDS:
            old_self = self._identity.origin(new_target)
            # Not by fragments: the pointer may be a member of that very type.
            if old_self is not None and self._old.skeleton(old_self) != self._new.skeleton(new_target):
                return f"{self._new.label(new_target)} changes, and untyped pointers may lead to it"
        if self._old.kind(old_target) == self._new.kind(new_target) and self._old.label(
            old_target
        ) == self._new.label(new_target):
            return "same"
        return ""

    def _retag(self, old_target: int, new_target: int) -> str:
        counterpart = self._identity.counterpart(old_target)
        if counterpart == new_target:
            return "same"
        old, new = self._old, self._new
        if old.name(old_target) and old.name(old_target) == new.name(new_target):
            return "same"  # the tag is ambiguous: reported once, on the type
        if old.shape(old_target) == new.shape(new_target) and not (
            old.name(old_target) and new.name(new_target)
        ):
            return "same"
        return "the pointee is a different type"
