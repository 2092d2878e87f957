"""The past, as the transaction has it: held by a guard of its own (``guard.client``), found and copied by us.

What is decided about the past is decided here and in ``control.quiescence``, from what the guard hands over;
the guard does it, and lets the past go on when it does not hear from us in time.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from instar.control.chains import FunctionNames, function_names
from instar.control.dispositions import read_handlers
from instar.control.gate import GRACE_MS
from instar.control.quiescence import QuiescentPoint, bring_to_point, observe_past
from instar.control.standins import is_exiting
from instar.control.startup_past import PastFacts, read_past
from instar.control.timers import Timers, plan_timers, read_timers
from instar.errors import InternalError
from instar.guard.client import GuardLostError, Past
from instar.metadata.annotations import update_points
from instar.metadata.version import Version
from instar.process.deadline import Deadline
from instar.process.failures import ProcessDiedError
from instar.process.maps import Mapping, read_maps
from instar.process.queued import QueuedSignal
from instar.process.signals import Disposition

_PATIENCE_S = 3.0  # beyond what the transaction bounds by itself
_LONGEST_S = 1e6
_LOOK_S = 0.005


class Guard:
    """The past and who holds it.

    Args:
        past: Its guard.
        version: What it runs.
    """

    def __init__(self, past: Past, version: Version) -> None:
        self.past, self.pid, self._version = past, past.pid, version
        self._names: FunctionNames = function_names(version)
        self.point: QuiescentPoint | None = None

    def observe(self, deadline: Deadline) -> QuiescentPoint:
        """Find the past's quiescent point; it goes on as if it had not been looked at."""
        self.point = observe_past(self.past, self._names, deadline, update_points(self._version))
        return self.point

    def facts(self) -> PastFacts:
        """What the new version's start-up needs to know of the past."""
        return read_past(self.pid)

    def hold(self, deadline: Deadline, limit_s: float = math.inf) -> None:
        """Stop the past at its quiescent point; after ``limit_s`` the guard lets it go by itself."""
        if self.point is None:
            raise InternalError("the past was not observed")
        self.past.seize(deadline.remaining() + _PATIENCE_S)
        try:
            bring_to_point(
                self.past, self._names, self.point, deadline, min(limit_s + _PATIENCE_S, _LONGEST_S)
            )
        except BaseException:
            self.past.release()
            raise

    def release(self) -> None:
        """Let the past go on as if nothing had happened; harmless when it is not held."""
        self.past.release()

    def maps(self) -> list[Mapping]:
        """Its mappings."""
        return read_maps(self.pid)

    def is_alive(self) -> bool:
        """Whether it still exists."""
        return Path(f"/proc/{self.pid}").exists()

    def signal_mask(self) -> int:
        """What it blocks."""
        return self.past.signal_mask()

    def pending_signals(self) -> Sequence[QueuedSignal]:
        """Signals that wait for it: what reached it while it was held, and what it blocks."""
        try:
            return self.past.pending_signals()
        except (GuardLostError, ProcessDiedError):
            return ()

    def timers(self) -> Timers:
        """Its interval and POSIX timers with the time that is left."""
        return read_timers(self.past, plan_timers(self.pid))

    def handlers(self, numbers: tuple[int, ...]) -> dict[int, Disposition]:
        """Its dispositions of some signals."""
        return read_handlers(self.past, numbers)

    def ending(self) -> Ending:
        """What makes the held past end itself."""
        self.past.prepare_end()
        return Ending(self.past)

    def witness(self, descriptor: int) -> None:
        """Have the guard hold a duplicate of this as long as it lives."""
        self.past.keep(descriptor)

    def stake(self) -> None:
        """The held past dies with its guard, and the guard with us, from here on: its successor serves."""
        self.past.stake(True)

    def redeem(self) -> None:
        """It outlives them again."""
        self.past.stake(False)

    def has_ended(self) -> bool:
        """Whether the held past was killed from outside."""
        return is_exiting(self.pid)

    def close(self) -> None:
        """The guard is not needed any more; a past that it holds goes on."""
        self.past.close()


class Ending:
    """Makes a held past run its own exit_group(0), running no exit handlers.

    Args:
        past: Everything that can fail was done (``prepare_end``).
    """

    def __init__(self, past: Past) -> None:
        self._past = past

    def commit(self) -> None:
        """Step 3 of the gate's protocol, the point of no return.

        Raises:
            GuardLostError: The guard is gone, and has not done it: the past goes on.
        """
        try:
            self._past.commit_end()
        except GuardLostError:
            if not _ends_soon(self._past.pid):
                raise

    def run(self, deadline: Deadline) -> None:
        """Let the past run into its exit; returns when it has left user space for ever."""
        with suppress(GuardLostError, ProcessDiedError):  # it goes there by itself
            self._past.run_end(deadline.remaining())

    def release(self, seconds: float = 0.0) -> None:
        """Stop tracing the past, which ends; returns when it has closed its descriptors, or the time is over.

        While it has them, what its successor closes stays open for the peer, and the successor's epoll set
        goes on reporting it under a number that may be another connection's by then. The kernel gives its
        memory back first, about 0.1 ms a megabyte.
        """
        try:
            ended = os.pidfd_open(self._past.pid)
        except OSError:  # gone already
            return self._past.release()
        try:
            self._past.release()
            poll = select.poll()
            poll.register(ended, select.POLLIN)
            poll.poll(1000 * seconds)
        finally:
            os.close(ended)


def _ends_soon(pid: int) -> bool:
    """Whether a process that nobody holds any more was made to end: waits as long as the gate does."""
    end = time.monotonic() + GRACE_MS / 1000
    while time.monotonic() < end:
        if is_exiting(pid):
            return True
        time.sleep(_LOOK_S)
    return False
