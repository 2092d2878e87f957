"""One version: a program file with its debug information, as columns with the questions others ask of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from instar.errors import RefusedError
from instar.metadata.cache import Columns, cache_path, default_directory, digest, read_cached, write_cached
from instar.metadata.debug_files import DEBUG_ROOTS, DebugFiles, find_debug_files
from instar.metadata.elf import ElfFile
from instar.metadata.elf_reader import read_program
from instar.metadata.flexible import extend_flexible
from instar.metadata.model import TypeFlag, TypeKind
from instar.metadata.reduced import require_whole
from instar.metadata.spelling import KEYWORDS, declare
from instar.metadata.text import StringPool
from instar.metadata.validate import InvalidColumnsError, validate_columns
from instar.metadata.walker import REBUILD, walk_program

Rows = npt.NDArray[np.void]
# Reads what debug information says; need not be believed: its answer is checked.
Walk = Callable[[DebugFiles], Columns]
NO_ROW = -1


class Version:
    """Types, variables, functions and lines of one program file.

    The attributes ``types``, ``members``, ``enumerators``, ``variables``, ``functions``, ``ranges``,
    ``locals``, ``locations``, ``units`` and ``lines`` are read-only structured arrays, ``strings`` and
    ``expressions`` read-only bytes; ``metadata.model`` documents them. All are valid: every reference from
    one row to another is within bounds.
    """

    def __init__(
        self, path: Path, elf: ElfFile, columns: Mapping[str, npt.NDArray[Any]], build_id: str | None = None
    ) -> None:
        self.path = path
        self.elf = elf
        self.build_id = elf.build_id if build_id is None else build_id
        self.columns = dict(columns)
        self.types: Rows = self._column("types")
        self.members: Rows = self._column("members")
        self.enumerators: Rows = self._column("enumerators")
        self.variables: Rows = self._column("variables")
        self.functions: Rows = self._column("functions")
        self.ranges: Rows = self._column("ranges")
        self.locals: Rows = self._column("locals")
        self.locations: Rows = self._column("locations")
        self.units: Rows = self._column("units")
        self.lines: Rows = self._column("lines")
        self.strings: npt.NDArray[np.uint8] = self.columns["strings"].view(np.uint8)
        self.expressions: npt.NDArray[np.uint8] = self.columns["expressions"].view(np.uint8)
        self._pool = StringPool(self.strings)
        self._spelled: dict[int, str] = {}

    def _column(self, name: str) -> Rows:
        column: Rows = self.columns[name]
        return column

    def __repr__(self) -> str:
        return f"Version({str(self.path)!r}, build_id={self.build_id!r})"

    # Strings and types

    def text(self, offset: int) -> str:
        """The string at an offset of ``strings``."""
        return self._pool.text(int(offset))

    def type_name(self, type_row: int) -> str:
        """C spelling of a type; -1 is void."""
        found = self._spelled.get(type_row)
        if found is None:
            found = self._spelled[type_row] = declare(self, type_row)
        return found

    def declare(self, type_row: int, name: str) -> str:
        """C declaration of a name with a type, e.g. ``char name[16]``."""
        return declare(self, type_row, name)

    @cached_property
    def stripped(self) -> npt.NDArray[np.int32]:
        """For each type row the row it names once typedefs are resolved (-1: void)."""
        result = np.arange(len(self.types), dtype=np.int32)
        targets = self.types["target"].astype(np.int32)
        is_typedef = np.append(self.types["kind"] == TypeKind.TYPEDEF, False)
        for _ in range(len(self.types)):
            again = is_typedef[result]
            if not again.any():
                break
            result[again] = targets[result[again]]
        result.flags.writeable = False
        return result

    def strip(self, type_row: int) -> int:
        """The type that typedefs lead to, -1 for void."""
        return int(self.stripped[type_row]) if type_row >= 0 else NO_ROW

    def size_of(self, type_row: int) -> int:
        """Size in bytes; 0 for void, functions and incomplete types."""
        return int(self.types["size"][type_row]) if type_row >= 0 else 0

    def _slice(self, table: Rows, first: np.generic, count: np.generic) -> Rows:
        view: Rows = table[int(first) : int(first) + int(count)]
        return view

    def members_of(self, type_row: int) -> Rows:
        """Members of a struct or union, parameters of a function type (view; no typedef is resolved)."""
        row = self.types[type_row]
        if row["kind"] not in (TypeKind.STRUCT, TypeKind.UNION, TypeKind.FUNCTION):
            return self.members[:0]
        return self._slice(self.members, row["first"], row["count"])

    def enumerators_of(self, type_row: int) -> Rows:
        """Enumerators of an enum type (view)."""
        row = self.types[type_row]
        if row["kind"] != TypeKind.ENUM:
            return self.enumerators[:0]
        return self._slice(self.enumerators, row["first"], row["count"])

    @cached_property
    def _types_by_name(self) -> dict[tuple[str, str], list[int]]:
        index: dict[tuple[str, str], list[int]] = {}
        named = np.flatnonzero(self.types["name"])
        kinds = self.types["kind"][named].tolist()
        names = self.types["name"][named].tolist()
        for row, kind, name in zip(named.tolist(), kinds, names, strict=True):
            index.setdefault((KEYWORDS.get(kind, ""), self.text(name)), []).append(row)
        return index

    def find_types(self, spelling: str) -> Sequence[int]:
        """All different types of a name, in the order of the program: ``struct conn`` or ``size_t``."""
        keyword, _, tag = " ".join(spelling.split()).partition(" ")
        if keyword in KEYWORDS.values() and tag:
            return self._types_by_name.get((keyword, tag), ())
        return self._types_by_name.get(("", " ".join(spelling.split())), ())

    def find_type(self, spelling: str) -> int | None:
        """The one type of a name; None if there is none, or several that differ (see ``find_types``).

        Incomplete declarations do not count beside a definition.
        """
        rows = self.find_types(spelling)
        whole = [row for row in rows if not self.types["flags"][row] & TypeFlag.INCOMPLETE]
        choice = whole or list(rows)
        return choice[0] if len(choice) == 1 else None

    # Variables

    @cached_property
    def _variables_by_name(self) -> dict[str, list[int]]:
        return self._index(self.variables)

    @cached_property
    def _functions_by_name(self) -> dict[str, list[int]]:
        return self._index(self.functions)

    def _index(self, table: Rows) -> dict[str, list[int]]:
        index: dict[str, list[int]] = {}
        for row, name in enumerate(table["name"].tolist()):
            index.setdefault(self.text(name), []).append(row)
        return index

    def find_variables(self, name: str, unit: str | int | None = None) -> Sequence[int]:
        """Rows of all static variables of a name, of one unit only if given (row, name or path ending)."""
        rows = self._variables_by_name.get(name, [])
        return rows if unit is None else [r for r in rows if self._in_unit(self.variables[r], unit)]

    def find_variable(self, name: str, unit: str | int | None = None) -> int | None:
        """The variable of a name: the global one, else the only static one; None if there is no such one."""
        rows = self.find_variables(name, unit)
        best = [row for row in rows if self.variables["kind"][row] == 0] or rows
        return best[0] if len(best) == 1 else None

    @cached_property
    def _variable_order(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint64]]:
        rows = np.flatnonzero(self.variables["tls"] == 0)
        order = rows[np.argsort(self.variables["address"][rows], kind="stable")]
        return order, self.variables["address"][order]

    def variable_at(self, link_address: int) -> int | None:
        """Row of the (not thread-local) variable that contains an address.

        Of several at one address (merged by the compiler) the first that is long enough.
        """
        if link_address < 0:
            return None
        order, starts = self._variable_order
        after = int(np.searchsorted(starts, np.uint64(link_address), "right"))
        if not after:
            return None
        first = int(np.searchsorted(starts, starts[after - 1], "left"))
        offset = link_address - int(starts[first])
        for row in order[first:after].tolist():
            if offset < max(1, self.size_of(int(self.variables["type"][row]))):
                return int(row)
        return None

    def _in_unit(self, row: np.void, unit: str | int) -> bool:
        index = int(row["unit"])
        if isinstance(unit, int):
            return index == unit
        name = self.text(int(self.units["name"][index]))
        return name == unit or name.endswith("/" + unit)

    # Functions

    def find_functions(self, name: str, unit: str | int | None = None) -> Sequence[int]:
        """Rows of all functions of a name, of one unit only if given."""
        rows = self._functions_by_name.get(name, [])
        return rows if unit is None else [r for r in rows if self._in_unit(self.functions[r], unit)]

    def find_function(self, name: str, unit: str | int | None = None) -> int | None:
        """The function of a name: the external one, else the only static one; else None."""
        rows = self.find_functions(name, unit)
        best = [row for row in rows if self.functions["external"][row]] or rows
        return best[0] if len(best) == 1 else None

    @cached_property
    def _code_order(self) -> tuple[Rows, npt.NDArray[np.int64]]:
        """All code ranges sorted by address, with the function row of each."""
        functions = self.functions
        counts = functions["range_count"].astype(np.int64)
        owners = np.repeat(np.arange(len(functions)), counts)
        starts = np.repeat(functions["first_range"].astype(np.int64) - (np.cumsum(counts) - counts), counts)
        further = self.ranges[starts + np.arange(len(owners))]
        spans = np.empty(len(functions) + len(further), self.ranges.dtype)
        spans["low"] = np.concatenate([functions["low"], further["low"]])
        spans["high"] = np.concatenate([functions["high"], further["high"]])
        rows = np.concatenate([np.arange(len(functions)), owners])
        order = np.argsort(spans["low"], kind="stable")
        return spans[order], rows[order]

    def function_at(self, link_address: int) -> int | None:
        """Row of the function whose code (cold parts included) contains an address, which may be any."""
        if link_address < 0:  # below where the program was loaded
            return None
        spans, rows = self._code_order
        place = int(np.searchsorted(spans["low"], np.uint64(link_address), "right")) - 1
        if place < 0 or link_address >= int(spans["high"][place]):
            return None
        return int(rows[place])

    def line_at(self, link_address: int) -> tuple[str, int] | None:
        """Source file and line of an address, None where the line table has none."""
        place = int(np.searchsorted(self.lines["address"], np.uint64(link_address), "right")) - 1
        if place < 0 or not self.lines["line"][place]:
            return None
        return self.text(int(self.lines["file"][place])), int(self.lines["line"][place])

    def locals_of(self, function_row: int) -> Rows:
        """Parameters and locals of a function, those of inlined functions included (view)."""
        row = self.functions[function_row]
        return self._slice(self.locals, row["first_local"], row["local_count"])

    def scopes_of(self, local: np.void) -> Rows:
        """Code ranges of a local's lexical scope; empty: the whole function."""
        return self._slice(self.ranges, local["first_scope"], local["scope_count"])

    def ranges_of(self, function_row: int) -> Rows:
        """Further code ranges of a function (its cold parts), beside low..high."""
        row = self.functions[function_row]
        return self._slice(self.ranges, row["first_range"], row["range_count"])

    def locations_of(self, local: np.void) -> Rows:
        """Location list of a local (a row of ``locals``); empty: optimised out."""
        return self._slice(self.locations, local["first_location"], local["location_count"])

    def expression(self, location: np.void) -> bytes:
        """The DWARF expression of a row of ``locations``."""
        start = int(location["expression"])
        return self.expressions[start : start + int(location["length"])].tobytes()

    def frame_base(self, function_row: int) -> bytes:
        """The DWARF expression of a function's frame base, empty if it has none."""
        place = int(self.functions["frame_base"][function_row])
        return self.expression(self.locations[place]) if place < len(self.locations) else b""


