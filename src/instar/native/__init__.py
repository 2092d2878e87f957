"""Loads the native libraries that the package's build put beside this file."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from instar.errors import HostError

DIRECTORY = Path(__file__).parent


def library_path(name: str) -> Path:
    """Path of ``libinstar-<name>.so``; raises HostError when it was never built."""
    path = DIRECTORY / f"libinstar-{name}.so"
    if not path.exists():
        raise HostError("native-missing", f"{path} does not exist", "run `make native` in the checkout")
    return path


@cache
def load(name: str) -> ctypes.CDLL:
    """Load a native library ("dwarf" or "kernels"); errno is kept for ctypes.get_errno()."""
    path = library_path(name)
    try:
        return ctypes.CDLL(str(path), use_errno=True)
    except OSError as error:
        raise HostError(
            "native-unloadable", f"{path.name}: {error}", "install libdw1 (elfutils) and run `make native`"
        ) from error
