"""The columns of a program's debug information, by the native walker (native/dwarf/walker*.c)."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from instar.errors import HostError, InternalError, RefusedError
from instar.metadata.model import COLUMNS
from instar.native import load

Columns = dict[str, npt.NDArray[Any]]

REBUILD = "build the program with gcc or clang and -g, and keep the debug information"
# By enum walk_error of native/dwarf/walker.h: code, cause before the detail, remedy.
ERRORS = {
    2: ("unreadable-elf", "cannot be read as an ELF file", REBUILD),
    3: ("no-debug-info", "has no debug information", REBUILD),
    4: ("empty-debug-info", "has debug information without any type or function", REBUILD),
    5: ("damaged-debug-info", "has damaged debug information", "build the program again"),
    6: ("dwarf-version", "has an unknown version of DWARF", "compile with -gdwarf-4 or -gdwarf-5"),
    7: ("zstd-missing", "has zstd-compressed debug information", "install libzstd (Debian: libzstd1)"),
    8: (
        "split-debug-missing",
        "is built with -gsplit-dwarf and a .dwo file is not found",
        "put the .dwo files where the compiler wrote them or beside the program, or run `dwp -e PROGRAM`",
    ),
    9: ("split-debug-mismatch", "has a .dwo file of another build", "build the program again"),
    10: (
        "dwz-missing",
        "refers to a common debug file (dwz) that is not found",
        "install the package's debug symbols completely",
    ),
}


class _Column(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("rows", ctypes.c_uint64), ("width", ctypes.c_uint64))


@cache
def _library() -> ctypes.CDLL:
    library = load("dwarf")
    walk, text = ctypes.c_void_p, ctypes.c_char_p
    library.instar_walk_create.restype = walk
    library.instar_walk_give.argtypes = [walk, text, ctypes.c_int]
    library.instar_walk_program.argtypes = [walk, text, text, text, text]
    library.instar_walk_detail.argtypes = [walk]
    library.instar_walk_detail.restype = text
    library.instar_walk_column.argtypes = [walk, text, ctypes.POINTER(_Column)]
    library.instar_walk_free.argtypes = [walk]
    library.instar_walk_free.restype = None
    return library


def walk_program(
    debug_file: Path,
    *,
    beside: Path | None = None,
    alternate: Path | None = None,
    package: Path | None = None,
    opened: Mapping[Path, int] | None = None,
) -> Columns:
    """Walk a whole program.

    Args:
        debug_file: The file with the .debug_info sections: the program, or its separate debug file.
        beside: The directory to look for .dwo files in after the compiler's; default: that of debug_file.
        alternate: The file that .gnu_debugaltlink names (dwz).
        package: The .dwp with the program's split units; else its .dwo files are looked for.
        opened: Descriptors of some of these files, for who may not open them.

    Returns:
        All columns of ``metadata.model``, each an array of its own.

    Raises:
        RefusedError: With a code of ERRORS.
    """
    library = _library()
    walk = library.instar_walk_create()
    if not walk:
        raise MemoryError
    paths = (debug_file, beside or debug_file.parent, alternate, package)
    given = [(_encode(path), file) for path, file in (opened or {}).items()]
    try:
        if any(library.instar_walk_give(walk, path, file) for path, file in given):
            raise InternalError(f"{len(given)} files were opened for the walker")
        error = library.instar_walk_program(walk, *map(_encode, paths))
        if error:
            detail = library.instar_walk_detail(walk).decode("utf-8", "replace")
            raise _error(error, detail, debug_file)
        return {name: _copy(library, walk, name) for name in COLUMNS}
    finally:
        library.instar_walk_free(walk)


def _encode(path: Path | None) -> bytes | None:
    return None if path is None else str(path).encode("utf-8", "surrogateescape")


def _error(error: int, detail: str, path: Path) -> Exception:
    if error == 1:
        return HostError("out-of-memory", f"reading {path} needs more memory: {detail}", "free some memory")
    if error not in ERRORS:
        return InternalError(f"walking {path} failed with {error}: {detail}")
    code, cause, remedy = ERRORS[error]
    return RefusedError(code, f"{path} {cause}" + ("" if detail == str(path) else f": {detail}"), remedy)


def _copy(library: ctypes.CDLL, walk: int, name: str) -> npt.NDArray[Any]:
    column = _Column()
    if library.instar_walk_column(walk, name.encode(), ctypes.byref(column)):
        raise InternalError(f"the walker has no column {name}")
    if column.width != COLUMNS[name].itemsize:
        raise InternalError(f"column {name} has rows of {column.width}, not {COLUMNS[name].itemsize} bytes")
    if not column.rows:
        return np.empty(0, COLUMNS[name])
    raw = (ctypes.c_char * (column.rows * column.width)).from_address(column.data or 0)
    return np.frombuffer(raw, COLUMNS[name]).copy()
