"""Carries the frames below the quiescent point: whole frames of unchanged functions, proven locals else.

Pure: plans what is to be written; `transfer.execute` writes it. A frame of a function whose code is the same
in both versions has the same layout, so its words carry over one by one; return addresses, saved frame
pointers and stack canaries are the future's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from instar.metadata.version import Version
from instar.process.numbering import CALLEE_SAVED
from instar.state.columns import FixedKind, ObjectFlag, ObjectKind, Status, Strength, flags_with
from instar.state.frames import PlacedLocal, ProgramFrame
from instar.state.kernel import Span, make_objects, sort_objects
from instar.state.slots import TypeTable
from instar.transfer.packed import packed_offsets, rewrite_packed
from instar.transfer.targets import Target

Array = np.ndarray[Any, np.dtype[Any]]
Translate = Callable[[Array], tuple[Array, Array]]

REGISTER_BASE = 0xFFFF_8000_0000_0000
"""Where the state keeps callee-saved registers: addresses that no program can have."""
FRAME_REGISTERS = 8

_CLEAN = (Status.NULL, Status.SMALL, Status.STAY, Status.MOVED, Status.LIBRARY, Status.DANGLING, Status.WILD)


@dataclass(frozen=True)
class FramePair:
    """One function's frame in both processes.

    Attributes:
        old, new: The frames.
        same_code: Whether the function's code is the same, so that the frame's layout is.
    """

    old: ProgramFrame
    new: ProgramFrame
    same_code: bool

    @property
    def whole(self) -> bool:
        """Whether the frame is carried word by word."""
        return self.same_code and self.old.high - self.old.low == self.new.high - self.new.low

    def moved_pc(self) -> int | None:
        """Where the future must return into this frame, when its start-up came here by another copy of the
        call: the code is the same, so the past's place has its counterpart. None when it is right already."""
        wanted = self.old.frame.pc - self.old.entry + self.new.entry
        return None if wanted == self.new.frame.pc else wanted

    def shared_locals(self) -> Iterable[tuple[PlacedLocal, PlacedLocal]]:
        """Locals that both frames have, by identity."""
        others = {local.key: local for local in self.new.locals}
        for local in self.old.locals:
            if local.key in others:
                yield local, others[local.key]


@dataclass
class StackPlan:
    """What to write on the future's stack and into its registers.

    Attributes:
        writes: (address, bytes) in the future.
        registers: DWARF number -> value, of registers still in the CPU.
        unsettled: Words or locals that could not be carried, for the report.
    """

    writes: list[tuple[int, bytes]] = field(default_factory=list)
    registers: dict[int, int] = field(default_factory=dict)
    unsettled: list[str] = field(default_factory=list)


def stack_spans(
    pairs: Sequence[FramePair], read: Callable[[int, int], bytes], version: Version
) -> tuple[Span, ...]:
    """The program's part of the past's stack and its callee-saved registers, frame by frame.

    Described locals are objects (weak roots: a local may be dead, so it never types a block against another
    claim), the rest are frame words, which only keep alive what they point at. The words of a frame that is
    not carried whole are no roots yet: state that hangs on them alone must be refused.
    """
    if not pairs:
        return ()
    low, high = pairs[0].old.low & ~15, max(pair.old.high + 8 for pair in pairs)
    data = np.frombuffer(read(low, high - low), dtype=np.uint8).copy()
    held = np.zeros(len(pairs) * FRAME_REGISTERS, dtype=np.uint64)
    stack: list[tuple[Array, int]] = []
    registers: list[tuple[Array, int]] = []
    for number, pair in enumerate(pairs):
        for index, register in enumerate(CALLEE_SAVED):
            held[number * FRAME_REGISTERS + index] = pair.old.frame.registers.get(register, 0)
        for index, local in enumerate(pair.old.locals):
            address = old_place(pair, number, local)
            if address is None:
                continue
            if low <= address <= high - local.size:
                stack.append((_local_row(address, local, version), index))
            elif address >= REGISTER_BASE and local.size <= 8:
                registers.append((_local_row(address, local, version), index))
    whole = [(p.old.low, p.old.high + 8) for p in pairs if p.whole]
    file = held.view(np.uint8)
    files = [
        (REGISTER_BASE + 64 * n, REGISTER_BASE + 64 * n + 8 * len(CALLEE_SAVED))
        for n, p in enumerate(pairs)
        if p.whole
    ]
    return (
        Span(low, data, *_with_frame_words(stack, low, high, whole)),
        Span(
            REGISTER_BASE,
            file,
            *_with_frame_words(registers, REGISTER_BASE, REGISTER_BASE + len(file), files),
        ),
    )


