"""Targets that take both processes to find: interposed functions, constants, what is left of the mappings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from instar.process.maps import Mapping
from instar.state.columns import FixedFlag, FixedKind
from instar.state.image import Image
from instar.transfer.fates import TypeFates
from instar.transfer.prepared import Prepared
from instar.transfer.stack import FramePair
from instar.transfer.targets import NOTHING, Target

_STACK_ROOM = 8 << 20  # what `ulimit -s` usually allows
_INTERPOSED = ("free", "cfree", "realloc", "reallocarray", "malloc_usable_size")


def address_of(image: Image, variable: int) -> int:
    """Run-time address of a variable of an image's version."""
    row = image.subject.version.variables[variable]
    if row["tls"]:
        return (image.tls.start if image.tls else 0) + int(row["address"])
    return int(row["address"]) + image.subject.load_bias


def interposed_targets(past: Image, future: Image) -> list[Target]:
    """The allocator functions that the runtime has in the place of libc's: `free` stays `free`."""
    found = []
    for name in _INTERPOSED:
        old, new = past.resolve(name), future.resolve(name)
        if old is not None and new is not None:
            found.append(Target(old, old + 1, new, FixedKind.FUNCTION, FixedFlag.EXACT))
    return found


def constant_targets(prepared: Prepared, types: TypeFates, past: Image, future: Image) -> list[Target]:
    """Named variables in read-only data: never transferred, but pointed at."""
    found = []
    columns = past.subject.version.variables
    covered = [(s.start, s.end) for s in past.statics]
    for variable in np.flatnonzero(columns["tls"] == 0):
        start = int(columns["address"][variable]) + past.subject.load_bias
        if any(low <= start < high for low, high in covered):
            continue
        other = int(prepared.symbols.variables[variable])
        kind, count, size = prepared.shapes[0].of(int(columns["type"][variable]))
        if other < 0 or not size:
            continue
        mapping = types.of(kind)[1] if kind >= 0 else -1
        found.append(
            Target(
                start, start + size, address_of(future, other), FixedKind.CONSTANT, NOTHING,
                kind, count, mapping,
            )
        )  # fmt: skip
    return found


def other_fillers(past: Image, pairs: Sequence[FramePair]) -> list[Target]:
    """The stack, dead below the frames and nobody's above; mappings that the future does not have.

    What led to the dead part leads as far below the future's frames: left alone it would lead to an address
    that is nothing in the future, which the next update could not tell from a stray pointer.
    """
    found = []
    spans = [(s.start, s.end) for s in past.heap if s.mapped is None]
    program = past.program
    lowest = min((pair.old.low for pair in pairs), default=0)
    for mapping in past.subject.maps:
        if mapping.path == "[stack]":
            start = _grown_to(past.subject.maps, mapping)
            reached = min((pair.new.low for pair in pairs), default=0)
            there = reached - (lowest - start) if reached else 0
            found.append(Target(start, lowest, there, FixedKind.STACK, FixedFlag.DANGLING))
            found.append(Target(lowest, mapping.end, 0, FixedKind.STACK, FixedFlag.UNPAIRED))
        elif mapping.file != program and not any(
            low < mapping.end and mapping.start < high for low, high in spans
        ):
            found.append(Target(mapping.start, mapping.end, 0, FixedKind.CODE, FixedFlag.UNPAIRED))
    return found


def _grown_to(maps: Sequence[Mapping], stack: Mapping) -> int:
    """Where the stack may have begun when it was deepest: the kernel keeps room below it."""
    below = max((other.end for other in maps if other.end <= stack.start), default=0)
    return min(stack.start, max(below, stack.end - _STACK_ROOM))
