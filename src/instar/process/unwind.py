"""The call stack of a stopped thread, from call frame information (DWARF 5, section 6.4; System V ABI)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from instar.errors import FaultError
from instar.process.expression import Context, PlaceKind, Reader, locate_operations
from instar.process.maps import Mapping
from instar.process.modules import REGISTER_COUNT, Row, Rule, module_at, prepare_modules
from instar.process.numbering import DWARF_RIP, DWARF_RSP, by_number
from instar.process.registers import Registers

MAX_FRAMES = 4096


class ProcessMemory(Reader, Protocol):
    """Memory that knows whose it is."""

    pid: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One activation of a function; frame 0 is the innermost.

    Attributes:
        pc: Where the thread is, or will return to, in this frame (run-time address).
        link_pc: The same as a link address of the module.
        lookup_pc: The link address for line tables, location lists and function lookup: inside the calling
            instruction for a frame that made a call.
        cfa: Canonical frame address: rsp before the call that made the frame. 0 where it is unknown
            (only in a last frame with ``end`` other than "outermost").
        module: Path of the ELF file, "[vdso]", or "" for code of no file.
        load_bias: Run-time minus link address of the module.
        registers: DWARF number -> value in this frame; absent where the value is lost.
        saved_at: DWARF number -> address where an inner frame has saved it; absent where it still is in the
            CPU (or is a computed one, as rsp).
        signal_frame: The kernel's signal trampoline; the next frame was interrupted, not calling.
        end: Why there is no outer frame: "outermost" (the frame information says so), "no-module",
            "no-frame-information", "memory-fault", "malformed", "loop"; "" when there is one.
    """

    index: int
    pc: int
    link_pc: int
    lookup_pc: int
    cfa: int
    module: str
    load_bias: int
    registers: dict[int, int]
    saved_at: dict[int, int]
    signal_frame: bool = False
    end: str = ""


@dataclass(slots=True)
class _State:
    """The registers of the frame being looked at."""

    registers: dict[int, int]
    saved_at: dict[int, int]
    interrupted: bool  # the program counter is exact: innermost, or below a signal frame


class _StopError(Exception):
    """Unwinding cannot go on; ``args[0]`` is the ``end`` word."""


def unwind(
    registers: Registers, memory: ProcessMemory, maps: Sequence[Mapping], *, limit: int = MAX_FRAMES
) -> list[Frame]:
    """The frames of a thread with these registers, innermost first; at least one.

    The thread must be stopped. Never raises for a broken stack: the last frame's ``end`` tells.
    """
    frames: list[Frame] = []
    state = _State(by_number(registers), {}, interrupted=True)
    while True:
        frame, state_after = _step(len(frames), state, memory, maps)
        if state_after is not None and frames and not _grows(frames[-1], frame):
            frame, state_after = _ended(frame, "loop"), None
        if len(frames) + 1 >= limit and state_after is not None:
            frame, state_after = _ended(frame, "limit"), None
        frames.append(frame)
        if state_after is None:
            return frames
        state = state_after


def prepare(memory: ProcessMemory, maps: Sequence[Mapping]) -> int:
    """Open the images of a process and their call frame information ahead of the first unwinding."""
    return prepare_modules(maps, memory, memory.pid)


def complete(frames: Sequence[Frame]) -> bool:
    """Whether the stack was followed to its outermost frame."""
    return bool(frames) and frames[-1].end == "outermost"


def _grows(inner: Frame, outer: Frame) -> bool:
    """Outer frames lie higher, except where a signal was taken on another stack."""
    return outer.cfa > inner.cfa or inner.signal_frame or outer.signal_frame


def _ended(frame: Frame, end: str) -> Frame:
    return Frame(
        frame.index, frame.pc, frame.link_pc, frame.lookup_pc, frame.cfa, frame.module, frame.load_bias,
        frame.registers, frame.saved_at, frame.signal_frame, end,
    )  # fmt: skip


def _step(
    index: int, state: _State, memory: ProcessMemory, maps: Sequence[Mapping]
) -> tuple[Frame, _State | None]:
    """The frame of a state, and the state of its caller."""
    pc = state.registers[DWARF_RIP]
    # A call may be a function's last instruction: look inside it, not behind it.
    inside = pc if state.interrupted else pc - 1
    found = module_at(inside, maps, memory, memory.pid)
    if found is None:
        return _last(index, state, "", 0, inside, "no-module"), None
    module, mapping, bias = found
    path = mapping.file or mapping.path
    row = module.row(inside - bias)
    if row is None:
        return _last(index, state, path, bias, inside, "no-frame-information"), None
    cfa = 0
    try:
        cfa = _canonical_frame_address(row, state, memory, bias)
        caller = _caller(row, cfa, state, memory, bias)
        end = ""
    except _StopError as stop:
        caller, end = None, str(stop)
    frame = Frame(
        index, pc, pc - bias, inside - bias, cfa, path, bias, state.registers, state.saved_at,
        row.signal_frame, end,
    )  # fmt: skip
    return frame, caller


def _last(index: int, state: _State, path: str, bias: int, inside: int, end: str) -> Frame:
    pc = state.registers[DWARF_RIP]
    return Frame(
        index, pc, pc - bias, inside - bias, 0, path, bias, state.registers, state.saved_at, False, end
    )


def _canonical_frame_address(row: Row, state: _State, memory: Reader, bias: int) -> int:
    place = locate_operations(row.cfa.operations, Context(state.registers, memory, None, b"", bias))
    if place.kind is not PlaceKind.MEMORY:
        raise _StopError("memory-fault" if place.reason == "memory-fault" else "malformed")
    return place.address


def _caller(row: Row, cfa: int, state: _State, memory: Reader, bias: int) -> _State:
    """The registers after the return from the frame; raises _StopError when there is no caller."""
    registers: dict[int, int] = {}
    saved_at: dict[int, int] = {}
    context = Context(state.registers, memory, cfa, b"", bias)
    for number in range(REGISTER_COUNT):
        _recover(number, row.registers[number], context, state, registers, saved_at)
    if DWARF_RSP not in registers:
        registers[DWARF_RSP] = cfa
    if row.return_register != DWARF_RIP:
        raise _StopError("malformed")
    if row.registers[DWARF_RIP].undefined or registers.get(DWARF_RIP) == 0:
        raise _StopError("outermost")
    if DWARF_RIP not in registers:
        raise _StopError("memory-fault")
    return _State(registers, saved_at, interrupted=row.signal_frame)


def _recover(
    number: int,
    rule: Rule,
    context: Context,
    state: _State,
    registers: dict[int, int],
    saved_at: dict[int, int],
) -> None:
    """Put the caller's value of one register, and where it is kept, into the two dictionaries."""
    if rule.undefined:
        return
    if rule.same:
        _copy(number, number, state, registers, saved_at)
        return
    place = locate_operations(rule.operations, context)
    if place.kind is PlaceKind.MEMORY:
        try:
            registers[number] = int.from_bytes(context.memory.read(place.address, 8), "little")
        except FaultError:
            return
        saved_at[number] = place.address
    elif place.kind is PlaceKind.VALUE:
        registers[number] = int.from_bytes(place.value[:8], "little")
    elif place.kind is PlaceKind.REGISTER:
        _copy(number, place.register, state, registers, saved_at)


def _copy(
    number: int, source: int, state: _State, registers: dict[int, int], saved_at: dict[int, int]
) -> None:
    if source in state.registers:
        registers[number] = state.registers[source]
        if source in state.saved_at:
            saved_at[number] = state.saved_at[source]
