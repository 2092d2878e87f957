"""One computation in a process without rights, for verbs that only look: at files that nobody trusts.

The same confinement as the worker's (``update.sandbox``); what comes back is data of the expected type.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from instar.process.forking import fork, open_signals
from instar.update.errand import error_from, error_to, retire
from instar.update.exchange import GarbageError, Wire, WorkerLostError

T = TypeVar("T")


def compute(
    task: Callable[[], T],
    kind: Any,
    keep: Sequence[int] = (),
    *,
    seconds: float | None = None,
    memory: int | None = None,
) -> T:
    """Run it in a child that may only compute and read files.

    Args:
        task: What is done there.
        kind: Type of what it returns; as which it is decoded here.
        keep: Descriptors that it needs, beside standard output and error.
        seconds: It may take; None: until it is interrupted.
        memory: Bytes that it may have of its own; None: all that there is.

    Raises:
        WorkerLostError: The child was ended, or takes too long.
        GarbageError: It answers something else.
        InstarError: From the task.
    """
    ours, theirs = socket.socketpair()
    pid = fork()
    if pid == 0:
        _work(task, theirs, keep, memory)
    status = 0
    try:
        theirs.close()
        ours.settimeout(seconds)
        wire = Wire(ours, None)
        if memory is not None:
            wire.most_bytes = memory
        message = wire.receive()
        if message.kind == "failed":
            raise error_from(message)
        if message.kind != "done":
            raise GarbageError(message.kind)
        answer: T = message.value(0, kind)
        return answer
    except TimeoutError:
        raise WorkerLostError("does not come to an end") from None
    except EOFError:
        status = _end(pid, None)
        how = f"was killed by {signal.Signals(status).name}" if 0 < status < 65 else "has ended"
        raise WorkerLostError(how) from None
    finally:
        ours.close()
        _end(pid, signal.SIGKILL)


def _end(pid: int, number: int | None) -> int:
    """Wait for the child's end; the signal that ended it."""
    with suppress(ProcessLookupError, ChildProcessError):
        if number is not None:
            os.kill(pid, number)
        return os.WTERMSIG(os.waitpid(pid, 0)[1])
    return 0


def _work(
    task: Callable[[], object], channel: socket.socket, keep: Sequence[int], memory: int | None
) -> NoReturn:
    """The child: never returns, and tells nothing but its answer."""
    try:
        open_signals()
        gc.freeze()
        logging.getLogger("instar.metadata.cache").setLevel(logging.ERROR)  # it may not be written here
        retire((channel.fileno(), *keep), None, memory)
        wire = Wire(channel, None)
        try:
            wire.send("done", task())
        except BaseException as error:
            wire.send("failed", *error_to(error))
        sys.stderr.flush()
    finally:
        os._exit(0)
