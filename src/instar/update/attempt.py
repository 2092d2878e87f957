"""Around one transaction: who is updated, the old program kept, the line in the journal."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from instar.update import journal, kept_versions
from instar.update.lineage import ProcessId, Step, identify, living_chains, parse_step
from instar.update.outcome import Kind, UpdateReport


class Attempt:
    """One attempt to update, rehearse or take back; use as a context manager.

    Args:
        pid: The process.
        kind: What is asked for.
        steps: How many updates a rollback takes back.
        handlers: The handler file in use, None for none.
    """

    def __init__(self, pid: int, kind: Kind, *, steps: int = 0, handlers: Path | None = None) -> None:
        self._kind, self._steps, self._handlers = kind, steps, ""
        self._contents = b""
        with contextlib.suppress(OSError):
            self._contents = handlers.read_bytes() if handlers is not None else b""
        self._old: ProcessId | None = identify(pid)
        self._program = -1
        with contextlib.suppress(OSError):
            self._program = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._program >= 0:
            os.close(self._program)

    def record(self, report: UpdateReport) -> UpdateReport:
        """Keep what a rollback needs and write the journal; what fails becomes a warning."""
        report = report.as_kind(self._kind)
        if report.outcome == "updated":
            report = self._keep(report)
        problem = journal.record(report, processes=self._processes(report))
        if problem is not None:
            report = report.with_warning(problem)
        return report

    def _keep(self, report: UpdateReport) -> UpdateReport:
        assert report.old is not None
        try:
            if self._program < 0:
                raise OSError("its program file was out of reach")
            kept_versions.keep(self._program, Path(report.old.path), report.old.build_id)
            if self._contents:
                self._handlers = kept_versions.keep_handlers(self._contents)
        except Exception as error:  # the update is done: nothing here may make it look otherwise
            return report.with_warning(f"not-kept: there will be no way back to this version: {error}")
        with contextlib.suppress(Exception):  # what is kept too long does no harm
            chains = living_chains(read_steps())
            needed = {way.old_version.build_id for chain in chains for way in chain.ways}
            running = {chain.steps[-1].new_version.build_id for chain in chains}
            used = {kept_versions.handlers_name(way.handlers) for chain in chains for way in chain.ways}
            own = {report.old.build_id, kept_versions.handlers_name(self._handlers)}
            kept_versions.forget_unused({*needed, *running, *used, *own})
        return report

    def _processes(self, report: UpdateReport) -> dict[str, Any] | None:
        new = identify(report.new_pid) if report.new_pid is not None else None
        if self._old is None:
            return None
        found: dict[str, Any] = {"boot": self._old.boot, "old_started": self._old.started}
        if new is not None:
            found["new_started"] = new.started
        if self._steps:
            found["steps"] = self._steps
        if self._handlers:
            found["handlers"] = self._handlers
        return found


def read_steps() -> list[Step]:
    """All committed steps of the user's journal, oldest first; raises OSError when it may not be read."""
    entries = journal.read_history().entries
    steps = (parse_step(entry.to_json()) for entry in entries)
    return [step for step in steps if step is not None]
