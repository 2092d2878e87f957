"""Whether a value of the new version is one of the old version, carried over: what checks ask for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from instar.ext.values import Enumerator, TypeMismatchError
from instar.handlers.store import Tagged
from instar.handlers.views import ArrayView, PointerView, StructView
from instar.metadata.model import TypeKind

_WORD = (1 << 64) - 1

# Word of the past, word of the future: do they lead to the same?
LeadsSame = Callable[[int, int], bool]


def is_same(old: Any, new: Any, leads_same: LeadsSame) -> bool:
    """See ``instar.ext.same``; raises TypeMismatchError for what cannot be compared."""
    if old is None or new is None:
        return not old and not new
    if isinstance(old, Tagged):
        return _is_same_tagged(old, new, leads_same)
    if isinstance(old, PointerView | ArrayView | StructView) or isinstance(
        new, PointerView | ArrayView | StructView
    ):
        return _is_same_view(old, new, leads_same)
    if isinstance(old, Enumerator) and isinstance(new, Enumerator) and old.name and new.name:
        return old.name == new.name
    if isinstance(old, float) and isinstance(new, float) and math.isnan(old):
        return math.isnan(new)
    return bool(old == new)


def _is_same_view(old: Any, new: Any, leads_same: LeadsSame) -> bool:
    if isinstance(old, PointerView) and isinstance(new, PointerView):
        _require_two_sides(old, new)
        return leads_same(old._instar_word, new._instar_word)
    if isinstance(old, PointerView) and isinstance(new, int):
        return leads_same(old._instar_word, int(new) & _WORD)
    if isinstance(old, ArrayView) and isinstance(new, ArrayView):
        _require_two_sides(old, new)
        if old._instar_side.types.is_character(old._instar_row):
            return old.string() == new.string()
        return len(old) == len(new) and all(is_same(a, b, leads_same) for a, b in zip(old, new, strict=True))
    if isinstance(old, StructView) and isinstance(new, StructView):
        _require_two_sides(old, new)
        return _is_same_struct(old, new, leads_same)
    raise TypeMismatchError(f"same: {old!r} and {new!r} are of different kinds")


def _is_same_tagged(old: Tagged, new: Any, leads_same: LeadsSame) -> bool:
    """Whether a word of the future is a pointer of the past with its bits."""
    bare = int(old.value) if old.value is not None else 0
    word = int(new) & _WORD
    return leads_same(bare, word - old.bits) if bare else word == old.bits


def _is_same_struct(old: StructView, new: StructView, leads_same: LeadsSame) -> bool:
    for view in (old, new):
        if view._instar_side.types.kind(view._instar_row) is TypeKind.UNION:
            path = view._instar_path
            raise TypeMismatchError(f"same: which member of the union {path} is in use? Compare that one")
    shared = [name for name in old._instar_members() if name in set(new._instar_members())]
    if not shared:
        paths = f"{old._instar_path} and {new._instar_path}"
        raise TypeMismatchError(f"same: {paths} have no member in common: compare the members")
    return all(is_same(old[name], new[name], leads_same) for name in shared)


def _require_two_sides(old: Any, new: Any) -> None:
    if old._instar_side.which != "old" or new._instar_side.which != "new":
        raise TypeMismatchError("same takes a value of the old version, and then one of the new")
