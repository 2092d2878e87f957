"""System calls and functions run inside a stopped process leave no trace in it."""

from __future__ import annotations

import os
import random
import resource
import signal
from collections.abc import Iterator

import pytest
from tests.live.running import Running, Start

from instar.process.deadline import Deadline, DeadlineError
from instar.process.failures import ProcessDiedError, RemoteCallError
from instar.process.maps import read_maps
from instar.process.signals import (
    IntervalTimer,
    read_alternate_stack,
    read_dispositions,
    read_interval_timers,
    write_interval_timer,
)
from instar.process.status import read_status
from instar.process.syscalls import NUMBERS
from instar.process.tracee import Tracee

WORKER = "process_programs/worker.c"
GETPID = NUMBERS["getpid"]
NAMES = ("add_eight", "clobber", "aligned", "crash", "hang", "many_calls")


def soon() -> Deadline:
    return Deadline(10)


def functions(running: Running) -> dict[str, int]:
    return dict(zip(NAMES, (int(word, 16) for word in running.ready), strict=True))


@pytest.fixture
def idle(start: Start) -> Iterator[tuple[Running, Tracee]]:
    running = start(WORKER, "idle", flags=["-O1"])
    running.wait_until_blocked("read")
    tracee = Tracee.seize(running.pid)
    yield running, tracee


def counters(running: Running) -> list[int]:
    running.send("")
    return [int(word) for word in running.line().split()]


@pytest.mark.parametrize("place", ["interrupted", "entry", "exit", "signal"])
def test_injected_work_leaves_registers_and_call_as_they_were(
    idle: tuple[Running, Tracee], place: str
) -> None:
    running, tracee = idle
    tracee.interrupt(soon())
    if place in ("entry", "exit"):
        assert tracee.rewind_syscall()
        tracee.resume("syscall")
        assert tracee.wait(soon()).entry
        if place == "exit":
            running.send("")
            tracee.resume("syscall")
            assert tracee.wait(soon()).exit
    if place == "signal":
        os.kill(running.pid, signal.SIGUSR1)
        tracee.resume()
        assert tracee.wait(soon()).kind == "signal"
    before, stop, mask = tracee.registers(), tracee.stop, tracee.signal_mask()
    state = tracee.extended_state()

    assert tracee.inject_syscall(GETPID) == running.pid
    assert tracee.call(functions(running)["add_eight"], 1, 2, 3, 4, 5, 6, 7, 8) == 204
    assert tracee.call(functions(running)["clobber"]) == 77
    assert tracee.call(functions(running)["aligned"]) == 0

    assert tracee.stop == stop
    assert tracee.registers() == before
    assert tracee.signal_mask() == mask
    assert tracee.extended_state() == state
    if place == "signal":
        assert tracee.siginfo().sender == os.getpid()
        tracee.detach(signal.SIGUSR1)
    else:
        tracee.detach()
    if place == "exit":
        assert running.line() == "0 0 0 0 0"
    assert counters(running)[0] == (1 if place == "signal" else 0)


def test_result_of_a_failing_call_is_minus_errno(idle: tuple[Running, Tracee]) -> None:
    running, tracee = idle
    tracee.interrupt(soon())
    assert tracee.inject_syscall(NUMBERS["close"], 4711) == -9
    assert tracee.inject_syscall(999) == -38
    tracee.detach()
    assert counters(running)[4] == 0


@pytest.mark.parametrize("mode", ["", "ignore-trap"])
def test_busy_program_never_notices(start: Start, mode: str) -> None:
    running = start(WORKER, "busy", mode, flags=["-O2"])
    where = functions(running)
    tracee = Tracee.seize(running.pid)
    chance = random.Random(1)
    ignored = read_status(running.pid).signals_ignored
    caught = read_status(running.pid).signals_caught
    for _ in range(150):
        tracee.interrupt(soon())
        if chance.random() < 0.3:
            tracee.resume("syscall")
            tracee.wait(soon())
        assert tracee.call(where["clobber"]) == 77
        assert tracee.inject_syscall(GETPID) == running.pid
        tracee.resume()
    tracee.detach()
    status = read_status(running.pid)
    assert (status.signals_ignored, status.signals_caught) == (ignored, caught)
    handled, _, mistakes, rounds, _ = counters(running)
    assert (handled, mistakes) == (0, 0)
    assert rounds > 0


def test_no_signal_is_lost_or_doubled(start: Start) -> None:
    """Queued realtime signals arrive in order, each once, though the process is operated on all the while."""
    running = start(WORKER, "busy", flags=["-O2"])
    where = functions(running)
    tracee = Tracee.seize(running.pid)
    sent = 0
    for turn in range(60):
        for _ in range(3):
            os.kill(running.pid, signal.SIGRTMIN + turn % 5)
            sent += 1
        stop = tracee.interrupt(soon())
        tracee.call(where["clobber"])
        assert tracee.inject_syscall(GETPID) == running.pid
        tracee.resume("cont", stop.signal if stop.kind == "signal" else 0)
    for _ in range(1000):
        late = tracee.poll()
        if late is not None:
            assert late.kind == "signal"
            tracee.inject_syscall(GETPID)
            tracee.resume("cont", late.signal)
    while True:
        stop = tracee.interrupt(soon())
        if stop.kind != "signal" and not tracee.pending_signals():
            break
        tracee.resume("cont", stop.signal if stop.kind == "signal" else 0)
    tracee.detach()
    assert counters(running)[0] == sent


