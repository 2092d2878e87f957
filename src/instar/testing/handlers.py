"""Runs handlers without any process: objects made from plain data, laid out as two program files say.

    bench = HandlerBench("server-v2.instar.py", old="server-v1", new="server-v2")
    new = bench.run("struct conn", {"timeout": 30, "name": "a", "peer": {"port": 80}, "next": None})
    assert new.timeout_ms == 30000

Plain data: numbers, enumerator names, texts for character arrays, lists for arrays, dicts for structs. A
pointer is None, a text (for characters), a dict or list of what it points at, or an object made before with
``bench.old``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instar.ext.context import within
from instar.ext.registry import Handler, Registry
from instar.ext.values import PointerError, Struct, TypeMismatchError
from instar.handlers.binding import TypeTask, bind
from instar.handlers.checks import check_object, check_variable, is_accepted
from instar.handlers.failures import HandlerFailure
from instar.handlers.memory import ALLOCATION_LIMIT, Blocks
from instar.handlers.module import load_handlers, run_handlers
from instar.handlers.names import Names
from instar.handlers.running import run_object, run_variable
from instar.handlers.session import refused
from instar.handlers.store import store, store_bits
from instar.handlers.surroundings import Desk, StateView
from instar.handlers.types import RECORDS, Member
from instar.handlers.views import PointerView, Side, StructView, load, load_member
from instar.metadata.model import TypeKind
from instar.metadata.version import Version, load_version
from instar.pairing.plan import plan_pairing
from instar.pairing.problems import Problem

_PAST, _FUTURE = 0x1000_0000, 0x7000_0000_0000


class _Memory:
    """Blocks that any address inside of can be read and written at."""

    def __init__(self, base: int) -> None:
        self.blocks = Blocks(base, ALLOCATION_LIMIT)

    def _at(self, address: int, size: int) -> int:
        start = address - self.blocks.base
        if start < 0 or start + size > len(self.blocks.data):
            raise PointerError(f"{address:#x} leads nowhere")
        return start

    def read(self, address: int, size: int) -> bytes:
        """Bytes."""
        start = self._at(address, size)
        return self.blocks.data[start : start + size].tobytes()

    def write(self, address: int, data: bytes) -> None:
        """Store."""
        start = self._at(address, len(data))
        self.blocks.data[start : start + len(data)] = list(data)


class HandlerBench:
    """A handler file bound to two versions, and a past made by hand.

    Args:
        handlers: Path of the file, its text (with a line end in it), or a ``Registry``.
        old, new: Program files, or ``Version`` objects.

    Raises:
        RefusedError: What an update would be refused with.
    """

    def __init__(
        self, handlers: str | Path | Registry, *, old: str | Path | Version, new: str | Path | Version
    ) -> None:
        versions = [one if isinstance(one, Version) else load_version(Path(one)) for one in (old, new)]
        self._binding = bind(_registry(handlers), *versions)
        self.plan = plan_pairing(*versions, settled=self._binding.settled)
        self._memories = _Memory(_PAST), _Memory(_FUTURE)
        self._past_store = Side(self._binding.old, self._memories[0], lambda address, _o, _n, _p: address)
        self._past = Side(self._binding.old, self._memories[0])
        self._future = Side(self._binding.new, self._memories[1], self._translate)
        self._variables: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._moved: dict[int, int] = {}
        self._types: dict[int, int] = {}
        self._made: list[tuple[TypeTask, tuple[int, int]]] = []
        names = Names(self._binding.old, "old"), Names(self._binding.new, "new")
        self.past = StateView(names[0], self._past_store, lambda row: self._variable(0, row))
        """The old version's variables; to be set by tests."""
        self.future = StateView(names[1], self._future, lambda row: self._variable(1, row))
        """The new version's variables."""
        seen = StateView(names[0], self._past, lambda row: self._variable(0, row))
        self._desk = Desk(seen, self.future, (self._past, self._future), self._memories[1].blocks)
        read_only = Side(self._binding.new, self._memories[1], name="new")
        made = StateView(names[1], read_only, lambda row: self._variable(1, row))
        self._sides = self._past, read_only
        self._checking = Desk(seen, made, self._sides, leads_same=self._leads_same)

    def _variable(self, which: int, row: int) -> int:
        known, types = self._variables[which], (self._binding.old, self._binding.new)[which]
        if row not in known:
            size = types.size(int(types.version.variables["type"][row]))
            known[row] = self._memories[which].blocks.allocate(size)
        return known[row]

    # Objects of the past ------------------------------------------------------------------------------------

    def old(self, type_name: str, values: Mapping[str, Any] | None = None) -> Struct:
        """An object of the past, to be pointed at or handled."""
        types = self._binding.old
        row = types.find(type_name)
        if row is None or types.kind(row) not in RECORDS:
            raise TypeMismatchError(f"the old version has no struct or union called {type_name}")
        address = self._new_block(row)
        self._fill(row, address, values or {})
        return StructView(self._past, row, address, type_name)

    def _new_block(self, row: int, count: int = 1) -> int:
        address = self._memories[0].blocks.allocate(max(self._binding.old.size(row), 1) * count)
        self._types[address] = row
        return address

    def _fill(self, row: int, address: int, values: Mapping[str, Any]) -> None:
        members = self._binding.old.members(row)
        view = StructView(self._past, row, address, self._binding.old.label(row))
        for name, value in values.items():
            member = members.get(name) or view._instar_member(name)
            if member.bit_size:
                store_bits(self._past_store, member, address, value, name)
            else:
                self._put(member.type, address + member.offset, value, name)

    def _put(self, type_row: int, address: int, value: Any, path: str) -> None:
        types = self._binding.old
        row = types.strip(type_row)
        kind = types.kind(row)
        if isinstance(value, dict) and kind in RECORDS:
            self._fill(row, address, value)
        elif isinstance(value, list | tuple) and kind is TypeKind.ARRAY:
            element = types.target(row)
            for index, item in enumerate(value):
                self._put(element, address + index * types.size(element), item, f"{path}[{index}]")
        elif kind is TypeKind.POINTER and isinstance(value, str | dict | list):
            self._memories[0].write(
                address, self._target(types.target(row), value, path).to_bytes(8, "little")
            )
        elif kind is TypeKind.POINTER and isinstance(value, StructView):
            self._memories[0].write(address, value._instar_address.to_bytes(8, "little"))
        else:
            store(self._past_store, type_row, address, value, path)

    def _target(self, pointee: int, value: Any, path: str) -> int:
        """A block for what a pointer points at."""
        if isinstance(value, str):
            data = value.encode() + b"\0"
            address = self._memories[0].blocks.allocate(len(data))
            self._memories[0].write(address, data)
            return address
        items = value if isinstance(value, list) else [value]
        address = self._new_block(pointee, len(items))
        for index, item in enumerate(items):
            self._put(pointee, address + index * self._binding.old.size(pointee), item, path)
        return address

    # Objects of the future ----------------------------------------------------------------------------------

    def _translate(self, address: int, old_pointee: int, new_pointee: int, path: str) -> int:
        """Objects made by hand are converted when something points at them; texts are copied."""
        if address in self._moved:
            return self._moved[address]
        row = self._types.get(address)
        if row is None:
            if not self._binding.new.is_character(new_pointee):
                raise PointerError(f"{path}: {address:#x} is no object of this test")
            text = PointerView(self._past, old_pointee, address, path).string().encode() + b"\0"
            self._moved[address] = block = self._memories[1].blocks.allocate(len(text))
            self._memories[1].write(block, text)
            return block
        return self._convert(row, address)

    def _convert(self, row: int, address: int) -> int:
        """By the rules, then by the handlers."""
        pairing = self.plan.types
        other = pairing.counterpart(row)
        if other is None:
            raise PointerError(f"{self._binding.old.label(row)} has no counterpart in the new version")
        new_row = self._binding.new.strip(other)
        new = self._moved[address] = self._memories[1].blocks.allocate(self._binding.new.size(new_row))
        self._by_rule(row, address, new_row, new)
        for task in self._binding.type_tasks:
            self._handle(task, (row, new_row), (address, new))
        return new

    def _by_rule(self, row: int, address: int, new_row: int, new: int) -> None:
        pairing = self.plan.types
        if self._binding.new.kind(new_row) not in RECORDS:
            store(self._future, new_row, new, load(self._past, row, address, "old"), "new")
            return
        owned = self._binding.settled.between(row, new_row)
        for old_entry, new_entry in pairing.compiler.pairs(row, new_row).pairs:
            if owned.takes(new_entry) or not new_entry.name:
                continue
            members = [Member(e.name, e.type, e.bit_offset, e.bit_size) for e in (old_entry, new_entry)]
            inner = self._binding.old.strip(old_entry.type), self._binding.new.strip(new_entry.type)
            try:
                is_record = self._binding.new.kind(inner[1]) in RECORDS
                if is_record or self._has_handler(inner):
                    places = address + members[0].offset, new + members[1].offset
                    if is_record:
                        self._by_rule(inner[0], places[0], inner[1], places[1])
                    for task in self._binding.type_tasks:
                        self._handle(task, inner, places)
                    continue
                value = load_member(self._past, members[0], address, f"old.{old_entry.name}")
                if members[1].bit_size:
                    store_bits(self._future, members[1], new, value, f"new.{new_entry.name}")
                else:
                    store(
                        self._future, new_entry.type, new + members[1].offset, value, f"new.{new_entry.name}"
                    )
            except (TypeError, ValueError):
                if not owned.whole:
                    raise

    def _has_handler(self, types: tuple[int, int]) -> bool:
        return any((task.old_type, task.new_type) == types for task in self._binding.type_tasks)

    def _handle(self, task: TypeTask, types: tuple[int, int], addresses: tuple[int, int]) -> None:
        if (task.old_type, task.new_type) != types or task.handler.is_batch:
            return
        sides = self._past, self._future
        label = self._binding.old.label(task.old_type)
        try:
            with within(self._desk):
                run_object(task, sides, addresses, None, lambda: label, self._binding.settled)
        except HandlerFailure as failed:
            raise refused(failed.problem) from failed
        self._made.append((task, addresses))

    def _leads_same(self, past: int, future: int) -> bool:
        """Whether an object of the past became the one that a pointer leads to."""
        return self._moved.get(past) == future if past else not future

    def _check_made(self) -> None:
        """Run the checks of everything that handlers made."""
        made, self._made = self._made, []
        with within(self._checking):
            for task, addresses in made:
                if task.handler.predicate is not None or task.handler.is_declared:
                    self._check_one(task, addresses)

    def _check_one(self, task: TypeTask, addresses: tuple[int, int]) -> None:
        label, settled = self._binding.old.label(task.old_type), self._binding.settled
        found = check_object(task, self._sides, addresses, None, lambda: label, settled, self._leads_same)
        _require_none(found)

    # What tests call ----------------------------------------------------------------------------------------

    def run(self, type_name: str, values: Mapping[str, Any] | Struct) -> Any:
        """What becomes of one object of an old type: the view of the new one. Checks are run, too.

        Raises:
            RefusedError: "handler-failed", "check-failed", as an update would be.
        """
        old = values if isinstance(values, Struct) else self.old(type_name, values)
        assert isinstance(old, StructView)
        address = self._convert(old._instar_row, old._instar_address)
        self._check_made()
        row = self._binding.new.strip(self.plan.types.counterpart(old._instar_row) or 0)
        return StructView(self._future, row, address, "new")

    def variable(self, name: str) -> Any:
        """What a handler makes of a variable (set ``past`` before); its new value. Its check is run, too."""
        for task in self._binding.variable_tasks:
            if task.handler.target != name:
                continue
            old_row, new_row = task.old_variable, task.new_variable
            versions = self._binding.old.version, self._binding.new.version
            old = None
            if old_row is not None:
                old = int(versions[0].variables["type"][old_row]), self._variable(0, old_row)
            new = int(versions[1].variables["type"][new_row]), self._variable(1, new_row)
            try:
                with within(self._desk):
                    run_variable(task, (self._past, self._future), old, new)
            except HandlerFailure as failed:
                raise refused(failed.problem) from failed
            if task.handler.predicate is not None or task.handler.is_declared:
                with within(self._checking):
                    _require_none(check_variable(task, self._sides, old, new, self._leads_same))
            return load(self._future, new[0], new[1], name)
        raise KeyError(f"no handler is for the variable {name}")

    def back(self, target: str, *arguments: Any) -> Any:
        """What the backward half of a handler returns."""
        handler = self._handler(target)
        if handler.inverse is None:
            raise KeyError(f"the handler for {target} has no backward half")
        with within(self._desk):
            return handler.inverse(*arguments)

    def check(self, target: str, *arguments: Any) -> bool:
        """Whether the check of a handler accepts some arguments (see ``Handler.check``)."""
        handler = self._handler(target)
        if handler.predicate is None:
            raise KeyError(f"the handler for {target} has no check")
        with within(self._checking):
            return is_accepted(handler.predicate(*arguments))

    def _handler(self, target: str) -> Handler[..., Any]:
        for handler in self._binding.registry.handlers:
            if handler.target == target:
                return handler
        raise KeyError(f"no handler is for {target}")


