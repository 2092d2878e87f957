"""The arguments of the call in which the future waits: the past's, translated.

The future stands at the entry of its blocking call with what its start-up passed: two sockets to poll where
the past polls a thousand, a buffer for events that its start-up made. So the past's arguments go over:
numbers as they are, pointers like all others. What libc put on its own part of the stack (a copy of a
timeout) is the future's own, with the past's time in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instar.pairing.problems import Problem
from instar.process.blocking import CALLS, RESTARTED, Timeout
from instar.process.numbering import DWARF_NAMES
from instar.process.registers import SYSCALL_ARGUMENTS, Registers
from instar.process.resting import TIME_LEFT_BELOW
from instar.process.syscalls import NUMBERS
from instar.state.columns import Status
from instar.state.image import Image

Array = np.ndarray[Any, np.dtype[Any]]
Translate = Callable[[Array], tuple[Array, Array]]

_CLEAN = (Status.NULL, Status.SMALL, Status.STAY, Status.MOVED, Status.LIBRARY, Status.DANGLING)
_TIMESPEC = 16
_BELOW_CALLS = 32 << 10  # what instar calls in the future until then uses less stack
_RESTART = NUMBERS["restart_syscall"]

# Name -> one letter an argument: n number, p pointer. A call that is not here waits with the future's own.
_ARGUMENTS = {
    "epoll_wait": "npnn",
    "epoll_pwait": "npnnpn",
    "epoll_pwait2": "npnppn",
    "poll": "pnn",
    "ppoll": "pnppn",
    "select": "npppp",
    "pselect6": "nppppp",
    "accept": "npp",
    "accept4": "nppn",
    "read": "npn",
    "readv": "npn",
    "recvfrom": "npnnpp",
    "recvmsg": "npn",
    "recvmmsg": "npnnp",
    "nanosleep": "pp",
    "clock_nanosleep": "nnpp",
    "rt_sigsuspend": "pn",
    "rt_sigtimedwait": "pppn",
    "wait4": "npnp",
    "waitid": "nnpnp",
    "mq_timedreceive": "npnpp",
    "msgrcv": "npnnn",
}


@dataclass
class CallPlan:
    """What to change at the future's call.

    Attributes:
        registers: DWARF number -> value.
        writes: (address, bytes) in the future.
        problems: Pointers that lead to something without counterpart.
    """

    registers: dict[int, int] = field(default_factory=dict)
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def plan_call(past: Image, future: Image, translate: Translate, *, whole: bool = True) -> CallPlan:
    """Plan the arguments of the future's call.

    Args:
        past, future: Both parked.
        translate: Statuses and new values of words.
        whole: Whether the calling function's frame is carried word by word, registers included.

    Nothing is planned where the versions wait in different calls, or where libc made the call for itself (a
    stream's read into its own buffer): there the future's arguments are right.
    """
    plan = CallPlan()
    for name, index, kind, value, is_timeout in call_arguments(past, future):
        if kind == "p" and value and _is_of_libc(past, value):
            if is_timeout:
                _plan_timeout(plan, past, future, index, value)
        else:
            _plan_argument(plan, name, index, value, translate if kind == "p" else None)
            if kind == "p" and not whole:
                _refuse_begun(plan, past, future, name, index)
    return plan


def call_arguments(past: Image, future: Image) -> Iterator[tuple[str, int, str, int, bool]]:
    """(call, index, "n" or "p", the past's value, whether it is a timeout) of the arguments that go over."""
    if past.registers is None or future.registers is None or not past.program_frames:
        return
    numbers = _number(past.registers), _number(future.registers)
    same = numbers[0] == numbers[1] or (numbers[0] == _RESTART and numbers[1] in RESTARTED)
    call = CALLS.get(numbers[1])
    if not same or call is None or past.program_frames[0].frame.index != 1:
        return
    timeout = call.timeout_index if call.timeout is not Timeout.NONE else -1
    for index, kind in enumerate(_ARGUMENTS.get(call.name, "")):
        yield call.name, index, kind, past.registers.syscall_arguments()[index], index == timeout


def handed_over(past: Image, future: Image) -> Iterator[tuple[str, int, bool, int]]:
    """(description, DWARF number, whether it is a pointer, the past's value): must lead to the same."""
    for name, index, kind, value, _ in call_arguments(past, future):
        if kind != "p" or not (value and _is_of_libc(past, value)):
            yield f"argument {index + 1} of {name}", _register(index), kind == "p", value


def _refuse_begun(plan: CallPlan, past: Image, future: Image, name: str, index: int) -> None:
    """A loop that fills a buffer of its own frame, one call after the other, and is in the midst of it.

    Compilers keep such a place in registers that debug information does not describe (``line + used`` beside
    ``used``). In a function whose code changed they are the future's own, which has just begun.
    """
    assert past.registers is not None and future.registers is not None
    old, new = (image.registers.syscall_arguments()[index] for image in (past, future) if image.registers)
    frames = past.program_frames[0], future.program_frames[0]
    if not (frames[0].low <= old < frames[0].high and frames[1].low <= new < frames[1].high):
        return
    if plan.registers.get(_register(index), new) != new:
        plan.problems.append(
            Problem(
                "half-read-line",
                "",
                f"{frames[0].name} has begun to fill a buffer of its own with {name}, and its code changed: "
                "registers that nothing describes may hold how far it is",
                "run it again when nothing is begun; or keep the buffer and its length in a struct",
            )
        )


def _number(registers: Registers) -> int:
    """Of the call a thread is in, or is about to make again (parked before its ``syscall`` instruction)."""
    return registers.orig_rax if registers.in_syscall else registers.rax


def _is_of_libc(past: Image, address: int) -> bool:
    """Whether an address is below the program's frames: of libc, or where the guard put the time left."""
    assert past.registers is not None
    return past.registers.rsp - TIME_LEFT_BELOW <= address < past.program_frames[0].low


def _plan_timeout(plan: CallPlan, past: Image, future: Image, index: int, address: int) -> None:
    """The past's time in the future's copy; far below its stack where it has none."""
    assert future.registers is not None
    place = future.registers.syscall_arguments()[index]
    if not place:
        place = (future.registers.rsp - _BELOW_CALLS) & ~15
        plan.registers[_register(index)] = place
    plan.writes.append((place, past.subject.memory.read(address, _TIMESPEC)))


def _plan_argument(plan: CallPlan, name: str, index: int, value: int, translate: Translate | None) -> None:
    if translate is not None and value:
        statuses, values = translate(np.array([value], dtype=np.uint64))
        if statuses[0] not in _CLEAN:
            plan.problems.append(_problem(name, index, value, Status(int(statuses[0]))))
            return
        value = int(values[0])
    plan.registers[_register(index)] = value


def _problem(name: str, index: int, value: int, status: Status) -> Problem:
    path = f"argument {index + 1} of {name}"
    return Problem(
        "call-argument",
        path,
        f"the program waits in {name}; {path} ({value:#x}, {status.name.lower()}) has no counterpart",
        "keep what is passed there in a static variable or in allocated memory",
    )


def _register(index: int) -> int:
    return DWARF_NAMES.index(SYSCALL_ARGUMENTS[index])
