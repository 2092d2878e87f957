"""A small process that cleans up when this one is killed while a new version starts.

The kernel ends the new version then (PTRACE_O_EXITKILL), but the files it had made would stay. The janitor
learns of every name over a pipe; when the pipe closes without a word that all is well, it waits for the new
version's end and removes the names that still are what they were.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import sys
import time
from pathlib import Path
from typing import NoReturn

from instar.process.forking import fork, open_signals

_PATIENCE_S = 10.0
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


class Janitor:
    """Our end of the pipe; ``dismiss`` must be called when nothing is to be cleaned up any more."""

    def __init__(self) -> None:
        read, self._write = os.pipe2(os.O_CLOEXEC)
        self._child = fork()
        if self._child == 0:
            os.close(self._write)
            _serve(read)
        os.close(read)

    def tell_process(self, pid: int) -> None:
        """A process of the start: names are removed only when it has ended."""
        self._tell({"pid": pid})

    def tell_name(self, path: str, identity: tuple[int, int]) -> None:
        """A name exists because of the new version."""
        self._tell({"name": os.fsencode(path).hex(), "identity": identity})

    def tell_gone(self, path: str) -> None:
        """A name was removed again."""
        self._tell({"gone": os.fsencode(path).hex()})

    def dismiss(self) -> None:
        """All is well, or cleaned up already."""
        self.tell_done()
        if self._child:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._child, 0)
            self._child = 0

    def tell_done(self) -> None:
        """Likewise, but its end is not waited for: ``dismiss`` does that later."""
        if self._write >= 0:
            self._tell({"done": True})
            os.close(self._write)
            self._write = -1

    def _tell(self, message: dict[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._write, json.dumps(message).encode() + b"\n")


def _serve(read: int) -> NoReturn:
    """The life of the janitor."""
    status = 1
    try:
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        open_signals()
        os.setsid()
        _close_all_but(read)
        with os.fdopen(read, "rb") as pipe:
            names, pids, done = _listen(pipe.readlines())
        if not done and _wait_for(pids):
            remove_names(names)
        status = 0
    finally:
        os._exit(status)


def _close_all_but(number: int) -> None:
    os.closerange(0, number)
    os.closerange(number + 1, os.sysconf("SC_OPEN_MAX"))
    sys.stdin = sys.stdout = sys.stderr = None


def _listen(lines: list[bytes]) -> tuple[dict[bytes, tuple[int, int]], set[int], bool]:
    names: dict[bytes, tuple[int, int]] = {}
    pids: set[int] = set()
    done = False
    for line in lines:
        message = json.loads(line)
        if "pid" in message:
            pids.add(message["pid"])
        elif "name" in message:
            device, inode = message["identity"]
            names[bytes.fromhex(message["name"])] = (device, inode)
        elif "gone" in message:
            names.pop(bytes.fromhex(message["gone"]), None)
        else:
            done = True
    return names, pids, done


def _wait_for(pids: set[int]) -> bool:
    """Whether all have ended; a new version that outlives the tool serves, and what it made is its own."""
    end = time.monotonic() + _PATIENCE_S
    while any(_runs(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def _runs(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def remove_names(names: dict[bytes, tuple[int, int]]) -> None:
    """Remove files and empty directories, the newest first, each only if it still is the same object."""
    for path, identity in reversed(names.items()):
        with contextlib.suppress(OSError):
            facts = os.lstat(path)
            if (facts.st_dev, facts.st_ino) != tuple(identity):
                continue
            if stat.S_ISDIR(facts.st_mode):
                os.rmdir(path)  # noqa: PTH106
            else:
                os.unlink(path)  # noqa: PTH108
