"""Which system calls wait for something, and how each behaves when it is broken off and made again.

From the sources of Linux (fs/eventpoll.c, fs/select.c, net/core, kernel/time, kernel/signal.c, ipc/) and
tried on a live kernel by ``tests/live/test_process_parking.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from instar.errors import FaultError
from instar.process.syscalls import NUMBERS
from instar.process.timeouts import MILLISECOND as MILLISECOND
from instar.process.timeouts import SECOND as SECOND
from instar.process.timeouts import timeout_ns


class Timeout(Enum):
    """How a call is told how long to wait.

    NONE: it has no timeout argument (a socket may have SO_RCVTIMEO). MS: signed 32-bit milliseconds, negative
    for ever. TIMESPEC, TIMEVAL: address of a relative one, 0 for ever. ABSOLUTE: address of an absolute time.
    """

    NONE = "none"
    MS = "milliseconds"
    TIMESPEC = "timespec"
    TIMEVAL = "timeval"
    ABSOLUTE = "absolute"


class Restart(Enum):
    """What becomes of the waiting time when the call is broken off and made again.

    EXACT: nothing is lost: no timeout, an absolute one, or the kernel keeps the end (restart_syscall).
    WRITTEN: the kernel writes what is left into the program's memory when the call is broken off; until it is
    made again that time stands still. LOST: the call would fail with EINTR; made again it waits anew.
    """

    EXACT = "exact"
    WRITTEN = "written"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Blocking:
    """A system call that can block.

    Attributes:
        timeout_index: Which argument tells the timeout, -1 for none.
        descriptor_index: Which argument is the descriptor waited on, -1 where there is none or many.
        waits_for_work: Whether a main loop can rest in it (else it waits for a peer, a disk, a lock).
    """

    name: str
    number: int
    timeout: Timeout = Timeout.NONE
    timeout_index: int = -1
    restart: Restart = Restart.EXACT
    descriptor_index: int = -1
    waits_for_work: bool = True


def _call(
    name: str,
    timeout: Timeout = Timeout.NONE,
    index: int = -1,
    restart: Restart = Restart.EXACT,
    descriptor: int = -1,
    work: bool = True,
) -> Blocking:
    return Blocking(name, NUMBERS[name], timeout, index, restart, descriptor, work)


_WRITTEN, _LOST = Restart.WRITTEN, Restart.LOST
CALLS: dict[int, Blocking] = {
    call.number: call
    for call in (
        _call("epoll_wait", Timeout.MS, 3, _LOST, 0),
        _call("epoll_pwait", Timeout.MS, 3, _LOST, 0),
        _call("epoll_pwait2", Timeout.TIMESPEC, 3, _LOST, 0),
        _call("restart_syscall"),
        _call("poll", Timeout.MS, 2),
        _call("ppoll", Timeout.TIMESPEC, 2, _WRITTEN),
        _call("select", Timeout.TIMEVAL, 4, _WRITTEN),
        _call("pselect6", Timeout.TIMESPEC, 4, _WRITTEN),
        _call("accept", descriptor=0),
        _call("accept4", descriptor=0),
        _call("read", descriptor=0),
        _call("readv", descriptor=0),
        _call("pread64", descriptor=0, work=False),
        _call("preadv", descriptor=0, work=False),
        _call("preadv2", descriptor=0, work=False),
        _call("recvfrom", descriptor=0),
        _call("recvmsg", descriptor=0),
        _call("recvmmsg", descriptor=0),
        _call("write", descriptor=0, work=False),
        _call("writev", descriptor=0, work=False),
        _call("pwrite64", descriptor=0, work=False),
        _call("pwritev", descriptor=0, work=False),
        _call("pwritev2", descriptor=0, work=False),
        _call("sendto", descriptor=0, work=False),
        _call("sendmsg", descriptor=0, work=False),
        _call("sendmmsg", descriptor=0, work=False),
        _call("sendfile", descriptor=0, work=False),
        _call("splice", descriptor=0, work=False),
        _call("tee", descriptor=0, work=False),
        _call("vmsplice", descriptor=0, work=False),
        _call("copy_file_range", descriptor=0, work=False),
        _call("connect", descriptor=0, work=False),
        _call("nanosleep", Timeout.TIMESPEC, 0),
        _call("clock_nanosleep", Timeout.TIMESPEC, 2),
        _call("futex", Timeout.TIMESPEC, 3),
        _call("futex_waitv", Timeout.ABSOLUTE, 3),
        _call("futex_wait", Timeout.ABSOLUTE, 4),
        _call("pause"),
        _call("rt_sigsuspend"),
        _call("rt_sigtimedwait", Timeout.TIMESPEC, 2, _LOST),
        _call("wait4"),
        _call("waitid"),
        _call("io_getevents", Timeout.TIMESPEC, 4, _LOST),
        _call("io_pgetevents", Timeout.TIMESPEC, 4, _LOST),
        _call("io_uring_enter", restart=_LOST, descriptor=0),
        _call("flock", descriptor=0, work=False),
        _call("fcntl", descriptor=0, work=False),
        _call("semop", restart=_LOST, work=False),
        _call("semtimedop", Timeout.TIMESPEC, 3, _LOST, work=False),
        _call("msgrcv"),
        _call("msgsnd", work=False),
        _call("mq_timedreceive", Timeout.ABSOLUTE, 4, descriptor=0),
        _call("mq_timedsend", Timeout.ABSOLUTE, 4, descriptor=0, work=False),
        _call("open", work=False),
        _call("openat", work=False),
        _call("ioctl", descriptor=0, work=False),
        _call("fsync", descriptor=0, work=False),
        _call("fdatasync", descriptor=0, work=False),
        _call("getrandom", work=False),
    )
}

# What restart_syscall may stand for: the calls that keep their end in the thread's restart block.
RESTARTED = frozenset(NUMBERS[name] for name in ("poll", "nanosleep", "clock_nanosleep", "futex"))

_FCNTL_SETLKW = (7, 38)  # F_SETLKW, F_OFD_SETLKW
_FUTEX_WAITS = (0, 6, 9, 11, 13)  # WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2
_FUTEX_COMMAND = 0x7F
_LOCK_NB = 4
_WNOHANG = 1
_MSG_DONTWAIT = 0x40
_IPC_NOWAIT = 0o4000
_TIMER_ABSTIME = 1
_NEVER_WAITS = {"ioctl", "open", "openat", "getrandom", "fsync", "fdatasync"}


class MemoryReader(Protocol):
    """Where a timeout structure is read from."""

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``; raises FaultError."""
        ...


