"""What the future keeps of its own stack: frames of changed functions, all but described locals. Pure.

Nothing leads there, so that no comparison comes by: what is there must be what its start-up left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from instar.process.numbering import CALLEE_SAVED
from instar.state.frames import ProgramFrame
from instar.transfer.call import call_arguments
from instar.transfer.planner import Planner
from instar.transfer.stack import FramePair

Read = Callable[[int, int], bytes]
Wrong = tuple[str, int, int]


def is_whole(pair: FramePair) -> bool:
    """Whether a frame is to be carried word by word; not asked of the plan, which may be wrong about it."""
    sizes = [frame.frame.cfa - frame.low for frame in (pair.old, pair.new)]
    return sizes[0] == sizes[1] if pair.same_code else False


def changed_frames(planner: Planner, read: Read, handled: Callable[[int], bool]) -> Iterator[Wrong]:
    """(where, parked, now) of the first changed byte of each such frame that nothing explains.

    Args:
        planner: Has planned.
        read: The future's memory.
        handled: Whether a handler has written a byte of the future.
    """
    start, parked = planner.future.stack
    own = [pair for pair in planner.pairs if not is_whole(pair)]
    explained = _explained(planner) if own else set()
    for pair in own:
        size = pair.new.high + 8 - pair.new.low
        before = parked[pair.new.low - start : pair.new.low - start + size]
        now = read(pair.new.low, size)
        if now == before:
            continue
        old, new = (np.frombuffer(data, np.uint8) for data in (before, now))
        for at in np.flatnonzero(old != new).tolist():
            address = pair.new.low + at
            if address not in explained and not handled(address):
                yield f"byte {at} of the new version's frame of {pair.new.name}", before[at], now[at]
                break


def changed_registers(planner: Planner, registers: Mapping[int, int]) -> Iterator[Wrong]:
    """The same for registers that calls preserve and that such a frame has in the processor.

    Args:
        planner: Has planned.
        registers: DWARF number -> value, of the future's thread.
    """
    moved = set(planner.held.corrections()[1])
    for pair in planner.pairs:
        if is_whole(pair):
            moved |= set(CALLEE_SAVED) - set(pair.new.frame.saved_at)
        else:
            moved |= {local.register for local in pair.new.locals if local.register is not None}
    parked = planner.future.frames[0].registers if planner.future.frames else {}
    for register in CALLEE_SAVED:
        now = registers.get(register)
        if register not in moved and register in parked and now is not None and now != parked[register]:
            yield f"register {register} of the new version", parked[register], now


def _explained(planner: Planner) -> set[int]:
    """Addresses that the plan may write there: locals, what whole frames saved there, the call's timeout."""
    found: set[int] = set()
    for pair in planner.pairs:
        if is_whole(pair):
            for address in pair.new.frame.saved_at.values():
                found.update(range(address, address + 8))
            found.update(range(pair.new.low - 8, pair.new.low))  # where the inner function returns to
        else:
            for start, size in _locals(planner, pair.new):
                found.update(range(start, start + size))
    for address, data in planner.held.corrections()[0]:
        found.update(range(address, address + len(data)))
    if planner.future.registers is not None:
        arguments = planner.future.registers.syscall_arguments()
        for _, index, kind, _, is_timeout in call_arguments(planner.past, planner.future):
            if is_timeout and kind == "p":
                found.update(range(arguments[index], arguments[index] + 16))
    return found


def _locals(planner: Planner, frame: ProgramFrame) -> Iterator[tuple[int, int]]:
    """(address, size) of a frame's described locals in memory, those in saved registers included."""
    for local in frame.locals:
        if local.address is not None:
            yield local.address, local.size or int(planner.new.size_of(local.type))
        elif local.register in frame.frame.saved_at:
            yield frame.frame.saved_at[local.register], 8
