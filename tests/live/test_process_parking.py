"""A thread that was held in a blocking call waits on as if nothing had been."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from running import Running, Start

from instar.process import parking
from instar.process.blocking import CALLS, Restart
from instar.process.deadline import Deadline
from instar.process.parking import park, unpark
from instar.process.syscalls import NUMBERS
from instar.process.tracee import Tracee

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


def soon() -> Deadline:
    return Deadline(10)


def outcome(running: Running) -> tuple[int, int, int, int]:
    result, error, elapsed, handled = (int(word) for word in running.line().split())
    return result, error, elapsed, handled


def hold(tracee: Tracee, call: str, seconds: float) -> None:
    """Park, inject something, keep it for a while, let it wait on."""
    parked = park(tracee, soon())
    assert parked.call is not None and parked.call.name in (call, "restart_syscall"), parked
    assert parked.timeout_kept
    assert tracee.inject_syscall(NUMBERS["getppid"]) == os.getpid()
    time.sleep(seconds)
    unpark(tracee, parked)


@pytest.mark.parametrize("name", TIMED)
def test_timeout_goes_on_while_parked(start: Start, name: str) -> None:
    call, result, error = TIMED[name]
    length = 700
    running = start(WAITER, name, str(length), flags=["-O2"])
    running.wait_until_blocked(call)
    tracee = Tracee.seize(running.pid)
    chance = random.Random(name)
    for _ in range(4):
        time.sleep(chance.uniform(0, 0.1))
        hold(tracee, call, chance.uniform(0, 0.03))
        tracee.resume()
        running.wait_until_blocked(call)
    hold(tracee, call, 0)
    tracee.detach()
    seen = outcome(running)
    assert (seen[0], seen[1], seen[3]) == (result, error, 0)
    # 0.1 % and a tick is what the kernel itself allows; the rest is for a busy machine.
    assert length - 5 <= seen[2] <= length + 200, seen


@pytest.mark.parametrize("name", ["epoll_wait", "epoll_pwait2", "semtimedop"])
def test_timeout_that_passed_while_parked_ends_at_once(start: Start, name: str) -> None:
    running = start(WAITER, name, "200", flags=["-O2"])
    call, result, error = TIMED[name]
    running.wait_until_blocked(call)
    tracee = Tracee.seize(running.pid)
    hold(tracee, call, 0.3)
    begin = time.monotonic()
    tracee.detach()
    seen = outcome(running)
    assert (seen[0], seen[1], seen[3]) == (result, error, 0)
    assert time.monotonic() - begin < 0.15


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_call_waits_on(start: Start, name: str) -> None:
    running = start(WAITER, name, flags=["-O2"])
    running.wait_until_blocked(ENDLESS[name])
    tracee = Tracee.seize(running.pid)
    for _ in range(5):
        hold(tracee, ENDLESS[name], 0)
        tracee.resume()
        running.wait_until_blocked(ENDLESS[name])
    hold(tracee, ENDLESS[name], 0)
    tracee.detach()
    running.wait_until_blocked(ENDLESS[name])
    assert running.silent(0.02)


@pytest.mark.parametrize("name", sorted({*TIMED, *ENDLESS} - {"absolute", "clock_nanosleep"}))
def test_signal_with_handler_still_interrupts(start: Start, name: str) -> None:
    """A signal that comes while the thread is held breaks the call off as it would have without us."""
    call = ENDLESS.get(name) or TIMED[name][0]
    running = start(WAITER, name, "60000", flags=["-O2"])
    running.wait_until_blocked(call)
    tracee = Tracee.seize(running.pid)
    parked = park(tracee, soon())
    tracee.inject_syscall(NUMBERS["getppid"])
    os.kill(running.pid, signal.SIGUSR1)
    unpark(tracee, parked)
    tracee.resume()
    assert tracee.wait(soon()).signal == signal.SIGUSR1
    tracee.detach(signal.SIGUSR1)
    result, error, _, handled = outcome(running)
    assert (result, error, handled) == (-1, EINTR, 1)


@pytest.mark.parametrize("injected", [False, True])
@pytest.mark.parametrize("name", ["ppoll", "pselect6", "epoll_pwait", "rt_sigsuspend"])
def test_signal_that_only_the_call_lets_in_still_interrupts(start: Start, name: str, injected: bool) -> None:
    """The mask of the call is in force while it waits: putting the process's own back must not matter."""
    running = start(WAITER, name, "60000", flags=["-O2"], env={**os.environ, "BLOCKED": "1"})
    running.wait_until_blocked(name)
    tracee = Tracee.seize(running.pid)
    parked = park(tracee, soon())
    assert tracee.signal_mask() >> (signal.SIGUSR1 - 1) & 1
    if injected:
        tracee.inject_syscall(NUMBERS["getppid"])
    os.kill(running.pid, signal.SIGUSR1)
    unpark(tracee, parked)
    tracee.resume()
    assert tracee.wait(soon()).signal == signal.SIGUSR1
    tracee.detach(signal.SIGUSR1)
    result, error, _, handled = outcome(running)
    assert (result, error, handled) == (-1, EINTR, 1)


