"""Confirms what handlers made, in the future itself: backward halves, checks, what invariants read. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from instar.ext.context import within
from instar.ext.registry import Handler
from instar.handlers.backward import BackwardRun, SameWords
from instar.handlers.binding import Binding, TypeTask, VariableTask
from instar.handlers.checks import check_batch, check_object, check_variable
from instar.handlers.failures import HandlerFailure
from instar.handlers.guarding import HandlerTimeoutError, bounded
from instar.handlers.inputs import Spans
from instar.handlers.memory import PastMemory
from instar.handlers.names import Names
from instar.handlers.objects import ObjectFinder, Objects, keeps_new_value
from instar.handlers.paths import handled_path
from instar.handlers.reversal import LiveMemory
from instar.handlers.running import CAUGHT
from instar.handlers.surroundings import Desk, StateView
from instar.handlers.unchecked import WatchedMemory, unchecked, unread, variable_is_read
from instar.handlers.views import Side
from instar.pairing.problems import Problem
from instar.transfer.places import address_of
from instar.transfer.planner import Planner
from instar.transfer.prepared import Reversal

Array = np.ndarray[Any, np.dtype[Any]]

_SHOWN = 3
_MOST = 8


def confirm(
    binding: Binding,
    planner: Planner,
    finder: ObjectFinder,
    same_words: SameWords,
    handled: Array,
    time_s: float,
) -> Reversal:
    """Run every backward half and every check on the future's state; see ``Reversal``.

    Args:
        binding: The handlers.
        planner: Its plan was carried out.
        finder: Finds their objects.
        same_words: Whether words of the past and of the future lead to the same.
        handled: u8, ascending: addresses of bytes of the future that handlers made other than the rules.
        time_s: For all of it.
    """
    run = _Confirmation(binding, planner, finder, same_words)
    back = BackwardRun(binding, planner, finder, same_words)
    try:
        with bounded(time_s):
            run.take_back(back)
            run.check()
            run.name_unchecked(handled)
    except HandlerFailure as failed:
        run.problems.append(failed.problem)
    except HandlerTimeoutError as error:
        cause = f"backward halves and checks: {error}"
        run.problems.append(Problem("handler-timeout", "", cause, "make them quicker: batch=True"))
    problems = (*back.problems, *run.problems)
    return Reversal(problems, back.compared, run.checked, tuple(run.unchecked))


class _Confirmation:
    def __init__(
        self, binding: Binding, planner: Planner, finder: ObjectFinder, same_words: SameWords
    ) -> None:
        self._binding, self._planner, self._finder = binding, planner, finder
        ranges = [(span.start, span.data) for span in planner.state.spans]
        past = PastMemory(planner.state.bytes_at, planner.past.subject.memory.read, ranges)
        self._live = LiveMemory(planner.future.subject.memory)
        self._sides = Side(binding.old, past), Side(binding.new, self._live, name="new")
        self._same_words = same_words
        self.problems: list[Problem] = []
        self.unchecked: list[Problem] = []
        self.checked = 0

    def take_back(self, back: BackwardRun) -> None:
        """Run what has a backward half."""
        for task in self._binding.type_tasks:
            if task.handler.inverse is not None:
                back.types(task)
        for variable in self._binding.variable_tasks:
            if variable.handler.inverse is not None and variable.old_variable is not None:
                back.variable(variable)

    # Checks -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Run every check; what the program declares of a variable that nobody changed was not done."""
        with within(self._desk(self._sides[1])):
            for task in self._binding.type_tasks:
                if task.handler.predicate is not None or task.handler.is_declared:
                    self._check_type(task)
            for variable in self._binding.variable_tasks:
                if variable.handler.predicate is not None or variable.handler.is_declared:
                    self._check_variable(variable)

    def _check_type(self, task: TypeTask) -> None:
        found = self._finder.find(task.old_type, task.new_type)
        self.checked += sum(map(len, found))
        if task.handler.is_batch:
            self._add(check_batch(task, found, self._sides, lambda row, at: self._named(task, row, at)))
            return
        wrong = 0
        for objects in found:
            for index in range(len(objects)):
                wrong += self._add(self._check_object(task, objects, index))
                if wrong == _MOST:
                    return

    def _check_object(self, task: TypeTask, objects: Objects, index: int) -> Problem | None:
        return check_object(
            task, self._sides, (int(objects.old[index]), int(objects.new[index])), objects.bits,
            lambda: self._path(task, objects, index),
            self._planner.prepared.pool.pairing.settled, self._leads_same,
        )  # fmt: skip

    def _check_variable(self, task: VariableTask) -> None:
        old = None
        if task.old_variable is not None:
            kind = int(self._binding.old.version.variables["type"][task.old_variable])
            old = kind, address_of(self._planner.past, task.old_variable)
            if task.handler.is_declared and keeps_new_value(self._planner, old[1]):
                return
        self.checked += 1
        self._add(check_variable(task, self._sides, old, self._place(task), self._leads_same))

    def _place(self, task: VariableTask) -> tuple[int, int]:
        """(type row, address) of what a handler makes."""
        kind = int(self._binding.new.version.variables["type"][task.new_variable])
        return kind, address_of(self._planner.future, task.new_variable)

    def _add(self, problem: Problem | None) -> bool:
        if problem is not None:
            self.problems.append(problem)
        return problem is not None

    def _leads_same(self, past: int, future: int) -> bool:
        words = (np.array([word], np.uint64) for word in (past, future))
        return bool(self._same_words(*words)[0])

    # What nothing checks ------------------------------------------------------------------------------------

    def name_unchecked(self, handled: Array) -> None:
        """Name what has no half, and no invariant reads."""
        types = [task for task in self._binding.type_tasks if not task.handler.is_checked]
        variables = [task for task in self._binding.variable_tasks if not task.handler.is_checked]
        if not types and not variables:
            return
        read = self._read_by_invariants()
        if read is None:
            return
        for task in types:
            found = self._finder.find(task.old_type, task.new_type)
            missed = unread(self._binding.new, task, found, read, lambda places: np.isin(places, handled))
            if missed:
                paths = [self._path(task, objects, index) for objects, index in missed[:_SHOWN]]
                self.unchecked.append(unchecked(task.handler, len(missed), paths))
        for variable in variables:
            if not variable_is_read(self._binding.new, *self._place(variable), read):
                self.unchecked.append(unchecked(variable.handler, 1, [variable.handler.target]))

    def _read_by_invariants(self) -> Spans | None:
        """What they read of the future; None when one does not hold, which is told when they are asked."""
        watched = WatchedMemory(self._live)
        conditions = self._planner.prepared.invariants
        holds = conditions is None or conditions(self._planner.future.subject, watched)
        side = Side(self._binding.new, watched, name="new")
        desk = self._desk(side)
        with within(desk):
            for handler in self._binding.registry.of("invariant"):
                holds = self._holds(handler, desk.future) and holds
        allowed = "invariant-broken" in self._planner.options.allow
        return watched.spans if holds or allowed else None

    def _holds(self, handler: Handler[..., Any], state: Any) -> bool:
        try:
            return bool(handler.function(state))
        except HandlerTimeoutError:
            raise
        except CAUGHT:
            return False

    # Names --------------------------------------------------------------------------------------------------

    def _path(self, task: TypeTask, objects: Objects, index: int) -> str:
        return self._named(task, int(objects.rows[index]), int(objects.offsets[index]))

    def _named(self, task: TypeTask, row: int, offset: int) -> str:
        planner = self._planner
        return handled_path(planner.state, planner.old, (row, offset), task.old_type, planner.names)

    def _desk(self, side: Side) -> Desk:
        past = StateView(
            Names(self._binding.old, "old"), self._sides[0], lambda row: address_of(self._planner.past, row)
        )
        future = StateView(
            Names(self._binding.new, "new"), side, lambda row: address_of(self._planner.future, row)
        )
        return Desk(past, future, (self._sides[0], side), leads_same=self._leads_same)
