"""Debug information that leaves types and variables out: of such a file nobody can tell what its data is.

`-g1` of gcc, and of clang together with `-gline-tables-only` and `-gmlt`, describe functions and lines, for a
backtrace. A program of such files has state that no type describes; it would go over as bytes, and be wrong
in a version that lays it out otherwise.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from instar.errors import RefusedError

if TYPE_CHECKING:
    from instar.metadata.version import Version

_LEVEL = re.compile(r"(?<=\s)-g(?:gdb|dwarf)?([0-3]?)(?=\s|$)")  # gcc lists its options
_ASSEMBLY = (".s", ".S", ".sx")
_REMEDY = "compile all of its files with -g; -g1, -gline-tables-only and -gmlt leave types and variables out"


def require_whole(version: Version) -> None:
    """Raise RefusedError "reduced-debug-info" for a program of which a file is described by less than -g."""
    found = _by_option(version) or _by_functions(version) or _by_lines(version)
    if found:
        cause = f"{version.path}: the debug information of {found} has no types and no variables"
        raise RefusedError("reduced-debug-info", cause, _REMEDY)


def _by_option(version: Version) -> str:
    """A file that gcc says it compiled with -g1; the last such option counts."""
    for row in version.units:
        levels = _LEVEL.findall(version.text(int(row["producer"])))
        if levels and levels[-1] == "1":
            return version.text(int(row["name"]))
    return ""


def _clang_units(version: Version) -> npt.NDArray[np.int64]:
    producers = [version.text(int(row["producer"])) for row in version.units]
    return np.flatnonzero(["clang" in producer for producer in producers])


def _by_functions(version: Version) -> str:
    """A file of clang's none of whose functions is declared anywhere: so it names those that it inlines."""
    functions = version.functions
    declared = set(functions["unit"][functions["line"] > 0].tolist())
    for unit in _clang_units(version).tolist():
        if unit not in declared and (functions["unit"] == unit).any():
            return version.text(int(version.units["name"][unit]))
    return ""


def _by_lines(version: Version) -> str:
    """A file with lines of code in no function at all: clang leaves out those in which nothing is inlined."""
    if not len(_clang_units(version)):
        return ""
    lines = version.lines[version.lines["line"] > 0]
    outside = lines[~_is_covered(version, lines["address"])]
    for file in dict.fromkeys(outside["file"].tolist()):
        name = version.text(int(file))
        if not name.endswith(_ASSEMBLY):
            return name
    return ""


def _is_covered(version: Version, addresses: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which addresses lie in a function, cold parts included."""
    low = np.concatenate([version.functions["low"], version.ranges["low"]])
    high = np.concatenate([version.functions["high"], version.ranges["high"]])
    order = np.argsort(low, kind="stable")
    low, reach = low[order], np.maximum.accumulate(high[order])
    before = np.searchsorted(low, addresses, side="right") - 1
    covered: npt.NDArray[np.bool_] = (before >= 0) & (addresses < reach[np.maximum(before, 0)])
    return covered
