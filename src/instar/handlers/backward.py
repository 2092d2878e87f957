"""Takes back what handlers made, by their backward halves, and compares it with the past. Pure.

It runs when a plan was carried out: objects of the future are read from the future itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from instar.ext.context import within
from instar.ext.registry import Handler
from instar.ext.values import HandlerError, PointerError
from instar.handlers.batches import run_batch
from instar.handlers.binding import Binding, TypeTask, VariableTask, answered_range
from instar.handlers.failures import failure, shorten
from instar.handlers.memory import Blocks, PastMemory
from instar.handlers.names import Names
from instar.handlers.objects import ObjectFinder, Objects
from instar.handlers.paths import handled_path
from instar.handlers.reversal import Cleared, LiveMemory, ReversedMemory, is_same_text, leaves_of
from instar.handlers.running import CAUGHT, arguments_of, run_object, run_variable
from instar.handlers.store import store
from instar.handlers.surroundings import Desk, StateView
from instar.handlers.types import Member
from instar.handlers.views import Side, StructView, load, load_member
from instar.metadata.model import TypeKind
from instar.pairing.mapping import Relation
from instar.pairing.problems import Problem
from instar.pairing.settled import Settled
from instar.transfer.places import address_of
from instar.transfer.planner import Planner

Array = np.ndarray[Any, np.dtype[Any]]
SameWords = Callable[[Array, Array], Array]

CODE = "backward-difference"
_REMEDY = (
    "correct one of the two halves, or pass --allow backward-difference where the way back loses something"
)
_BLOCKS = 1 << 62
_MOST = 8
_TAG = np.uint64(7)


class BackwardRun:
    """The backward halves of one plan.

    Attributes:
        problems: What came back otherwise.
        compared: How many objects and variables came back.
    """

    def __init__(
        self, binding: Binding, planner: Planner, finder: ObjectFinder, same_words: SameWords
    ) -> None:
        self._binding, self._planner, self._finder = binding, planner, finder
        self._same_words = same_words
        ranges = [(span.start, span.data) for span in planner.state.spans]
        self._past = PastMemory(planner.state.bytes_at, planner.past.subject.memory.read, ranges)
        self._future = Side(binding.new, LiveMemory(planner.future.subject.memory))
        self.problems: list[Problem] = []
        self.compared = 0

    # Objects ------------------------------------------------------------------------------------------------

    def types(self, task: TypeTask) -> None:
        """All objects of a type."""
        for objects in self._finder.find(task.old_type, task.new_type):
            if len(objects):
                self._reverse(task, objects)

    def _reverse(self, task: TypeTask, objects: Objects) -> None:
        order = np.argsort(objects.old, kind="stable")
        objects = Objects(
            objects.rows[order], objects.offsets[order], objects.new[order], objects.old[order],
            objects.bits and (objects.bits[1], objects.bits[0]),
        )  # fmt: skip
        old, member = self._binding.old, task.old_member
        if objects.bits is not None:
            field = objects.bits[1]
            size, cleared = (field.bit_offset + field.bit_size + 7) // 8, []
        elif member is not None:
            size = old.size(task.old_type)
            cleared = [] if member.bit_size else leaves_of(old, member.type, member.offset)
        else:
            size, cleared = old.size(task.old_type), leaves_of(old, task.old_type)
        memory = ReversedMemory(self._past, objects.new, size, cleared, Blocks(_BLOCKS))
        side = Side(old, memory, lambda address, _old, _new, _path: address, "reversed")
        back = _inverted(task)
        with within(self._desk(side, memory.blocks)):
            if back.handler.is_batch:
                self._prepare(task, objects, side)
                run_batch(back, [objects], (self._future, side), lambda row, at: self._named(task, row, at))
            else:
                for index in range(len(objects)):
                    self._one(back, task, objects, index, side)
        self._compare(task, objects, memory)

    def _one(self, back: TypeTask, task: TypeTask, objects: Objects, index: int, side: Side) -> None:
        addresses = int(objects.old[index]), int(objects.new[index])
        if task.old_member is None and objects.bits is None:
            self._by_name(task, addresses, side)
        run_object(
            back, (self._future, side), addresses, objects.bits,
            lambda: self._path(task, objects, index), self._settled_back,
        )  # fmt: skip

    @cached_property
    def _settled_back(self) -> Settled:
        """With the names of members the other way round."""
        pairing, members = self._planner.prepared.pool.pairing, {}
        for row, names in pairing.settled.members.items():
            other = pairing.counterpart(row)
            if other is not None:
                members[self._binding.new.strip(other)] = {new: old for old, new in names.items()}
        return replace(pairing.settled, members=members)

    def _prepare(self, task: TypeTask, objects: Objects, side: Side) -> None:
        if task.old_member is None:
            for old, new in zip(objects.old.tolist(), objects.new.tolist(), strict=True):
                self._by_name(task, (old, new), side)

    def _by_name(self, task: TypeTask, addresses: tuple[int, int], side: Side) -> None:
        """Members of a record that both versions have come back by their rules first, as they went.

        Those that only the past has are the past's until the backward half stores them.
        """
        types, settled = side.types, self._planner.prepared.pool.pairing.settled
        renames = settled.members.get(task.old_type, {})
        theirs = self._binding.new.members(task.new_type)
        for name, member in types.members(task.old_type).items():
            other = theirs.get(renames.get(name, name))
            if member.bit_size:
                continue  # not cleared either
            place = addresses[1] + member.offset
            size = types.size(types.strip(member.type))
            if other is None:
                side.memory.write(place, self._past.read(place, size))
                continue
            try:
                if self._is_same(member.type, other.type):
                    data = self._future.memory.read(addresses[0] + other.offset, size)
                    side.memory.write(place, data)
                    continue
                value = load_member(self._future, other, addresses[0], name)
                store(side, member.type, place, value, name)
            except HandlerError:  # no rule: what the backward half does not store shows as a difference
                side.memory.write(place, bytes(size))

    def _is_same(self, old_type: int, new_type: int) -> bool:
        """Whether bytes of one are bytes of the other: large arrays are not stored element by element."""
        relation = self._planner.prepared.pool.pairing.relation(old_type, new_type)
        return relation is Relation.IDENTICAL

    # Variables ----------------------------------------------------------------------------------------------

    def variable(self, task: VariableTask) -> None:
        """One variable that a handler makes of another."""
        assert task.old_variable is not None
        old, new = self._binding.old, self._binding.new
        kinds = (
            int(old.version.variables["type"][task.old_variable]),
            int(new.version.variables["type"][task.new_variable]),
        )
        place = address_of(self._planner.past, task.old_variable)
        size = old.size(old.strip(kinds[0]))
        memory = ReversedMemory(
            self._past, np.array([place], np.uint64), size, leaves_of(old, kinds[0]), Blocks(_BLOCKS)
        )
        side = Side(old, memory, lambda address, _old, _new, _path: address, "reversed")
        back = VariableTask(_backward(task.handler), task.new_variable, task.old_variable)
        source = kinds[1], address_of(self._planner.future, task.new_variable)
        with within(self._desk(side, memory.blocks)):
            run_variable(back, (self._future, side), source, (kinds[0], place))
        name = old.version.text(int(old.version.variables["name"][task.old_variable]))
        self.compared += 1
        if self._unlike(memory, leaves_of(old, kinds[0])):
            values = [load(s, k, p, name) for s, k, p in (
                (Side(old, self._past), kinds[0], place), (self._future, *source), (side, kinds[0], place)
            )]  # fmt: skip
            self._differs(name, task.handler, values)

    # Comparison ---------------------------------------------------------------------------------------------

    def _compare(self, task: TypeTask, objects: Objects, memory: ReversedMemory) -> None:
        self.compared += len(objects)
        old = self._binding.old
        leaves = [] if objects.bits is not None else leaves_of(old, task.old_type)
        if task.handler.kind == "resolve_union":
            unlike = self._unlike_unions(task, objects, memory)
        else:
            unlike = self._unlike(memory, leaves)
        for index in unlike[:_MOST]:
            where = self._path(task, objects, index)
            sides = (Side(old, self._past), self._future, Side(old, memory))
            places = (int(objects.new[index]), int(objects.old[index]), int(objects.new[index]))
            values: list[Any]
            if task.old_member is not None and task.new_member is not None:
                members: tuple[Member, ...] = (task.old_member, task.new_member, task.old_member)
                where = f"{where}.{task.old_member.name}"
                values = [
                    load_member(side, member, place, "")
                    for side, member, place in zip(sides, members, places, strict=True)
                ]
            elif objects.bits is not None:
                members = (objects.bits[1], objects.bits[0], objects.bits[1])
                values = [
                    load_member(side, member, place, "")
                    for side, member, place in zip(sides, members, places, strict=True)
                ]
            else:
                rows = (task.old_type, task.new_type, task.old_type)
                values = [load(s, row, place, "") for s, row, place in zip(sides, rows, places, strict=True)]
            self._differs(where, task.handler, values)

    def _unlike(self, memory: ReversedMemory, leaves: Cleared) -> list[int]:
        """Objects that came back otherwise."""
        rows = np.flatnonzero((memory.before != memory.data).any(axis=1))
        return [
            row for row in rows.tolist() if self._differ(memory, memory.before[row], memory.data[row], leaves)
        ]

    def _unlike_unions(self, task: TypeTask, objects: Objects, memory: ReversedMemory) -> list[int]:
        """Of a union only the member in use comes back: the handler says which one that is."""
        low, size = answered_range(self._binding, task)
        found = []
        for row in np.flatnonzero((memory.before != memory.data).any(axis=1)).tolist():
            used = self._leaves_in_use(task, objects, row)
            if used is None:
                found.append(row)
                continue
            before, after = memory.before[row], memory.before[row].copy()
            after[:low], after[low + size :] = memory.data[row][:low], memory.data[row][low + size :]
            for start, length in used:
                after[start : start + length] = memory.data[row][start : start + length]
            if self._differ(memory, before, after, used):
                found.append(row)
        return found

    def _leaves_in_use(self, task: TypeTask, objects: Objects, row: int) -> Cleared | None:
        """The member that both halves name, as leaves; None where they name different ones."""
        assert task.old_member is not None
        types, union = self._binding.old, self._binding.old.strip(task.old_member.type)
        old = StructView(Side(types, self._past), task.old_type, int(objects.new[row]), "old")
        new = StructView(self._future, task.new_type, int(objects.old[row]), "new")
        back = _inverted(task).handler
        try:
            name = task.handler.function(*arguments_of(task.handler, (old,)))
            other = back.function(*arguments_of(back, (new,)))
        except CAUGHT as error:
            raise failure(task.handler, error, self._path(task, objects, row), old, new) from error
        members, base = types.members(task.old_type), 0
        is_member = types.kind(union) is TypeKind.UNION and name in types.members(union)
        if is_member:
            members, base = types.members(union), task.old_member.offset
        settled = self._planner.prepared.pool.pairing.settled
        renamed = settled.members.get(union if is_member else task.old_type, {}).get(name, name)
        if renamed != other:
            return None
        return [] if name is None else leaves_of(types, members[name].type, base + members[name].offset)

    def _differ(self, memory: ReversedMemory, before: Array, after: Array, leaves: Cleared) -> bool:
        covered = np.zeros(memory.size, bool)
        for start, size in leaves:
            covered[start : start + size] = True
            one, other = before[start : start + size], after[start : start + size]
            if np.array_equal(one, other):
                continue
            if size == 8 and self._leads_same(memory, one, other):
                continue
            if size != 8 and self._is_pointers_or_text(memory, one, other):
                continue
            return True
        return bool((before != after)[~covered].any())

    def _leads_same(self, memory: ReversedMemory, one: Array, other: Array) -> bool:
        past, word = (np.ascontiguousarray(part).view(np.uint64) for part in (one, other))
        if (past & _TAG)[0] == (word & _TAG)[0] and self._same_words(past & ~_TAG, word & ~_TAG).all():
            return True
        return bool(self._same_words(past, word).all()) or self._is_same_text_behind(memory, past, word)

    def _is_same_text_behind(self, memory: ReversedMemory, past: Array, word: Array) -> bool:
        """A text that the backward half has made anew."""
        blocks, address = memory.blocks, int(word[0])
        if address not in blocks or not int(past[0]):
            return False
        made = blocks.data[address - blocks.base : blocks.used].tobytes().partition(b"\0")[0] + b"\0"
        try:
            return self._past.read(int(past[0]), len(made)) == made
        except PointerError:
            return False

    def _is_pointers_or_text(self, memory: ReversedMemory, one: Array, other: Array) -> bool:
        if len(one) % 8 == 0 and all(
            np.array_equal(one[i : i + 8], other[i : i + 8])
            or self._leads_same(memory, one[i : i + 8], other[i : i + 8])
            for i in range(0, len(one), 8)
        ):
            return True
        return len(one) > 1 and is_same_text(one.tobytes(), other.tobytes())

    # Names --------------------------------------------------------------------------------------------------

    def _differs(self, where: str, handler: Handler[..., Any], values: Sequence[Any]) -> None:
        past, future, back = (shorten(value) for value in values)
        cause = f"{where} = {past} became {future}, which {handler.__name__}.backward at {handler.line} takes"
        self.problems.append(Problem(CODE, where, f"{cause} back to {back}", _REMEDY))

    def _path(self, task: TypeTask, objects: Objects, index: int) -> str:
        return self._named(task, int(objects.rows[index]), int(objects.offsets[index]))

    def _named(self, task: TypeTask, row: int, offset: int) -> str:
        planner = self._planner
        return handled_path(planner.state, planner.old, (row, offset), task.old_type, planner.names)

    def _desk(self, side: Side, blocks: Blocks) -> Desk:
        names = Names(self._binding.new, "new"), Names(self._binding.old, "old")
        past = StateView(names[0], self._future, lambda row: address_of(self._planner.future, row))
        future = StateView(names[1], side, lambda row: address_of(self._planner.past, row))
        return Desk(past, future, (self._future, side), blocks)


def _backward(handler: Handler[..., Any]) -> Handler[..., Any]:
    assert handler.inverse is not None
    back: Handler[..., Any] = Handler(
        handler.kind, handler.source or handler.target, handler.target, handler.is_batch, handler.inverse,
        handler.line,
    )  # fmt: skip
    return back


def _inverted(task: TypeTask) -> TypeTask:
    return TypeTask(_backward(task.handler), task.new_type, task.old_type, task.new_member, task.old_member)
