"""Runs the checks of handlers: what must be true of what they made, in the future itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from instar.errors import InstarError
from instar.ext.registry import Handler, Line
from instar.ext.values import HandlerError, TypeMismatchError
from instar.handlers.batches import gather_objects
from instar.handlers.binding import TypeTask, VariableTask
from instar.handlers.declared import is_as_declared, is_tagged_alike
from instar.handlers.failures import line_of, shorten
from instar.handlers.guarding import HandlerTimeoutError
from instar.handlers.objects import Objects
from instar.handlers.running import CAUGHT, Sides, arguments_for
from instar.handlers.sameness import LeadsSame
from instar.handlers.types import RECORDS, Member
from instar.handlers.views import StructView, load, load_member
from instar.pairing.problems import Problem
from instar.pairing.settled import Settled

Array = np.ndarray[Any, np.dtype[Any]]
Values = tuple[Any, Any]

CODE = "check-failed"
_REMEDY = "correct the handler or its check; `instar.testing.handlers` runs both alone"


def check_object(
    task: TypeTask,
    sides: Sides,
    addresses: tuple[int, int],
    bits: tuple[Member, Member] | None,
    path: Callable[[], str],
    settled: Settled,
    leads_same: LeadsSame,
) -> Problem | None:
    """Run the check of a handler for one object; the arguments are those of ``run_object``.

    Returns:
        What is wrong, None when nothing is.
    """
    old = StructView(sides[0], task.old_type, addresses[0], "old")
    new = StructView(sides[1], task.new_type, addresses[1], "new")

    def where() -> str:
        return path() + (f".{task.new_member.name}" if task.new_member is not None else "")

    def values() -> Values:
        return (
            (old, new) if task.handler.is_declared else _values_of(task, sides, addresses, bits, (old, new))
        )

    def holds() -> Any:
        if task.handler.is_declared:
            return is_as_declared(task, old, new, settled, leads_same)
        given = values()
        possible: list[tuple[Any, ...]] = [given]
        if task.new_member is not None and task.handler.kind == "transform":
            possible.append((*given, old, new))
        return _ask(task.handler, *possible)

    return _judged(task.handler, values, where, holds)


def _values_of(
    task: TypeTask,
    sides: Sides,
    addresses: tuple[int, int],
    bits: tuple[Member, Member] | None,
    objects: tuple[StructView, StructView],
) -> Values:
    """What the handler was given and what it made, in the terms of ``Handler.check``."""
    if task.new_member is not None:
        if task.handler.kind != "transform" or task.old_member is None:
            return objects
        bits = task.old_member, task.new_member
    elif bits is None and sides[1].types.kind(task.new_type) in RECORDS:
        return objects
    if bits is not None:
        named = zip(sides, bits, addresses, ("old", "new"), strict=True)
        found = [load_member(side, member, at, f"{name}.{member.name}") for side, member, at, name in named]
    else:
        rows = (task.old_type, task.new_type)
        found = [load(s, row, at, s.which) for s, row, at in zip(sides, rows, addresses, strict=True)]
    return found[0], found[1]


def check_batch(
    task: TypeTask, found: Sequence[Objects], sides: Sides, path: Callable[[int, int], str]
) -> Problem | None:
    """Run the check of a batch handler for all its objects."""
    found = [objects for objects in found if len(objects)]
    wrong: list[tuple[int, Any, Any]] = []

    def holds() -> bool:
        old, new = (
            gather_objects(side, row, np.concatenate([getattr(objects, side.which) for objects in found]))
            for side, row in zip(sides, (task.old_type, task.new_type), strict=True)
        )
        possible = _arrays_of(task, old, new)
        given, made = possible[0]
        index = _first_wrong(_ask(task.handler, *possible), len(old))
        wrong.extend([] if index is None else [(index, given[index], made[index])])
        return not wrong

    def where() -> str:
        if not wrong:
            return f"{sum(map(len, found))} objects of {sides[0].types.label(task.old_type)}"
        rows, offsets = (np.concatenate([getattr(o, name) for o in found]) for name in ("rows", "offsets"))
        member = f".{task.new_member.name}" if task.new_member is not None else ""
        return path(int(rows[wrong[0][0]]), int(offsets[wrong[0][0]])) + member

    return _judged(task.handler, lambda: wrong[0][1:] if wrong else None, where, holds) if found else None


def _arrays_of(task: TypeTask, old: Array, new: Array) -> list[tuple[Any, ...]]:
    """Lists of arguments for the check of a batch; nothing in them can be written."""
    for array in (old, new):
        array.flags.writeable = False
    if task.new_member is None or task.old_member is None:
        return [(old, new)]
    values = old[task.old_member.name], new[task.new_member.name]
    return [values, (*values, old, new)]


def check_variable(
    task: VariableTask,
    sides: Sides,
    old: tuple[int, int] | None,
    new: tuple[int, int],
    leads_same: LeadsSame,
) -> Problem | None:
    """Run the check of a variable's handler; ``old`` and ``new`` are (type row, address)."""
    name = task.handler.target

    def values() -> Values:
        return None if old is None else load(sides[0], *old, "old"), load(sides[1], *new, name)

    def holds() -> Any:
        if task.handler.is_declared:
            given, made = values()
            return is_tagged_alike(task.handler.function(given), made, leads_same)
        return _ask(task.handler, values()[old is None :])

    return _judged(task.handler, values, lambda: f"variable {name}", holds)


