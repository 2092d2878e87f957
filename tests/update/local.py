"""A worker inside the test's own process, so that a test can look at what it does."""

from __future__ import annotations

from typing import cast

from instar.guard.client import Past
from instar.update.calls import FutureCalls
from instar.update.desk import Assignment, Desk
from instar.update.transaction import Transaction
from instar.update.worker import Worker


class LocalWorker(Desk):
    """The desk itself, without handlers."""

    def transferred(self, future: FutureCalls | None = None) -> None:
        """Not for handlers of events."""
        raise AssertionError("handlers of events need a real worker")

    def close(self) -> None:
        """Nothing to end."""


class LocalTransaction(Transaction):
    """An update whose worker shares its process."""

    @property
    def desk(self) -> LocalWorker:
        """The worker."""
        return cast(LocalWorker, self.worker)

    def _hire(self, assignment: Assignment, held: Past) -> Worker:
        return cast(Worker, LocalWorker(assignment))
