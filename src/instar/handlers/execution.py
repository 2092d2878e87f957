"""Runs the handlers of a binding over a plan: on copies of the past, into the plan's output. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from instar.errors import InternalError
from instar.ext.context import within
from instar.ext.registry import BEFORE
from instar.handlers.batches import run_batch
from instar.handlers.binding import Binding, TypeTask, VariableTask, answered_range
from instar.handlers.confirmation import confirm
from instar.handlers.failures import HandlerFailure, failure
from instar.handlers.guarding import TIME_S, bounded
from instar.handlers.inputs import Inputs, is_pure
from instar.handlers.memory import FutureMemory, PastMemory
from instar.handlers.module import forget
from instar.handlers.names import Names
from instar.handlers.objects import ObjectFinder, Objects, keeps_new_value
from instar.handlers.outcome import blocks_of, collect, future_memory, reuse
from instar.handlers.paths import handled_path
from instar.handlers.placing import Placing
from instar.handlers.running import run_object, run_variable
from instar.handlers.surroundings import Desk, StateView
from instar.handlers.translation import translator
from instar.handlers.views import Side
from instar.pairing.problems import Problem
from instar.state.image import Image
from instar.transfer.findings import Judge
from instar.transfer.places import address_of
from instar.transfer.planner import Planner
from instar.transfer.prepared import NO_CHANGES, Changes, Reversal
from instar.transfer.targets import Target

Array = np.ndarray[Any, np.dtype[Any]]


class Execution:
    """The handlers of one update, run again for every plan.

    Args:
        binding: What to run.
        time_s: Bound for all handlers of one plan together.
    """

    def __init__(self, binding: Binding, time_s: float = TIME_S) -> None:
        self._binding, self._time_s = binding, time_s
        self._placing: Placing | None = None
        self._finder: tuple[Planner, ObjectFinder] | None = None
        self._written: tuple[Image | None, dict[int, bytes]] = (None, {})
        self._is_pure = is_pure(binding.registry)
        self._inputs, self._is_first = Inputs(), True

    def place(self, planner: Planner) -> list[Target]:
        """Place what is another kind of object in the new version."""
        self._placing = Placing(self._binding, blocks_of(planner.arena_base))
        return list(self._placing.targets(planner))

    def pins(self, planner: Planner) -> list[int]:
        """All objects with a place of their own."""
        return self._placed.pins(planner)

    @property
    def _placed(self) -> Placing:
        if self._placing is None:
            raise InternalError("handlers were not asked for places first")
        return self._placing

    def findings(self, planner: Planner, findings: Array) -> Array:
        """Findings without the words that a handler answers for."""
        tasks = [task for task in self._binding.type_tasks if task.old_member is not None]
        variables = [task.old_variable for task in self._binding.variable_tasks if task.handler.is_declared]
        if not (tasks or variables) or not len(findings):
            return findings
        objects = planner.state.objects
        places = objects["address"][findings["object"]] + findings["offset"]
        answered = np.zeros(len(findings), bool)
        finder = _object_finder(planner)
        for task in tasks:
            assert task.old_member is not None
            low, size = answered_range(self._binding, task)
            found = finder.find(task.old_type, task.new_type)
            starts = np.sort(np.concatenate([np.zeros(1, np.uint64), *(o.old for o in found)]))
            at = places - starts[np.searchsorted(starts, places, side="right") - 1]
            answered |= (at + np.uint64(7) >= low) & (at < low + size)
        for row in (row for row in variables if row is not None):
            start, size = (
                address_of(planner.past, row),
                self._binding.old.version.size_of(int(self._binding.old.version.variables["type"][row])),
            )
            answered |= (places + np.uint64(7) >= start) & (places < start + size)
        return findings[~answered]

    def convert(self, planner: Planner, judge: Judge) -> Changes:
        """Run all handlers of types and variables."""
        binding = self._binding
        if not binding.type_tasks and not binding.variable_tasks and not binding.kind_pairs:
            return NO_CHANGES
        if not self._is_first and not binding.registry.events(*BEFORE):
            forget(binding.registry)  # else `quiesced` did, and its handlers may have told these something
        self._inputs = inputs = Inputs()
        memory = future_memory(planner, self._placed.blocks, inputs)
        for pointer, address in self._placed.pointers.items():
            memory.write(pointer, address.to_bytes(8, "little"))
        run = _Run(binding, planner, memory, inputs)
        self._finder = planner, run.finder
        try:
            with bounded(self._time_s), within(run.desk):
                run.all()
        except HandlerFailure as failed:
            return Changes(problems=(failed.problem,))
        if self._is_first:
            inputs.settle()  # later ones are in the pause
        self._is_first = False
        judge.fates(run.finder.problems)
        if self._written[0] is not planner.future:
            self._written = planner.future, {}
        return collect(planner, run.memory, self._written[1])

    def reverse(
        self, planner: Planner, same_words: Callable[[Array, Array], Array], handled: Array
    ) -> Reversal:
        """Run the backward halves and the checks."""
        known = self._finder is not None and self._finder[0] is planner
        finder = self._finder[1] if known and self._finder is not None else _object_finder(planner)
        return confirm(self._binding, planner, finder, same_words, handled, self._time_s)

    def reuse(self, planner: Planner, words: Array, rows: Array) -> Callable[[], None] | None:
        """See ``outcome.reuse``; what does not come from the states alone is never used again."""
        return reuse(planner, self._inputs, words, rows) if self._is_pure else None


def _object_finder(planner: Planner) -> ObjectFinder:
    uncarried = {r: n for r, n in planner.locals.names.items() if n not in planner.locals.unsettled}
    return ObjectFinder(planner.state, planner.prepared.pool, uncarried)


class _Run:
    """One plan being handled."""

    def __init__(self, binding: Binding, planner: Planner, memory: FutureMemory, inputs: Inputs) -> None:
        self._binding, self._planner, self.memory = binding, planner, memory
        self.finder = _object_finder(planner)
        self._wanted = -1
        past_memory = PastMemory(
            planner.state.bytes_at,
            planner.past.subject.memory.read,
            [(span.start, span.data) for span in planner.state.spans],
            inputs,
        )
        self.past = Side(binding.old, past_memory)
        self.future = Side(binding.new, self.memory, translator(planner, binding))
        past_state = StateView(Names(binding.old, "old"), self.past, self._old_address)
        future_state = StateView(Names(binding.new, "new"), self.future, self._new_address)
        self.desk = Desk(past_state, future_state, (self.past, self.future), self.memory.blocks)

    def _old_address(self, row: int) -> int:
        return address_of(self._planner.past, row)

    def _new_address(self, row: int) -> int:
        return address_of(self._planner.future, row)

    def all(self) -> None:
        """Types first, then variables."""
        for task in self._binding.type_tasks:
            self._type(task)
        for variable in self._binding.variable_tasks:
            self._variable(variable)

    def _type(self, task: TypeTask) -> None:
        counterpart = self._planner.prepared.pool.pairing.counterpart(task.old_type)
        if counterpart is None or self._binding.new.strip(counterpart) != task.new_type:
            names = self._binding.old.label(task.old_type), self._binding.new.label(task.new_type)
            cause = f"{task.handler.line}: {names[0]} and {names[1]} are not paired"
            remedy = f'say pair("{names[0]}", "{names[1]}")'
            raise HandlerFailure(Problem("handler-mismatch", names[0], cause, remedy))
        self._wanted = task.old_type
        found = self.finder.find(task.old_type, task.new_type)
        if task.handler.is_batch and self.finder.is_cut(found):
            cause = f"{task.handler.line}: some {self._binding.old.label(task.old_type)} are cut at their end"
            raise HandlerFailure(Problem("handler-mismatch", "", cause, "leave out batch=True"))
        if task.handler.is_batch:
            run_batch(task, found, (self.past, self.future), self._path)
            return
        for objects in found:
            self._each(task, objects)

    def _each(self, task: TypeTask, objects: Objects) -> None:
        for index, (old, new) in enumerate(zip(objects.old.tolist(), objects.new.tolist(), strict=True)):
            run_object(
                task,
                (self.past, self.future),
                (old, new),
                objects.bits,
                self._lazy_path(objects, index),
                self._planner.prepared.pool.pairing.settled,
            )

    def _lazy_path(self, objects: Objects, index: int) -> Callable[[], str]:
        return lambda: self._path(int(objects.rows[index]), int(objects.offsets[index]))

    def _path(self, row: int, offset: int) -> str:
        planner = self._planner
        return handled_path(planner.state, planner.old, (row, offset), self._wanted, planner.names)

    def _variable(self, task: VariableTask) -> None:
        version = self._binding.new.version
        row = int(version.variables["type"][task.new_variable])
        old: tuple[int, int] | None = None
        if task.old_variable is not None:
            old_row = int(self._binding.old.version.variables["type"][task.old_variable])
            old = old_row, self._old_address(task.old_variable)
            if task.handler.is_declared and keeps_new_value(self._planner, old[1]):
                return
        try:
            run_variable(task, (self.past, self.future), old, (row, self._new_address(task.new_variable)))
        except HandlerFailure:
            raise
        except (Exception, SystemExit) as error:
            raise failure(task.handler, error, f"variable {task.handler.target}", None, None) from error
