"""Holding a thread in a blocking call so that it waits on afterwards as if nothing had been.

A stop breaks a blocking call off. Most are made again by the kernel with nothing lost (``Restart.EXACT``).
Some (epoll_wait first of all) would fail with EINTR, or forget how long they had waited: for these the moment
at which the thread fell asleep is read from the scheduler before the stop, and the call is made again with
the time that is left.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from instar.errors import FaultError, InternalError
from instar.process import ptrace
from instar.process.blocking import (
    CALLS,
    MILLISECOND,
    RESTARTED,
    SECOND,
    Blocking,
    Restart,
    Timeout,
    blocking_call,
    relative_timeout_ns,
)
from instar.process.deadline import Deadline
from instar.process.expression import Reader
from instar.process.injection import RED_ZONE, RESTARTS
from instar.process.registers import SYSCALL_ARGUMENTS
from instar.process.surroundings import read_stat
from instar.process.syscalls import NUMBERS
from instar.process.tracee import Stop, Tracee

_EINTR = -4
_ERESTARTNOHAND = -514
_CODE = 48  # bytes before a system call in which its number is looked for
_MOV_EAX = 0xB8
_PROCESSOR = 36  # field 39 of /proc/PID/stat
# These have done something when they return EINTR: making them again would do it twice.
_NOT_REPEATABLE = ("connect", "open", "openat", "ioctl", "fsync", "fdatasync")


@dataclass(frozen=True, slots=True)
class Parked:
    """A thread that stands, and how to let it wait on.

    Attributes:
        stop: Where it stands.
        call: The blocking call it is in, or about to make; None when it is in none.
        arguments: Of the call.
        ends_at_ns: CLOCK_MONOTONIC time at which its timeout ends; None where the kernel keeps it, or there
            is none.
        timeout_kept: False where the timeout can only start anew: the scheduler does not tell when it began.
    """

    stop: Stop
    call: Blocking | None
    arguments: tuple[int, ...]
    ends_at_ns: int | None = None
    timeout_kept: bool = True

    @property
    def resting(self) -> bool:
        """Whether it is in a call in which a main loop waits for work."""
        return self.call is not None and self.call.waits_for_work


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A thread as it was just before it was stopped."""

    seen_at_ns: int
    call: tuple[int, ...]
    switches: int
    asleep_since_ns: int | None


def park(tracee: Tracee, deadline: Deadline) -> Parked:
    """Stop a thread (``Tracee.interrupt``) and note what it needs to wait on; undone by ``unpark``.

    Nothing is changed in the thread. Raises DeadlineError when it does not stop.
    """
    ran = tracee.stop is None
    sighting = _look(tracee.pid) if ran else None
    stop = tracee.interrupt(deadline)
    stops = 1
    if ran and stop.exit:
        # Traced call by call it shows this instead; only inside get_signal can the call be made again.
        ptrace.interrupt(tracee.pid)
        tracee.resume("cont")
        stop, stops = tracee.wait(deadline), 2
    if stop.ended:
        return Parked(stop, None, ())
    if stop.entry and stop.syscall is not None:
        call = blocking_call(stop.syscall.number, stop.syscall.arguments)
        return Parked(stop, call, stop.syscall.arguments)
    registers = tracee.registers()
    if not registers.in_syscall or registers.result not in (*RESTARTS, _EINTR):
        return Parked(stop, None, ())
    number, arguments = registers.orig_rax, registers.syscall_arguments()
    if number == NUMBERS["restart_syscall"]:
        number = original_call(tracee.memory, registers.rip) or number
    call = blocking_call(number, arguments)
    if call is None or call.restart is Restart.EXACT:
        return Parked(stop, call, arguments)
    return _with_end(tracee, stop, call, arguments, sighting, stops)


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


def _with_end(
    tracee: Tracee,
    stop: Stop,
    call: Blocking,
    arguments: tuple[int, ...],
    sighting: _Sighting | None,
    stops: int,
) -> Parked:
    try:
        wait = relative_timeout_ns(call, arguments, tracee.memory)
    except FaultError:
        return Parked(stop, call, arguments)
    if wait is None:
        return Parked(stop, call, arguments)
    begin = _began(tracee.pid, (call.number, *arguments), sighting, stops)
    if begin is None:
        return Parked(stop, call, arguments, timeout_kept=False)
    return Parked(stop, call, arguments, begin + wait)


def _began(pid: int, call: tuple[int, ...], sighting: _Sighting | None, stops: int) -> int | None:
    """When the wait that was broken off began."""
    if sighting is None:
        return None
    # Each stop is one more switch; more of them, or another call, and it began after the sighting.
    same_sleep = sighting.call == call and _switches(pid) == sighting.switches + stops
    return sighting.asleep_since_ns if same_sleep else sighting.seen_at_ns


def unpark(tracee: Tracee, parked: Parked) -> None:
    """Set the registers so that the next resume or detach lets the call wait on; it must stand as parked.

    A signal with a handler that is pending then still breaks the call off with the EINTR that is due.
    """
    if not rewind_syscall(tracee) or parked.ends_at_ns is None or parked.call is None:
        return
    left = max(0, parked.ends_at_ns - time.monotonic_ns())
    registers = tracee.registers()
    name = SYSCALL_ARGUMENTS[parked.call.timeout_index]
    if parked.call.timeout is Timeout.MS:
        value = -(-left // MILLISECOND)
    else:
        # A copy, as the program may use its own again; the kernel reads it before anything else runs.
        value = (registers.rsp - RED_ZONE - 64) & ~15
        try:
            tracee.memory.write(value, struct.pack("<qq", left // SECOND, left % SECOND))
        except FaultError:
            return
    tracee.set_registers(registers.copy(**{name: value}))


def rewind_syscall(tracee: Tracee) -> bool:
    """Make the call that a stop broke off go on when the thread is resumed; nothing else changes.

    At an entry stop there is nothing to do; in a group stop the EINTR comes from the stop signal and stays.
    Interrupted in the call: the kernel restarts most calls by
    itself, timeouts included; one that was about to fail with EINTR (epoll_wait, reads with SO_RCVTIMEO) is
    turned into one that is restarted unless a signal with a handler is delivered first, in which case the
    program sees the EINTR that is its due. The timeout of such a call starts anew (see ``unpark``).

    Returns:
        Whether the thread is in a system call that will be made again.
    """
    stop = tracee.stop
    if stop is None or stop.ended:
        raise InternalError(f"process {tracee.pid} does not stand")
    if stop.entry:
        return True
    registers = tracee.registers()
    if not registers.in_syscall:
        return False
    if registers.result in RESTARTS:
        return True
    call = CALLS.get(registers.orig_rax)
    repeatable = call is not None and call.name not in _NOT_REPEATABLE
    if registers.result == _EINTR and repeatable and stop.kind == "event":
        tracee.set_registers(registers.copy(rax=_ERESTARTNOHAND))
        return True
    return False


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
