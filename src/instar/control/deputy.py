"""A small process that does the held actions, also when this one is killed after the past has ended.

It is forked when the list is complete, long before the pause, with duplicates of everything that the actions
are done to. It acts when it is told to; when it hears nothing more, it looks which version serves: the new
one leaves its gate only when the old one has ended (native/runtime/gate.c), and ends itself otherwise.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from instar.control.gate import GRACE_MS
from instar.control.held import HeldActions, Outcome
from instar.process.descriptors import has_ended, open_pidfd
from instar.process.forking import fork, open_signals

_GO, _DISMISS = b"g", b"d"
_LOOK_S = 0.01
_LOOKS = 3  # so often in a row: a new version that dies with the tool may be seen alive once more
_GATE_MASK = (1 << 64) - 1 & ~(1 << 8 | 1 << 18)  # all but SIGKILL and SIGSTOP: it stands at the gate
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


class Deputy:
    """Our end; ``commit`` or ``dismiss`` must be called.

    Args:
        held: The complete list.
        directories: Descriptors that its actions on names need.
        past, future: Process ids of the two versions, both alive.
        prepare: Called in the deputy just before the actions are done.

    Raises:
        OSError: No process or descriptor to be had.
    """

    def __init__(
        self,
        held: HeldActions,
        directories: Iterable[int],
        past: int,
        future: int,
        prepare: Callable[[], None],
    ) -> None:
        self._held = held
        self._done = self._reaped = False
        order, self._order = os.pipe2(os.O_CLOEXEC)
        self._report, report = os.pipe2(os.O_CLOEXEC)
        try:
            with open_pidfd(past) as old, open_pidfd(future) as new:
                self._child = fork()
                if self._child == 0:
                    keep = {order, report, old, new, *directories, *held.descriptors}
                    _serve(held, (order, report), keep, lambda: _takes_over(old, new, future), prepare)
        except BaseException:
            os.close(self._order)
            os.close(self._report)
            raise
        finally:
            os.close(order)
            os.close(report)

    def commit(self, journal: Callable[[Outcome], None] | None = None) -> list[Outcome]:
        """Have everything done; returns what failed. Done here if the deputy was killed before it began.

        The deputy's own end is not waited for, which takes a while; ``dismiss`` does that.
        """
        if self._done:
            return []
        self._done = True
        if not self._tell(_GO):
            return self._held.commit(journal)
        outcomes = []
        with os.fdopen(os.dup(self._report), "rb") as report:
            for line in report:
                outcomes.append(Outcome(**json.loads(line)))
                if journal is not None:
                    journal(outcomes[-1])
                if not outcomes[-1].action:
                    break
        if not outcomes or outcomes.pop().action:  # the last line says that all was done
            outcomes.append(Outcome("the rest of what was held back", "whoever did it was killed"))
        return [outcome for outcome in outcomes if outcome.error]

    def dismiss(self) -> None:
        """Nothing is to be done any more; returns when the deputy has ended."""
        if not self._done:
            self._done = True
            self._tell(_DISMISS)
        if not self._reaped:
            self._reap()

    def _tell(self, order: bytes) -> bool:
        try:
            return os.write(self._order, order) == 1
        except BrokenPipeError:
            return False

    def _reap(self) -> None:
        self._reaped = True
        os.close(self._order)
        os.close(self._report)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._child, 0)


# ---------------------------------------------------------------------------------------- the deputy's life


def _serve(
    held: HeldActions,
    pipes: tuple[int, int],
    keep: set[int],
    serves: Callable[[], bool],
    prepare: Callable[[], None],
) -> NoReturn:
    status = 1
    try:
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        open_signals()
        os.setsid()
        _close_all_but(keep)
        order = os.read(pipes[0], 1)
        if order == _GO or (not order and serves()):
            prepare()
            held.commit(lambda outcome: _tell_outcome(pipes[1], outcome))
            _tell_outcome(pipes[1], Outcome(""))
        status = 0
    finally:
        os._exit(status)


def _tell_outcome(report: int, outcome: Outcome) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(report, json.dumps(asdict(outcome)).encode() + b"\n")


def _close_all_but(keep: set[int]) -> None:
    """Neither a pipe of ours nor a socket of the guard may stay open because of the deputy."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) not in keep:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _takes_over(past: int, future: int, future_pid: int) -> bool:
    """Wait until one version is gone; whether the new one is left.

    Args:
        past, future: pidfds.
        future_pid: Of the future, for /proc.
    """
    seen, last = 0, 0.0
    while not has_ended(future):
        if has_ended(past):
            last = last or time.monotonic() + GRACE_MS / 1000
            seen = seen + 1 if not stands_at_gate(future_pid) or time.monotonic() > last else 0
            if seen > _LOOKS:
                return True
        time.sleep(_LOOK_S)
    return False


def stands_at_gate(pid: int) -> bool:
    """Whether all its signals are blocked, which the gate undoes at its end (the program may do it, too)."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return True
    mask = next((line.split()[1] for line in text.splitlines() if line.startswith("SigBlk:")), "0")
    return int(mask, 16) & _GATE_MASK == _GATE_MASK
