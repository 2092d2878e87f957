"""Epoll sets of the past, registered afresh in the future.

The past's own sets are never shared: what the future did with them would be there after a rollback. A
registration belongs to an open file and to the number it was added under; the number may be closed or reused.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from instar.control.handover import Fetched
from instar.control.observation import Rows, kernel_device
from instar.control.runtime import EPOLL_FIRE, EPOLL_ITEM, Runtime
from instar.errors import RefusedError

Cookies = npt.NDArray[np.uint64]
Translate = Callable[[Cookies], Cookies]

_ADD = 1
_ONE_SHOT = 1 << 30
_PRIVATE = 0xF << 28  # EPOLLEXCLUSIVE, EPOLLWAKEUP, EPOLLONESHOT, EPOLLET
_KCMP, _KCMP_EPOLL_TFD = 312, 7
_SOCKET = 0o140000
_libc = ctypes.CDLL(None, use_errno=True)


def plan_epolls(fetched: Fetched, translate: Translate) -> Rows:
    """Rows of ``EPOLL_ITEM`` that fill the future's empty sets, in the order they must be run.

    Args:
        fetched: The past's descriptors, handed over already (``kept_entries``).
        translate: All cookies of the past (u8) -> what the future shall be told. It is called once.

    Raises:
        RefusedError: "epoll-orphan": a set watches a file that the past has no descriptor for any more.
    """
    parts = [_items(number, entries, fetched) for number, entries in fetched.epoll_entries.items()]
    items = np.concatenate(parts) if parts else np.zeros(0, EPOLL_ITEM)
    items["data"] = translate(items["data"].copy())
    kept = [_bare_items(number, entries) for number, entries in fetched.kept_entries.items()]
    items = np.concatenate([items, *kept])
    # A one-shot that has fired is made to fire again, in a set where nothing else is ready.
    return items[np.argsort(items["flags"] != EPOLL_FIRE, kind="stable")]


def fill_epolls(runtime: Runtime, items: Rows) -> None:
    """Register everything in the parked future.

    Raises:
        RefusedError: "epoll-oneshot": a one-shot that has fired cannot be made silent, because its descriptor
            is ready for nothing; "epoll-failed" for what the kernel does not accept.
    """
    runtime.control_epoll(items)
    failed = items[items["result"] < 0]
    if not len(failed):
        return
    row = failed[0]
    where = f"descriptor {row['descriptor']} in epoll set {row['epoll']}"
    code = -int(row["result"])
    if int(row["flags"]) & EPOLL_FIRE and code == errno.EAGAIN:
        raise RefusedError(
            "epoll-oneshot",
            f"{where} is a one-shot that has fired; that cannot be restored while it is not ready",
            "update at another moment",
        )
    raise RefusedError(
        "epoll-failed", f"{where} cannot be registered: {os.strerror(code)}", "restart the service instead"
    )


def _bare_items(number: int, entries: Rows) -> Rows:
    items = np.zeros(len(entries), EPOLL_ITEM)
    items["epoll"], items["operation"], items["source"] = number, _ADD, -1
    items["descriptor"], items["events"] = entries["descriptor"], entries["events"]
    items["data"] = entries["data"]
    fired = (entries["events"] & _ONE_SHOT != 0) & (entries["events"] & ~np.uint32(_PRIVATE) == 0)
    items["flags"] = np.where(fired, EPOLL_FIRE, 0)
    return items


def _items(number: int, entries: Rows, fetched: Fetched) -> Rows:
    items = _bare_items(number, entries)
    rows = fetched.plan.observed
    position = np.searchsorted(rows["number"], entries["descriptor"])
    position[position == len(rows)] = 0
    target = rows[position]
    same = (target["number"] == entries["descriptor"]) & (target["inode"] == entries["inode"])
    same &= kernel_device(target["device"]) == entries["device"]
    # A socket's inode is its own. Other inodes are shared by several open files: ask about the file.
    sure = same & ((target["mode"] & 0o170000) == _SOCKET)
    for index in np.flatnonzero(~sure).tolist():
        turn = int((entries["descriptor"][:index] == entries["descriptor"][index]).sum())
        source = _find_source(number, entries[index], turn, fetched, bool(same[index]))
        items["source"][index] = -1 if source == entries["descriptor"][index] else source
    return items


def _find_source(number: int, entry: np.void, turn: int, fetched: Fetched, expected: bool) -> int:
    """The descriptor of the past that is the very file of a registration, its own number first."""
    pid, rows = fetched.plan.pid, fetched.plan.observed
    own = int(entry["descriptor"])
    if expected and _watches(pid, number, own, turn, own) is not False:
        return own
    alike = rows[(rows["inode"] == entry["inode"]) & (kernel_device(rows["device"]) == entry["device"])]
    for candidate in alike["number"].tolist():
        if _watches(pid, number, own, turn, candidate):
            return int(candidate)
    raise RefusedError(
        "epoll-orphan",
        f"epoll set {number} of process {pid} still watches a file that was closed under number {own} "
        "and that another process holds open",
        "remove it from the set (EPOLL_CTL_DEL) before it is closed, or restart the service",
    )


def _watches(pid: int, epoll: int, number: int, turn: int, candidate: int) -> bool | None:
    """Whether the registration (number, which of several) is for a descriptor's file; None: cannot tell."""
    slot = ctypes.create_string_buffer(struct.pack("<III", epoll, number, turn), 12)
    result: int = _libc.syscall(_KCMP, pid, pid, _KCMP_EPOLL_TFD, candidate, slot)
    if result < 0:
        return None if ctypes.get_errno() in (errno.ENOSYS, errno.EPERM, errno.EINVAL) else False
    return result == 0