def test_siginfo_survives_injection_at_its_signal_stop(idle: tuple[Running, Tracee]) -> None:
    running, tracee = idle
    libc_value = 4242
    queue_signal(running.pid, signal.SIGRTMIN, libc_value)
    stop = tracee.wait(soon())
    assert (stop.kind, stop.signal) == ("signal", signal.SIGRTMIN)
    for _ in range(3):
        assert tracee.inject_syscall(GETPID) == running.pid
    tracee.detach(stop.signal)
    assert counters(running)[:2] == [1, libc_value]


def queue_signal(pid: int, number: int, value: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.sigqueue(pid, int(number), ctypes.c_void_p(value)) == 0


def test_crash_of_a_called_function_is_told_and_undone(idle: tuple[Running, Tracee]) -> None:
    running, tracee = idle
    tracee.interrupt(soon())
    before = tracee.registers()
    with pytest.raises(RemoteCallError) as caught:
        tracee.call(functions(running)["crash"])
    assert caught.value.code == "remote-call-crashed"
    assert tracee.registers() == before
    tracee.detach()
    assert counters(running) == [0, 0, 0, 0, 0]


def test_function_that_hangs_is_left_at_the_deadline(idle: tuple[Running, Tracee]) -> None:
    running, tracee = idle
    tracee.interrupt(soon())
    before = tracee.registers()
    with pytest.raises(DeadlineError):
        tracee.call(functions(running)["hang"], deadline=Deadline(0.1))
    assert tracee.registers() == before
    tracee.detach()
    assert counters(running) == [0, 0, 0, 0, 0]


def test_call_that_blocks_is_left_at_the_deadline(idle: tuple[Running, Tracee]) -> None:
    running, tracee = idle
    tracee.interrupt(soon())
    with pytest.raises(DeadlineError):
        tracee.inject_syscall(NUMBERS["pause"], deadline=Deadline(0.1))
    assert tracee.inject_syscall(GETPID) == running.pid
    tracee.detach()
    assert counters(running) == [0, 0, 0, 0, 0]


def test_called_function_may_make_many_system_calls(idle: tuple[Running, Tracee]) -> None:
    running, tracee = idle
    tracee.interrupt(soon())
    assert tracee.call(functions(running)["many_calls"], 10_000) == 10_000
    tracee.detach()


def test_kill_in_the_middle_is_reported_as_death(idle: tuple[Running, Tracee]) -> None:
    running, tracee = idle
    tracee.interrupt(soon())
    with pytest.raises(ProcessDiedError) as caught, tracee.surgery() as surgery:
        surgery.syscall(GETPID)
        os.kill(running.pid, signal.SIGKILL)
        for _ in range(100):
            surgery.syscall(GETPID)
    assert caught.value.status == -signal.SIGKILL
    assert tracee.interrupt(soon()).ended


def test_injected_kill_of_itself_is_reported_as_death(idle: tuple[Running, Tracee]) -> None:
    running, tracee = idle
    tracee.interrupt(soon())
    with pytest.raises(ProcessDiedError):
        tracee.inject_syscall(NUMBERS["kill"], running.pid, signal.SIGKILL)


def test_exit_by_itself_is_seen_so_by_the_parent(idle: tuple[Running, Tracee]) -> None:
    _, tracee = idle
    tracee.interrupt(soon())
    assert tracee.exit(7, soon()).status == 7
    # This process is its parent and its tracer: the one wait has told both.
    assert tracee.end is not None


def test_stop_signal_during_surgery_takes_effect_afterwards(idle: tuple[Running, Tracee]) -> None:
    running, tracee = idle
    tracee.interrupt(soon())
    with tracee.surgery() as surgery:
        os.kill(running.pid, signal.SIGSTOP)
        for _ in range(5):
            assert surgery.syscall(GETPID) == running.pid
    tracee.resume()
    stop = tracee.wait(soon())
    assert (stop.kind, stop.signal) == ("signal", signal.SIGSTOP)
    tracee.resume("cont", signal.SIGSTOP)
    assert tracee.wait(soon()).kind == "group"
    assert tracee.inject_syscall(GETPID) == running.pid
    assert tracee.stop is not None and tracee.stop.kind == "group"
    tracee.detach()
    running.wait_for_state("T")
    os.kill(running.pid, signal.SIGCONT)
    assert counters(running)[4] == 0


def test_stop_signal_taken_back_during_surgery_has_no_effect(idle: tuple[Running, Tracee]) -> None:
    running, tracee = idle
    tracee.interrupt(soon())
    with tracee.surgery() as surgery:
        os.kill(running.pid, signal.SIGSTOP)
        surgery.syscall(GETPID)
        os.kill(running.pid, signal.SIGCONT)
        surgery.syscall(GETPID)
    tracee.detach()
    assert counters(running)[4] == 0


def test_dispositions_and_timers_are_read_from_inside(idle: tuple[Running, Tracee]) -> None:
    running, tracee = idle
    tracee.interrupt(soon())
    with tracee.surgery() as surgery:
        dispositions = read_dispositions(surgery)
        write_interval_timer(surgery, IntervalTimer(0, 5_000_000_000, 250_000_000))
        timers = read_interval_timers(surgery)
        write_interval_timer(surgery, IntervalTimer(0, 0, 0))
        disarmed = read_interval_timers(surgery)
        stack = read_alternate_stack(surgery)
    tracee.detach()
    caught = sum(1 << (number - 1) for number, entry in dispositions.items() if entry.caught)
    assert caught == read_status(running.pid).signals_caught
    assert dispositions[signal.SIGUSR1].flags & 0x10000000  # SA_RESTART
    assert timers[0].interval_ns == 250_000_000
    assert 4_000_000_000 < timers[0].value_ns <= 5_000_000_000
    assert disarmed[0] == IntervalTimer(0, 0, 0)
    assert stack.flags == 2


def test_stack_grows_where_a_call_needs_it(idle: tuple[Running, Tracee]) -> None:
    running, tracee = idle
    tracee.interrupt(soon())
    before = tracee.registers()
    page = next(mapping.start for mapping in read_maps(running.pid) if mapping.path == "[stack]")
    tracee.set_registers(before.copy(rsp=page + 64))
    assert tracee.call(functions(running)["add_eight"], 1, 1, 1, 1, 1, 1, 1, 1) == 36
    tracee.set_registers(before)
    tracee.detach()
    assert counters(running)[4] == 0


def test_seccomp_filter_of_the_process_does_not_see_injected_calls(start: Start) -> None:
    running = start("process_programs/sandboxed.c")
    running.wait_until_blocked("read")
    tracee = Tracee.seize(running.pid)
    tracee.interrupt(soon())
    assert tracee.inject_syscall(GETPID) == running.pid
    tracee.detach()
    running.send("")
    assert running.line() == "alive"
    running.send("getpid")
    assert running.process.wait(10) == -signal.SIGSYS


def test_suppressed_calls_are_hidden_from_the_filter_too(start: Start) -> None:
    running = start("process_programs/sandboxed.c")
    tracee = Tracee.seize(running.pid)
    tracee.interrupt(soon())
    running.send("getpid")
    while True:
        tracee.resume("syscall")
        stop = tracee.wait(soon())
        if stop.entry and stop.syscall is not None and stop.syscall.number == GETPID:
            break
    tracee.suppress_syscall(4711)
    assert tracee.stop is not None and tracee.stop.syscall is not None
    assert (tracee.stop.exit, tracee.stop.syscall.result, tracee.registers().rax) == (True, 4711, 4711)
    tracee.detach()
    assert running.line() == "alive"


def test_suppressing_at_both_stops(idle: tuple[Running, Tracee]) -> None:
    running, tracee = idle
    tracee.interrupt(soon())
    tracee.resume("syscall")
    assert tracee.wait(soon()).entry
    tracee.suppress_syscall(-4)
    assert tracee.inject_syscall(GETPID) == running.pid
    tracee.suppress_syscall(-5)
    tracee.detach()
    assert running.line() == "0 0 0 0 5"
    assert counters(running)[4] == 0


def test_restartable_sequences_are_aborted(start: Start) -> None:
    """Work injected into a restartable sequence is an interruption: the sequence must not be completed."""
    running = start("process_programs/critical.c", flags=["-O2"])
    poke = int(running.ready[0], 16)
    tracee = Tracee.seize(running.pid)
    for _ in range(400):
        stop = tracee.interrupt(soon())
        tracee.call(poke)
        tracee.resume("cont", stop.signal if stop.kind == "signal" else 0)
    tracee.detach()
    committed, aborted, broken = counters(running)
    assert broken == 0
    assert committed > 0 and aborted > 0  # how many are hit depends on the load of the machine


def test_injection_where_a_stop_signal_is_about_to_be_taken(idle: tuple[Running, Tracee]) -> None:
    running, tracee = idle
    os.kill(running.pid, signal.SIGSTOP)
    stop = tracee.wait(soon())
    assert (stop.kind, stop.signal) == ("signal", signal.SIGSTOP)
    assert tracee.inject_syscall(GETPID) == running.pid
    assert tracee.stop == stop
    tracee.resume("cont", signal.SIGSTOP)
    assert tracee.wait(soon()).kind == "group"
    tracee.detach()
    running.wait_for_state("T")
    os.kill(running.pid, signal.SIGCONT)
    assert counters(running)[4] == 0


def test_core_limit_guard() -> None:
    """These tests crash processes on purpose: no core files."""
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
