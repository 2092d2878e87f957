"""Locals of functions whose code changed: carried one by one, where both versions prove their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.pairing.problems import Problem
from instar.state.columns import Fate, FixedKind, ObjectKind
from instar.state.frames import PlacedLocal, ProgramFrame
from instar.state.kernel import State
from instar.transfer.plan import Write
from instar.transfer.stack import FramePair, old_place
from instar.transfer.targets import NOTHING, Target

Array = np.ndarray[Any, np.dtype[Any]]

_MAIN, _OF_MAIN = "main", ("argc", "argv", "envp")

# Decides the mapping of an object row from its old and new type row.
Decide = Callable[[int, int, int], None]


@dataclass(frozen=True)
class CarriedLocal:
    """A local that moves: its object row, and where it goes: an address, or a register still in the CPU."""

    row: int
    name: str
    address: int
    register: int | None
    size: int


@dataclass(frozen=True)
class SharedLocal:
    """A local of both versions: its object row, where the future has it, and the type of each.

    Attributes:
        address: In the future's memory; 0 when it is still in the CPU.
        value: Of the register, then.
    """

    row: int
    address: int
    value: int | None
    old_type: int
    new_type: int


class LocalCarrier:
    """Places the described locals of frames that are not carried whole.

    Attributes:
        carried: What moves.
        names: Object row -> ``function:local``, of all frames.
        problems: Locals that the new code reads and the old version has no value for.
        unsettled: ``function:local`` of locals whose value is not carried because no place is proven.
    """

    def __init__(self, state: State, pairs: Sequence[FramePair], same: Callable[[int, int], bool]) -> None:
        self._state, self._pairs, self._same = state, pairs, same
        self.problems: list[Problem] = []
        self._values: list[tuple[tuple[int, int | None], bytes]] = []
        self.carried: list[CarriedLocal] = []
        self.names: dict[int, str] = {}
        self.unsettled: list[str] = []

    def place(self, decide: Decide) -> Iterable[Target]:
        """Decide every local; yields where pointers to them lead."""
        objects = self._state.objects
        stack = (objects["kind"] == ObjectKind.LOCAL) | (objects["kind"] == ObjectKind.FRAME)
        objects["fate"][stack] = Fate.REPLACE
        found: list[Target] = []
        for number, pair in enumerate(self._pairs):
            for old in pair.old.locals:
                row = self._row(pair, number, old)
                if row is not None:
                    self.names.setdefault(row, f"{pair.old.name}:{old.key[0]}")
            if not pair.whole:
                found.extend(self._place_frame(pair, number, decide))
        return found

    def _row(self, pair: FramePair, number: int, local: PlacedLocal) -> int | None:
        address = old_place(pair, number, local)
        row = self._state.find(address) if address is not None else None
        if row is None or int(self._state.objects["address"][row]) != address:
            return None
        return row if self._state.objects["kind"][row] == ObjectKind.LOCAL else None

    def _place_frame(self, pair: FramePair, number: int, decide: Decide) -> Iterable[Target]:
        others = {local.key: local for local in pair.new.locals}
        for old in pair.old.locals:
            new = others.get(old.key)
            row = self._row(pair, number, old)
            place = None if new is None else _new_place(pair.new, new)
            if new is None:
                continue  # the new version has no such local
            if row is None or place is None:
                self._without_place(pair, old, new, row, place)
                continue
            entry = self._state.objects[row]
            if entry["fate"] == Fate.MOVE:
                continue  # two locals share a place; the first has it
            decide(row, old.type, new.type)
            address, register = place
            entry["new_address"] = address
            size = int(self._state.objects["out_size"][row])
            self.carried.append(CarriedLocal(row, self.names[row], address, register, size))
            if old.address is not None and new.address is not None:
                yield Target(
                    old.address, old.address + old.size, address, FixedKind.STACK, NOTHING,
                    int(entry["type"]), int(entry["count"]), int(entry["mapping"]),
                )  # fmt: skip

    def _without_place(
        self,
        pair: FramePair,
        old: PlacedLocal,
        new: PlacedLocal,
        row: int | None,
        place: tuple[int, int | None] | None,
    ) -> None:
        """A local that debug information places in one version at most; see docs/internals/transfer.md."""
        name = f"{pair.old.name}:{old.key[0]}"
        if place is None:
            self.unsettled.append(name)  # the new code has no such value at this point
        elif row is None and old.value is not None and 0 < old.size <= 8 and self._same(old.type, new.type):
            self._values.append((place, old.value[: old.size].ljust(old.size, b"\0")))
        elif pair.old.name == _MAIN and old.key[0] in _OF_MAIN:
            self.unsettled.append(name)  # start-up was given the same
        else:
            self.problems.append(_unread(name, old))

    def shared(self) -> Iterator[SharedLocal]:
        """Locals that both versions describe, with a known place in both; in frames carried either way."""
        for number, pair in enumerate(self._pairs):
            for old, new in pair.shared_locals():
                row, place = self._row(pair, number, old), _new_place(pair.new, new)
                if row is None or place is None:
                    continue
                address, register = place
                value = pair.new.frame.registers[register] if register is not None else None
                yield SharedLocal(row, address, value, old.type, new.type)

    def lay_out(self, at: int) -> int:
        """Give every carried local its place in the output buffer; returns the first free offset."""
        for local in self.carried:
            self._state.objects["out"][local.row] = at
            at += (max(local.size, 8) + 63) // 64 * 64
        return at

    def fill(self, output: Array, read: Callable[[int, int], bytes]) -> None:
        """Begin with what the future has there."""
        for local in self.carried:
            if local.register is None:
                start = int(self._state.objects["out"][local.row])
                output[start : start + local.size] = np.frombuffer(read(local.address, local.size), np.uint8)

    def writes(self, output: Array) -> tuple[list[Write], dict[int, int]]:
        """What to write into memory and into registers."""
        writes: list[Write] = []
        registers: dict[int, int] = {}
        for (address, register), value in self._values:
            if register is None:
                writes.append(Write(address, value))
            else:
                registers[register] = int.from_bytes(value, "little")
        for local in self.carried:
            start = int(self._state.objects["out"][local.row])
            if local.register is None:
                writes.append(Write(local.address, output[start : start + local.size]))
            else:
                registers[local.register] = int.from_bytes(output[start : start + 8].tobytes(), "little")
        return writes, registers


def _unread(name: str, old: PlacedLocal) -> Problem:
    """What the new code reads and the old version has no value for."""
    cause = f"the new code reads {name}, and debug information has no value for it in the old version"
    remedy = "build with -Og, keep the value in a static, or pass --allow local-not-carried"
    if not old.size:  # of no use to build it otherwise
        cause = f"the new code reads {name}, an array whose length only the running code knows"
        remedy = "give it a fixed length in both versions, or keep it in a static or in memory from malloc"
    return Problem("local-not-carried", name, cause, remedy)


def _new_place(frame: ProgramFrame, local: PlacedLocal) -> tuple[int, int | None] | None:
    """Where the future has a local: (address, None), or (0, register) when it is still in the CPU."""
    if local.address is not None:
        return local.address, None
    if local.register is None or local.size > 8 or not local.size:
        return None
    saved = frame.frame.saved_at.get(local.register)
    if saved is not None:
        return saved, None
    return (0, local.register) if local.register in frame.frame.registers else None
