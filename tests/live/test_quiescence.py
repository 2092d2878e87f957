"""The quiescent point is found and reached, and the process does not notice."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.live.running import Compile, Running, Start
from tests.live.startup_support import ask, build, free_port, observe, symbol_names, wait_until

from instar.control.quiescence import bring_to_point, observe_past
from instar.errors import HostError, RefusedError
from instar.guard.client import Past
from instar.process.deadline import Deadline

RESTART_SYSCALL = 219


Guarded = Callable[[int], Past]


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    """A guard for a process; ended at the end of the test."""
    made: list[Past] = []

    def start(pid: int) -> Past:
        made.append(Past(pid))
        made[-1].connect()
        return made[-1]

    yield start
    for held in made:
        held.close()


def facts(past: Running) -> dict[str, int]:
    """What the patient program has seen."""
    past.send("tell")
    words = past.line().split()
    return {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}


@pytest.mark.parametrize("mode", ["epoll", "poll", "select"])
@pytest.mark.parametrize("wait_ms", [-1, 900])
def test_observed_and_stopped_without_notice(
    compile_c: Compile, start: Start, guarded: Guarded, mode: str, wait_ms: int
) -> None:
    program = compile_c("startup_programs/patient.c")
    past = start(program, mode, str(wait_ms))
    held = guarded(past.pid)
    names = symbol_names(program)
    begin = time.monotonic()
    for _ in range(8):
        past.wait_until_blocked()
        time.sleep(0.03)  # some of the timeout has passed
        point = observe_past(held, names, Deadline(5.0))
        assert point.chain == ("wait_once", "main")
        assert point.waits
        held.seize(10.0)
        bring_to_point(held, names, point, Deadline(5.0))
        assert held.registers().orig_rax in (point.syscall, RESTART_SYSCALL)
        time.sleep(0.04)  # and some passes while it is held
        held.release()
    looked_ms = (time.monotonic() - begin) * 1000
    seen = facts(past)
    assert seen["interrupted"] == 0
    assert seen["late"] < looked_ms * 0.75  # so late it would be if its wait began anew each time
    assert seen["rounds"] >= 1


def test_timeout_that_has_begun_is_kept(compile_c: Compile, start: Start, guarded: Guarded) -> None:
    """Looked at again and again, waits of 400 ms end: they would not if each look made them begin anew."""
    program = compile_c("startup_programs/patient.c")
    past = start(program, "epoll", "400")
    held = guarded(past.pid)
    names = symbol_names(program)
    for seconds in (2.5, 5.0, 10.0):  # more where the machine is busy
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            observe_past(held, names, Deadline(5.0))
            time.sleep(0.05)
        seen = facts(past)
        assert seen["interrupted"] == 0
        if seen["rounds"] >= 5:
            return
    raise AssertionError(f"waits begin anew: {seen}")


def test_busy_process_is_brought_to_its_point(compile_c: Compile, start: Start, guarded: Guarded) -> None:
    old, _ = build(compile_c, "epoll_server")
    port, names = free_port(), symbol_names(old)
    past = start(old, str(port))
    held = guarded(past.pid)
    answers: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            answers.append(ask(port))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: answers, "no answer")
        for _ in range(5):
            point = observe(past.pid, old)
            assert point.chain == ("wait_for_events", "main")
            held.seize(10.0)
            bring_to_point(held, names, point, Deadline(5.0))
            assert held.registers().orig_rax in (point.syscall, RESTART_SYSCALL)
            held.release()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(answers) == {"hello v1"}


@pytest.mark.parametrize("mode", ["epoll", "poll", "select"])
@pytest.mark.parametrize("ending", ["release", "death"])
def test_signals_during_a_hold_interrupt_the_call(
    compile_c: Compile, start: Start, guarded: Guarded, mode: str, ending: str
) -> None:
    """A handler that sets a flag needs the EINTR, or the loop would sleep on."""
    program = compile_c("startup_programs/flagged.c")
    past = start(program, mode)
    held = guarded(past.pid)
    names = symbol_names(program)
    point = observe_past(held, names, Deadline(5.0))

    held.seize(10.0)
    bring_to_point(held, names, point, Deadline(5.0))
    os.kill(past.pid, signal.SIGUSR1)
    if ending == "release":
        held.release()
    else:
        os.kill(held.guard_pid, signal.SIGKILL)
    assert past.line() == "stopped"


def test_more_threads_are_refused(compile_c: Compile, start: Start) -> None:
    program = compile_c("startup_programs/behaviour.c", "-DVERSION=2")
    past = start(program, "thread")
    with pytest.raises(RefusedError) as caught:
        observe(past.pid, program)
    assert caught.value.code == "multi-threaded"
    assert len(caught.value.details) == 2


def test_children_are_refused_by_name(compile_c: Compile, start: Start) -> None:
    program = compile_c("startup_programs/behaviour.c", "-DVERSION=2")
    past = start(program, "child")
    with pytest.raises(RefusedError) as caught:
        observe(past.pid, program)
    assert caught.value.code == "has-children"
    assert "(behaviour)" in caught.value.cause
    assert "pipe:" in caught.value.details[0]
    (child,) = [int(word) for word in open_children(past.pid)]
    os.kill(child, 9)


def open_children(pid: int) -> list[str]:
    """The PIDs of the children."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_process_that_never_waits_is_refused_with_its_place(
    compile_c: Compile, start: Start, guarded: Guarded
) -> None:
    program = compile_c("startup_programs/endless.c")
    past = start(program)
    held = guarded(past.pid)
    with pytest.raises(RefusedError) as caught:
        observe_past(held, symbol_names(program), Deadline(0.5))
    assert caught.value.code == "no-quiescent-point"
    assert "main > work" in caught.value.cause
    assert past.state() == "R"


def test_a_point_that_is_not_reached_is_refused_and_the_process_goes_on(
    compile_c: Compile, start: Start, guarded: Guarded
) -> None:
    program = compile_c("startup_programs/patient.c")
    past = start(program, "poll", "20")
    held = guarded(past.pid)
    names = symbol_names(program)
    point = observe_past(held, names, Deadline(5.0))
    elsewhere = point.at(("somewhere", "main"), point.syscall)
    held.seize(10.0)
    try:
        with pytest.raises(RefusedError) as caught:
            bring_to_point(held, names, elsewhere, Deadline(0.3))
        assert caught.value.code == "quiescence-timeout"
        assert "main > wait_once" in caught.value.cause
        before = facts(past)["rounds"]
        time.sleep(0.1)
        seen = facts(past)
        assert seen["rounds"] > before
        assert seen["interrupted"] == 0
    finally:
        held.release()


def test_a_confined_process_survives(compile_c: Compile, start: Start, guarded: Guarded) -> None:
    """Its seccomp filter would kill it for a call that is cancelled."""
    program = compile_c("startup_programs/filtered.c")
    port, names = free_port(), symbol_names(program)
    past = start(program, str(port))
    held = guarded(past.pid)
    past.wait_until_blocked("poll")
    point = observe_past(held, names, Deadline(5.0))
    held.seize(10.0)
    try:
        bring_to_point(held, names, point, Deadline(5.0))
    except HostError as error:
        assert error.code == "seccomp-filter"
    finally:
        held.release()
    assert ask(port) == "hello v1"
