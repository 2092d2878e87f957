"""Runs `instar` with a fault in it: `python -m faults.tool`.

One process imports everything once and forks for each run, so that a run takes no longer than its update. It
reads requests, one JSON object a line, and answers each by two lines: the process id, then the exit status.

    {"argv": [...], "environment": {...}, "fault": {...}, "output": FILE, "errors": FILE, "log": FILE}
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from faults.injection import Notes, inject

_ROOM = 1 << 20
_MOST_MEMORY = 3 << 30  # a fault may make a loop that collects without end


def main() -> int:
    """Serve until standard input ends."""
    import instar.cli.update
    import instar.update.transaction
    import instar.validation.validator  # noqa: F401

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    notes = Notes()
    for line in sys.stdin:
        request = json.loads(line)
        pipes = {name: _pipe() for name in ("output", "errors")}  # not files: there may be no room for them
        child = os.fork()
        if child == 0:
            _run(request, pipes, notes)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        for name, (reader, writer) in pipes.items():
            os.close(writer)
            Path(request[name]).write_bytes(_drain(reader))
            os.close(reader)
        Path(request["log"]).write_text(notes.take())
        print(os.waitstatus_to_exitcode(status), flush=True)
    return 0


def _pipe() -> tuple[int, int]:
    """With room for everything that is said; read when the run is over."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _ROOM)
    os.set_blocking(reader, False)
    return reader, writer


def _drain(reader: int) -> bytes:
    try:
        return os.read(reader, _ROOM)
    except BlockingIOError:  # somebody still has the other end, and has said nothing
        return b""


def _limit(which: int, value: int) -> None:
    resource.setrlimit(which, (value, resource.getrlimit(which)[1]))


def _run(request: dict[str, Any], pipes: dict[str, tuple[int, int]], notes: Notes) -> None:
    """In the child: become the tool, inject, never return."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, name in ((0, os.devnull), (1, "output"), (2, "errors")):
            opened = os.open(os.devnull, os.O_RDWR) if number == 0 else pipes[name][1]
            os.dup2(opened, number)
        for reader, writer in pipes.values():
            os.close(reader)
            os.close(writer)
        os.environ.update(request["environment"])
        _limit(resource.RLIMIT_DATA, _MOST_MEMORY)
        _limit(resource.RLIMIT_CORE, 0)
        inject(request["fault"], notes)
        from instar.cli.main import main as instar

        status = instar(request["argv"])
        sys.stdout.flush()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        print(f"faults.tool: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
