"""A thread that was held in a blocking call waits on as if nothing had been."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from tests.live.running import Running, Start

from instar.guard.client import Past
from instar.process import parking
from instar.process.blocking import CALLS, Restart, Timeout
from instar.process.parking import BrokenOff, stop_past
from instar.process.resting import REPEATABLE
from instar.process.syscalls import NAMES, NUMBERS
from instar.process.timeouts import TIMEOUTS

HoldProcess = Callable[[Running], Past]
WAITER = "process_programs/waiter.c"
EAGAIN, ETIMEDOUT, EINTR = 11, 110, 4
# Program's name of the call -> (system call, result when the time is over, errno)
TIMED = {
    "epoll_wait": ("epoll_wait", 0, 0),
    "epoll_pwait": ("epoll_pwait", 0, 0),
    "epoll_pwait2": ("epoll_pwait2", 0, 0),
    "poll": ("poll", 0, 0),
    "ppoll": ("ppoll", 0, 0),
    "select": ("select", 0, 0),
    "pselect6": ("pselect6", 0, 0),
    "nanosleep": ("clock_nanosleep", 0, 0),
    "clock_nanosleep": ("clock_nanosleep", 0, 0),
    "absolute": ("clock_nanosleep", 0, 0),
    "futex": ("futex", -1, ETIMEDOUT),
    "rt_sigtimedwait": ("rt_sigtimedwait", -1, EAGAIN),
    "semtimedop": ("semtimedop", -1, EAGAIN),
    "io_getevents": ("io_getevents", 0, 0),
}
ENDLESS = {
    "epoll_wait": "epoll_wait",
    "poll": "poll",
    "read": "read",
    "recvfrom": "recvfrom",
    "accept": "accept",
    "pause": "pause",
    "rt_sigsuspend": "rt_sigsuspend",
    "wait4": "wait4",
    "flock": "flock",
    "msgrcv": "msgrcv",
}


SOON = 10.0


@pytest.fixture
def hold_process() -> Iterator[HoldProcess]:
    """Has a guard of its own hold a process."""
    made: list[Past] = []

    def start(running: Running) -> Past:
        past = Past(running.pid)
        made.append(past)
        past.connect()
        past.seize(SOON)
        return past

    yield start
    for past in made:
        past.close()


def outcome(running: Running) -> tuple[int, int, int, int]:
    result, error, elapsed, handled = (int(word) for word in running.line().split())
    return result, error, elapsed, handled


def park(past: Past) -> BrokenOff:
    """Stop it in its call."""
    call = stop_past(past, SOON)
    assert call is not None
    return call


def hold(past: Past, call: str, seconds: float) -> None:
    """Park, keep it for a while."""
    parked = park(past)
    assert NAMES[parked.number] in (call, "restart_syscall"), parked
    assert parked.timeout_kept
    time.sleep(seconds)


def go_on(past: Past) -> None:
    """Let it wait on, and trace it again."""
    past.release()
    past.seize(SOON)


def is_over(running: Running) -> bool:
    """Whether its first wait has ended already, because the machine is slow."""
    return not running.silent(0)


def hold_often(running: Running, past: Past, name: str) -> float | None:
    """Hold it again and again in its first wait; how many ms in all, None when that has ended meanwhile."""
    call = TIMED[name][0]
    chance, held = random.Random(name), 0.0
    for _ in range(4):
        running.wait_until_blocked(call)
        time.sleep(chance.uniform(0, 0.1))
        parked = stop_past(past, SOON)
        if is_over(running):
            return None
        assert parked is not None and parked.timeout_kept, parked
        assert NAMES[parked.number] in (call, "restart_syscall"), parked
        begin = time.monotonic()
        time.sleep(chance.uniform(0.02, 0.08))
        held += time.monotonic() - begin
        go_on(past)
    return held * 1000


@pytest.mark.parametrize("name", TIMED)
def test_timeout_goes_on_while_parked(start: Start, hold_process: HoldProcess, name: str) -> None:
    """A wait that stood still while it was held would end later by that time, on any machine.

    One that takes as long for other reasons is too busy to tell: the wait is tried again, a longer one.
    """
    for length in (700, 1400, 2800, 5600, 11200):
        running = start(WAITER, name, str(length), flags=["-O2"])
        past = hold_process(running)
        held_ms = hold_often(running, past, name)
        past.release()
        result, error, elapsed, handled = outcome(running)
        assert (result, error, handled) == (*TIMED[name][1:], 0)
        assert elapsed >= length - 5  # 0.1 % and a tick is what the kernel itself allows
        if held_ms is not None and elapsed < length + held_ms * 0.75:
            return
    raise AssertionError(f"it took {elapsed} ms of {length}, was held for {held_ms}")


@pytest.mark.parametrize("name", ["epoll_wait", "epoll_pwait2", "semtimedop"])
def test_timeout_that_passed_while_parked_ends_at_once(
    start: Start, hold_process: HoldProcess, name: str
) -> None:
    """Sooner than if it began anew, on any machine; a longer one is tried where that is too busy to tell."""
    call, result, error = TIMED[name]
    for length in (200, 400, 800, 1600, 3200):
        running = start(WAITER, name, str(length), flags=["-O2"])
        past = hold_process(running)
        running.wait_until_blocked(call)
        stop_past(past, SOON)
        if is_over(running):
            continue
        time.sleep(length * 1.5 / 1000)
        begin = time.monotonic()
        past.release()
        seen = outcome(running)
        assert (seen[0], seen[1], seen[3]) == (result, error, 0)
        if (time.monotonic() - begin) * 1000 < length * 0.75:
            return
    raise AssertionError(f"{call} never ended at once, at last after {seen} ms of {length}")


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_call_waits_on(start: Start, hold_process: HoldProcess, name: str) -> None:
    running = start(WAITER, name, flags=["-O2"])
    running.wait_until_blocked(ENDLESS[name])
    past = hold_process(running)
    for _ in range(5):
        hold(past, ENDLESS[name], 0)
        go_on(past)
        running.wait_until_blocked(ENDLESS[name])
    hold(past, ENDLESS[name], 0)
    past.release()
    running.wait_until_blocked(ENDLESS[name])
    assert running.silent(0.02)


@pytest.mark.parametrize("name", sorted({*TIMED, *ENDLESS} - {"absolute", "clock_nanosleep"}))
def test_signal_with_handler_still_interrupts(start: Start, hold_process: HoldProcess, name: str) -> None:
    """A signal that comes while the thread is held breaks the call off as it would have without us."""
    call = ENDLESS.get(name) or TIMED[name][0]
    running = start(WAITER, name, "60000", flags=["-O2"])
    running.wait_until_blocked(call)
    past = hold_process(running)
    park(past)
    os.kill(running.pid, signal.SIGUSR1)
    past.release()
    result, error, _, handled = outcome(running)
    assert (result, error, handled) == (-1, EINTR, 1)


@pytest.mark.parametrize("name", ["ppoll", "pselect6", "epoll_pwait", "rt_sigsuspend"])
def test_signal_that_only_the_call_lets_in_still_interrupts(
    start: Start, hold_process: HoldProcess, name: str
) -> None:
    """The mask of the call is in force while it waits: putting the process's own back must not matter."""
    running = start(WAITER, name, "60000", flags=["-O2"], env={**os.environ, "BLOCKED": "1"})
    running.wait_until_blocked(name)
    past = hold_process(running)
    park(past)
    assert past.signal_mask() >> (signal.SIGUSR1 - 1) & 1
    os.kill(running.pid, signal.SIGUSR1)
    past.release()
    result, error, _, handled = outcome(running)
    assert (result, error, handled) == (-1, EINTR, 1)


