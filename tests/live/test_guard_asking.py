"""The past asks the kernel for us: nothing of it shows, whoever is killed and whatever comes meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.live.asking_steps import ask, at_every_step, hold
from tests.live.running import Running, Start

from instar.errors import HostError
from instar.guard.holder import Holder
from instar.process import ptrace

ASKED, WAITER = "process_programs/asked.c", "process_programs/waiter.c"
SCRIPT = Path(__file__).with_name("asking_steps.py")
ALL = (1 << 64) - 1


def steps_with_kill(pid: int) -> Iterator[int]:
    """Who asks is killed at one step after the other; ends when there is no further one."""
    command = [sys.executable, "-I", "-S", str(SCRIPT), str(pid)]
    with contextlib.closing(Running(command)) as script:
        for step in itertools.count():
            script.send(str(step))
            status = int(script.line())
            if status == 0:
                assert step > 30
                return
            assert status == signal.SIGKILL
            yield step


def test_killed_at_every_step(start: Start) -> None:
    """Registers, vector registers, mask, alternate stack and result are looked at by the program itself."""
    running = start(ASKED, flags=["-O2"])
    for step in steps_with_kill(running.pid):
        running.send("x")
        assert running.line() == "0 0", step


@pytest.mark.parametrize("call", ["poll", "epoll_wait"])
def test_killed_while_a_wait_of_libc_goes_on(start: Start, call: str) -> None:
    """Also where the kernel goes on with it by a call of another number (restart_syscall)."""
    running = start(WAITER, call, "100000", flags=["-O2"])
    for _ in steps_with_kill(running.pid):
        running.wait_until_blocked(call)
    os.kill(running.pid, signal.SIGUSR1)
    result, error, _, handled = (int(word) for word in running.line().split())
    assert (result, error, handled) == (-1, 4, 1), "it woke for another reason"


@pytest.fixture
def asked(start: Start) -> Running:
    running = start(ASKED, flags=["-O2"])
    running.wait_until_blocked("read")
    return running


def ask_disturbed(pid: int, step: int, signals: tuple[int, ...]) -> tuple[bool, Holder]:
    """Hold it and ask, with signals at one step; returns whether there was such a step."""
    reached = False

    def disturb(number: int) -> None:
        nonlocal reached
        if number == step:
            reached = True
            for one in signals:
                os.kill(pid, one)

    holder = hold(pid)
    mask = holder.mask()
    with at_every_step(disturb):
        timer, action = ask(holder)
    assert 90000 < struct.unpack("<4q", timer)[2] <= 100000
    assert action[:8] != bytes(8)
    assert holder.mask() == mask
    return reached, holder


@pytest.mark.parametrize("names", ["CONT", "STOP CONT", "USR1", "USR2 CONT"])
def test_signals_at_every_step(asked: Running, names: str) -> None:
    signals = tuple(int(signal.Signals[f"SIG{name}"]) for name in names.split())
    step, reached = 0, True
    while reached:
        reached, holder = ask_disturbed(asked.pid, step, signals)
        holder.release()
        asked.send("x")
        changes, handled = asked.line().split()
        assert changes == "0", step
        assert int(handled) == (step + reached) * (signal.SIGUSR1 in signals), step
        step += 1
    assert step > 30


def test_stop_signal_at_every_step(asked: Running) -> None:
    """It stops as soon as it is let go, and goes on when it is told to."""
    step, reached = 0, True
    while reached:
        reached, holder = ask_disturbed(asked.pid, step, (signal.SIGSTOP,))
        holder.release()
        if reached:
            asked.wait_for_state("T")
            os.kill(asked.pid, signal.SIGCONT)
        asked.send("x")
        assert asked.line() == "0 0", step
        step += 1
    assert step > 30


def test_stopped_after_the_question_and_killed(asked: Running) -> None:
    """A stop signal that came meanwhile is not lost with who asked."""
    holder = hold(asked.pid)
    os.kill(asked.pid, signal.SIGSTOP)
    ask(holder)
    assert holder.thread.signal_mask() != ALL
    ptrace.resume(ptrace.DETACH, asked.pid)  # what the kernel does when the tracer ends
    asked.wait_for_state("T")
    os.kill(asked.pid, signal.SIGCONT)
    asked.send("x")
    assert asked.line() == "0 0"


def test_no_frame_on_a_stack_of_its_own(start: Start) -> None:
    """Nobody knows how much room there is below; it is refused, and the program goes on."""
    running = start(ASKED, "own-stack", flags=["-O2"])
    running.wait_until_blocked("read")
    holder = hold(running.pid)
    with pytest.raises(HostError) as refused:
        ask(holder)
    assert refused.value.code == "cannot-ask"
    holder.release()
    running.send("x")
    assert running.line() == "0 0"
