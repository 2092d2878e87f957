"""Typed values in the memory of a process, read as they are asked for."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Protocol

from instar.errors import FaultError, RefusedError
from instar.metadata.model import Encoding, TypeKind
from instar.metadata.version import Version

_CHARS = 200
_ELEMENTS = 64
_DEPTH = 4


class Reader(Protocol):
    """Where bytes come from."""

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``; raises FaultError."""


class Symbol(str):
    """Rendered text that is no text of the program: an enumerator, an address, a note."""


@dataclass(frozen=True)
class Value:
    """An object of the program: a type at an address.

    Attributes:
        version: Whose type it is.
        memory: Where it is read.
        type: Type row as declared.
        address: Run-time address.
        path: How the user wrote it.
        bit_offset, bit_size: Of a bit-field, else 0 and 0.
    """

    version: Version
    memory: Reader
    type: int
    address: int
    path: str
    bit_offset: int = 0
    bit_size: int = 0

    @property
    def stripped(self) -> int:
        """The type behind typedefs, -1 for void."""
        return self.version.strip(self.type) if self.type >= 0 else -1

    @property
    def kind(self) -> TypeKind:
        """What the type is."""
        row = self.stripped
        return TypeKind(int(self.version.types[row]["kind"])) if row >= 0 else TypeKind.VOID

    @property
    def size(self) -> int:
        """Bytes."""
        return self.version.size_of(self.type) if self.type >= 0 else 0

    @property
    def type_name(self) -> str:
        """C spelling of the type."""
        return self.version.type_name(self.type)

    def member(self, name: str) -> Value:
        """A member, through anonymous ones too; raises RefusedError "no-such-member" with what there is."""
        found = self._find_member(self.stripped, name, 0)
        if found is None:
            names = ", ".join(self.version.text(int(m["name"])) or "(anonymous)" for m in self._members())
            raise RefusedError(
                "no-such-member",
                f"{self.path} is a {self.type_name} and has no member {name}",
                f"its members: {names}" if names else "it has no members",
            )
        type_row, bits, size = found
        bit_offset = bits % 8 if size else 0
        return Value(
            self.version,
            self.memory,
            type_row,
            self.address + bits // 8,
            f"{self.path}.{name}",
            bit_offset,
            size,
        )

    def _members(self) -> Any:
        is_record = self.kind in (TypeKind.STRUCT, TypeKind.UNION)
        return self.version.members_of(self.stripped) if is_record else ()

    def _find_member(self, row: int, name: str, base: int) -> tuple[int, int, int] | None:
        if row < 0 or TypeKind(int(self.version.types[row]["kind"])) not in (TypeKind.STRUCT, TypeKind.UNION):
            return None
        for member in self.version.members_of(row):
            bits = base + int(member["bit_offset"])
            own = self.version.text(int(member["name"]))
            if own == name:
                return int(member["type"]), bits, int(member["bit_size"])
            if not own and member["type"] >= 0:
                inner = self._find_member(self.version.strip(int(member["type"])), name, bits)
                if inner is not None:
                    return inner
        return None

    def element(self, index: int) -> Value:
        """``value[index]`` of an array or pointer."""
        if self.kind is TypeKind.ARRAY:
            count = int(self.version.types[self.stripped]["elements"])
            if index < 0 or 0 <= count <= index:
                raise RefusedError(
                    "index-out-of-range",
                    f"{self.path} is a {self.type_name}: it has no element {index}",
                    f"indices go from 0 to {count - 1}",
                )
            base = self.address
        elif self.kind is TypeKind.POINTER:
            base = self.pointer()
        else:
            raise RefusedError(
                "not-an-array", f"{self.path} is a {self.type_name}, not an array or pointer", "leave out [ ]"
            )
        target = int(self.version.types[self.stripped]["target"])
        size = self.version.size_of(target) if target >= 0 else 1
        return Value(self.version, self.memory, target, base + index * size, f"{self.path}[{index}]")

    def dereference(self) -> Value:
        """What a pointer points at; raises RefusedError "null-pointer" and FaultError."""
        if self.kind is not TypeKind.POINTER:
            raise RefusedError("not-a-pointer", f"{self.path} is a {self.type_name}", "use . instead of ->")
        address = self.pointer()
        if not address:
            raise RefusedError("null-pointer", f"{self.path} is NULL", "look at the pointer itself")
        target = int(self.version.types[self.stripped]["target"])
        return Value(self.version, self.memory, target, address, f"(*{self.path})")

    def pointer(self) -> int:
        """The address a pointer holds."""
        return int.from_bytes(self.memory.read(self.address, 8), "little")

    def scalar(self) -> int | float | bool:
        """The number that an integer, enum, float or bit-field holds."""
        if self.kind is TypeKind.FLOAT:
            raw = self.memory.read(self.address, self.size)
            if self.size in (4, 8):
                number: float = struct.unpack("<f" if self.size == 4 else "<d", raw)[0]
                return number
            return _extended(raw)
        signed = self._encoding() in (Encoding.SIGNED, Encoding.SIGNED_CHAR)
        if self.bit_size:
            raw = self.memory.read(self.address, (self.bit_offset + self.bit_size + 7) // 8)
            number = int.from_bytes(raw, "little") >> self.bit_offset & ((1 << self.bit_size) - 1)
            return number - (1 << self.bit_size) if signed and number >> (self.bit_size - 1) else number
        value = int.from_bytes(self.memory.read(self.address, self.size), "little", signed=signed)
        return bool(value) if self._encoding() is Encoding.BOOLEAN else value

    def _encoding(self) -> Encoding:
        return Encoding(int(self.version.types[self.stripped]["encoding"]))

    def string(self, limit: int = _CHARS) -> str | None:
        """The text that a char array or char pointer holds; None when it is none."""
        if self.kind is TypeKind.ARRAY:
            raw = self.memory.read(self.address, min(self.size, limit))
        elif self.kind is TypeKind.POINTER and self.pointer():
            raw = _read_text(self.memory, self.pointer(), limit)
        else:
            return None
        return raw.split(b"\0")[0].decode(errors="backslashreplace")

    def is_text(self) -> bool:
        """Whether it is an array of, or a pointer to, a character type."""
        if self.kind not in (TypeKind.ARRAY, TypeKind.POINTER):
            return False
        target = self.version.strip(int(self.version.types[self.stripped]["target"]))
        row = self.version.types[target] if target >= 0 else None
        chars = (Encoding.SIGNED_CHAR, Encoding.UNSIGNED_CHAR)
        return row is not None and row["kind"] == TypeKind.INTEGER and row["encoding"] in chars

    def enumerator(self) -> str | None:
        """The name of an enum's value."""
        number = self.scalar()
        for row in self.version.enumerators_of(self.stripped):
            if int(row["value"]) == number:
                return self.version.text(int(row["name"]))
        return None

    def render(self, depth: int = _DEPTH) -> Any:
        """The value as plain data: numbers, text, lists, dicts; pointers as ``0x...`` text, NULL as None."""
        try:
            return self._render(depth)
        except FaultError as error:
            return Symbol(f"<not accessible: {error.address:#x}>")

    def _render(self, depth: int) -> Any:
        kind = self.kind
        if kind in (TypeKind.INTEGER, TypeKind.FLOAT):
            return self.scalar()
        if kind is TypeKind.ENUM:
            name = self.enumerator()
            return self.scalar() if name is None else Symbol(name)
        if kind is TypeKind.POINTER:
            return self._render_pointer()
        if kind in (TypeKind.STRUCT, TypeKind.UNION):
            return self._render_record(depth)
        if kind is TypeKind.ARRAY:
            return self._render_array(depth)
        return Symbol(f"<{self.type_name}>")

    def _render_pointer(self) -> Any:
        address = self.pointer()
        if not address:
            return None
        if self.is_text():
            try:
                return Symbol(f"{address:#x} {self.string()!r}")
            except FaultError:
                return Symbol(f"{address:#x}")
        return Symbol(f"{address:#x}")

    def _render_record(self, depth: int) -> Any:
        if depth <= 0:
            return Symbol("{...}")
        result: dict[str, Any] = {}
        for index, member in enumerate(self._members()):
            name = self.version.text(int(member["name"]))
            bits = int(member["bit_offset"])
            inner = Value(
                self.version,
                self.memory,
                int(member["type"]),
                self.address + bits // 8,
                f"{self.path}.{name}",
                bits % 8 if member["bit_size"] else 0,
                int(member["bit_size"]),
            )
            if name:
                result[name] = inner.render(depth - 1)
            else:
                rendered = inner.render(depth)
                result.update(rendered if isinstance(rendered, dict) else {f"({index})": rendered})
        return result

    def _render_array(self, depth: int) -> Any:
        if self.is_text():
            return self.string()
        if depth <= 0:
            return Symbol("{...}")
        count = max(int(self.version.types[self.stripped]["elements"]), 0)
        shown = [self.element(i).render(depth - 1) for i in range(min(count, _ELEMENTS))]
        return [*shown, Symbol(f"... {count - _ELEMENTS} more")] if count > _ELEMENTS else shown


def _read_text(memory: Reader, address: int, limit: int) -> bytes:
    """Up to ``limit`` bytes, page by page, as far as they are mapped."""
    result = b""
    while len(result) < limit and b"\0" not in result:
        step = min(4096 - (address + len(result)) % 4096, limit - len(result))
        try:
            result += memory.read(address + len(result), step)
        except FaultError:
            if result:
                break
            raise
    return result


def _extended(raw: bytes) -> float:
    """An x87 80-bit number."""
    mantissa, sign_exponent = struct.unpack("<QH", raw[:10])
    exponent = sign_exponent & 0x7FFF
    number: float = float(mantissa) * 2.0 ** max(min(exponent - 16383 - 63, 900), -1000)
    return -number if sign_exponent & 0x8000 else number
