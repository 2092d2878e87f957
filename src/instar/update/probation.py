"""Probation: after the commit the past is kept, stopped, in case that its successor fails at once.

The commit is the same but for its third step (native/runtime/gate.c): in place of setting the past's
registers to an exit, the past is made to die with this process (PTRACE_O_EXITKILL). From then on the future
serves whatever becomes of us. In the time that follows either the future ends well or the time is over, and
the past ends; or the future fails, and the past goes on with the state it had, its listening sockets never
closed.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from instar.control.descriptors import DescriptorPlan
from instar.control.observation import Rows
from instar.control.standins import StandIns
from instar.errors import HostError, RefusedError, RolledBackError
from instar.process.deadline import Deadline
from instar.process.failures import signal_name
from instar.update.driver import Driver
from instar.update.guard import Guard
from instar.update.marker import Marker

_GLANCE_S = 0.005
_FOLLOW_S = 0.1
_FOLLOW_SHARE = 10  # of the time, looking at descriptors may take a tenth
_END_S = 30.0
_SHOWN = 20

Verdict = Literal["over", "interrupted", "left", "failed", "killed"]
_WORDS: dict[Verdict, list[str]] = {
    "over": [],
    "interrupted": ["probation: it was ended early; there is nothing to go back to any more"],
    "left": ["probation: the new version has ended by itself with status 0; the old one was ended too"],
    "killed": ["probation: the old version was killed meanwhile; the new one serves on"],
}


@dataclass
class Probation:
    """The time after a commit: ``begin`` while the future stands at the gate, ``run`` when it serves.

    Attributes:
        guard: Holds the past.
        driver: Of the future, which serves.
        seconds: How long.
        came: Signals that came for this process; one of them ends the probation for good.
        plan: The past's descriptors as of the pause.
        done: What the new version's start has done to the outside: it is not undone.
    """

    guard: Guard
    driver: Driver
    seconds: float
    came: Sequence[int]
    plan: DescriptorPlan
    done: Sequence[str] = ()

    def begin(self) -> None:
        """Look what the future has, before it goes: what is missing later was closed by it."""
        spared = [
            entry.descriptor.number
            for entry in self.plan.entries
            if entry.descriptor.socket is not None and entry.descriptor.socket.listening
        ]
        self._stand_ins = StandIns(self.guard.past, self.plan.observed, spared, self.plan.epolls)
        self._stand_ins.follow(self.driver.pid)

    def run(self) -> list[str]:
        """Watch until it is decided, and do what follows from it.

        Returns:
            Warnings about how it ended.

        Raises:
            RolledBackError: "probation-failed": the past goes on.
        """
        self._began = time.monotonic()
        with contextlib.closing(Marker(self.driver.pid)) as marker:
            verdict = self._watch(marker)
        if verdict == "failed":
            self._stand_ins.revive()
            self.guard.redeem()
            raise self._failure()
        if verdict != "killed":
            self._end_past()
        return _WORDS[verdict]

    def _watch(self, marker: Marker) -> Verdict:
        end, glance = self._began + self.seconds, Glance(self.driver.pid)
        soonest = follow_at = 0.0
        noticed = False
        with _open_pidfd(self.driver.pid) as ended:
            waited = [one for one in (marker.socket, ended) if one is not None]
            while True:
                if (status := self.driver.poll_end()) is not None:
                    self._status = status
                    return "failed" if status else "left"
                if self.guard.has_ended():
                    return "killed"
                now = time.monotonic()
                if self.came or now >= end:
                    return "interrupted" if self.came else "over"
                noticed |= glance.differs()
                if now >= (soonest if noticed else follow_at):
                    noticed = False
                    soonest, follow_at = self._follow()
                select.select(waited, [], [], max(min(_GLANCE_S, end - now), 0))
                marker.answer(end - time.monotonic())

    def _follow(self) -> tuple[float, float]:
        """Close what the future closed; returns when to look again: at the earliest, and at the latest."""
        began = time.monotonic()
        with contextlib.suppress(HostError):  # it has just ended: the next look tells
            self._stand_ins.follow(self.driver.pid)
        now = time.monotonic()
        spared = now + _FOLLOW_SHARE * (now - began)
        return spared, max(now + _FOLLOW_S, spared)

    def _end_past(self) -> None:
        ending = self.guard.ending()
        ending.commit()
        ending.run(Deadline(_END_S))
        ending.release()

    def _failure(self) -> RolledBackError:
        after = time.monotonic() - self._began
        how = (
            f"was killed by {signal_name(-self._status)}"
            if self._status < 0
            else f"exited with {self._status}"
        )
        if self._status > 255:
            how = "ended, nobody knows how"
        return RolledBackError(
            "probation-failed",
            f"the new version (process {self.driver.pid}) {how} {after:.1f} s after the commit; the old one "
            "goes on with the state it had then",
            "find out why before the next try: see its log and core file",
            details=tuple(self._lost()),
        )

    def _lost(self) -> list[str]:
        """What clients may notice, and what stays of the new version."""
        lines = [
            "what clients sent in that time is not in the state: their last answers may be wrong or missing"
        ]
        if self._stand_ins.fresh:
            lines.append(f"{self._stand_ins.fresh} connections that came in since are lost")
        if self._stand_ins.replaced:
            lines.append(
                f"{len(self._stand_ins.replaced)} connections that the new version closed stay closed"
            )
        lines += [f"not undone: {text}" for text in self.done[:_SHOWN]]
        return lines


class Glance:
    """Whether a process has opened or closed something, seen without looking at each: Linux 6.2 and later.

    What is closed and opened between two glances is not noticed, nor anything by older kernels.
    """

    def __init__(self, pid: int) -> None:
        self._directory = f"/proc/{pid}/fd"
        self._count = self._look()

    def differs(self) -> bool:
        """Since the last time that it did."""
        before, self._count = self._count, self._look()
        return self._count != before

    def _look(self) -> int:
        try:
            return os.stat(self._directory).st_size  # noqa: PTH116 (two hundred times a second)
        except OSError:
            return -1


def require_possible(locks: Rows) -> None:
    """Refuse a past that holds what the future can have only when it is gone; raises RefusedError."""
    if len(locks):
        raise RefusedError(
            "no-probation",
            f"the old version has {len(locks)} record lock{'' if len(locks) == 1 else 's'} or signal owner"
            f"{'' if len(locks) == 1 else 's'} (fcntl), which the new one gets only when it is gone",
            "update without --probation",
        )


@contextlib.contextmanager
def _open_pidfd(pid: int) -> Iterator[int | None]:
    """Readable when the process has ended; None when it has already."""
    try:
        number = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        yield number
    finally:
        os.close(number)
