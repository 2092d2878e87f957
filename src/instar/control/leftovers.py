"""Removes what a start has made, when the tool that began it was killed: a program of its own.

It reads lines until its standard input closes: ``pid N``, ``name PATH DEVICE INODE`` and ``gone PATH`` (paths
as bytes in hexadecimal), and ``done``, after which nothing is to be removed. It is small, since one waits
beside every start: nothing of ours is imported.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from collections.abc import Iterable

_PATIENCE_S = 10.0
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)
Names = dict[bytes, tuple[int, int]]


def main() -> int:
    """Listen, then clean up unless all is well."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    told = listen(sys.stdin.buffer)
    if told is not None and _have_ended(told[1]):
        remove(told[0])
    return 0


def listen(lines: Iterable[bytes]) -> tuple[Names, set[int]] | None:
    """Names with their (device, inode), and the processes that made them; None when all is well."""
    names: Names = {}
    pids: set[int] = set()
    for line in lines:
        if not line.endswith(b"\n"):
            break  # the tool was killed while it wrote
        match line.split():
            case [b"pid", pid]:
                pids.add(int(pid))
            case [b"name", path, device, inode]:
                names[bytes.fromhex(path.decode())] = (int(device), int(inode))
            case [b"gone", path]:
                names.pop(bytes.fromhex(path.decode()), None)
            case [b"done"]:
                return None
    return names, pids


def _have_ended(pids: set[int]) -> bool:
    """Whether all have; a new version that outlives the tool serves, and what it made is its own."""
    end = time.monotonic() + _PATIENCE_S
    while any(_runs(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            text = file.read()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def remove(names: Names) -> None:
    """Remove files and empty directories, the newest first, each only if it still is the same object."""
    for path, identity in reversed(names.items()):
        try:
            facts = os.lstat(path)
            if (facts.st_dev, facts.st_ino) != identity:
                continue
            if stat.S_ISDIR(facts.st_mode):
                os.rmdir(path)  # noqa: PTH106
            else:
                os.unlink(path)  # noqa: PTH108
        except OSError:
            continue  # gone, or no longer ours to remove


if __name__ == "__main__":
    sys.exit(main())
