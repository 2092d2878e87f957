"""The handlers that a program's own annotations stand for: ``TAGGED`` and ``INSTAR_UNION`` of instar.h."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from instar.errors import RefusedError
from instar.ext.context import cast
from instar.ext.registry import Handler, Line, Registry
from instar.ext.values import HandlerError, Struct
from instar.handlers.names import Names, version_names
from instar.handlers.store import Tagged
from instar.handlers.types import RECORDS
from instar.metadata.annotations import UnionNote, UnreadNote, tag_mask, union_notes
from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.pairing.plan import variable_name

_LINE = Line("instar.h", 0)


def annotated_handlers(old: Version, new: Version, known: Registry) -> list[Handler[..., Any]]:
    """Handlers for what the old version says of itself, but for what the user's handlers say.

    Raises:
        RefusedError: "bad-annotation".
    """
    names = version_names(old, "old"), version_names(new, "new")
    said = {handler.target for handler in known.handlers} | {handler.source for handler in known.handlers}
    _require_read(old, "old", said)
    _require_read(new, "new", set())
    found = [*_tagged(*names), *_unions(*names)]
    for handler in found:
        handler.is_declared = True
    return [handler for handler in found if handler.target not in said]


# Tags -------------------------------------------------------------------------------------------------------


def _tagged(old: Names, new: Names) -> Iterator[Handler[..., Any]]:
    version = old.version
    for row in range(len(version.types)):
        if old.types.kind(row) not in RECORDS or not version.types["name"][row]:
            continue
        for member in old.types.members(row).values():
            mask, is_array = _mask_of(old, member.type)
            target = f"{old.types.label(row)}.{member.name}"
            if mask and new.find(target, _LINE) is not None and old.find(target, _LINE) is not None:
                yield Handler("transform" if is_array else "resolve_pointer", target, "", False,
                              _resolver(member.name, mask, is_array), _LINE)  # fmt: skip
    for row in range(len(version.variables)):
        mask, is_array = _mask_of(old, int(version.variables["type"][row]))
        name = _variable_text(old, row) if mask else ""
        if name and _variable_of(new, name) is not None:
            yield Handler("transform", name, "", False, _values_resolver(mask, is_array), _LINE)


def _variable_text(names: Names, row: int) -> str:
    """A name that means a variable and no other: with its file where it must be."""
    version = names.version
    text = variable_name(version, row)
    unit = version.text(int(version.units["name"][int(version.variables["unit"][row])]))
    found = next((one for one in (text, f"{unit}:{text}") if _variable_of(names, one) == row), None)
    if found is None:
        cause = f"the variable {text} is TAGGED, and there are several of that name"
        raise _wrong(cause, "give it a name of its own")
    return found


def _variable_of(names: Names, text: str) -> int | None:
    try:
        found = names.find(text, _LINE)
    except RefusedError:  # ambiguous
        return None
    return found.row if found is not None and found.kind == "variable" else None


def _mask_of(names: Names, kind: int) -> tuple[int, bool]:
    """(mask, whether it is an array) of a type as declared; 0 for what is not annotated."""
    mask = tag_mask(names.version, kind)
    row = names.types.strip(kind)
    if mask or row < 0 or names.types.kind(row) is not TypeKind.ARRAY:
        return mask, False
    return tag_mask(names.version, int(names.version.types["target"][row])), True


def _resolver(member: str, mask: int, is_array: bool) -> Callable[..., Any]:
    of_value = _values_resolver(mask, is_array)
    return of_value if is_array else lambda old: of_value(old[member])


def _values_resolver(mask: int, is_array: bool) -> Callable[..., Any]:
    """A function of a word, or of an array of them."""

    def one(value: Any) -> Any:
        word = int(value) & (1 << 64) - 1
        bare = word & ~mask
        return Tagged(cast(bare, "void *") if bare else None, word & mask)

    return (lambda values: [one(value) for value in values]) if is_array else one


def _require_read(version: Version, which: str, said: set[str]) -> None:
    """Refuse a text that cannot be read, unless a handler answers for what it seems to be about."""
    for note in union_notes(version):
        if isinstance(note, UnreadNote) and note.union not in said:
            cause = f"INSTAR_UNION of the {which} version, {note.text!r}: {note.why}"
            remedy = 'write INSTAR_UNION("struct x.u", "kind", "VALUE: MEMBER, ..., *: MEMBER")'
            if which == "old":
                remedy += f', and until then @resolve_union("{note.union or "struct x.u"}") in a handler file'
            raise _wrong(cause, remedy)


# Unions -----------------------------------------------------------------------------------------------------


def _unions(old: Names, new: Names) -> Iterator[Handler[..., Any]]:
    for note in union_notes(old.version):
        if isinstance(note, UnreadNote):
            continue  # a handler answers for it
        place = old.find(note.union, _LINE)
        if place is None or place.kind != "member" or place.member is None:
            raise _wrong(
                f'INSTAR_UNION("{note.union}", ...): the program has no such member', "correct the name"
            )
        if note.by not in old.types.members(place.row):
            raise _wrong(
                f'INSTAR_UNION("{note.union}", "{note.by}", ...): the struct has no member {note.by}',
                "name the member that says which one is in use",
            )
        if new.find(note.union, _LINE) is not None:
            function = _chooser(note, _numbers(old, place.row, note))
            yield Handler("resolve_union", note.union, "", False, function, _LINE)


def _numbers(old: Names, row: int, note: UnionNote) -> dict[int, str]:
    """Value of the discriminator -> member in use; names of enumerators as numbers."""
    types = old.types
    kind = types.strip(types.members(row)[note.by].type)
    found = {}
    for value, member in note.cases:
        number = types.enumerator(kind, value) if types.kind(kind) is TypeKind.ENUM else None
        if number is None:
            try:
                number = int(value, 0)
            except ValueError:
                cause = f'INSTAR_UNION("{note.union}", ...): {value} is no value of {note.by}'
                raise _wrong(cause, "write NUMBER: MEMBER or ENUMERATOR: MEMBER") from None
        found[number] = member
    return found


def _chooser(note: UnionNote, numbers: dict[int, str]) -> Callable[..., Any]:
    def choose(old: Struct) -> str | None:
        value = old[note.by]
        if not isinstance(value, int):
            raise HandlerError(f"{note.by} is no whole number")
        return numbers.get(int(value), note.otherwise or None)

    return choose


def _wrong(cause: str, remedy: str) -> RefusedError:
    return RefusedError("bad-annotation", cause, remedy)