def blocking_call(number: int, arguments: Sequence[int]) -> Blocking | None:
    """What is known of a call that may block with these arguments; None when it cannot (or is not known to).

    A descriptor that is O_NONBLOCK makes most of them return at once: that is not looked at here.
    """
    call = CALLS.get(number)
    if call is None or _returns_at_once(call, arguments):
        return None
    return call


def may_rest(number: int, arguments: Sequence[int]) -> bool:
    """Whether a main loop can be waiting for work in this call."""
    call = blocking_call(number, arguments)
    return call is not None and call.waits_for_work


def _returns_at_once(call: Blocking, arguments: Sequence[int]) -> bool:
    name = call.name
    if name == "fcntl":
        return arguments[1] not in _FCNTL_SETLKW
    if name == "futex":
        return arguments[1] & _FUTEX_COMMAND not in _FUTEX_WAITS
    if name == "flock":
        return bool(arguments[1] & _LOCK_NB)
    if name in ("wait4", "waitid"):
        return bool(arguments[2 if name == "wait4" else 3] & _WNOHANG)
    if name in ("recvfrom", "sendto", "recvmmsg", "sendmmsg"):
        return bool(arguments[3] & _MSG_DONTWAIT)
    if name in ("recvmsg", "sendmsg"):
        return bool(arguments[2] & _MSG_DONTWAIT)
    if name in ("msgrcv", "msgsnd"):
        return bool(arguments[4 if name == "msgrcv" else 3] & _IPC_NOWAIT)
    if call.timeout is Timeout.MS:
        return arguments[call.timeout_index] & 0xFFFFFFFF == 0
    return False


def describe_call(number: int, arguments: Sequence[int], memory: MemoryReader) -> str:
    """A line for people: "epoll_wait on descriptor 5, at most 1.0 s"."""
    call = CALLS.get(number)
    if call is None:
        from instar.process.syscalls import syscall_name

        return syscall_name(number)
    text = call.name
    if call.descriptor_index >= 0:
        text += f" on descriptor {arguments[call.descriptor_index] & 0xFFFFFFFF}"
    try:
        wait = timeout_ns(call.number, arguments, memory.read)
    except FaultError:
        wait = None
    return text if wait is None else f"{text}, at most {wait / SECOND:g} s"
