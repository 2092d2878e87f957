"""Phases of an update and what they took."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from instar.update import faults
from instar.update.outcome import PhaseTime
from instar.update.progress import Progress


@dataclass
class PhaseClock:
    """Measures phases in the order they run.

    Attributes:
        progress: Told of every phase.
        phases: Those that ended.
        current: The running one, or the last.
        paused_at: When the past was stopped for good, monotonic seconds.
        started: When the clock was made.
    """

    progress: Progress
    phases: list[PhaseTime] = field(default_factory=list)
    current: str = ""
    paused_at: float | None = None
    pause_ms: float | None = None
    started: float = field(default_factory=time.monotonic)
    _collects: bool = True

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Run a phase; its fault points "before" and "after" are here."""
        self.current = name
        self.progress.phase(name)
        faults.reach(name, "before")
        started = time.monotonic()
        try:
            yield
        finally:
            took, at = time.monotonic() - started, started - self.started
            self.phases.append(PhaseTime(name, took * 1000, at * 1000))
        faults.reach(name, "after")

    def begin_pause(self) -> None:
        """The past stands still from here on.

        Garbage is left lying until it is over: looking through all that was loaded takes longer than a phase.
        """
        self._collects = gc.isenabled()
        gc.disable()
        self.paused_at = time.monotonic()

    def end_pause(self) -> None:
        """A version serves again."""
        if self.paused_at is not None and self.pause_ms is None:
            self.pause_ms = (time.monotonic() - self.paused_at) * 1000
            if self._collects:
                gc.enable()

    @property
    def pause_at_ms(self) -> float | None:
        """When the pause began, after the start; None without one."""
        return None if self.paused_at is None else (self.paused_at - self.started) * 1000

    def pause_so_far_ms(self) -> float:
        """Milliseconds since ``begin_pause``."""
        return 0.0 if self.paused_at is None else (time.monotonic() - self.paused_at) * 1000