def _require_none(problem: Problem | None) -> None:
    if problem is not None:
        raise refused(problem)


def run_handler(
    handlers: str | Path | Registry,
    type_name: str,
    values: Mapping[str, Any],
    *,
    old: str | Path | Version,
    new: str | Path | Version,
) -> Any:
    """One object through one handler file: see ``HandlerBench``."""
    return HandlerBench(handlers, old=old, new=new).run(type_name, values)


def run_repair(
    repairs: str | Path | Registry, type_name: str, values: Mapping[str, Any], *, old: str | Path | Version
) -> Any:
    """One object of the past through the repairs of a file that are for its type: the view of it afterwards.

    Raises:
        KeyError: No repair is for the type.
    """
    registry = _registry(repairs)
    bench = HandlerBench(Registry(registry.path), old=old, new=old)
    made = bench.old(type_name, values)
    assert isinstance(made, StructView)
    view = StructView(bench._past_store, made._instar_row, made._instar_address, type_name)
    chosen = [handler for handler in registry.of("repair") if handler.target == type_name]
    if not chosen:
        raise KeyError(f"no repair is for {type_name}")
    with within(bench._desk):
        for handler in chosen:
            handler.function(view)
    return view


def _registry(handlers: str | Path | Registry) -> Registry:
    if isinstance(handlers, Registry):
        return handlers
    if isinstance(handlers, str) and "\n" in handlers:
        return run_handlers(handlers, "handlers")
    return load_handlers(Path(handlers))


__all__ = ["HandlerBench", "run_handler", "run_repair"]
