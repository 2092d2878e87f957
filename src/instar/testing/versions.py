"""Versions made from plain declarations, so that what works on versions is tested without a compiler.

b = VersionBuilder()
conn = b.struct("conn", 24)
b.member(conn, "fd", b.c_int, 0)
b.member(conn, "next", b.pointer(conn), 8)
b.variable("clients", b.pointer(conn), address=0x4000)
version = b.build()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from instar.metadata.elf import RELOCATION, SYMBOL, ElfFile, RelocationKind, Section, Segment, SymbolKind
from instar.metadata.model import (
    COLUMNS,
    NO_LOCATION,
    Encoding,
    LocalFlag,
    TypeFlag,
    TypeKind,
    VariableKind,
)
from instar.metadata.text import StringPool
from instar.metadata.version import Version

EVERYWHERE = (0, 2**64 - 1)


class Pool:
    """Strings, each once, at growing offsets."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._known: dict[str, int] = {"": 0}

    def add(self, text: str) -> int:
        """Offset of a string."""
        if text not in self._known:
            self._known[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self._known[text]


@dataclass
class _Function:
    row: dict[str, Any]
    ranges: Sequence[tuple[int, int]]
    frame_base: bytes
    locals: list[tuple[dict[str, Any], Sequence[tuple[int, int]], Sequence[tuple[int, int, bytes]]]] = field(
        default_factory=list
    )


class VersionBuilder:
    """Collects declarations; every method that declares something returns its row.

    Types are not made canonical here: two calls of ``pointer(conn)`` give one row, two calls of
    ``struct("conn")`` give two.
    """

    def __init__(self, path: str = "test-version", build_id: str = "00" * 20) -> None:
        self.path = Path(path)
        self.build_id = build_id
        self._strings = Pool()
        self._types: list[dict[str, Any]] = []
        self._parts: list[list[dict[str, Any]]] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._variables: list[dict[str, Any]] = []
        self._functions: list[_Function] = []
        self._units: list[dict[str, Any]] = []
        self._lines: list[tuple[int, int, int]] = []
        self._data: list[tuple[int, bytes]] = []
        self._sections: list[Section] = []
        self._symbols: list[tuple[int, ...]] = []
        self._symbol_strings = Pool()
        self._relocations: list[tuple[int, ...]] = []

    # Types

    def _type(self, kind: TypeKind, *, parts: Sequence[dict[str, Any]] = (), **fields: Any) -> int:
        row = {"kind": kind, "target": -1, "elements": 0, **fields}
        row["name"] = self._strings.add(fields.get("name", ""))
        self._types.append(row)
        self._parts.append(list(parts))
        return len(self._types) - 1

    def _once(self, kind: TypeKind, **fields: Any) -> int:
        key = (kind, *sorted(fields.items()))
        if key not in self._known:
            self._known[key] = self._type(kind, **fields)
        return self._known[key]

    def integer(self, name: str, size: int, *, signed: bool = True, encoding: Encoding | None = None) -> int:
        """A base type with integer encoding."""
        chosen = encoding or (Encoding.SIGNED if signed else Encoding.UNSIGNED)
        return self._once(TypeKind.INTEGER, name=name, size=size, encoding=chosen)

    def floating(self, name: str, size: int) -> int:
        """``float``, ``double``, ``long double`` (size 16)."""
        return self._once(TypeKind.FLOAT, name=name, size=size)

    @cached_property
    def c_int(self) -> int:
        """``int``."""
        return self.integer("int", 4)

    @cached_property
    def c_unsigned(self) -> int:
        """``unsigned int``."""
        return self.integer("unsigned int", 4, signed=False)

    @cached_property
    def c_long(self) -> int:
        """``long int``."""
        return self.integer("long int", 8)

    @cached_property
    def c_short(self) -> int:
        """``short int``."""
        return self.integer("short int", 2)

    @cached_property
    def c_char(self) -> int:
        """``char`` (signed, as on x86-64)."""
        return self.integer("char", 1, encoding=Encoding.SIGNED_CHAR)

    @cached_property
    def c_double(self) -> int:
        """``double``."""
        return self.floating("double", 8)

    def pointer(self, target: int = -1) -> int:
        """Pointer to a type, -1: ``void *``."""
        return self._once(TypeKind.POINTER, target=target, size=8)

    def array(self, element: int, count: int | None) -> int:
        """Array of ``count`` elements; None: flexible."""
        size = (count or 0) * self._types[element]["size"]
        return self._once(TypeKind.ARRAY, target=element, elements=-1 if count is None else count, size=size)

    def typedef(self, name: str, target: int = -1) -> int:
        """``typedef target name``; -1: void."""
        size = self._types[target]["size"] if target >= 0 else 0
        return self._once(TypeKind.TYPEDEF, name=name, target=target, size=size)

    def struct(self, name: str = "", size: int | None = None, *, unit: int = 0, line: int = 0) -> int:
        """A struct to which ``member`` adds; without a size it is only declared."""
        return self._compound(TypeKind.STRUCT, name, size, unit, line)

    def union(self, name: str = "", size: int | None = None, *, unit: int = 0, line: int = 0) -> int:
        """A union to which ``member`` adds."""
        return self._compound(TypeKind.UNION, name, size, unit, line)

    def _compound(self, kind: TypeKind, name: str, size: int | None, unit: int, line: int) -> int:
        flags = TypeFlag.INCOMPLETE if size is None else TypeFlag(0)
        return self._type(kind, name=name, size=size or 0, flags=flags, unit=unit, line=line)

    def member(
        self,
        owner: int,
        name: str,
        type_row: int,
        offset: int = 0,
        *,
        bits: int = 0,
        bit_offset: int | None = None,
    ) -> None:
        """Add a member; ``offset`` in bytes, or ``bit_offset`` in bits; ``bits`` is a bit-field's width."""
        start = offset * 8 if bit_offset is None else bit_offset
        self._parts[owner].append(
            {"name": self._strings.add(name), "type": type_row, "bit_offset": start, "bit_size": bits}
        )

    def enum(
        self,
        name: str,
        enumerators: Mapping[str, int],
        *,
        size: int = 4,
        signed: bool = False,
        target: int = -1,
    ) -> int:
        """An enum with its enumerators in order."""
        parts = [{"name": self._strings.add(key), "value": value} for key, value in enumerators.items()]
        encoding = Encoding.SIGNED if signed else Encoding.UNSIGNED
        return self._type(TypeKind.ENUM, name=name, size=size, encoding=encoding, target=target, parts=parts)

    def function_type(
        self, result: int = -1, parameters: Sequence[int] = (), *, varargs: bool = False
    ) -> int:
        """A function type; result -1: void."""
        flags = TypeFlag.VARARGS if varargs else TypeFlag(0)
        parts = [{"name": 0, "type": one} for one in parameters]
        return self._type(TypeKind.FUNCTION, target=result, flags=flags, parts=parts)

    def opaque(self, name: str, size: int) -> int:
        """A kind C does not have."""
        return self._type(TypeKind.OPAQUE, name=name, size=size)

    # Units, variables, functions

    def unit(self, name: str, directory: str = "/src") -> int:
        """A compile unit; without any, one named ``main.c`` is made."""
        strings = self._strings
        self._units.append({"name": strings.add(name), "directory": strings.add(directory), "language": 12})
        return len(self._units) - 1

    def variable(
        self,
        name: str,
        type_row: int,
        address: int,
        *,
        kind: VariableKind | None = None,
        unit: int = 0,
        function: int = -1,
        scope: str = "",
        tls: bool = False,
        data: bytes | None = None,
        flags: int = 0,
    ) -> int:
        """A static variable; ``data`` is its initial image; with a function or scope a function static.

        ``flags`` is a VariableFlag.
        """
        if kind is None:
            kind = VariableKind.FUNCTION_STATIC if function >= 0 or scope else VariableKind.GLOBAL
        if function >= 0 and not scope:
            scope_name = int(self._functions[function].row["name"])
        else:
            scope_name = self._strings.add(scope)
        self._variables.append(
            {
                "address": address,
                "name": self._strings.add(name),
                "type": type_row,
                "kind": kind,
                "tls": tls,
                "flags": flags,
                "unit": unit,
                "function": function,
                "scope": scope_name,
            }
        )
        if data is not None:
            self.data(address, data)
        return len(self._variables) - 1

    def function(
        self,
        name: str,
        low: int,
        code: bytes | int = 16,
        *,
        type_row: int = -1,
        unit: int = 0,
        external: bool = True,
        ranges: Sequence[tuple[int, int]] = (),
        frame_base: bytes = b"\x9c",
    ) -> int:
        """A function at an address with its bytes (or only their number); ``ranges`` are its cold parts."""
        size = code if isinstance(code, int) else len(code)
        row = {
            "low": low,
            "high": low + size,
            "name": self._strings.add(name),
            "unit": unit,
            "type": type_row,
            "external": external,
        }
        self._functions.append(_Function(row, ranges, frame_base))
        if isinstance(code, bytes):
            self.data(low, code)
        self.symbol(name, low, size, SymbolKind.FUNCTION)
        return len(self._functions) - 1

    def local(
        self,
        function: int,
        name: str,
        type_row: int,
        locations: bytes | Sequence[tuple[int, int, bytes]] = (),
        *,
        parameter: bool = False,
        origin: str = "",
        scope: Sequence[tuple[int, int]] = (),
    ) -> None:
        """A local with one expression that holds everywhere, or a location list (low, high, expression)."""
        flags = (LocalFlag.PARAMETER if parameter else 0) | (LocalFlag.INLINED if origin else 0)
        places = [(*EVERYWHERE, locations)] if isinstance(locations, bytes) else locations
        strings = self._strings
        row = {
            "name": strings.add(name),
            "type": type_row,
            "flags": int(flags),
            "origin": strings.add(origin),
        }
        self._functions[function].locals.append((row, scope, places))

    def line(self, address: int, file: str, line: int) -> None:
        """One row of the line table (add them in the order of addresses)."""
        self._lines.append((address, self._strings.add(file), line))

    # The file

    def data(self, address: int, data: bytes) -> None:
        """Bytes of the initial image at a link-time address; later calls win."""
        self._data.append((address, data))

    def section(self, name: str, address: int, size: int, flags: int = 2, kind: int = 1) -> None:
        """A loaded section (SHF_* flags)."""
        self._sections.append(Section(name, address, size, 0, flags, kind))

    def symbol(
        self,
        name: str,
        value: int,
        size: int = 0,
        kind: SymbolKind = SymbolKind.OBJECT,
        *,
        bind: int = 1,
        section: int = 1,
        dynamic: bool = False,
    ) -> int:
        """A symbol; section 0 is undefined."""
        offset = self._symbol_strings.add(name)
        self._symbols.append((value, size, offset, section, kind, bind, dynamic, 0, 0, 0))
        return len(self._symbols) - 1

    def relocation(
        self,
        address: int,
        addend: int = 0,
        kind: RelocationKind = RelocationKind.RELATIVE,
        symbol: int = -1,
    ) -> None:
        """A dynamic relocation; ``symbol`` is what ``symbol()`` returned."""
        self._relocations.append((address, addend, kind, 0, 0, symbol))

    # Building

    def build(self) -> Version:
        """The version; the builder can go on to be used."""
        if not self._units:
            self.unit("main.c")
        rows: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self._build_types(rows)
        expressions = bytearray()
        for function in self._functions:
            self._build_function(function, rows, expressions)
        rows["variables"] = self._variables
        rows["units"] = self._units
        columns = {name: _column(name, rows[name]) for name in COLUMNS}
        columns["lines"] = np.array(self._lines, COLUMNS["lines"])
        columns["strings"] = np.frombuffer(bytes(self._strings.data), np.uint8)
        columns["expressions"] = np.frombuffer(bytes(expressions), np.uint8)
        return Version(self.path, self._build_elf(), columns)

    def _build_types(self, rows: dict[str, list[Any]]) -> None:
        for row, parts in zip(self._types, self._parts, strict=True):
            table = rows["enumerators" if row["kind"] == TypeKind.ENUM else "members"]
            rows["types"].append({**row, "first": len(table), "count": len(parts)})
            table += parts

    def _build_function(
        self, function: _Function, rows: dict[str, list[Any]], expressions: bytearray
    ) -> None:
        row = dict(function.row)
        row["first_range"], row["range_count"] = len(rows["ranges"]), len(function.ranges)
        rows["ranges"] += [{"low": low, "high": high} for low, high in function.ranges]
        row["frame_base"] = NO_LOCATION
        if function.frame_base:
            row["frame_base"] = len(rows["locations"])
            rows["locations"].append(_location(*EVERYWHERE, function.frame_base, expressions))
        row["first_local"], row["local_count"] = len(rows["locals"]), len(function.locals)
        for local, scope, places in function.locals:
            one = {**local, "first_scope": len(rows["ranges"]), "scope_count": len(scope)}
            rows["ranges"] += [{"low": low, "high": high} for low, high in scope]
            one["first_location"], one["location_count"] = len(rows["locations"]), len(places)
            rows["locations"] += [_location(low, high, text, expressions) for low, high, text in places]
            rows["locals"].append(one)
        rows["functions"].append(row)

    def _build_elf(self) -> ElfFile:
        image = bytearray()
        segments = []
        extents = [(v["address"], max(1, self._types[v["type"]]["size"])) for v in self._variables]
        extents += [(f.row["low"], f.row["high"] - f.row["low"]) for f in self._functions]
        for address, size in sorted(extents):
            segments.append(Segment(1, 6, 0, address, 0, size, 16))
        for address, data in self._data:
            segments.append(Segment(1, 6, len(image), address, len(data), len(data), 16))
            image += data
        return ElfFile(
            path=self.path,
            build_id=self.build_id,
            machine=62,
            kind=3,
            is_pie=True,
            entry=0,
            interpreter="/lib64/ld-linux-x86-64.so.2",
            needed=("libc.so.6",),
            segments=tuple(segments),
            sections=tuple(self._sections),
            symbols=np.array(self._symbols, SYMBOL),
            symbol_strings=StringPool(bytes(self._symbol_strings.data)),
            relocations=np.array(self._relocations, RELOCATION),
            image=memoryview(bytes(image)),
        )


def _location(low: int, high: int, expression: bytes, pool: bytearray) -> dict[str, Any]:
    row = {"low": low, "high": high, "expression": len(pool), "length": len(expression)}
    pool += expression
    return row


def _column(name: str, rows: list[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    if COLUMNS[name].names is None:
        return np.empty(0, COLUMNS[name])
    result = np.zeros(len(rows), COLUMNS[name])
    for index, row in enumerate(rows):
        for key, value in row.items():
            result[key][index] = value
    return result