def walk_files(files: DebugFiles) -> Columns:
    """Read debug information in this very process; see ``walk_program``."""
    return walk_program(files.debug, beside=files.beside, alternate=files.alternate, package=files.package)


def load_version(
    path: Path,
    *,
    cache: Path | None = None,
    debug_roots: Sequence[Path] = DEBUG_ROOTS,
    walk: Walk = walk_files,
) -> Version:
    """Read a program file with its debug information.

    Args:
        path: The program; ``/proc/PID/exe`` works even when the file was replaced since.
        cache: Directory of the cache; None: the user's (``default_directory``).
        debug_roots: Where separate debug files are.
        walk: Who reads the debug information if it is not in the cache.

    Raises:
        HostError: unreadable-file.
        RefusedError: What ``read_program``, ``find_debug_files`` and ``walk`` refuse.
    """
    elf = read_program(Path(path))
    files = find_debug_files(elf, debug_roots)
    key = elf.build_id or digest(elf.image).hex()
    fingerprint = digest(*map(_layout_of, {id(one): one for one in (elf, files.elf)}.values()))
    place = cache_path(cache or default_directory(), key)
    whole = _with_symbols(elf, files.elf)
    columns = read_cached(place, fingerprint)
    if columns is None:
        columns = _checked(walk(files), files, whole)
        write_cached(place, fingerprint, columns)
    for column in columns.values():
        column.flags.writeable = False
    version = Version(elf.path, whole, columns, build_id=key)
    require_whole(version)
    return version


def _layout_of(elf: ElfFile) -> bytes:
    """The headers of a file: they tell builds apart that were given one build-id by hand."""
    return repr((elf.entry, elf.segments, elf.sections)).encode("utf-8", "surrogateescape")


def _checked(columns: Columns, files: DebugFiles, elf: ElfFile) -> Columns:
    try:
        validate_columns(columns)
        columns = extend_flexible(columns, elf)
    except InvalidColumnsError as error:
        raise RefusedError(
            "damaged-debug-info", f"{files.debug} has contradictory debug information: {error}", REBUILD
        ) from error
    return columns


def _with_symbols(elf: ElfFile, debug: ElfFile) -> ElfFile:
    """A stripped program takes the symbols of its debug file."""
    if debug is elf or not (elf.symbols["dynamic"] == 1).all():
        return elf
    own = debug.symbols[debug.symbols["dynamic"] == 0].copy()
    base = len(elf.symbol_strings)
    own["name"] += np.where(own["name"] != 0, base, 0).astype(np.uint32)
    names = StringPool(elf.symbol_strings.data + debug.symbol_strings.data)
    return replace(elf, symbols=np.concatenate([elf.symbols, own]), symbol_strings=names)
