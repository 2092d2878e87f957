"""Stopping a process in a blocking call, with the moment at which it fell asleep in it.

A call that was broken off and is made again would wait anew (epoll_wait first of all). So the moment at which
the thread fell asleep is read from the scheduler before the stop, and whoever holds the process is told.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from instar.errors import FaultError
from instar.process.blocking import CALLS, MILLISECOND, RESTARTED, Restart, blocking_call
from instar.process.death import ProcessDiedError
from instar.process.expression import Reader
from instar.process.registers import Registers
from instar.process.resting import EINTR, RESTARTS
from instar.process.surroundings import read_stat
from instar.process.syscalls import NUMBERS

_CODE = 48  # bytes before a system call in which its number is looked for
_MOV_EAX = 0xB8
_PROCESSOR = 36  # field 39 of /proc/PID/stat


class Seen(Protocol):
    """A stop of a process."""

    @property
    def kind(self) -> str:
        """As in ``process.thread.Stop``."""

    @property
    def registers(self) -> Registers | None:
        """None once it has ended."""

    @property
    def stops(self) -> int:
        """How often it was stopped for this."""


class Holding(Protocol):
    """Who holds a process (``guard.client.Past``)."""

    @property
    def pid(self) -> int:
        """The process."""

    @property
    def memory(self) -> Reader:
        """Its memory."""

    @property
    def sight(self) -> Seen | None:
        """Where it stands; None while it runs."""

    def stop(self, seconds: float) -> Seen:
        """Stop it wherever it is."""

    def since(self, began_ns: int) -> None:
        """Tell when the wait began in which it was stopped."""


@dataclass(frozen=True, slots=True)
class BrokenOff:
    """The call in which a process was stopped, or which it was about to make.

    Attributes:
        number: Never restart_syscall where the call can be told for which it stands.
        timeout_kept: False where its timeout can only start anew: the scheduler does not tell when it began.
    """

    number: int
    arguments: tuple[int, ...]
    timeout_kept: bool = True


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A thread as it was just before it was stopped."""

    seen_at_ns: int
    call: tuple[int, ...]
    switches: int
    asleep_since_ns: int | None


def stop_past(past: Holding, seconds: float) -> BrokenOff | None:
    """Stop a process so that it waits on as if nothing had been when it is let go; None: it is in no call.

    Raises:
        DeadlineError: It does not stop.
        ProcessDiedError: It has ended.
    """
    sighting = _look(past.pid) if past.sight is None else None
    sight, stopped_at_ns = past.stop(seconds), time.monotonic_ns()
    registers = sight.registers
    if registers is None:
        raise ProcessDiedError(past.pid, None)
    number, arguments = registers.orig_rax, registers.syscall_arguments()
    if sight.kind == "syscall-entry":
        return BrokenOff(number, arguments)
    if not registers.in_syscall or registers.result not in (*RESTARTS, EINTR):
        return None
    if number == NUMBERS["restart_syscall"]:
        return BrokenOff(original_call(past.memory, registers.rip) or number, arguments)
    call = blocking_call(number, arguments)
    if call is None or call.restart is Restart.EXACT:
        return BrokenOff(number, arguments)
    if call.restart is Restart.WRITTEN:
        past.since(stopped_at_ns)
        return BrokenOff(number, arguments)
    began = _began(past.pid, (number, *arguments), sighting, sight.stops)
    if began is not None:
        past.since(began)
    return BrokenOff(number, arguments, began is not None)


def original_call(memory: Reader, after: int) -> int | None:
    """Which call a restart_syscall stands for, read from the code before its ``syscall`` instruction.

    The kernel has put the number 219 in the place of the program's. None where the code does not load one of
    a call that can be restarted so.
    """
    try:
        code = memory.read(after - _CODE, _CODE)
    except FaultError:
        return None
    for position in range(_CODE - 2 - 5, -1, -1):
        if code[position] == _MOV_EAX:
            number = int.from_bytes(code[position + 1 : position + 5], "little")
            if number in RESTARTED:
                return number
    return None


def _began(pid: int, call: tuple[int, ...], sighting: _Sighting | None, stops: int) -> int | None:
    """When the wait that was broken off began."""
    if sighting is None:
        return None
    # Each stop is one more switch; more of them, or another call, and it began after the sighting.
    same_sleep = sighting.call == call and _switches(pid) == sighting.switches + stops
    return sighting.asleep_since_ns if same_sleep else sighting.seen_at_ns


# ---------------------------------------------------------------------------------------- the clock


def _look(pid: int) -> _Sighting | None:
    """What a thread does, without disturbing it; None where /proc does not tell."""
    seen = time.monotonic_ns()
    try:
        words = Path(f"/proc/{pid}/syscall").read_text().split()
        if len(words) != 9:  # "running", or asleep outside of a call
            return _Sighting(seen, (), -1, None)
        call = (int(words[0]), *(int(word, 16) for word in words[1:7]))
        known = CALLS.get(call[0])
        lost = known is not None and known.restart is Restart.LOST
        switches = _switches(pid)
        return _Sighting(seen, call, switches, _asleep_since(pid) if lost else None)
    except (OSError, ValueError):
        return None


def _switches(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                return int(line.split()[1])
    return -2


def _asleep_since(pid: int) -> int | None:
    """CLOCK_MONOTONIC time at which a sleeping thread last ran; None where the scheduler does not tell.

    ``se.exec_start`` of /proc/PID/sched is in the clock of the CPU the thread ran on; that clock is compared
    with ours by running on that CPU for a moment.
    """
    last = _exec_start(pid)
    if last is None:
        return None
    with contextlib.suppress(OSError):
        processor = int(read_stat(pid)[_PROCESSOR])
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {processor})
        try:
            os.sched_yield()
            ours, now = _exec_start(None), time.monotonic_ns()
        finally:
            os.sched_setaffinity(0, allowed)
        if ours is not None:
            return min(now, now - ours + last)
    return None


def _exec_start(pid: int | None) -> int | None:
    name = "thread-self" if pid is None else str(pid)
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{name}/sched").read_text(errors="replace").splitlines():
            if line.startswith("se.exec_start"):
                return int(float(line.rpartition(":")[2]) * MILLISECOND)
    return None
