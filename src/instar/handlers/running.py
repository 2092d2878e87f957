"""Calls one handler for one object, or one variable, and stores what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from instar.ext.registry import Handler
from instar.ext.values import TypeMismatchError
from instar.handlers.binding import TypeTask, VariableTask
from instar.handlers.failures import HandlerFailure, failure
from instar.handlers.guarding import HandlerExitError, HandlerTimeoutError
from instar.handlers.store import pointer_word, store, store_bits
from instar.handlers.types import RECORDS, VOID, Member
from instar.handlers.views import Side, StructView, load, load_member
from instar.metadata.model import TypeKind
from instar.pairing.layout import Layout
from instar.pairing.settled import Settled

Sides = tuple[Side, Side]
CAUGHT = (Exception, SystemExit, HandlerTimeoutError, HandlerExitError)


def arguments_of(handler: Handler[..., Any], *possible: tuple[Any, ...]) -> tuple[Any, ...]:
    """Of several lists of arguments the one that a handler takes; raises TypeMismatchError for none."""
    return arguments_for(handler.function, f"@{handler.kind} of {handler.target}", *possible)


def arguments_for(function: Callable[..., Any], name: str, *possible: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same for any function, which messages call ``name``."""
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in positional)
    endless = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    for arguments in sorted(possible, key=len, reverse=True):
        if required <= len(arguments) and (endless or len(arguments) <= len(positional)):
            return arguments
    counts = " or ".join(str(len(one)) for one in sorted(possible, key=len))
    raise TypeMismatchError(f"{name} is called with {counts} arguments")


def run_object(
    task: TypeTask,
    sides: Sides,
    addresses: tuple[int, int],
    bits: tuple[Member, Member] | None,
    path: Callable[[], str],
    settled: Settled,
) -> None:
    """Run a handler for one object; raises HandlerFailure.

    Args:
        task: The handler.
        sides: Past and future.
        addresses: Of the object in both.
        bits: Both members, for an enum in a bit-field; addresses are then those of the struct.
        path: Names the object.
        settled: For names of union members.
    """
    old = StructView(sides[0], task.old_type, addresses[0], "old")
    new = StructView(sides[1], task.new_type, addresses[1], "new")
    is_record = sides[1].types.kind(task.new_type) in RECORDS
    try:
        if task.new_member is not None:
            _run_member(task, old, new, settled)
        elif is_record:
            result = task.handler.function(*arguments_of(task.handler, (old, new)))
            if result is not None:
                raise TypeMismatchError(f"it returned {result!r}: store in `new`, and return nothing")
        else:
            _run_value(task, sides, addresses, bits)
    except CAUGHT as error:
        raise _failed(task, error, old, new, path, is_record) from error


def _failed(
    task: TypeTask,
    error: BaseException,
    old: StructView,
    new: StructView,
    path: Callable[[], str],
    shown: bool,
) -> HandlerFailure:
    name = path()
    if task.new_member is not None:
        name += f".{task.new_member.name}"
    return failure(task.handler, error, name, old if shown else None, new if shown else None)


def _run_value(
    task: TypeTask, sides: Sides, addresses: tuple[int, int], bits: tuple[Member, Member] | None
) -> None:
    """A value of an enum type, wherever it is."""
    if bits is not None:
        value = load_member(sides[0], bits[0], addresses[0], "old")
        result = task.handler.function(*arguments_of(task.handler, (value,)))
        store_bits(sides[1], bits[1], addresses[1], result, "new")
        return
    value = load(sides[0], task.old_type, addresses[0], "old")
    result = task.handler.function(*arguments_of(task.handler, (value,)))
    store(sides[1], task.new_type, addresses[1], result, "new")


# Members ----------------------------------------------------------------------------------------------------


def _run_member(task: TypeTask, old: StructView, new: StructView, settled: Settled) -> None:
    handler, member = task.handler, task.new_member
    assert member is not None
    if handler.kind == "initialize":
        put_member(new, member, handler.function(*arguments_of(handler, (old,), (old, new))))
        return
    assert task.old_member is not None
    if handler.kind == "resolve_union":
        name = handler.function(*arguments_of(handler, (old,)))
        _resolve_union(task, old, new, name, settled)
    elif handler.kind == "resolve_pointer":
        result = handler.function(*arguments_of(handler, (old,)))
        _put_pointer(new, member, result)
    else:
        value = load_member(
            old._instar_side, task.old_member, old._instar_address, f"old.{task.old_member.name}"
        )
        arguments = arguments_of(handler, (value,), (value, old, new))
        result = handler.function(*arguments)
        if result is None and len(arguments) == 3 and _is_aggregate(new._instar_side, member):
            return  # it stored in new itself
        put_member(new, member, result)


def put_member(new: StructView, member: Member, value: Any) -> None:
    """Store in a member."""
    side, path = new._instar_side, f"new.{member.name}"
    if value is None and side.types.kind(side.types.strip(member.type)) is not TypeKind.POINTER:
        raise TypeMismatchError(f"it returned nothing: {path} is a {side.types.label(member.type)}")
    if member.bit_size:
        store_bits(side, member, new._instar_address, value, path)
    else:
        store(side, member.type, new._instar_address + member.offset, value, path)