@pytest.mark.parametrize("name", ["read", "recvfrom", "accept", "wait4", "flock"])
def test_signal_with_restarting_handler_restarts(start: Start, name: str) -> None:
    running = start(WAITER, name, flags=["-O2"])
    running.wait_until_blocked(ENDLESS[name])
    tracee = Tracee.seize(running.pid)
    parked = park(tracee, soon())
    os.kill(running.pid, signal.SIGUSR2)
    unpark(tracee, parked)
    tracee.resume()
    stop = tracee.wait(soon())
    tracee.detach(stop.signal)
    running.wait_until_blocked(ENDLESS[name])
    assert running.silent(0.02)


def test_sleep_that_began_after_the_look_is_not_older_than_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the scheduler and the stop the thread woke and fell asleep again."""
    length = 5000
    running = start(WAITER, "epoll_wait", str(length), flags=["-O2"])
    running.wait_until_blocked("epoll_wait")
    time.sleep(0.5)
    tracee = Tracee.seize(running.pid)
    look = parking._look

    def look_and_disturb(pid: int) -> object:
        sighting = look(pid)
        os.kill(pid, signal.SIGUSR1)
        tracee.wait(soon())
        tracee.resume("cont", signal.SIGUSR1)
        assert outcome(running)[1] == EINTR
        running.wait_until_blocked("epoll_wait")
        return sighting

    monkeypatch.setattr(parking, "_look", look_and_disturb)
    parked = park(tracee, soon())
    assert parked.ends_at_ns is not None
    left_ms = (parked.ends_at_ns - time.monotonic_ns()) / 1e6
    assert length - 300 < left_ms <= length
    tracee.detach()


def test_entry_stop_is_a_park_too(start: Start) -> None:
    running = start(WAITER, "epoll_wait", "100", flags=["-O2"])
    tracee = Tracee.seize(running.pid)
    tracee.interrupt(soon())
    while True:
        tracee.resume("syscall")
        stop = tracee.wait(soon())
        if stop.entry and stop.syscall is not None and stop.syscall.number == NUMBERS["epoll_wait"]:
            break
    parked = park(tracee, soon())
    assert parked.resting
    tracee.inject_syscall(NUMBERS["getppid"])
    assert tracee.stop == stop
    unpark(tracee, parked)
    tracee.resume("syscall")
    assert tracee.wait(soon()).exit
    tracee.detach()
    running.line()
    assert outcome(running)[:2] == (0, 0)


def test_every_lost_timeout_is_tried_here() -> None:
    tried = {call for call, _, _ in TIMED.values()}
    lost = {call.name for call in CALLS.values() if call.restart is Restart.LOST and call.timeout_index >= 0}
    assert lost - tried == {"io_pgetevents"}  # the same code as io_getevents
