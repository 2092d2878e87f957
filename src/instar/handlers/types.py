"""The types of one version as handlers name and use them: spelling to row, members, sizes, NumPy dtypes."""

from __future__ import annotations

import difflib
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from instar.metadata.model import Encoding, TypeFlag, TypeKind
from instar.metadata.version import Version

RECORDS = (TypeKind.STRUCT, TypeKind.UNION)
VOID = -1
_SIGNED = (Encoding.SIGNED, Encoding.SIGNED_CHAR)


class Member(NamedTuple):
    """A member as a handler sees it, those of anonymous members included."""

    name: str
    type: int
    bit_offset: int
    bit_size: int

    @property
    def offset(self) -> int:
        """Byte in which it begins."""
        return self.bit_offset // 8


class Types:
    """Questions about the types of a version; answers are remembered.

    Args:
        version: Whose types.
        name: ``past`` or ``future``, for messages.
    """

    def __init__(self, version: Version, name: str) -> None:
        self.version, self.name = version, name
        self._members: dict[int, dict[str, Member]] = {}
        self._enumerators: dict[int, dict[int, str]] = {}
        self._dtypes: dict[int, np.dtype[Any]] = {}

    def strip(self, row: int) -> int:
        """The row behind typedefs, VOID for void."""
        row = self.version.strip(row) if row >= 0 else VOID
        return VOID if row >= 0 and self.version.types["kind"][row] == TypeKind.VOID else row

    def kind(self, row: int) -> TypeKind:
        """Kind of a stripped row."""
        return TypeKind(int(self.version.types["kind"][row])) if row >= 0 else TypeKind.VOID

    def size(self, row: int) -> int:
        """Bytes."""
        return int(self.version.size_of(row)) if row >= 0 else 0

    def target(self, row: int) -> int:
        """Pointee or element of a stripped row, stripped."""
        return self.strip(int(self.version.types["target"][row]))

    def elements(self, row: int) -> int:
        """Of a stripped array; 0 when flexible."""
        return max(int(self.version.types["elements"][row]), 0)

    def label(self, row: int) -> str:
        """C spelling."""
        return self.version.type_name(row) if row >= 0 else "void"

    def is_signed(self, row: int) -> bool:
        """Whether a stripped integer or enum has negative values."""
        encoding = Encoding(int(self.version.types["encoding"][row]))
        if encoding is Encoding.NONE and self.kind(row) is TypeKind.ENUM:
            return any(value < 0 for value in self.enumerators(row))
        return encoding in _SIGNED

    def is_boolean(self, row: int) -> bool:
        """Whether a stripped row is ``_Bool``."""
        return row >= 0 and self.version.types["encoding"][row] == Encoding.BOOLEAN

    def is_character(self, row: int) -> bool:
        """Whether a stripped row is a type of one-byte characters."""
        return self.kind(row) is TypeKind.INTEGER and self.size(row) == 1 and not self.is_boolean(row)

    def members(self, row: int) -> dict[str, Member]:
        """Members of a stripped record by name, in order; anonymous ones are dissolved."""
        found = self._members.get(row)
        if found is None:
            found = self._members[row] = {}
            if self.kind(row) in RECORDS:
                self._collect(row, 0, found)
        return found

    def _collect(self, row: int, base: int, found: dict[str, Member]) -> None:
        for member in self.version.members_of(row):
            name = self.version.text(int(member["name"]))
            bits = base + int(member["bit_offset"])
            if name:
                found.setdefault(name, Member(name, int(member["type"]), bits, int(member["bit_size"])))
            elif member["type"] >= 0:
                self._collect(self.strip(int(member["type"])), bits, found)

    def enumerators(self, row: int) -> dict[int, str]:
        """Value -> first name, of a stripped enum."""
        found = self._enumerators.get(row)
        if found is None:
            found = self._enumerators[row] = {}
            for one in self.version.enumerators_of(row):
                found.setdefault(int(one["value"]), self.version.text(int(one["name"])))
        return found

    def enumerator(self, row: int, name: str) -> int | None:
        """The value of a name of a stripped enum."""
        for one in self.version.enumerators_of(row):
            if self.version.text(int(one["name"])) == name:
                return int(one["value"])
        return None

    # Spelling -----------------------------------------------------------------------------------------------

    def find(self, spelling: str) -> int | None:
        """The (stripped) row of ``struct conn``, ``conn_t``, ``unsigned int``; VOID for ``void``.

        None: there is no such type, or there are several that differ.
        """
        if spelling == "void":
            return VOID
        rows = {self.strip(row) for row in self._defined(spelling)}
        return rows.pop() if len(rows) == 1 else None

    def _defined(self, spelling: str) -> list[int]:
        rows = list(self.version.find_types(spelling))
        whole = [row for row in rows if not self.version.types["flags"][row] & TypeFlag.INCOMPLETE]
        return whole or rows

    def parse(self, spelling: str) -> tuple[int | None, int]:
        """(row of the type below, number of stars) of ``struct item **``."""
        base = spelling.rstrip("* ").strip()
        return self.find(base), spelling.count("*")

    def similar(self, name: str, names: Any) -> str:
        """A hint with names that are like one that does not exist."""
        close = difflib.get_close_matches(name, list(names), n=3)
        return f"did you mean {', '.join(close)}?" if close else f"see `instar inspect` for the {self.name}"

    @cached_property
    def type_names(self) -> set[str]:
        """All names that ``find`` may know."""
        columns = self.version.types
        named = np.flatnonzero(columns["name"])
        keywords = {TypeKind.STRUCT: "struct ", TypeKind.UNION: "union ", TypeKind.ENUM: "enum "}
        return {
            keywords.get(TypeKind(int(columns["kind"][row])), "")
            + self.version.text(int(columns["name"][row]))
            for row in named
        }

    # NumPy --------------------------------------------------------------------------------------------------

    def dtype(self, row: int) -> np.dtype[Any]:
        """The layout of a stripped type as a dtype: structs as records, pointers as u8, unions as bytes.

        Bit-fields have no field of their own; enums are integers, ``long double`` is 16 bytes.
        """
        found = self._dtypes.get(row)
        if found is None:
            found = self._dtypes[row] = self._make_dtype(row)
        return found

    def _make_dtype(self, row: int) -> np.dtype[Any]:
        kind, size = self.kind(row), self.size(row)
        if kind in (TypeKind.INTEGER, TypeKind.ENUM) and size in (1, 2, 4, 8):
            if self.is_boolean(row):
                return np.dtype("?")
            return np.dtype(f"{'i' if self.is_signed(row) else 'u'}{size}")
        if kind is TypeKind.FLOAT and size in (4, 8):
            return np.dtype(f"f{size}")
        if kind is TypeKind.POINTER:
            return np.dtype("u8")
        if kind is TypeKind.ARRAY:
            element = self.target(row)
            if self.is_character(element) and self.elements(row):
                return np.dtype((np.bytes_, self.elements(row)))
            return np.dtype((self.dtype(element), (self.elements(row),)))
        if kind is TypeKind.STRUCT:
            fields = [m for m in self.members(row).values() if not m.bit_size]
            fields = [m for m in fields if self.size(self.strip(m.type))]
            return np.dtype(
                {
                    "names": [m.name for m in fields],
                    "formats": [self.dtype(self.strip(m.type)) for m in fields],
                    "offsets": [m.offset for m in fields],
                    "itemsize": size,
                }
            )
        return np.dtype(f"V{size}")
