"""The transaction: phases, deadlines, commit and rollback. The only code that decides what happens next.

Three roles, apart from each other and joined here by plain data: the guard holds the past (``update.guard``),
the driver drives the future (``update.driver``), the worker plans (``update.worker``). Until the point of no
return everything is undone in reverse order when anything fails, so that the old version goes on as if
nothing had happened.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from instar.control.descriptors import look_again, plan_descriptors
from instar.control.handover import Fetched, fetch_descriptors, plan_locks
from instar.control.quiescence import require_point_marked
from instar.control.runtime import AddressTakenError
from instar.control.service_manager import announce
from instar.control.standins import is_exiting
from instar.control.timers import plan_timers
from instar.errors import HostError, InstarError, InternalError, RefusedError, RolledBackError
from instar.guard.client import GuardLostError, Past
from instar.metadata.annotations import update_points
from instar.metadata.pieces import align_pieces
from instar.metadata.version import Version
from instar.pairing.problems import Problem
from instar.process.deadline import Deadline
from instar.process.numbering import DWARF_NAMES
from instar.process.status import read_environment
from instar.process.surroundings import read_surroundings
from instar.transfer.plan import TransferPlan, without_blocks
from instar.update import faults, rehearsal
from instar.update.aftermath import Finishing, judge_commit
from instar.update.calls import FutureCalls
from instar.update.clock import PhaseClock
from instar.update.desk import Assignment
from instar.update.details import Details, with_details
from instar.update.driver import Driver
from instar.update.endings import explain_endings
from instar.update.filtering import await_filters, hold_filtered
from instar.update.guard import Guard
from instar.update.options import Rehearsal, UpdateOptions
from instar.update.outcome import Failure, Leaked, Outcome, UpdateReport, VersionId
from instar.update.preflight import validate_new, validate_target
from instar.update.probation import Probation, require_possible
from instar.update.progress import Progress
from instar.update.settle import require_settled
from instar.update.shield import ignore_from_now_on, shielded
from instar.update.target import parent_notes
from instar.update.unexpected import as_rolled_back
from instar.update.watchdog import bounded_pause, bounded_work
from instar.update.worker import Worker
from instar.validation.conditions import Conditions
from instar.validation.outcome import Validation

_START_TRIES = 8
_SPARE_NUMBERS = 1024  # descriptors that the past may open before it is paused
_END_S = 30.0
_CLOSED_S = 0.1  # a pause may be longer by that, so that the old version's descriptors are closed
_SIGNALS = "signals that came in the pause"
_LOOK_SHARE = 0.5  # of the time for all, at most, to see where the old version waits


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
        self.undo, self.shield = ExitStack(), ExitStack()
        self.probation: Probation | None = None
        self.committed = False
        self.warnings: list[str] = []
        self.started = time.monotonic()
        self.plan: TransferPlan | None = None
        self.validation: Validation | None = None
        self.guard: Guard
        self.driver: Driver
        self.fetched: Fetched

    def run(self) -> UpdateReport:
        """All phases; every failure before the point of no return is rolled back."""
        with ExitStack() as guarded:
            return self._run(guarded)

    def _run(self, guarded: ExitStack) -> UpdateReport:
        try:
            with self.clock.phase("plan"):
                self._plan(guarded)
        except RefusedError as error:
            return self._refused(error)
        try:
            with self.shield, self.undo, bounded_work(self.deadline, self._is_serving):
                self.undo.callback(self.guard.release)  # last: the future is gone by then
                try:
                    self._beside()
                    with bounded_pause(self.options.max_pause_ms):
                        self._paused()
                        if self.options.rehearsal is not None:
                            self._let_past_go(self.options.rehearsal)
                    if self.options.rehearsal is not None:
                        rehearsal.keep(self.options.rehearsal, self.guard, self.driver)
                        self.shield.enter_context(shielded())
                    else:
                        with self.clock.phase("commit"):
                            self._commit()
                        if self.probation is not None:
                            self._watch(self.probation)
                except BaseException:
                    self.shield.enter_context(shielded())  # nothing is undone by halves
                    raise
        except BaseException as error:
            self.clock.end_pause()
            if self.committed:
                self.warnings.append(judge_commit(self.driver.pid, error))
                return self._report("updated", None)
            if self.clock.paused_at is not None:
                error = as_rolled_back(error)
            if not isinstance(error, InstarError) or self._is_of_the_host(error):
                raise error
            return self._failed(error)
        if self.committed:
            return self._report("updated", None)
        self.warnings.extend(self.driver.warnings)
        return self._report("rehearsed", None)

    def _is_serving(self) -> bool:
        """Whether all is decided: what comes now may take its time."""
        return self.committed or self.clock.pause_ms is not None

    def _is_of_the_host(self, error: InstarError) -> bool:
        """The machine stood in the way before the past was paused: another exit status, no other outcome."""
        return isinstance(error, HostError) and self.clock.paused_at is None

    # Phases -------------------------------------------------------------------------------------------------

    def _plan(self, guarded: ExitStack) -> None:
        self.old = validate_target(self.pid)
        held = Past(self.pid)  # it starts while we go on
        guarded.callback(held.close)
        faults.roles["guard"] = held.guard_pid
        self.new = validate_new(self.new_path)
        self.old, self.new = align_pieces(self.old, self.new)
        held.connect()
        faults.reach("plan", "middle")
        self.conditions = Conditions.find(self.options.config, self.new_path)
        self.conditions.require_names(self.old, self.new)
        assignment = Assignment(self.pid, self.old, self.new, self.new_path, self.options, self.conditions)
        self.worker = self._hire(assignment, held)
        guarded.callback(self.worker.close)
        faults.roles["worker"] = self.worker.pid
        self._refuse(self.worker.pair())
        self._handlers_follow = self.worker.prepare()
        self.guard = Guard(held, self.old)
        self.descriptors = plan_descriptors(self.pid)
        self.descriptors.require()
        plan_timers(self.pid)
        self._look_around()
        look = self.deadline.within(self.options.timeout * _LOOK_SHARE)
        require_point_marked(self.guard.observe(look), update_points(self.new))

    def _look_around(self) -> None:
        """Who will see the old version end, and what ends with it."""
        surroundings = read_surroundings(self.pid)
        self._refuse([Problem(e.code, "", e.cause, e.remedy) for e in explain_endings(surroundings)])
        for finding in parent_notes(surroundings):
            if finding.verdict == "note":
                self.warnings.append(f"parent: {finding.text}")

    def _hire(self, assignment: Assignment, held: Past) -> Worker:
        return Worker(assignment, held, self.deadline)

    def _beside(self) -> None:
        """What is done while the past serves."""
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

    def _paused(self) -> None:
        """What is done while neither version serves."""
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
            self.driver = Driver(self.new, self.options)
            self.undo.callback(self.driver.abort)
            faults.reach("start", "middle")
            assert self.guard.point is not None
            deadline = self.deadline.within(self.options.start_timeout)
            self.driver.start(self.new_path, self.guard.facts(), self.guard.point, deadline)

    def _pre_copy(self) -> None:
        """Do once what the pause will do again, so that plans, mappings, strings and pages are warm then.

        The past is held only while it is copied.
        """
        self.driver.open_channel(self.descriptors.highest + _SPARE_NUMBERS)
        self.worker.look_future(self.driver.pid, self.driver.registers())
        faults.reach("pre-copy", "middle")
        self.worker.warm()
        self.guard.hold(self.deadline)
        try:
            self.worker.look_past(self.guard.past.registers())
            streams = self.driver.pair_streams(self.guard)
        finally:
            self.guard.release()
        plan = self._make_plan(streams)
        self._refuse(plan.problems)
        self.driver.map(plan, self.guard.maps())
        self.driver.write(plan)
        plan = without_blocks(plan)
        self.driver.watch(plan)
        self._compare(plan)
        self.descriptors = look_again(self.descriptors)
        if self.conditions.filters:
            await_filters(self.guard, self.deadline, self._unmet)

    def _quiesce(self) -> None:
        self.clock.begin_pause()
        self.undo.callback(self.clock.end_pause)
        faults.reach("quiesce", "middle")
        self.guard.hold(self.deadline, self.options.max_pause_ms / 1000)
        hold_filtered(self.guard, self.deadline, self._unmet)

    def _check_past(self) -> None:
        faults.reach("pre-check", "middle")
        self.worker.look_past(self.guard.past.registers())
        self.worker.quiesced()
        self.plan = self._make_plan(self.driver.pair_streams(self.guard))
        self._refuse([*self.plan.problems, *self._broken("old version")])

    def _transfer(self) -> None:
        plan = self._planned()
        self.driver.map(plan, self.guard.maps())
        faults.reach("transfer", "middle")
        self.driver.write(plan)
        fetched = fetch_descriptors(self.descriptors)
        self.undo.callback(fetched.close)
        self.fetched = fetched
        self.driver.take_descriptors(fetched, plan)
        self.driver.take_streams(self.guard)
        self.driver.take_signals(self.guard, plan)

    def _validate(self) -> None:
        faults.reach("validate", "middle")
        self.driver.check(self._planned())
        self._compare(self._planned())
        if self.options.validate:
            self.driver.require_alike(self.worker.alike)
            self.driver.require_same_mappings()
        self._run_handlers()
        self._refuse(self._broken("new version"))
        self.deadline.check("the update")

    def _commit(self) -> None:
        """Exactly one version serves, whoever dies when: see native/runtime/gate.c for the protocol."""
        locks = plan_locks(self.fetched)
        if self.options.probation_s:
            require_possible(locks)
        self.fetched.close()  # a socket that the future closes must be closed
        deadline = self.deadline.within(
            max(self.options.max_pause_ms - self.clock.pause_so_far_ms(), 0.0) / 1000
        )
        self.driver.enter_gate(self.pid, self.guard.signal_mask(), locks, deadline)
        self.guard.witness(self.driver.channel.fileno())  # the future gives up when both of us are gone
        if self.options.probation_s:
            self._commit_on_probation()
            return
        gate, ending = self.driver.gate, self.guard.ending()
        faults.reach("commit", "middle")
        with shielded():
            gate.announce_ending(deadline)
            ending.commit()
            self.committed = True
            self.undo.pop_all()  # whatever fails now, the future is the one that serves
            ignore_from_now_on()
        attempt = Finishing(self.warnings).attempt
        seen = attempt(_SIGNALS, self.guard.pending_signals) or ()
        attempt("the end of the old version", gate.announce_ended)
        attempt("the end of the old version", lambda: ending.run(Deadline(_END_S)))
        # In its exit it gets none any more: these are all, unless the guard is gone.
        signals = attempt(_SIGNALS, self.guard.pending_signals) or seen
        attempt("what was held back", lambda: faults.reach("commit", "held"))
        attempt("what was held back", self.driver.do_held)
        attempt(_SIGNALS, lambda: self.driver.forward_signals(signals, Deadline(_END_S)))
        ended_first = len(locks) > 0 or bool(self.fetched.plan.epolls)  # what it has open is in their way
        if ended_first:
            attempt("the end of the old version", lambda: ending.release(_CLOSED_S))
        attempt("the start of the new version", gate.go)
        try:
            gate.wait_until_serving(Deadline(_END_S))
            self.clock.end_pause()
        finally:
            if not ended_first:
                attempt("the end of the old version", ending.release)
            attempt("the end of the start", self.driver.close_start)
        self.warnings.extend(self.driver.warnings)

    def _commit_on_probation(self) -> None:
        """The same, but the past stays, stopped: see update/probation.py."""
        gate, done = self.driver.gate, self.driver.future.plan
        faults.reach("commit", "middle")
        came = self.shield.enter_context(shielded())
        probation = Probation(
            self.guard, self.driver, self.options.probation_s, came, self.fetched.plan, done
        )
        probation.begin()
        gate.announce_ending(self.deadline)
        self.guard.stake()
        self.committed = True
        self.undo.pop_all()
        attempt = Finishing(self.warnings).attempt
        attempt("the end of the old version", gate.announce_ended)
        attempt("what was held back", lambda: faults.reach("commit", "held"))
        attempt("what was held back", self.driver.do_held)
        signals = attempt(_SIGNALS, self.guard.pending_signals) or ()
        attempt(_SIGNALS, lambda: self.driver.forward_signals(signals, Deadline(_END_S)))
        attempt("the start of the new version", gate.go)
        try:
            gate.wait_until_serving(Deadline(_END_S))
        except InstarError:
            if not is_exiting(self.driver.pid):
                raise
            # It died so soon: the probation ends before it begins.
        finally:
            self.clock.end_pause()
            attempt("the end of the start", self.driver.close_start)
        self.warnings.extend(self.driver.warnings)
        self.probation = probation

    def _watch(self, probation: Probation) -> None:
        try:
            with self.clock.phase("probation"):
                faults.reach("probation", "middle")
                self.warnings.extend(probation.run())
        except RolledBackError:
            self.committed = False
            with suppress(OSError, InstarError):
                announce(self.pid, read_environment(self.pid))
            self.guard.release()
            raise

    def _let_past_go(self, chosen: Rehearsal) -> None:
        """A rehearsal ends here; what is left is undone as after a failure."""
        self.fetched.close()
        rehearsal.let_past_go(chosen, self.guard, self.driver)
        self.clock.end_pause()

    def _run_handlers(self) -> None:
        """Handlers of events may change the future from here on: what was written is right, and compared."""
        if self._handlers_follow:
            self.worker.transferred(FutureCalls(self.driver.runtime, self.driver.program, self.deadline))

    # Steps --------------------------------------------------------------------------------------------------

    def _make_plan(self, streams: Mapping[int, int]) -> TransferPlan:
        plan = self.worker.plan(streams, self.driver.arena_base(self.guard.maps()))
        plan = self.options.tainted.apply(plan)
        self.progress.step(objects=sum(plan.figures.objects.values()), bytes=plan.figures.bytes)
        return plan

    def _compare(self, plan: TransferPlan) -> None:
        """Transfer back and compare with the past."""
        if not self.options.validate:
            return
        registers = self.driver.registers()
        self.validation = self.worker.validate(
            {number: getattr(registers, name) for number, name in enumerate(DWARF_NAMES)},
            self.driver.unwritten,
        )
        self.validation.require()
        self._refuse(self.validation.assumptions)

    def _unmet(self) -> list[str]:
        return self.worker.unmet() if self.conditions.filters else []

    def _broken(self, when: Literal["old version", "new version"]) -> list[Problem]:
        return self.worker.broken(when) if self.conditions.invariants else []

    def _planned(self) -> TransferPlan:
        if self.plan is None:
            raise InternalError("the transfer was not planned")
        return self.plan

    def _refuse(self, problems: Sequence[Problem]) -> None:
        require_settled(problems, self.options.allow)

    # Report -------------------------------------------------------------------------------------------------

    def _failed(self, error: InstarError) -> UpdateReport:
        if self.guard.past.lost:  # what else failed did for that
            error = GuardLostError(self.pid)
        if (warning := self.worker.rolled_back()) is not None:
            self.warnings.append(warning)
        if self.clock.paused_at is not None and not isinstance(error, RefusedError | RolledBackError):
            error = RolledBackError(error.code, error.cause, error.remedy, details=error.details)
        return self._report(UpdateReport.from_error(self.pid, error).outcome, Failure.from_error(error))

    def _refused(self, error: RefusedError) -> UpdateReport:
        """Before anything was done; tells what was known by then (attributes appear as the plan goes on)."""
        old, new = getattr(self, "old", None), getattr(self, "new", None)
        report = replace(
            UpdateReport.from_error(self.pid, error),
            old=_identify(old) if old else None,
            new=_identify(new) if new else None,
            total_ms=(time.monotonic() - self.started) * 1000,
            phases=tuple(self.clock.phases),
            warnings=tuple(self.warnings),
        )
        return self._with_details(report)

    def _with_details(self, report: UpdateReport) -> UpdateReport:
        worker: Worker | None = getattr(self, "worker", None)
        collect = Details if worker is None else worker.details
        return with_details(report, collect, getattr(self, "descriptors", None))

    def _report(self, outcome: Outcome, failure: Failure | None) -> UpdateReport:
        figures = self.plan.figures if self.plan is not None else None
        report = UpdateReport(
            outcome=outcome,
            old_pid=self.pid,
            new_pid=self.driver.pid if self.committed else None,
            old=_identify(self.old),
            new=_identify(self.new),
            pause_ms=self.clock.pause_ms or 0.0,
            total_ms=(time.monotonic() - self.started) * 1000,
            phases=tuple(self.clock.phases),
            pause_at_ms=self.clock.pause_at_ms,
            objects=figures.objects if figures else {},
            retyped=figures.retyped if figures else 0,
            pointers=figures.pointers if figures else 0,
            bytes=figures.bytes if figures else 0,
            leaked=Leaked(figures.leaked_blocks, figures.leaked_bytes) if figures else Leaked(),
            descriptors=len(self.descriptors.entries),
            connections=self.descriptors.connections,
            warnings=(
                *self.warnings,
                *(self.plan.warnings if self.plan else ()),
                *(self.validation.warnings if self.validation else ()),
            ),
            error=failure,
            validation=self.validation,
        )
        return self._with_details(report)


def _identify(version: Version) -> VersionId:
    return VersionId(str(version.path), version.build_id)
