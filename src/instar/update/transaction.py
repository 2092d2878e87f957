"""The transaction: phases, deadlines, commit and rollback. The only code that decides what happens next.

Three roles, apart from each other and joined here by plain data: the guard holds the past (``update.guard``),
the driver drives the future (``update.driver``), the worker plans (``update.carry``). Until the commit's point
of no return everything is undone in reverse order when anything fails, so that the old version goes on as if
nothing had happened.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from instar.control.runtime import AddressTakenError
from instar.errors import DamagedError, InstarError, RefusedError, RolledBackError
from instar.metadata.version import Version
from instar.pairing.plan import PairingPlan, plan_pairing
from instar.process.deadline import Deadline
from instar.transfer.plan import TransferPlan
from instar.update import carry, faults
from instar.update.clock import PhaseClock, Progress
from instar.update.driver import Driver
from instar.update.guard import Guard
from instar.update.options import UpdateOptions
from instar.update.outcome import Failure, Leaked, PhaseTime, UpdateReport, VersionId
from instar.update.preflight import validate_new, validate_target

_START_TRIES = 8


def update(pid: int, new_path: Path, options: UpdateOptions, progress: Progress) -> UpdateReport:
    """Carry process ``pid`` into the program at ``new_path``.

    Returns:
        The report, whatever the outcome, once both versions are known to exist.

    Raises:
        InstarError: Before anything was done: no such process, no permission, not a program.
    """
    return Transaction(pid, new_path, options, progress).run()


class Transaction:
    """One update of one process."""

    def __init__(self, pid: int, new_path: Path, options: UpdateOptions, progress: Progress) -> None:
        self.pid, self.new_path, self.options = pid, new_path, options
        self.clock = PhaseClock(progress)
        self.progress = progress
        self.deadline = Deadline(options.timeout)
        self.undo = ExitStack()
        self.committed = False
        self.warnings: list[str] = []
        self.started = time.monotonic()
        self.plan: TransferPlan | None = None
        self.guard: Guard
        self.driver: Driver

    def run(self) -> UpdateReport:
        """All phases; every failure before the point of no return is rolled back."""
        with self.clock.phase("plan"):
            self._plan()
        try:
            with self.undo:
                self._until_commit()
                with self.clock.phase("commit"):
                    self._commit()
                self.undo.pop_all()
        except BaseException as error:
            self.clock.end_pause()
            if self.committed:
                raise DamagedError(
                    "commit-interrupted",
                    f"the commit was broken off after the old version had ended: {error}",
                    f"see whether process {self.driver.pid} serves, else start the new version",
                ) from error
            if not isinstance(error, InstarError):
                raise
            return self._failed(error)
        return self._report("updated", None)

    # Phases -------------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        self.old = validate_target(self.pid)
        self.new = validate_new(self.new_path)
        faults.reach("plan", "middle")
        self.pairing: PairingPlan = plan_pairing(self.old, self.new, allow=self.options.allow)
        self._refuse(self.pairing.variable_problems)
        self.prepared = carry.prepare(self.old, self.new, self.pairing)
        self.frames = carry.FramePairing(self.old, self.new, self.pairing.code)
        self.guard = Guard(self.pid, self.old, self.prepared.tables[0], self.deadline)
        self.guard.observe()
        self.warnings.extend(self.guard.plan_warnings())

    def _until_commit(self) -> None:
        for attempt in range(_START_TRIES):
            try:
                self._start()
                with self.clock.phase("pre-copy"):
                    self._pre_copy()
                break
            except AddressTakenError:
                self.driver.abort()
                if attempt == _START_TRIES - 1:
                    raise
        with self.clock.phase("quiesce"):
            self._quiesce()
        with self.clock.phase("pre-check"):
            self._check_past()
        with self.clock.phase("transfer"):
            self._transfer()
        with self.clock.phase("validate"):
            self._validate()

    def _start(self) -> None:
        with self.clock.phase("start"):
            self.driver = Driver(self.new, self.prepared.tables[1], self.options)
            self.undo.callback(self.driver.abort)
            faults.reach("start", "middle")
            self.driver.start(
                self.new_path, self.guard.facts(), self.deadline.within(self.options.start_timeout)
            )

    def _pre_copy(self) -> None:
        """Do once what the pause will do again: plans, mappings, strings and pages are warm then."""
        self.driver.prepare_descriptors(self.guard.descriptor_plan())
        faults.reach("pre-copy", "middle")
        self.undo.callback(self.guard.release)
        self.guard.hold(self.deadline)
        try:
            plan = self._make_plan()
        finally:
            self.guard.release()
        self._refuse(plan.problems)
        self.driver.map(plan)
        self.driver.write(plan)

    def _quiesce(self) -> None:
        self.clock.begin_pause()
        faults.reach("quiesce", "middle")
        self.guard.hold(self.deadline)
        self.undo.callback(self.clock.end_pause)

    def _check_past(self) -> None:
        faults.reach("pre-check", "middle")
        self.guard.check_unchanged()
        self.plan = self._make_plan()
        self._refuse(self.plan.problems)
        self._check_pause()

    def _transfer(self) -> None:
        plan = self._planned()
        self.driver.map(plan)
        faults.reach("transfer", "middle")
        self.driver.write(plan)
        self.driver.carry_descriptors(self.guard, plan)
        self._check_pause()

    def _validate(self) -> None:
        faults.reach("validate", "middle")
        self.driver.check(self._planned())
        self._check_pause()

    def _commit(self) -> None:
        ending = self.driver.enter_gate(self.guard, self.deadline)
        faults.reach("commit", "middle")
        self.driver.announce_ending()
        ending.commit()
        self.committed = True
        self.driver.finish(self.guard, ending)
        self.clock.end_pause()
        self.warnings.extend(self.driver.warnings)

    # Steps --------------------------------------------------------------------------------------------------

    def _make_plan(self) -> TransferPlan:
        past, future = self.guard.image(), self.driver.image()
        streams = self.driver.pair_streams(self.guard, past)
        options = self.driver.planner_options(self.guard, past)
        plan = carry.plan(self.prepared, self.frames, (past, future), streams, options)
        self.progress.step(objects=sum(plan.figures.objects.values()), bytes=plan.figures.bytes)
        return plan

    def _planned(self) -> TransferPlan:
        assert self.plan is not None
        return self.plan

    def _refuse(self, problems: object) -> None:
        """Raise the first problem that the user did not allow; the rest are its details."""
        left = [p for p in problems if p.code not in self.options.allow]  # type: ignore[attr-defined]
        if left:
            details = tuple(f"{p.path}: {p.cause} [{p.code}]" for p in left[1:9])
            raise RefusedError(left[0].code, left[0].cause, left[0].remedy, details=details)

    def _check_pause(self) -> None:
        if self.clock.pause_so_far_ms() > self.options.max_pause_ms:
            raise RefusedError(
                "pause-too-long",
                f"the pause would exceed {self.options.max_pause_ms:g} ms",
                "allow a longer one with --max-pause",
            )
        self.deadline.check("the update")

    # Report -------------------------------------------------------------------------------------------------

    def _failed(self, error: InstarError) -> UpdateReport:
        if error.target == "untouched" and self.clock.paused_at is not None:
            error = RolledBackError(error.code, error.cause, error.remedy, details=error.details)
        outcome = "refused" if error.target == "untouched" else error.target
        report = self._report("refused", Failure.from_error(error))
        return replace(report, outcome=outcome)

    def _report(self, outcome: str, failure: Failure | None) -> UpdateReport:
        figures = self.plan.figures if self.plan is not None else None
        descriptors, connections = self.guard.descriptor_counts()
        return UpdateReport(
            outcome="updated" if outcome == "updated" else "refused",
            old_pid=self.pid,
            new_pid=self.driver.pid if self.committed else None,
            old=_identify(self.old),
            new=_identify(self.new),
            pause_ms=self.clock.pause_ms or 0.0,
            total_ms=(time.monotonic() - self.started) * 1000,
            phases=tuple(PhaseTime(name, ms) for name, ms in self.clock.phases),
            objects=figures.objects if figures else {},
            retyped=figures.retyped if figures else 0,
            pointers=figures.pointers if figures else 0,
            bytes=figures.bytes if figures else 0,
            leaked=Leaked(figures.leaked_blocks, figures.leaked_bytes) if figures else Leaked(),
            descriptors=descriptors,
            connections=connections,
            warnings=(*self.warnings, *(self.plan.warnings if self.plan else ())),
            error=failure,
        )


def _identify(version: Version) -> VersionId:
    return VersionId(str(version.path), version.build_id)