def frame_spans(pairs: Sequence[FramePair], read: Callable[[int, int], bytes]) -> list[Span]:
    """The program's part of the future's stack, without objects."""
    spans = []
    for pair in pairs:
        data = np.frombuffer(read(pair.new.low, pair.new.high + 8 - pair.new.low), dtype=np.uint8)
        nothing = make_objects(0, ObjectKind.FRAME)
        spans.append(Span(pair.new.low, data, nothing, np.zeros(0, dtype=np.int32)))
    return spans


def old_place(pair: FramePair, number: int, local: PlacedLocal) -> int | None:
    """Where the state has an old local: its stack address, or that of its register in the register file."""
    if not local.size:
        return None
    if local.address is not None:
        return local.address
    if local.register in CALLEE_SAVED and local.register in pair.old.frame.registers:
        return REGISTER_BASE + 64 * number + 8 * CALLEE_SAVED.index(local.register)
    return None


def _local_row(address: int, local: PlacedLocal, version: Version) -> Array:
    row = make_objects(1, ObjectKind.LOCAL)
    row["address"], row["size"], row["type"] = address, local.size, version.strip(local.type)
    row["flags"] = flags_with(ObjectFlag.ROOT, Strength.WEAK)
    return row


def _with_frame_words(
    found: Sequence[tuple[Array, int]], low: int, high: int, whole: Sequence[tuple[int, int]]
) -> tuple[Array, Array]:
    """Fill what no local covers with FRAME objects; those inside ``whole`` ranges are roots."""
    objects = np.concatenate([row for row, _ in found]) if found else make_objects(0, ObjectKind.LOCAL)
    objects, origins = sort_objects(objects, np.array([index for _, index in found], dtype=np.int32))
    cuts = sorted({bound for bounds in whole for bound in bounds if low < bound < high})
    covered = [(int(o["address"]), int(o["address"]) + int(o["size"])) for o in objects]
    gaps: list[tuple[int, int]] = []
    at = low
    for start, end in [*covered, (high, high)]:
        inner = [at, *(cut for cut in cuts if at < cut < start), start]
        gaps += [(a, b) for a, b in pairwise(inner) if b - a >= 8]
        at = max(at, end)
    extra = make_objects(len(gaps), ObjectKind.FRAME)
    extra["address"] = [a for a, _ in gaps]
    extra["size"] = [b - a for a, b in gaps]
    is_whole = [any(lo <= a and b <= hi for lo, hi in whole) for a, b in gaps]
    extra["flags"] = np.where(is_whole, int(ObjectFlag.ROOT), 0)
    both = np.concatenate([objects, extra])
    order = np.argsort(both["address"], kind="stable")
    return both[order], np.concatenate([origins, np.full(len(extra), -1, dtype=np.int32)])[order]


def whole_targets(pairs: Sequence[FramePair]) -> Iterable[Target]:
    """Where pointers into frames lead that are carried whole: to the same place of the future's frame."""
    for pair in pairs:
        if pair.whole:
            yield Target(pair.old.low, pair.old.high + 8, pair.new.low, FixedKind.STACK)


