"""A stopped past gives up the connections that its successor has closed, and learns of it if it ever goes on.

While the past is kept it holds duplicates of every connection: what the future closes would stay open for
the peer. So the past's duplicate is replaced by a socket whose other end is closed. Should the past go on, it
reads the end of that connection there, as if the peer had closed it, and its epoll sets tell so.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Sequence

import numpy as np

from instar.control.observation import O_CLOEXEC, Rows, observe, read_epoll
from instar.guard.client import ROOM, Past
from instar.process.descriptors import list_numbers
from instar.process.surroundings import read_stat
from instar.process.syscalls import NUMBERS

_AF_UNIX, _SOCK_STREAM = 1, 1
_EPOLL_ADD = 1
_EXITING = 0x4  # PF_EXITING, field 9 of /proc/PID/stat
_CHANNELS = (stat.S_IFSOCK, stat.S_IFIFO)


class StandIns:
    """The connections of a held past.

    Args:
        past: Held in its call; may be operated on, because nobody serves with it unless it is revived.
        rows: ``OBSERVED`` rows of its descriptors.
        spared: Numbers that stay open whatever the future does (listeners).
        epolls: Numbers of its epoll sets.
    """

    def __init__(self, past: Past, rows: Rows, spared: Sequence[int], epolls: Sequence[int]) -> None:
        self._past = past
        channel = np.isin(rows["mode"] & 0o170000, _CHANNELS) & ~np.isin(rows["number"], spared)
        self._open = rows[channel].copy()
        self._known = rows["inode"]
        self._seen = np.zeros(0, np.uint64)
        self._entries = {number: read_epoll(past.pid, number) for number in epolls}
        self._source = -1
        self.replaced: list[int] = []
        self.fresh = 0

    def follow(self, future: int) -> list[int]:
        """Give up what the future has closed since the last look; returns the past's numbers of it."""
        rows = observe(future, list_numbers(future))
        if is_exiting(future):  # what is closed now is closed by its end
            return []
        inodes = rows["inode"][np.isin(rows["mode"] & 0o170000, _CHANNELS)]
        self.fresh = int((~np.isin(inodes, self._known)).sum())
        self._seen = np.union1d(self._seen, inodes[np.isin(inodes, self._open["inode"])])
        closed = np.isin(self._open["inode"], self._seen) & ~np.isin(self._open["inode"], inodes)
        gone = self._open[closed]
        if len(gone):
            for row in gone:
                self._replace(int(row["number"]), bool(row["flags"] & O_CLOEXEC))
            self._open = self._open[~closed]
        return [int(number) for number in gone["number"]]

    def _replace(self, number: int, cloexec: bool) -> None:
        self._past.inject(NUMBERS["close"], number)
        if self._source < 0:
            self._source = _dead_socket(self._past)
        if self._source >= 0 and self._source != number:
            self._past.inject(NUMBERS["dup3"], self._source, number, O_CLOEXEC if cloexec else 0)
        self.replaced.append(number)

    def revive(self) -> None:
        """Before the past goes on: its epoll sets watch the stand-ins as they watched what they stand for."""
        if not self.replaced:
            return
        for epoll, entries in self._entries.items():
            for entry in entries[np.isin(entries["descriptor"], self.replaced)]:
                event = struct.pack("<IQ", int(entry["events"]), int(entry["data"]))
                number = int(entry["descriptor"])
                self._past.inject(NUMBERS["epoll_ctl"], epoll, _EPOLL_ADD, number, ROOM, room=event)
        if self._source >= 0 and self._source not in self.replaced:
            self._past.inject(NUMBERS["close"], self._source)


def _dead_socket(past: Past) -> int:
    """A socket whose other end is closed; -1 when the past may not open any more."""
    result, place = past.inject(NUMBERS["socketpair"], _AF_UNIX, _SOCK_STREAM, 0, ROOM)
    if result < 0:
        return -1
    ours, other = struct.unpack_from("<ii", place)
    past.inject(NUMBERS["close"], other)
    return int(ours)


def is_exiting(pid: int) -> bool:
    """Whether a process is gone, or on its way out."""
    try:
        fields = read_stat(pid)
    except OSError:
        return True
    return fields[0] in "ZX" or bool(int(fields[6]) & _EXITING)
