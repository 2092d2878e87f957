"""Compares what was carried of the stack: words and registers of whole frames, places to return to. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instar.process.numbering import CALLEE_SAVED
from instar.state.columns import CARRIED, Status
from instar.transfer.call import handed_over
from instar.transfer.packed import packed_offsets, words_at
from instar.transfer.planner import Planner
from instar.transfer.stack import REGISTER_BASE, FramePair, owned_registers
from instar.validation.comparison import Comparison
from instar.validation.own_frames import changed_frames, changed_registers, is_whole

Array = np.ndarray[Any, np.dtype[Any]]
_LEADS = (Status.STAY, Status.MOVED, Status.LIBRARY)
Read = Callable[[int, int], bytes]


@dataclass
class FrameCheck:
    """What was compared.

    Attributes:
        words: Words and registers that lead to the same.
        own: Words that are the future's own: canaries, and registers saved for outer frames.
        unsettled: Words that the plan says are not carried.
        wrong: (where, past, future).
    """

    words: int = 0
    own: int = 0
    unsettled: int = 0
    wrong: list[tuple[str, int, int]] = field(default_factory=list)


def check_frames(
    planner: Planner,
    comparison: Comparison,
    read: Read,
    registers: Mapping[int, int],
    handled: Callable[[int], bool],
) -> FrameCheck:
    """All frames: those that are carried whole, and what the future keeps of the others.

    Args:
        planner: Has planned.
        comparison: Says what leads to the same.
        read: The future's memory.
        registers: DWARF number -> value, of the future's thread.
        handled: Whether a handler has written a byte of the future.
    """
    check = FrameCheck()
    saved = [_saved(planner, pair) for pair in planner.pairs]
    for number, pair in enumerate(planner.pairs):
        if is_whole(pair):
            _check_words(planner, comparison, read, pair, saved[number], check)
            _check_registers(planner, comparison, read, registers, (number, saved[number]), check)
            _check_return(read, pair, check)
    check.wrong += changed_frames(planner, read, handled)
    check.wrong += changed_registers(planner, registers)
    _check_call(planner, comparison, registers, check)
    return check


def _check_call(
    planner: Planner, comparison: Comparison, registers: Mapping[int, int], check: FrameCheck
) -> None:
    """The arguments of the call in which the future waits."""
    for name, number, is_pointer, past in handed_over(planner.past, planner.future):
        future = registers.get(number, 0)
        alike = comparison.same_words(np.array([past], np.uint64), np.array([future], np.uint64))[0]
        if past == future if not is_pointer else alike:
            check.words += 1
        elif not is_pointer or _is_carried(planner, past):
            check.wrong.append((name, past, future))
        else:
            check.unsettled += 1


def _saved(planner: Planner, pair: FramePair) -> dict[int, int]:
    """Where the next outer frame's registers are saved in the past."""
    frames = planner.past.frames
    outer = pair.old.frame.index + 1
    return frames[outer].saved_at if outer < len(frames) else {}


def _check_words(
    planner: Planner,
    comparison: Comparison,
    read: Read,
    pair: FramePair,
    saved: dict[int, int],
    check: FrameCheck,
) -> None:
    size = (pair.old.high - pair.old.low) // 8 * 8
    data = planner.state.bytes_at(pair.old.low, size)
    if data is None:
        check.wrong.append((f"the frame of {pair.old.name}", 0, 0))
        return
    past, future = np.frombuffer(data, np.uint64), np.frombuffer(read(pair.new.low, size), np.uint64)
    places = pair.old.low + 8 * np.arange(len(past))
    own = np.isin(places, list(saved.values()))
    canary = (past == planner.past.canary) & ~own
    packed = packed_offsets(pair.old, planner.state.table)
    two = words_at(past.tobytes(), packed), words_at(future.tobytes(), packed)
    across = np.zeros(len(past), dtype=bool)
    for at, old, new, same in zip(packed, *two, comparison.same_words(*two), strict=True):
        if same:
            across[at // 8 : at // 8 + 2] = True
            check.words += 1
        elif _is_carried(planner, int(old)) and not _leads_itself(planner, past[at // 8 : at // 8 + 2]):
            check.wrong.append((f"byte {at} of the frame of {pair.old.name}", int(old), int(new)))
    good = np.where(canary, future == planner.future.canary, comparison.same_words(past, future))
    bad = [int(i) for i in np.flatnonzero(~good & ~own & ~across)]
    lost = [i for i in bad if not canary[i] and not _is_carried(planner, int(past[i]))]
    check.own += int(own.sum()) + int(canary.sum())
    check.unsettled += len(lost)
    check.words += int(good.sum())
    for i in set(bad) - set(lost):
        check.wrong.append((f"word {8 * i} of the frame of {pair.old.name}", int(past[i]), int(future[i])))


def _leads_itself(planner: Planner, words: Array) -> bool:
    """Whether a word of these is a pointer, so that one across them is not proven."""
    statuses, _ = planner.translate(words)
    return bool(np.isin(statuses, _LEADS).any())


def _is_carried(planner: Planner, value: int) -> bool:
    statuses, _ = planner.translate(np.array([value], dtype=np.uint64))
    return int(statuses[0]) in CARRIED


def _check_registers(
    planner: Planner,
    comparison: Comparison,
    read: Read,
    registers: Mapping[int, int],
    frame: tuple[int, dict[int, int]],
    check: FrameCheck,
) -> None:
    number, saved = frame
    pair = planner.pairs[number]
    for register in owned_registers([one.old for one in planner.pairs], number, saved):
        if register not in pair.old.frame.registers:
            continue
        place = REGISTER_BASE + 64 * number + 8 * CALLEE_SAVED.index(register)
        past = planner.state.word(place)
        at = pair.new.frame.saved_at.get(register)
        future = int.from_bytes(read(at, 8), "little") if at is not None else registers.get(register)
        name = f"register {register} of {pair.old.name}"
        if past is None or future is None:
            check.wrong.append((name, past or 0, future or 0))
        elif comparison.same_words(np.array([past]), np.array([future]))[0]:
            check.words += 1
        elif _is_carried(planner, past):
            check.wrong.append((name, past, future))
        else:
            check.unsettled += 1


def _check_return(read: Read, pair: FramePair, check: FrameCheck) -> None:
    """The inner frame returns to the same place of the same code."""
    place = pair.moved_pc()
    if place is None:
        return
    found = int.from_bytes(read(pair.new.low - 8, 8), "little")
    if found != place:
        check.wrong.append((f"where {pair.old.name} is returned to", pair.old.frame.pc, found))
    check.words += 1
