"""Waiting for what cannot be waited for with a time limit: waitpid(2) has none.

A signal that breaks a blocking waitpid off (a timer, SIGCHLD) would be shared with the rest of the program;
polling costs an eighth of the time waited at most, and nothing where the stop comes at once.
"""

from __future__ import annotations

import os
import time

from instar.process.deadline import Deadline, DeadlineError

_YIELDS = 50
_SHORTEST_SLEEP = 10e-6
_LONGEST_SLEEP = 1e-3


class Pause:
    """Waits that start short and grow with the time waited, until a deadline."""

    __slots__ = ("begin", "deadline", "turns", "what")

    def __init__(self, deadline: Deadline, what: str) -> None:
        self.deadline = deadline
        self.what = what
        self.turns = 0
        self.begin = time.monotonic()

    def sleep(self) -> None:
        """Wait a little; raises DeadlineError when the time is over."""
        self.turns += 1
        if self.turns <= _YIELDS:
            os.sched_yield()
            return
        now = time.monotonic()
        if now >= self.deadline.end:
            raise DeadlineError(self.what, self.deadline.seconds)
        length = min(max((now - self.begin) / 8, _SHORTEST_SLEEP), _LONGEST_SLEEP)
        time.sleep(min(length, self.deadline.end - now))
