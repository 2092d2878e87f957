"""Points in time by which something must have happened."""

from __future__ import annotations

import math
import time

from instar.errors import InstarError


class DeadlineError(InstarError):
    """Something did not happen in time."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(
            "deadline",
            f"{what}: not within {seconds:g} s",
            "allow more time, or see what the process is waiting for with `instar doctor PID`",
        )


class Deadline:
    """A moment of CLOCK_MONOTONIC; ``Deadline(math.inf)`` never passes."""

    __slots__ = ("end", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    @classmethod
    def never(cls) -> Deadline:
        """A deadline that does not pass."""
        return cls(math.inf)

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.end - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the moment has passed."""
        return time.monotonic() >= self.end

    def check(self, what: str) -> None:
        """Raise DeadlineError, naming ``what`` was waited for, when the moment has passed."""
        if self.expired:
            raise DeadlineError(what, self.seconds)

    def within(self, seconds: float) -> Deadline:
        """The earlier of this deadline and ``seconds`` from now."""
        return Deadline(min(seconds, self.remaining()))
