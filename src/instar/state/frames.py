"""The program's own frames below a quiescent point, and where their locals are.

A local is transferable only where debug information proves its place at this very instruction; "no location"
does not mean dead. Nothing here changes a process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.metadata.version import Version
from instar.process.expression import PlaceKind, locate
from instar.process.numbering import DWARF_RSP
from instar.process.unwind import Frame
from instar.state.capture import Subject

Array = np.ndarray[Any, np.dtype[Any]]

# (name, function it was inlined from, ordinal among equals): how a local is recognised in the other version.
LocalKey = tuple[str, str, int]


@dataclass(frozen=True)
class PlacedLocal:
    """A local or parameter of a frame.

    Attributes:
        key: Its identity across versions.
        row: In ``Version.locals``.
        type: Type row as declared.
        size: Bytes, 0 when unknown.
        address: In memory, None when it is in a register or has no place.
        register: DWARF number, None likewise.
        value: Computed value (it lives nowhere), None likewise.
        reason: Why it has no place, "" when it has one.
    """

    key: LocalKey
    row: int
    type: int
    size: int
    address: int | None
    register: int | None
    value: bytes | None
    reason: str


@dataclass(frozen=True)
class ProgramFrame:
    """A frame of a function of the program.

    Attributes:
        frame: As unwound.
        function: Row in ``Version.functions``.
        name: Of the function.
        entry: Run-time address of the function.
        low, high: Its part of the stack: from the stack pointer at its call to its own return address.
        locals: In the order of debug information.
    """

    frame: Frame
    function: int
    name: str
    entry: int
    low: int
    high: int
    locals: tuple[PlacedLocal, ...]


def program_frames(subject: Subject, frames: Sequence[Frame], program: str) -> tuple[ProgramFrame, ...]:
    """The frames of the program file, innermost first.

    Args:
        subject: A stopped process.
        frames: All frames of its thread.
        program: Path of the program file as mapped.
    """
    found = []
    for index, frame in enumerate(frames):
        if frame.module != program:
            continue
        function = subject.version.function_at(frame.lookup_pc)
        if function is None or not frame.cfa:
            continue
        inner = frames[index - 1].cfa if index else frame.registers[DWARF_RSP]
        caller = frames[index + 1] if index + 1 < len(frames) else None
        name = subject.version.text(int(subject.version.functions["name"][function]))
        if name == "_start":
            continue
        found.append(
            ProgramFrame(
                frame,
                function,
                name,
                int(subject.version.functions["low"][function]) + subject.load_bias,
                inner,
                frame.cfa - 8,
                _locals(subject, function, frame, caller),
            )
        )
    return tuple(found)


def _locals(subject: Subject, function: int, frame: Frame, caller: Frame | None) -> tuple[PlacedLocal, ...]:
    version = subject.version
    first = int(version.functions["first_local"][function])
    base = version.frame_base(function)
    seen: Counter[tuple[str, str]] = Counter()
    result = []
    for index, local in enumerate(version.locals_of(function)):
        if not _in_scope(version, local, frame.lookup_pc):
            continue
        names = version.text(int(local["name"])), version.text(int(local["origin"]))
        key = (*names, seen[names])
        seen[names] += 1
        result.append(_place(subject, local, first + index, key, frame, caller, base))
    return tuple(result)


def _in_scope(version: Version, local: Any, pc: int) -> bool:
    scopes = version.scopes_of(local)
    return not len(scopes) or bool(((scopes["low"] <= pc) & (pc < scopes["high"])).any())


def _place(
    subject: Subject, local: Any, row: int, key: LocalKey, frame: Frame, caller: Frame | None, base: bytes
) -> PlacedLocal:
    version = subject.version
    size = int(version.size_of(int(local["type"]))) if local["type"] >= 0 else 0
    kind = int(local["type"])
    for location in version.locations_of(local):
        if location["low"] <= frame.lookup_pc < location["high"]:
            place = locate(version.expression(location), frame, subject.memory, base, caller=caller)
            if place.kind is PlaceKind.MEMORY:
                return PlacedLocal(key, row, kind, size, place.address, None, None, "")
            if place.kind is PlaceKind.REGISTER:
                return PlacedLocal(key, row, kind, size, None, place.register, None, "")
            if place.kind is PlaceKind.VALUE:
                return PlacedLocal(key, row, kind, size, None, None, place.value, "")
            return PlacedLocal(key, row, kind, size, None, None, None, place.reason or "in-pieces")
    return PlacedLocal(key, row, kind, size, None, None, None, "optimized-out")
