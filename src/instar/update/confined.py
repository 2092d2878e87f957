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
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from instar.process.forking import fork, open_signals
from instar.update.errand import error_from, error_to, retire
from instar.update.exchange import GarbageError, Wire, WorkerLostError

T = TypeVar("T")

_LATE_S = 1.0


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
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = fork()
        if pid == 0:
            _work(task, theirs, keep, memory)
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)  # raises an interruption that came meanwhile
            theirs.close()
            wire = Wire(ours, None)
            wire.until = None if seconds is None else time.monotonic() + seconds
            wire.most_bytes = memory or wire.most_bytes
            answer: T = _receive(wire, pid, kind)
            return answer
        finally:
            _end(pid)
    finally:
        ours.close()
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _receive(wire: Wire, pid: int, kind: Any) -> Any:
    """What the child answers, as data of a type; raises what it says, WorkerLostError, GarbageError."""
    try:
        message = wire.receive()
    except TimeoutError:
        raise WorkerLostError("does not come to an end") from None
    except EOFError:
        raise WorkerLostError(_how_it_ended(pid)) from None
    if message.kind == "failed":
        raise error_from(message)
    if message.kind != "done":
        raise GarbageError(message.kind)
    return message.value(0, kind)


def _how_it_ended(pid: int) -> str:
    """Still to be waited for, so that its number stays its own."""
    end = time.monotonic() + _LATE_S
    while time.monotonic() < end:  # it may as well have closed the channel, and go on
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if found is not None:
            killed = found.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
            return f"was killed by {signal.Signals(found.si_status).name}" if killed else "has ended"
        time.sleep(0.001)
    return "says nothing more"


def _end(pid: int) -> None:
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


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
