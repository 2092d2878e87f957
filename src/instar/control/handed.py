"""Whether the future has what it was handed: the past's very files, and sets that watch the same of them.

Nothing of how they were handed over is gone by: the kernel is asked about both processes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from instar.control.descriptors import Action
from instar.control.handover import Fetched
from instar.control.observation import Rows, compare_files, read_epoll
from instar.control.reopening import looks_at
from instar.errors import RolledBackError

Cookies = npt.NDArray[np.uint64]

_ENTRY = ("descriptor", "inode", "device")


def require_handed(fetched: Fetched, future: int) -> tuple[Cookies, Cookies]:
    """Both of the following."""
    require_same_files(fetched, future)
    return require_same_epolls(fetched, future)


def require_same_files(fetched: Fetched, future: int) -> None:
    """Every descriptor of the past is the same open file in the future; those of its own are its own.

    Raises:
        RolledBackError: "validation-difference".
    """
    plan = fetched.plan
    numbers = [
        entry.descriptor.number
        for entry in plan.entries
        if entry.action is Action.CARRY and not looks_at(entry.descriptor, plan.pid)
    ]
    same = compare_files(plan.pid, numbers, future, numbers)
    if same is not None and not same.all():
        raise _difference(f"descriptor {numbers[int(np.argmin(same))]} is another file in the new version")


def require_same_epolls(fetched: Fetched, future: int) -> tuple[Cookies, Cookies]:
    """Every set of the future watches what the past's does, for the same events.

    Returns:
        What is told of each, in the past and in the future.

    Raises:
        RolledBackError: "validation-difference".
    """
    told: tuple[list[Cookies], list[Cookies]] = [], []
    for number, entries in fetched.epoll_entries.items():
        past, there = _in_order(entries), _in_order(read_epoll(future, number))
        there = there[_among(there, past)]
        if len(there) != len(past) or (there["events"] != past["events"]).any():
            count = f"{len(past)} in the old version, {len(there)} in the new one"
            raise _difference(f"the epoll set {number} watches other files or events: {count}")
        told[0].append(past["data"])
        told[1].append(there["data"])
    none = np.zeros(0, np.uint64)
    return np.concatenate([none, *told[0]]), np.concatenate([none, *told[1]])


def _in_order(entries: Rows) -> Rows:
    """Those of one number and file stay in the kernel's order, which goes by the open file."""
    found: Rows = entries[np.lexsort([entries[name] for name in reversed(_ENTRY)])]
    return found


def _among(entries: Rows, wanted: Rows) -> npt.NDArray[np.bool_]:
    """Which are entries of the past's: the future's start-up may have added others."""
    if len(entries) == len(wanted) and all((entries[name] == wanted[name]).all() for name in _ENTRY):
        return np.ones(len(entries), np.bool_)
    known = set(zip(*(wanted[name].tolist() for name in _ENTRY), strict=True))
    keys = zip(*(entries[name].tolist() for name in _ENTRY), strict=True)
    return np.fromiter((key in known for key in keys), np.bool_, len(entries))


def _difference(text: str) -> RolledBackError:
    remedy = "the old version goes on; please report it with `instar doctor PID`, the transfer is wrong here"
    return RolledBackError("validation-difference", text, remedy)
