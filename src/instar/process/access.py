"""By whom a process is reached: by this one itself, or by another that holds it and reads it for us."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Access(Protocol):
    """Somebody with the right to reach one process."""

    def copy(self, starts: npt.NDArray[np.uint64], sizes: npt.NDArray[np.uint64], local: int) -> None:
        """Read spans of it, one after the other, to an address here; raises as ``Memory`` does."""

    def duplicate(self, numbers: Iterable[int]) -> dict[int, int]:
        """Number there -> duplicate here; those that are closed are left out."""

    def room(self, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """An array of bytes into which it is read without another copy."""


_others: dict[int, Access] = {}


def reach_through(pid: int, access: Access | None) -> None:
    """From now on a process is reached through somebody else; None: by this process again."""
    if access is None:
        _others.pop(pid, None)
    else:
        _others[pid] = access


def access_to(pid: int) -> Access | None:
    """Who reaches a process for us; None: this process itself."""
    return _others.get(pid)
