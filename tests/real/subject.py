"""A server as the survey and the tests see it: how it is started, what state it gets, how that is checked.

Every subject runs in a directory of its own, on 127.0.0.1 and on sockets in that directory.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.real.builds import Recipe

FOREGROUND, DAEMON = "foreground", "daemon"


class Subject(ABC):
    """One server.

    Args:
        directory: For its files; exists and is empty.
        mode: One of ``modes``.

    Attributes:
        recipe: How it is built.
        states: How many patches of its series the old and the new version have (None: all).
        modes: The ways in which it can be started.
        options: Further arguments for ``instar update`` that its documentation asks for.
    """

    recipe: Recipe
    states: tuple[int | None, int | None] = (1, None)
    modes: Sequence[str] = (FOREGROUND, DAEMON)
    options: Sequence[str] = ()

    def __init__(self, directory: Path, mode: str) -> None:
        self.directory, self.mode = directory, mode

    @property
    def pid_file(self) -> Path | None:
        """Where a daemon leaves its PID; None in front."""
        return self.directory / "server.pid" if self.mode == DAEMON else None

    @abstractmethod
    def command(self, program: Path) -> list[str]:
        """Writes the configuration; returns the command line."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether the server answers."""

    @abstractmethod
    def populate(self) -> None:
        """Bring state into the server: connections and whatever else it keeps in memory."""

    @abstractmethod
    def check(self) -> None:
        """What `populate` brought in is still there: asked from outside, over the same connections."""

    def work(self) -> None:  # noqa: B027
        """One request with a known answer; called again and again while the server is updated."""

    def close(self) -> None:  # noqa: B027
        """Let go of connections."""


@contextmanager
def under_load(subject: Subject) -> Iterator[list[BaseException]]:
    """Calls ``work`` all the time in a thread; yields what it raised."""
    stop, raised = threading.Event(), list[BaseException]()

    def run() -> None:
        while not stop.is_set() and not raised:
            try:
                subject.work()
                stop.wait(0.001)
            except (OSError, AssertionError, ValueError) as error:
                raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        stop.set()
        thread.join()
