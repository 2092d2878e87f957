"""Interval timers and POSIX timers of the past, made anew in the future with the time that is left.

They belong to a process and are in no descriptor. Their times can only be asked for from inside, so the
stopped past is made to ask, and only where there is reason to: it has POSIX timers, or it handles, ignores or
blocks the signal of an interval timer. (One that is armed while its signal would kill is not looked for.)
"""

from __future__ import annotations

import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from instar.errors import RefusedError
from instar.process.failures import signal_name
from instar.process.injection import Surgery
from instar.process.signals import (
    Asked,
    IntervalTimer,
    PosixTimer,
    parse_interval_timer,
    parse_posix_timer_value,
    read_posix_timers,
    write_interval_timer,
)
from instar.process.status import Status, read_status
from instar.process.syscalls import NUMBERS
from instar.process.tracee import Tracee

Translate = Callable[[npt.NDArray[np.uint64]], npt.NDArray[np.uint64]]

_INTERVAL_SIGNALS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
_LIBC_TIMER = 32  # SIGTIMER: glibc's SIGEV_THREAD
_NOTIFY_SIGNAL, _NOTIFY_NONE, _NOTIFY_THREAD_ID = 0, 1, 4
_RESTORE_IDS = 77  # PR_TIMER_CREATE_RESTORE_IDS, Linux 6.15
_EVENT = struct.Struct("<QiiI44x")  # struct sigevent: value, signal, notify, thread id
_SPEC = struct.Struct("<qqqq")
_MOST_TRIES = 4096
_NS = 10**9


@dataclass(frozen=True)
class TimerPlan:
    """What there is to read.

    Attributes:
        posix: The timers made by timer_create, by id.
        intervals: Whether interval timers may be armed.
    """

    posix: tuple[PosixTimer, ...]
    intervals: bool

    @property
    def idle(self) -> bool:
        """Whether nothing has to be asked."""
        return not self.posix and not self.intervals


@dataclass(frozen=True)
class Timers:
    """Timers with the nanoseconds until the next expiry (0: disarmed) and between later ones."""

    intervals: tuple[IntervalTimer, ...] = ()
    posix: tuple[tuple[PosixTimer, int, int], ...] = ()


def plan_timers(pid: int) -> TimerPlan:
    """Look for timers without touching the process.

    Raises:
        RefusedError: "timer-thread" for SIGEV_THREAD and timers of other threads or processes: their timer_t
            is an address, or their target is not carried.
    """
    posix = tuple(sorted(read_posix_timers(pid), key=lambda timer: timer.number))
    for timer in posix:
        _refuse_foreign(timer, pid)
    return TimerPlan(posix, _may_use_intervals(read_status(pid)))


def _may_use_intervals(status: Status) -> bool:
    dealt_with = status.signals_caught | status.signals_ignored | status.signals_blocked
    return any(dealt_with >> (number - 1) & 1 for number in _INTERVAL_SIGNALS)


def _refuse_foreign(timer: PosixTimer, pid: int) -> None:
    if timer.signal == _LIBC_TIMER and timer.notify != "none":
        what = "calls a function in a thread of its own (SIGEV_THREAD)"
    elif timer.notify != "none" and timer.target != pid:
        what = f"signals thread {timer.target} with {signal_name(timer.signal)}"
    elif timer.clock < 0:
        what = "counts the processor time of one process or thread"
    else:
        return
    raise RefusedError(
        "timer-thread",
        f"timer {timer.number} of process {pid} {what}",
        "use a timerfd, or SIGEV_SIGNAL for the process",
    )


def read_timers(past: Asked, plan: TimerPlan) -> Timers:
    """Have the held past ask for the times."""
    if plan.idle:
        return Timers()
    which = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF) if plan.intervals else ()
    questions = [("itimer", int(number)) for number in which]
    answers = past.ask(questions + [("timer", timer.number) for timer in plan.posix])
    intervals = [parse_interval_timer(n, data) for n, data in zip(which, answers, strict=False)]
    posix = tuple(
        (timer, *parse_posix_timer_value(data))
        for timer, data in zip(plan.posix, answers[len(which) :], strict=True)
    )
    running = (timer for timer in intervals if timer.value_ns or timer.interval_ns)
    return Timers(tuple(_going_on(timer) for timer in running), posix)


def _going_on(timer: IntervalTimer) -> IntervalTimer:
    """The kernel starts ITIMER_REAL again only when its signal is taken, which a stopped process does not."""
    return timer if timer.value_ns else timer._replace(value_ns=timer.interval_ns)


def apply_timers(future: Tracee, timers: Timers, translate: Translate) -> None:
    """Make the past's timers in the parked future, under the same ids; its other timers stay.

    Args:
        future: Stopped.
        timers: Of the past.
        translate: sigev_value of all POSIX timers (u8) -> what the future shall be told; called once.

    Raises:
        RefusedError: "timer-id": the kernel does not give out an id again.
    """
    values = translate(np.array([timer.value for timer, _, _ in timers.posix], np.uint64))
    present = {timer.number for timer in read_posix_timers(future.pid)} if timers.posix else set()
    if not timers.posix and not timers.intervals:
        return
    with future.surgery() as surgery:
        for interval in timers.intervals:
            write_interval_timer(surgery, interval)
        restoring = surgery.syscall(NUMBERS["prctl"], _RESTORE_IDS, 1, 0, 0, 0) == 0
        for (timer, value_ns, interval_ns), cookie in zip(timers.posix, values.tolist(), strict=True):
            if timer.number in present:
                surgery.syscall(NUMBERS["timer_delete"], timer.number)
            _make_timer(surgery, timer, cookie, restoring)
            _arm_timer(surgery, timer.number, value_ns, interval_ns)
        if restoring:
            surgery.syscall(NUMBERS["prctl"], _RESTORE_IDS, 0, 0, 0, 0)


def _make_timer(surgery: Surgery, timer: PosixTimer, cookie: int, restoring: bool) -> None:
    """timer_create until the id is the wanted one: at once, or by using up those before (they count up)."""
    room = surgery.scratch(_EVENT.size + 8)
    notify = {"none": _NOTIFY_NONE, "signal": _NOTIFY_SIGNAL}[timer.notify]
    if timer.to_thread and timer.notify != "none":
        notify = _NOTIFY_THREAD_ID
    event = _EVENT.pack(cookie, timer.signal, notify, surgery.tracee.pid if timer.to_thread else 0)
    for _ in range(_MOST_TRIES):
        surgery.tracee.memory.write(room, event + struct.pack("<ii", timer.number, 0))
        result = surgery.syscall(NUMBERS["timer_create"], timer.clock, room, room + _EVENT.size)
        made: int = struct.unpack("<i", surgery.tracee.memory.read(room + _EVENT.size, 4))[0]
        if result == 0 and made == timer.number:
            return
        if result == 0:
            surgery.syscall(NUMBERS["timer_delete"], made)
        if result != 0 or restoring or made > timer.number:
            break
    raise RefusedError(
        "timer-id",
        f"the kernel does not give the new version a timer of the id {timer.number}, which the state holds",
        "use Linux 6.15 or later, or a timerfd",
    )


def _arm_timer(surgery: Surgery, number: int, value_ns: int, interval_ns: int) -> None:
    room = surgery.scratch(_SPEC.size)
    spec = _SPEC.pack(*divmod(interval_ns, _NS), *divmod(value_ns, _NS))
    surgery.tracee.memory.write(room, spec)
    surgery.syscall(NUMBERS["timer_settime"], number, 0, room, 0)
