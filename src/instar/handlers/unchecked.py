"""What handlers make and nothing checks: no backward half, no check, no invariant that reads it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from instar.errors import RefusedError
from instar.ext.registry import Handler, Kind, Registry
from instar.handlers.binding import TypeTask
from instar.handlers.inputs import Spans
from instar.handlers.memory import Memory
from instar.handlers.objects import Objects
from instar.handlers.reversal import leaves_of
from instar.handlers.types import RECORDS, Member, Types
from instar.metadata.model import TypeKind
from instar.pairing.problems import Problem

Array = np.ndarray[Any, np.dtype[Any]]

CODE = "unchecked-handler"
_MAKING: tuple[Kind, ...] = ("transform", "initialize", "resolve_union", "resolve_pointer")


def require_checked(registry: Registry, allow: frozenset[str], *, has_invariants: bool) -> None:
    """Refuse what is known from the declarations: ``never_checked``.

    Raises:
        RefusedError: "unchecked-handler".
    """
    found = never_checked(registry, allow, has_invariants=has_invariants)
    if found:
        causes = [problem.cause for problem in found]
        raise RefusedError(CODE, causes[0], found[0].remedy, details=tuple(causes[1:]))


def never_checked(registry: Registry, allow: frozenset[str], *, has_invariants: bool) -> list[Problem]:
    """Handlers whose declarations tell that nothing checks them; with invariants, what these read decides."""
    if has_invariants or registry.of("invariant") or CODE in allow:
        return []
    return [
        Problem(CODE, handler.target, f"{_name(handler)}: nothing checks what it makes", _remedy(handler))
        for handler in registry.of(*_MAKING)
        if not handler.is_checked
    ]


def unchecked(handler: Handler[..., Any], count: int, paths: Sequence[str]) -> Problem:
    """A handler that nothing checks; ``count`` objects, of which some are named."""
    cause = f"{_name(handler)}: {count} made, nothing checks them: {', '.join(paths)}"
    return Problem(CODE, paths[0] if paths else "", cause, _remedy(handler))


def _name(handler: Handler[..., Any]) -> str:
    return f"{handler.kind} {handler.target} at {handler.line}"


def _remedy(handler: Handler[..., Any]) -> str:
    name = handler.__name__
    return f"add @{name}.backward or @{name}.check (docs/handlers.md), or pass --allow {CODE}"


class WatchedMemory:
    """Memory that is only read, and remembers what of it was."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.spans = Spans()

    def read(self, address: int, size: int) -> bytes:
        """Bytes."""
        self.spans.add(address, size)
        return self._memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """As the memory does."""
        self._memory.write(address, data)


def unread(
    types: Types, task: TypeTask, found: Iterable[Objects], read: Spans, is_handled: Callable[[Array], Array]
) -> list[tuple[Objects, int]]:
    """Objects of a handler (with their indices) of which something it made was not read.

    Args:
        types: Of the new version.
        task: The handler.
        found: Its objects.
        read: What of the future was read.
        is_handled: Per address of the future, whether a handler made another byte than the rules.
    """
    missed: list[tuple[Objects, int]] = []
    for objects in found:
        wrong = np.zeros(len(objects), bool)
        for start, size in _slots(types, task, objects, is_handled):
            places = objects.new + np.uint64(start)
            wrong |= ~read.covers(places, places + np.uint64(size))
        missed += [(objects, index) for index in np.flatnonzero(wrong).tolist()]
    return missed


def _slots(
    types: Types, task: TypeTask, objects: Objects, is_handled: Callable[[Array], Array]
) -> list[tuple[int, int]]:
    """(offset, size) of what a handler makes in each object; of a text the first character."""
    member = task.new_member if objects.bits is None else objects.bits[1]
    if member is not None:
        return _member_sizes(types, member, 0)
    if types.kind(task.new_type) not in RECORDS:
        return [(0, types.size(task.new_type))]
    return [
        (start, size)
        for start, size in _read_sizes(types, task.new_type, 0)
        if any(is_handled(objects.new + np.uint64(at)).any() for at in range(start, start + size))
    ]


def variable_is_read(types: Types, kind: int, address: int, read: Spans) -> bool:
    """Whether all that a handler makes of a variable was read."""
    slots = np.array(_read_sizes(types, kind, 0), np.uint64).reshape(-1, 2) + np.array(
        [address, 0], np.uint64
    )
    return bool(read.covers(slots[:, 0], slots[:, 0] + slots[:, 1]).all())


def _read_sizes(types: Types, row: int, base: int) -> list[tuple[int, int]]:
    """Leaves of a type; of a text, which is read up to its end, the first character."""
    row = types.strip(row)
    if types.kind(row) is TypeKind.ARRAY and types.is_character(types.target(row)):
        return [(base, 1)]
    if types.kind(row) is TypeKind.UNION:
        return [(base, 1)]  # one member is in use, and read
    if types.kind(row) is TypeKind.STRUCT:
        members = types.members(row).values()
        return [one for member in members for one in _member_sizes(types, member, base)]
    return leaves_of(types, row, base)


def _member_sizes(types: Types, member: Member, base: int) -> list[tuple[int, int]]:
    if member.bit_size:
        return [(base + member.offset, (member.bit_offset % 8 + member.bit_size + 7) // 8)]
    return _read_sizes(types, member.type, base + member.offset)
