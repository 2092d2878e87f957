"""What a process does with signals, and its timers.

Dispositions and interval timers are only visible from inside: they are read by system calls made in the
stopped thread (``Surgery``); POSIX timers are listed in /proc/PID/timers.
"""

from __future__ import annotations

import re
import signal
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from instar.errors import InstarError
from instar.process.failures import RemoteCallError, lost_process
from instar.process.injection import Surgery
from instar.process.syscalls import NUMBERS

SIGNAL_COUNT = 64
_ACTION = struct.Struct("<QQQQ")  # struct kernel_sigaction: handler, flags, restorer, mask
_INTERVAL = struct.Struct("<qqqq")
_SIG_DFL, _SIG_IGN = 0, 1
_NS = 10**9
_TIMER = re.compile(
    r"^ID: (-?\d+)\s*\nsignal: (\d+)/([0-9a-f]+)\s*\nnotify: (\w+)/(pid|tid)\.(\d+)\s*\nClockID: (-?\d+)",
    re.M,
)


class Disposition(NamedTuple):
    """What happens at a signal: ``struct sigaction`` as the kernel has it.

    Attributes:
        handler: Address of the function, 0 for the default action, 1 for ignore.
        flags: SA_*.
        restorer: Address of the trampoline.
        mask: Blocked meanwhile; bit ``n - 1`` is signal ``n``.
    """

    handler: int
    flags: int
    restorer: int
    mask: int

    @property
    def caught(self) -> bool:
        """Whether a function of the program handles it."""
        return self.handler not in (_SIG_DFL, _SIG_IGN)


class IntervalTimer(NamedTuple):
    """setitimer(2): nanoseconds until the next expiry (0: disarmed), and between later ones."""

    which: int
    value_ns: int
    interval_ns: int


@dataclass(frozen=True, slots=True)
class PosixTimer:
    """timer_create(2); ``notify`` is "signal", "none", "thread"; ``target`` a pid or tid (``to_thread``)."""

    number: int
    signal: int
    value: int
    notify: str
    to_thread: bool
    target: int
    clock: int


class AlternateStack(NamedTuple):
    """sigaltstack(2)."""

    address: int
    flags: int
    size: int


class Asked(Protocol):
    """A held process that can be made to ask the kernel (``guard.client.Past``)."""

    def ask(self, questions: Sequence[tuple[str, int]]) -> list[bytes]:
        """32 bytes for each question of ``guard.asking.QUESTIONS``."""


def parse_disposition(data: bytes) -> Disposition:
    """Read a ``struct kernel_sigaction``."""
    return Disposition(*_ACTION.unpack(data))


def read_dispositions(surgery: Surgery) -> dict[int, Disposition]:
    """All 64 signals' dispositions."""
    room = surgery.scratch(_ACTION.size)
    found: dict[int, Disposition] = {}
    for number in range(1, SIGNAL_COUNT + 1):
        _must(surgery.syscall(NUMBERS["rt_sigaction"], number, 0, room, 8), "rt_sigaction")
        found[number] = Disposition(*_ACTION.unpack(surgery.tracee.memory.read(room, _ACTION.size)))
    return found


def read_alternate_stack(surgery: Surgery) -> AlternateStack:
    """The alternate signal stack (flags 2, SS_DISABLE: none)."""
    room = surgery.scratch(24)
    _must(surgery.syscall(NUMBERS["sigaltstack"], 0, room), "sigaltstack")
    return AlternateStack(*struct.unpack("<Qi4xQ", surgery.tracee.memory.read(room, 24)))


def read_interval_timers(surgery: Surgery) -> list[IntervalTimer]:
    """ITIMER_REAL, ITIMER_VIRTUAL and ITIMER_PROF."""
    room = surgery.scratch(_INTERVAL.size)
    found: list[IntervalTimer] = []
    for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        _must(surgery.syscall(NUMBERS["getitimer"], which, room), "getitimer")
        found.append(parse_interval_timer(int(which), surgery.tracee.memory.read(room, _INTERVAL.size)))
    return found


def parse_interval_timer(which: int, data: bytes) -> IntervalTimer:
    """Read a ``struct itimerval``."""
    interval_s, interval_us, value_s, value_us = _INTERVAL.unpack(data)
    return IntervalTimer(which, value_s * _NS + value_us * 1000, interval_s * _NS + interval_us * 1000)


def write_interval_timer(surgery: Surgery, timer: IntervalTimer) -> None:
    """Arm or disarm an interval timer."""
    room = surgery.scratch(_INTERVAL.size)
    interval, value = divmod(timer.interval_ns, _NS), divmod(timer.value_ns, _NS)
    data = _INTERVAL.pack(interval[0], interval[1] // 1000, value[0], value[1] // 1000)
    surgery.tracee.memory.write(room, data)
    _must(surgery.syscall(NUMBERS["setitimer"], timer.which, room, 0), "setitimer")


def read_posix_timer_value(surgery: Surgery, timer: PosixTimer) -> tuple[int, int]:
    """Nanoseconds until the next expiry (0: disarmed), and between later ones."""
    room = surgery.scratch(_INTERVAL.size)
    _must(surgery.syscall(NUMBERS["timer_gettime"], timer.number, room), "timer_gettime")
    return parse_posix_timer_value(surgery.tracee.memory.read(room, _INTERVAL.size))


def parse_posix_timer_value(data: bytes) -> tuple[int, int]:
    """Read a ``struct itimerspec``: nanoseconds until the next expiry, and between later ones."""
    interval_s, interval_ns, value_s, value_ns = _INTERVAL.unpack(data)
    return value_s * _NS + value_ns, interval_s * _NS + interval_ns


def read_posix_timers(pid: int) -> list[PosixTimer]:
    """The timers made by timer_create, without their times."""
    try:
        text = Path(f"/proc/{pid}/timers").read_text()
    except FileNotFoundError as error:
        if Path(f"/proc/{pid}").exists():
            raise InstarError(
                "no-timer-list",
                "this kernel does not list POSIX timers (CONFIG_POSIX_TIMERS, CONFIG_CHECKPOINT_RESTORE)",
                "use a kernel with these options",
            ) from error
        raise lost_process(pid, error) from error
    except OSError as error:
        raise lost_process(pid, error) from error
    return list(parse_posix_timers(text))


def parse_posix_timers(text: str) -> Iterator[PosixTimer]:
    """Read the text of /proc/PID/timers."""
    for number, which, value, notify, target, target_id, clock in _TIMER.findall(text):
        yield PosixTimer(
            int(number), int(which), int(value, 16), notify, target == "tid", int(target_id), int(clock)
        )


def _must(result: int, call: str) -> None:
    if result < 0:
        raise RemoteCallError(
            "remote-call-failed", f"{call} failed in the process: errno {-result}", "try again"
        )
