"""What handlers looked at and wrote while they ran, which tells whether they must run again. Pure."""

from __future__ import annotations

import ast
from array import array
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from instar.ext.registry import BEFORE, Registry

Array = np.ndarray[Any, np.dtype[Any]]

# What computes from what it is given alone. Other modules tell the time, read files, or are not known.
_PURE_MODULES = frozenset((
    "__future__", "abc", "binascii", "bisect", "collections", "dataclasses", "enum", "functools", "hashlib",
    "itertools", "math", "numpy", "operator", "re", "string", "struct", "typing", "zlib",
))  # fmt: skip
_OUTSIDE = frozenset((
    "__import__", "__builtins__", "__loader__", "DataSource", "call", "compile", "ctypeslib", "datetime64",
    "eval", "exec", "fromfile", "fromregex", "genfromtxt", "getattr", "globals", "input", "load", "loadtxt",
    "memmap", "open", "open_memmap", "random", "vars",
))  # fmt: skip


class Spans:
    """Ranges of addresses, collected one by one or many at once."""

    def __init__(self) -> None:
        self._single = array("Q")
        self._many: list[tuple[Array, int]] = []

    def add(self, address: int, size: int) -> None:
        """One range."""
        self._single.append(address & (1 << 64) - 1)
        self._single.append(size)

    def add_many(self, addresses: Array, size: int) -> None:
        """Ranges of one size."""
        self._many.append((addresses.astype(np.uint64), size))

    @cached_property
    def ranges(self) -> tuple[Array, Array]:
        """Starts, ascending, and ends; nothing may be added afterwards."""
        single = np.frombuffer(self._single, np.uint64).reshape(-1, 2)
        starts = np.concatenate([single[:, 0], *(addresses for addresses, _ in self._many)])
        sizes = [np.full(len(addresses), size, np.uint64) for addresses, size in self._many]
        ends = starts + np.concatenate([single[:, 1], *sizes])
        order = np.argsort(starts, kind="stable")
        return starts[order], ends[order]

    def covers(self, starts: Array, ends: Array) -> Array:
        """Per range, whether all its bytes are in one or several of these."""
        low, high = self.ranges
        reach = np.maximum.accumulate(high)
        first = np.append(True, low[1:] > reach[:-1]) if len(low) else np.zeros(0, bool)
        low, high = low[first], np.maximum.reduceat(reach, np.flatnonzero(first)) if len(low) else reach
        at = np.searchsorted(low, starts, side="right").astype(np.int64) - 1
        found: Array = at >= 0
        found[found] = ends[found] <= high[at[found]]
        return found

    def meets(self, starts: Array, ends: Array) -> bool:
        """Whether any of them shares a byte with one of other ranges, which do not overlap each other."""
        if not len(starts):
            return False
        order = np.argsort(starts, kind="stable")
        starts, ends = starts[order], ends[order]
        low, high = self.ranges
        first = np.searchsorted(ends, low, side="right")
        known = first < len(starts)
        return bool((starts[first[known]] < high[known]).any())


class Inputs:
    """Of one run of all handlers.

    Attributes:
        past: What was read of the past's copied state.
        future: What was read of the future.
        written: What was written into the future.
        elsewhere: Something was read that is not in the copy.
    """

    def __init__(self) -> None:
        self.past, self.future, self.written = Spans(), Spans(), Spans()
        self.elsewhere = False

    def settle(self) -> None:
        """Sort all of it, while there is time."""
        for spans in (self.past, self.future, self.written):
            _ = spans.ranges


def is_pure(registry: Registry) -> bool:
    """Whether transforms depend on nothing but the states: they come to the same from the same bytes.

    A file may do anything that is not known to be harmless.
    """
    if registry.events(*BEFORE):
        return False
    if not registry.path:
        return True  # what annotations declare
    try:
        tree = ast.parse(Path(registry.path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    return not any(_is_outside(node) for node in ast.walk(tree))


def _is_known(module: str) -> bool:
    return module.partition(".")[0] in _PURE_MODULES or f"{module}.".startswith("instar.ext.")


def _is_outside(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            return any(
                not _is_known(one.name) or not _OUTSIDE.isdisjoint(one.name.split(".")) for one in names
            )
        case ast.ImportFrom(module=module, names=names):
            outside = not _OUTSIDE.isdisjoint((module or "").split("."))
            return (
                outside or not _is_known(module or "")
                or any(one.name in _OUTSIDE or one.name == "*" for one in names)
            )  # fmt: skip
        case ast.Global() | ast.Nonlocal():
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _OUTSIDE or (name.startswith("__") and name.endswith("__"))
    return False
