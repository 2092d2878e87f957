"""What the names in a handler file mean in one version: types, members, variables, functions, locals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from instar.errors import RefusedError
from instar.ext.registry import Line
from instar.handlers.types import RECORDS, VOID, Member, Types
from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.pairing.plan import variable_name

Kind = Literal["type", "member", "variable", "function", "heap", "local"]
_TAGS = ("struct ", "union ", "enum ")


@dataclass(frozen=True)
class Name:
    """Something of one version.

    Attributes:
        kind: What it is. ``heap`` is the block that a pointer variable (``row``) points at.
        row: Of the type, variable or function; -1 for a local.
        text: As the user wrote it.
        member: For a member; ``row`` is the record that has it.
    """

    kind: Kind
    row: int
    text: str
    member: Member | None = None


class Names:
    """Resolves names in one version.

    Args:
        types: Of the version.
        which: ``old`` or ``new``, for messages.
    """

    def __init__(self, types: Types, which: str) -> None:
        self.types, self.version, self._which = types, types.version, which

    def find(self, text: str, line: Line) -> Name | None:
        """What a name means, None when nothing has it; raises "handler-ambiguous" for several."""
        if text.endswith("()"):
            return self._one("function", list(self.version.find_functions(text[:-2])), text, line)
        if text.startswith("*"):
            found = self._variable(text[1:].strip(), line)
            return None if found is None else Name("heap", found.row, text)
        if text.startswith(_TAGS):
            return self._type(text, line)
        return self._variable(text, line) or self._type(text, line) or self._local(text)

    def resolve(self, text: str, line: Line) -> Name:
        """The same; raises "handler-unknown-name"."""
        found = self.find(text, line)
        if found is not None:
            return found
        known = {*self.types.type_names, *self._variable_names()}
        owner, _, member = text.partition(".")
        row = self.types.find(owner)
        if member and row is not None and row >= 0:
            hint = self.types.similar(member, self.types.members(row))
            cause = f"{owner} of the {self._which} version has no member `{member}`"
        else:
            hint, cause = self.types.similar(text, known), f"the {self._which} version has no `{text}`"
        raise RefusedError("handler-unknown-name", f"{line}: {cause}", hint)

    def _variable_names(self) -> set[str]:
        return {variable_name(self.version, row) for row in range(len(self.version.variables))}

    def _one(self, kind: Kind, rows: list[int], text: str, line: Line) -> Name | None:
        if len(rows) > 1:
            raise RefusedError(
                "handler-ambiguous",
                f"{line}: the {self._which} version has {len(rows)} things called `{text}`",
                "name the file too, file.c:name, or give them different names",
            )
        return Name(kind, rows[0], text) if rows else None

    # Types --------------------------------------------------------------------------------------------------

    def _type(self, text: str, line: Line) -> Name | None:
        owner, _, path = text.partition(".")
        row = self.types.find(owner)
        if row is None:
            rows = {self.types.strip(row) for row in self.version.find_types(owner)} - {VOID}
            if len(rows) > 1:
                self._one("type", sorted(rows), owner, line)
            return None
        if row == VOID:
            return None
        return Name("type", row, text) if not path else self._member(row, path, text, line)

    def _member(self, row: int, path: str, text: str, line: Line) -> Name | None:
        """A member; one of a named inner struct belongs to that struct."""
        parts = path.split(".")
        for index, part in enumerate(parts):
            member = self.types.members(row).get(part) if self.types.kind(row) in RECORDS else None
            if member is None:
                return None
            if index == len(parts) - 1:
                return Name("member", row, text, member)
            row = self.types.strip(member.type)
            if row >= 0 and self.version.types["name"][row]:
                label = self.types.label(row)
                raise RefusedError(
                    "handler-unknown-name",
                    f"{line}: `{text}` is a member of {label}, wherever that is used",
                    f"write `{label}.{path.rpartition('.')[2]}`, or handle the outer type as a whole",
                )
        return None

    # Variables ----------------------------------------------------------------------------------------------

    def _variable(self, text: str, line: Line) -> Name | None:
        unit, _, name = text.rpartition(":")
        scope, _, plain = name.rpartition(".")
        rows = list(self.version.find_variables(plain, unit or None))
        version = self.version
        rows = [r for r in rows if version.text(int(version.variables["scope"][r])) == scope]
        if len(rows) > 1:
            globals_ = [r for r in rows if version.variables["kind"][r] == 0]
            rows = globals_ or rows
        return self._one("variable", rows, text, line)

    def _local(self, text: str) -> Name | None:
        """``function.name`` of a local of a function."""
        function, _, name = text.rpartition(".")
        if not function:
            return None
        for row in self.version.find_functions(function):
            entry = self.version.functions[row]
            first, count = int(entry["first_local"]), int(entry["local_count"])
            locals_ = self.version.locals[first : first + count]
            if any(self.version.text(int(one["name"])) == name for one in locals_):
                return Name("local", -1, text)
        return None

    def kind_of(self, row: int) -> str:
        """``struct``, ``union``, ``enum`` or ``type``."""
        kind = self.types.kind(row)
        return kind.name.lower() if kind in (*RECORDS, TypeKind.ENUM) else "type"


def version_names(version: Version, which: str) -> Names:
    """Names of a version; ``which`` is ``old`` or ``new``."""
    return Names(Types(version, which), which)