@pytest.mark.parametrize("name", ["read", "recvfrom", "accept", "wait4", "flock"])
def test_signal_with_restarting_handler_restarts(start: Start, hold_process: HoldProcess, name: str) -> None:
    running = start(WAITER, name, flags=["-O2"])
    running.wait_until_blocked(ENDLESS[name])
    past = hold_process(running)
    park(past)
    os.kill(running.pid, signal.SIGUSR2)
    past.release()
    running.wait_until_blocked(ENDLESS[name])
    assert running.silent(0.02)


def test_sleep_that_began_after_the_look_is_not_older_than_it(
    start: Start, hold_process: HoldProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the scheduler and the stop the thread woke and fell asleep again."""
    running = start(WAITER, "epoll_wait", "60000", flags=["-O2"])
    running.wait_until_blocked("epoll_wait")
    time.sleep(0.5)
    past = hold_process(running)
    look = parking._look
    began: list[int] = []

    def look_and_disturb(pid: int) -> object:
        sighting = look(pid)
        past.release()
        os.kill(pid, signal.SIGUSR1)
        assert outcome(running)[1] == EINTR
        running.wait_until_blocked("epoll_wait")
        past.seize(SOON)
        return sighting

    monkeypatch.setattr(parking, "_look", look_and_disturb)
    monkeypatch.setattr(past, "since", began.append)
    begin = time.monotonic_ns()
    park(past)
    assert began[0] >= begin
    past.release()


def test_entry_stop_is_a_park_too(start: Start, hold_process: HoldProcess) -> None:
    running = start(WAITER, "epoll_wait", "100", flags=["-O2"])
    past = hold_process(running)
    past.stop(SOON)
    past.step(SOON, [NUMBERS["epoll_wait"]])
    assert park(past).number == NUMBERS["epoll_wait"]
    past.hold(SOON)
    assert past.ask([("itimer", 0)]) == [bytes(32)]
    past.release()
    running.line()
    assert outcome(running)[:2] == (0, 0)


def test_every_lost_timeout_is_tried_here() -> None:
    tried = {call for call, _, _ in TIMED.values()}
    lost = {call.name for call in CALLS.values() if call.restart is Restart.LOST and call.timeout_index >= 0}
    assert lost - tried == {"io_pgetevents"}  # the same code as io_getevents


def test_both_tables_of_calls_agree() -> None:
    timed = {
        number
        for number, call in CALLS.items()
        if call.timeout_index >= 0 and call.timeout is not Timeout.ABSOLUTE
    }
    assert timed == set(TIMEOUTS)
    once = {NUMBERS[name] for name in ("connect", "open", "openat", "ioctl", "fsync", "fdatasync")}
    assert set(CALLS) - once == REPEATABLE


def test_registers_of_a_wait_outside_of_libc_stay(start: Start, hold_process: HoldProcess) -> None:
    """A loop around a `syscall` instruction may keep its arguments in registers: the kernel changes none."""
    running = start("process_programs/rawcall.c", flags=["-O2"])
    running.wait_until_blocked("epoll_wait")
    past = hold_process(running)
    time.sleep(0.05)
    for _ in range(2):
        hold(past, "epoll_wait", 0.05)
        go_on(past)
        running.wait_until_blocked("epoll_wait")
    past.release()
    assert running.line() == "0 1500"
