"""Checks where functions, strings, libraries and variables were said to go, by their names and contents.

Pointers are compared against the plan's table of fixed targets; so that a wrong row of it does not confirm
itself, each row is held against what both program files and both processes say. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from instar.metadata.version import Version
from instar.state.columns import FixedFlag, FixedKind
from instar.state.image import Image
from instar.transfer.planner import Planner
from instar.transfer.targets import loaded_files
from instar.transfer.untouched import initial_image

Array = np.ndarray[Any, np.dtype[Any]]
Read = Callable[[int, int], bytes]

_NOWHERE = FixedFlag.UNPAIRED | FixedFlag.UNRESOLVED | FixedFlag.DANGLING
_ALLOCATOR = ("free", "cfree", "realloc", "reallocarray", "malloc_usable_size")
_TEXT_LIMIT = 1 << 16


class FixedCheck:
    """Holds one plan's table against names and contents; remembers what was found right.

    Args:
        planner: Has planned.
        read_past, read_future: Memory of both.
    """

    def __init__(self, planner: Planner, read_past: Read, read_future: Read) -> None:
        self._planner = planner
        self._read = read_past, read_future
        self._names = (_Names(planner.old), _Names(planner.new))
        self._right: set[bytes] = set()
        images = planner.past, planner.future
        self._biases = tuple(image.subject.load_bias for image in images)
        self._files = tuple(loaded_files(image.subject, image.program) for image in images)
        self.exempt = 0

    def wrong(self) -> Iterator[tuple[str, Any]]:
        """(what is wrong, ``FIXED`` row), of rows that were not looked at before."""
        gone = "it is said to be gone, although the new version has it"
        yield from ((gone, row) for row in self._given_up())
        for row in self._planner.engine.fixed:
            if row["flags"] & _NOWHERE or not row["new_start"]:
                continue
            key = row.tobytes()
            if key in self._right:
                continue
            reason = self._reason(row)
            if reason:
                yield reason, row
            else:
                self._right.add(key)

    def _given_up(self) -> Array:
        """Rows of functions that have a counterpart, which the table does not have."""
        fixed, functions = self._planner.engine.fixed, self._planner.old.functions["low"]
        paired = self._planner.prepared.symbols.functions >= 0
        known = functions[paired][~np.isin(functions[paired], functions[~paired])]  # no two of one address
        given_up = ((fixed["flags"] & FixedFlag.UNPAIRED) != 0) | (fixed["new_start"] == 0)
        given_up &= fixed["kind"] == FixedKind.FUNCTION
        rows: Array = fixed[given_up & np.isin(fixed["start"], known + np.uint64(self._biases[0]))]
        return rows

    def _reason(self, row: Any) -> str:
        kind = FixedKind(int(row["kind"]))
        if kind is FixedKind.LIBRARY:
            return self._library(int(row["start"]), int(row["new_start"]))
        if kind is FixedKind.STRING:
            return self._content(row)
        if kind in (FixedKind.FUNCTION, FixedKind.CODE, FixedKind.STATIC, FixedKind.CONSTANT):
            return self._named(row, kind)
        return ""  # arguments and the stack: their words are compared where they lie

    def _library(self, old: int, new: int) -> str:
        if old == new and self._is_kept(old):
            return ""
        places = []
        for files, address in zip(self._files, (old, new), strict=True):
            home = next((f for f in files.values() if f.start <= address < f.end), None)
            places.append((home.path, address - home.start) if home else ("nothing", 0))
        return "" if places[0] == places[1] else f"{_spot(places[0])} would become {_spot(places[1])}"

    def _content(self, row: Any) -> str:
        size = min(int(row["end"]) - int(row["start"]), _TEXT_LIMIT)
        old = self._read[0](int(row["start"]), size)
        new = self._read[1](int(row["new_start"]), size)
        if old == new or self._is_initialiser(int(row["start"]), int(row["new_start"])):
            return ""
        return f"the text {old[:40]!r} would become {new[:40]!r}"

    def _is_kept(self, address: int) -> bool:
        """Beside a mapping of the program's own, which the future gets at the same place."""
        spans = self._planner.past.heap
        ends = [a for s in spans if s.mapped is not None for pair in s.mapped.reserved for a in pair]
        return any(s.mapped is not None and s.start <= address <= s.end for s in spans) or any(
            low <= address <= high for low, high in zip(ends[::2], ends[1::2], strict=True)
        )

    def _is_initialiser(self, old: int, new: int) -> bool:
        """Whether two texts are what one variable points at in the two program files."""
        return bool(self._initialised[0].get(old, set()) & self._initialised[1].get(new, set()))

    @cached_property
    def _initialised(self) -> tuple[dict[int, set[tuple[str, int]]], dict[int, set[tuple[str, int]]]]:
        """Per process: address of what a variable points at in the program file -> (variable, offset)."""
        images = self._planner.past, self._planner.future
        return _initialised(images[0]), _initialised(images[1])

    def _named(self, row: Any, kind: FixedKind) -> str:
        old, new = int(row["start"]) - self._biases[0], int(row["new_start"]) - self._biases[1]
        is_code = kind in (FixedKind.FUNCTION, FixedKind.CODE)
        names = [
            side.code[a] if is_code else side.data[a] for side, a in zip(self._names, (old, new), strict=True)
        ]
        if names[0] & names[1] or self._is_settled(old, new, is_code):
            return ""
        if self._is_allocator(int(row["start"]), int(row["new_start"])):
            return ""
        if not names[0]:
            self.exempt += 1  # nameless data, paired by content
            return ""
        return f"{_some(names[0])} would become {_some(names[1])}"

    def _is_settled(self, old: int, new: int, is_code: bool) -> bool:
        """Whether a handler says that two things of different names are the same."""
        settled = self._planner.prepared.pool.pairing.settled
        pairs = settled.functions if is_code else settled.variables
        columns = (self._planner.old, self._planner.new)
        if not is_code and any(int(columns[0].variables["address"][a]) == old for a in settled.to_heap):
            return True
        places = [(v.functions["low"], v.variables["address"])[not is_code] for v in columns]
        return any(int(places[0][a]) == old and int(places[1][b]) == new for a, b in pairs.items())

    def _is_allocator(self, old: int, new: int) -> bool:
        images = self._planner.past, self._planner.future
        return any((images[0].resolve(n), images[1].resolve(n)) == (old, new) for n in _ALLOCATOR)


