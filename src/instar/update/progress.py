"""How an update tells what it does; the terminal's side is ``instar.cli.console``."""

from __future__ import annotations

from typing import Protocol

# Between the first and the last of these the old version stands still: whoever shows progress is quick there.
PAUSED_PHASES = ("quiesce", "pre-check", "transfer", "validate", "commit")
PHASES = ("plan", "start", "pre-copy", *PAUSED_PHASES)


class Progress(Protocol):
    """Receives what happens, in order, from one thread."""

    def phase(self, name: str) -> None:
        """A phase begins (see PHASES); the one before it is over."""

    def step(self, *, objects: int = 0, bytes: int = 0) -> None:
        """So many more objects and bytes are done in this phase."""

    def note(self, text: str) -> None:
        """One line that is good to know."""

    def warning(self, text: str) -> None:
        """One line that the user should look at; it is in the report too."""


class SilentProgress:
    """Shows nothing."""

    def phase(self, name: str) -> None:
        """Nothing."""

    def step(self, *, objects: int = 0, bytes: int = 0) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def warning(self, text: str) -> None:
        """Nothing."""