# Verdicts ---------------------------------------------------------------------------------------------------


def _ask(handler: Handler[..., Any], *possible: tuple[Any, ...]) -> Any:
    assert handler.predicate is not None
    arguments = arguments_for(handler.predicate, f"@{handler.__name__}.check", *possible)
    return handler.predicate(*arguments)


def is_accepted(verdict: Any) -> bool:
    """What a check of one object returns; raises TypeMismatchError for what is no verdict."""
    if verdict is None:
        return True
    if isinstance(verdict, bool | np.bool_):
        return bool(verdict)
    raise TypeMismatchError(f"it returned {verdict!r}: return True or False, or nothing")


def _first_wrong(verdict: Any, count: int) -> int | None:
    """The first object of a batch that a check does not accept."""
    if not isinstance(verdict, np.ndarray):
        return None if is_accepted(verdict) else 0
    if verdict.dtype != np.bool_ or verdict.shape[:1] != (count,):
        given = f"{verdict.dtype} of shape {verdict.shape}"
        raise TypeMismatchError(f"it returned {given}: return a truth value an object")
    rows = np.flatnonzero(~verdict.reshape(count, -1).all(axis=1))
    return int(rows[0]) if len(rows) else None


def _judged(
    handler: Handler[..., Any],
    values: Callable[[], Values | None],
    where: Callable[[], str],
    holds: Callable[[], Any],
) -> Problem | None:
    """A problem with path, values and line when a check does not hold, or raises."""
    try:
        if is_accepted(holds()):
            return None
        line, text = str(_line_of_check(handler)), "does not hold"
    except HandlerTimeoutError:
        raise
    except CAUGHT as error:
        if isinstance(error, InstarError):
            raise  # not the check's: the end of the pause
        line, text = line_of(_half(handler), error), f"{type(error).__name__}: {error}"
    name = where()
    cause = f"{name}: check of {handler.kind} {handler.target} at {line}: {text}{_shown(values)}"
    return Problem(CODE, name, cause, _REMEDY)


def _shown(values: Callable[[], Values | None]) -> str:
    try:
        found = values()
    except HandlerError:
        return ""
    return "" if found is None else f" (old = {shorten(found[0])}; new = {shorten(found[1])})"


def _line_of_check(handler: Handler[..., Any]) -> Line:
    code = getattr(handler.predicate, "__code__", None)
    return handler.line if code is None else Line(code.co_filename, code.co_firstlineno)


def _half(handler: Handler[..., Any]) -> Handler[..., Any]:
    """The check alone, for messages."""
    line = _line_of_check(handler)
    return Handler(handler.kind, handler.target, handler.source, handler.is_batch, handler.function, line)