def owned_registers(frames: Sequence[ProgramFrame], index: int, outer_saved: dict[int, int]) -> list[int]:
    """Callee-saved registers whose value belongs to frame ``index``: its own function saved what was there.

    Args:
        frames: Program frames, innermost first.
        index: The frame.
        outer_saved: ``saved_at`` of the next outer frame of any module.
    """
    own = frames[index].frame.saved_at
    return [r for r in CALLEE_SAVED if outer_saved.get(r) != own.get(r)]


def plan_stack(
    pairs: Sequence[FramePair],
    outer_saved: Sequence[tuple[dict[int, int], dict[int, int]]],
    read_old: Callable[[int, int], bytes],
    read_new: Callable[[int, int], bytes],
    translate: Translate,
    canaries: tuple[int, int],
    table: TypeTable,
) -> StackPlan:
    """Plan all whole frames and their registers; described locals of changed functions are objects.

    Args:
        pairs: Innermost first.
        outer_saved: Per pair the ``saved_at`` of the next outer frame, past and future.
        read_old, read_new: Memory of both.
        translate: Statuses and new values of words.
        canaries: Stack protector values of both processes.
        table: The past's types.
    """
    plan = StackPlan()
    frames = [pair.old for pair in pairs]
    for index, pair in enumerate(pairs):
        if not pair.whole:
            continue
        place = pair.moved_pc()
        if place is not None:  # the inner frame's return address
            plan.writes.append((pair.new.low - 8, place.to_bytes(8, "little")))
        skip = {address for saved in outer_saved[index][:1] for address in saved.values()}
        _plan_words(
            plan, pair, skip, read_old, read_new, translate, canaries, packed_offsets(pair.old, table)
        )
        for register in owned_registers(frames, index, outer_saved[index][0]):
            _plan_register(plan, pair, register, translate)
    return plan


def _plan_words(
    plan: StackPlan,
    pair: FramePair,
    skip: set[int],
    read_old: Callable[[int, int], bytes],
    read_new: Callable[[int, int], bytes],
    translate: Translate,
    canaries: tuple[int, int],
    packed: Sequence[int],
) -> None:
    """All words of a frame but what it saved for outer frames, which is theirs: a write of each run."""
    start, size = pair.old.low, (pair.old.high - pair.old.low) // 8 * 8
    words = np.frombuffer(read_old(start, size), dtype=np.uint64)
    current = np.frombuffer(read_new(pair.new.low, size), dtype=np.uint64).copy()
    statuses, values = translate(words)
    own = np.array([start + 8 * index not in skip for index in range(len(words))], dtype=bool)
    for index, word in enumerate(words):
        if not own[index]:
            continue
        if int(word) == canaries[0]:
            current[index] = canaries[1]
        elif statuses[index] in _CLEAN:
            current[index] = values[index]
        else:
            name = Status(int(statuses[index])).name.lower()
            plan.unsettled.append(f"word {8 * index} of the frame of {pair.old.name}: {name}")
    for at, why in rewrite_packed(packed, words, current, statuses, translate):
        plan.unsettled.append(f"byte {at} of the frame of {pair.old.name}: {why}")
    bounds = np.flatnonzero(np.diff(own, prepend=False, append=False))
    for first, last in zip(bounds[::2].tolist(), bounds[1::2].tolist(), strict=True):
        plan.writes.append((pair.new.low + 8 * first, current[first:last].tobytes()))


def _plan_register(plan: StackPlan, pair: FramePair, register: int, translate: Translate) -> None:
    if register not in pair.old.frame.registers:
        return
    statuses, values = translate(np.array([pair.old.frame.registers[register]], dtype=np.uint64))
    if statuses[0] not in _CLEAN:
        plan.unsettled.append(
            f"register {register} of {pair.old.name}: {Status(int(statuses[0])).name.lower()}"
        )
        return
    value = int(values[0])
    if register in pair.new.frame.saved_at:
        plan.writes.append((pair.new.frame.saved_at[register], value.to_bytes(8, "little")))
    else:
        plan.registers[register] = value