def _is_aggregate(side: Side, member: Member) -> bool:
    return side.types.kind(side.types.strip(member.type)) in (*RECORDS, TypeKind.ARRAY)


def _put_pointer(new: StructView, member: Member, result: Any) -> None:
    """A pointer, or an integer of 8 bytes that is one."""
    side, path = new._instar_side, f"new.{member.name}"
    row = side.types.strip(member.type)
    if side.types.kind(row) is TypeKind.POINTER:
        pointee = side.types.target(row)
    elif side.types.kind(row) is TypeKind.INTEGER and side.types.size(row) == 8:
        pointee = VOID
    else:
        raise TypeMismatchError(f"{path} is a {side.types.label(row)}, which holds no pointer")
    word = pointer_word(side, pointee, result, path)
    side.memory.write(new._instar_address + member.offset, word.to_bytes(8, "little"))


def _resolve_union(task: TypeTask, old: StructView, new: StructView, name: Any, settled: Settled) -> None:
    """Zero the union, then convert the member in use."""
    assert task.new_member is not None
    side = new._instar_side
    place = member_in_use(task, old, new, name, settled)
    start, size = task.new_member.offset, side.types.size(side.types.strip(task.new_member.type))
    if task.new_member.name in _leaves(task, new):
        start, size = _anonymous_union(side, task.new_type, task.new_member.name)
    side.memory.write(new._instar_address + start, bytes(size))
    if place is not None:
        (source, old_name), (target, new_name) = place
        target[new_name] = source[old_name]


Place = tuple[StructView, str]


def member_in_use(
    task: TypeTask, old: StructView, new: StructView, name: Any, settled: Settled
) -> tuple[Place, Place] | None:
    """The member that a resolver of unions names, as (struct or union, name) on both sides; None for none."""
    assert task.new_member is not None and task.old_member is not None
    side = new._instar_side
    if name is not None and not isinstance(name, str):
        raise TypeMismatchError(f"it returned {name!r}: return the name of a member, or None")
    row = side.types.strip(task.new_member.type)
    if side.types.kind(row) is TypeKind.UNION and task.new_member.name not in _leaves(task, new):
        if name is None:
            return None
        names = settled.members.get(old._instar_side.types.strip(task.old_member.type), {})
        return (old[task.old_member.name], name), (new[task.new_member.name], names.get(name, name))
    if name is not None and name not in _old_leaves(task, old):
        raise TypeMismatchError(f"it returned {name!r}, which is no member of the union")
    if not _leaves(task, new) or not _anonymous_union(side, task.new_type, task.new_member.name)[1]:
        raise TypeMismatchError(f"new.{task.new_member.name} is in no union")
    if name is None:
        return None
    return (old, name), (new, settled.members.get(task.old_type, {}).get(name, name))


def _leaves(task: TypeTask, new: StructView) -> tuple[str, ...]:
    assert task.new_member is not None
    return _union_leaves(new._instar_side, task.new_type, task.new_member.name)


def _old_leaves(task: TypeTask, old: StructView) -> tuple[str, ...]:
    assert task.old_member is not None
    return _union_leaves(old._instar_side, task.old_type, task.old_member.name)


def _union_leaves(side: Side, row: int, name: str) -> tuple[str, ...]:
    """Members of the anonymous union that has a member."""
    for entry in Layout(side.types.version).entries(row):
        names = tuple(leaf.name for leaf in entry.leaves)
        if name in names:
            return names
    return ()


def _anonymous_union(side: Side, row: int, name: str) -> tuple[int, int]:
    """(offset, size) of the anonymous union that has a member."""
    for entry in Layout(side.types.version).entries(row):
        if any(leaf.name == name for leaf in entry.leaves):
            return entry.bit_offset // 8, side.types.size(side.types.strip(entry.type))
    return 0, 0


# Variables --------------------------------------------------------------------------------------------------


def run_variable(task: VariableTask, sides: Sides, old: tuple[int, int] | None, new: tuple[int, int]) -> None:
    """Make one variable.

    Args:
        task: The handler.
        sides: Past and future.
        old: (type row, address) of what it is made of, None for an initialiser.
        new: (type row, address) of the variable.
    """
    handler, name = task.handler, task.handler.target
    types = sides[1].types
    row = types.strip(new[0])
    is_view = types.kind(row) in (*RECORDS, TypeKind.ARRAY)
    target = load(sides[1], new[0], new[1], "new") if is_view else None
    possible: list[tuple[Any, ...]]
    if old is None:
        possible = [(), (target,)] if is_view else [()]
    else:
        value = load(sides[0], old[0], old[1], "old")
        possible = [(value,), (value, target)] if is_view else [(value,)]
    try:
        arguments = arguments_of(handler, *possible)
        result = handler.function(*arguments)
        if result is None and is_view and len(arguments) == len(possible[-1]):
            return
        if result is None and types.kind(row) is not TypeKind.POINTER:
            raise TypeMismatchError(f"it returned nothing: {name} is a {types.label(new[0])}")
        store(sides[1], new[0], new[1], result, name)
    except CAUGHT as error:
        given = load(sides[0], old[0], old[1], "old") if old is not None else None
        raise failure(handler, error, f"variable {name}", given, target) from error