class _Names:
    """Names of functions and variables by link-time address."""

    def __init__(self, version: Version) -> None:
        self.code: defaultdict[int, set[str]] = defaultdict(set)
        self.data: defaultdict[int, set[str]] = defaultdict(set)
        for function in version.functions:
            self.code[int(function["low"])].add(version.text(int(function["name"])))
        for variable in version.variables:
            scope = version.text(int(variable["scope"]))
            name = version.text(int(variable["name"]))
            base = int(variable["address"])
            self.data[base].add(f"{scope}.{name}" if scope else name)
        for symbol in version.elf.symbols:
            name = version.elf.text(int(symbol["name"]))
            if name and symbol["value"]:
                self.code[int(symbol["value"])].add(name)
                self.data[int(symbol["value"])].add(name)


def _initialised(image: Image) -> dict[int, set[tuple[str, int]]]:
    found: defaultdict[int, set[tuple[str, int]]] = defaultdict(set)
    version, bias = image.subject.version, image.subject.load_bias
    for variable in version.variables[version.variables["tls"] == 0]:
        address, size = int(variable["address"]), version.size_of(int(variable["type"]))
        if size < 8 or not version.elf.contains(address, size):
            continue
        name = f"{version.text(int(variable['scope']))}.{version.text(int(variable['name']))}"
        data = initial_image(version, address, size // 8 * 8, bias, image.resolve).view(np.uint64)
        for index in np.flatnonzero(data).tolist():
            found[int(data[index])].add((name, 8 * index))
    return found


def _spot(place: tuple[str, int]) -> str:
    return f"{place[0]}+{place[1]:#x}"


def _some(names: set[str]) -> str:
    return " / ".join(sorted(names)[:3]) or "nothing"
