"""A small process that cleans up when this one is killed while a new version starts.

The kernel ends the new version then (PTRACE_O_EXITKILL), but the files it had made would stay. The janitor
learns of every name over a pipe; when the pipe closes without a word that all is well, it waits for the new
version's end and removes the names that still are what they were. It is ``leftovers``, in an interpreter of
its own: a forked one would keep a copy of every page that is written here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

from instar.control import leftovers


class Janitor:
    """Our end of the pipe; ``dismiss`` must be called when nothing is to be cleaned up any more.

    Raises:
        OSError: No process or descriptor to be had.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(leftovers.__file__)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # the terminal's signals are for us
        )

    def tell_process(self, pid: int) -> None:
        """A process of the start: names are removed only when it has ended."""
        self._tell("pid", str(pid))

    def tell_name(self, path: str, identity: tuple[int, int]) -> None:
        """A name exists because of the new version; its device and inode."""
        self._tell("name", os.fsencode(path).hex(), *map(str, identity))

    def tell_gone(self, path: str) -> None:
        """A name was removed again."""
        self._tell("gone", os.fsencode(path).hex())

    def dismiss(self) -> None:
        """All is well, or cleaned up already."""
        self.tell_done()
        self._process.wait()

    def tell_done(self) -> None:
        """Likewise, but its end is not waited for: ``dismiss`` does that later."""
        pipe = self._process.stdin
        if pipe is not None and not pipe.closed:
            self._tell("done")
            pipe.close()

    def _tell(self, *words: str) -> None:
        pipe = self._process.stdin
        if pipe is not None and not pipe.closed:
            with suppress(BrokenPipeError):
                pipe.write(" ".join(words).encode() + b"\n")
