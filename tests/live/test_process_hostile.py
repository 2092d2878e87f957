"""Processes that die, stop, fork, execute and are out of reach while they are worked on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.live.running import PATIENCE_S, Start

from instar.errors import HostError
from instar.guard.client import Past
from instar.process.deadline import Deadline, DeadlineError
from instar.process.failures import ProcessDiedError
from instar.process.maps import read_maps
from instar.process.memory import Memory
from instar.process.parking import stop_past
from instar.process.status import read_status
from instar.process.syscalls import NUMBERS
from instar.process.tracee import Tracee
from instar.process.unwind import unwind

MORTAL = "process_programs/mortal.c"
GETPID = NUMBERS["getpid"]
NOBODY = 65534


def soon() -> Deadline:
    return Deadline(PATIENCE_S)


def code_of(pid: int) -> str:
    with pytest.raises(HostError) as caught:
        Tracee.seize(pid)
    assert caught.value.remedy
    return caught.value.code


# ---------------------------------------------------------------------------------------- out of reach


def test_no_such_process(start: Start) -> None:
    running = start(MORTAL, "alarm")
    running.close()
    assert code_of(running.pid) == "no-such-process"
    for look in (read_maps, read_status):
        with pytest.raises(HostError) as caught:
            look(running.pid)
        assert caught.value.code == "no-such-process"
    with pytest.raises(ProcessDiedError):
        Memory(running.pid).read(0x1000, 8)


def test_zombie(start: Start) -> None:
    running = start(MORTAL, "alarm")
    os.kill(running.pid, signal.SIGKILL)
    running.wait_for_state("Z")
    assert code_of(running.pid) == "zombie"
    assert read_status(running.pid).zombie
    assert not read_status(running.pid).kernel_thread


def test_kernel_thread() -> None:
    kthreadd = 2
    assert Path(f"/proc/{kthreadd}/comm").read_text() == "kthreadd\n"
    assert code_of(kthreadd) == "kernel-thread"
    assert read_status(kthreadd).kernel_thread


def test_thread_id_is_not_a_process(start: Start) -> None:
    code = "import threading, time; e = threading.Event()\n"
    code += (
        "t = threading.Thread(target=e.wait, daemon=True); t.start()\nprint(t.native_id, flush=True); input()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    tid = int(process.stdout.readline())
    assert code_of(tid) == "not-a-process"
    process.communicate(b"\n")


def test_traced_already_names_the_tracer(start: Start) -> None:
    running = start(MORTAL, "alarm")
    gdb = subprocess.Popen(
        ["gdb", "-nx", "-q", "-p", str(running.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert gdb.stdin is not None
    running.wait_for_state("t")
    with pytest.raises(HostError) as caught:
        Tracee.seize(running.pid)
    assert caught.value.code == "already-traced"
    assert str(gdb.pid) in caught.value.cause and "gdb" in caught.value.cause
    gdb.communicate(b"detach\nquit\n")
    tracee = Tracee.seize(running.pid)
    tracee.detach()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_process_of_another_user(start: Start) -> None:
    running = start(MORTAL, "alarm")
    child = os.fork()
    if child == 0:
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            codes = []
            for attempt in (Tracee.seize, lambda pid: Memory(pid).read(0x1000, 8), read_maps):
                try:
                    attempt(running.pid)
                except HostError as error:
                    codes.append(error.code)
            os._exit(0 if codes == ["ptrace-denied"] * 3 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


# ---------------------------------------------------------------------------------------- death


@pytest.mark.parametrize("delay", [0, 30, 100, 300, 1000, 3000])
def test_exit_at_any_moment_is_told_as_such(start: Start, delay: int) -> None:
    running = start(MORTAL, "die", str(delay))
    tracee = Tracee.seize(running.pid)
    running.send("")
    with pytest.raises(ProcessDiedError) as caught:
        while True:
            stop = tracee.interrupt(soon())
            if stop.ended:
                raise tracee.died(stop)
            tracee.inject_syscall(GETPID)
            tracee.memory.read(tracee.registers().rsp, 64)
            tracee.resume()
    assert caught.value.status == 3
    assert tracee.wait(soon()).status == 3
    tracee.detach()


@pytest.mark.parametrize("seed", range(12))
def test_sigkill_at_any_moment(start: Start, seed: int) -> None:
    """Another process kills the tracee while every kind of request is made; only ends and deaths come out."""
    running = start(MORTAL, "alarm")
    tracee = Tracee.seize(running.pid)
    maps = read_maps(running.pid)
    killer = subprocess.Popen(
        [sys.executable, "-c", f"import os, time; time.sleep({0.0005 * seed}); os.kill({running.pid}, 9)"]
    )
    with pytest.raises(ProcessDiedError) as caught:
        while True:
            stop = tracee.interrupt(soon())
            if stop.ended:
                raise tracee.died(stop)
            unwind(tracee.registers(), tracee.memory, maps)
            tracee.signal_mask(), tracee.extended_state(), tracee.pending_signals()
            with tracee.surgery() as surgery:
                surgery.syscall(GETPID)
                surgery.scratch(100)
            tracee.resume("syscall", stop.signal if stop.kind == "signal" else 0)
            tracee.wait(soon())
            if tracee.stop is not None and not tracee.stop.ended:
                tracee.resume()
    killer.wait()
    assert caught.value.code == "process-died"
    assert tracee.kill().ended


def test_kill_and_detach_work_in_any_state(start: Start) -> None:
    for prepare in ("running", "stopped", "group"):
        running = start(MORTAL, "alarm")
        tracee = Tracee.seize(running.pid)
        if prepare == "stopped":
            tracee.interrupt(soon())
        if prepare == "group":
            os.kill(running.pid, signal.SIGSTOP)
            while tracee.wait(soon()).kind != "group":
                tracee.resume("cont", tracee.stop.signal if tracee.stop is not None else 0)
        assert tracee.kill().signal == signal.SIGKILL
        tracee.detach()


def test_tool_that_dies_lets_the_past_live_and_the_future_die(start: Start) -> None:
    past, future = start(MORTAL, "alarm"), start(MORTAL, "alarm")
    child = os.fork()
    if child == 0:
        try:
            held, driven = Tracee.seize(past.pid), Tracee.seize(future.pid, exitkill=True)
            held.interrupt(soon())
            driven.interrupt(soon())
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert future.process.wait(10) == -signal.SIGKILL
    past.wait_for_state("RS")
    assert past.process.poll() is None


# ---------------------------------------------------------------------------------------- stops, storms


def test_stopped_by_someone_else_stays_stopped(start: Start) -> None:
    running = start(MORTAL, "die", "0")
    running.wait_until_blocked("read")
    os.kill(running.pid, signal.SIGSTOP)
    running.wait_for_state("T")
    tracee = Tracee.seize(running.pid)
    stop = tracee.interrupt(soon())
    assert stop.kind == "group"
    assert tracee.inject_syscall(GETPID) == running.pid
    assert tracee.stop is not None and tracee.stop.kind == "group"
    tracee.resume()
    with pytest.raises(DeadlineError):
        tracee.wait(Deadline(0.05))
    os.kill(running.pid, signal.SIGCONT)
    while tracee.wait(soon()).kind != "signal":
        tracee.resume()
    tracee.detach(signal.SIGCONT)
    running.send("")
    assert running.process.wait(10) == 3


def test_detach_leaves_a_stopped_process_stopped(start: Start) -> None:
    running = start(MORTAL, "die", "0")
    running.wait_until_blocked("read")
    os.kill(running.pid, signal.SIGSTOP)
    running.wait_for_state("T")
    tracee = Tracee.seize(running.pid)
    tracee.interrupt(soon())
    tracee.inject_syscall(GETPID)
    tracee.detach()
    running.wait_for_state("T")
    os.kill(running.pid, signal.SIGCONT)
    running.send("")
    assert running.process.wait(10) == 3


@pytest.mark.parametrize("mode", ["children", "vfork", "alarm"])
def test_storms_of_signals_and_children(start: Start, mode: str) -> None:
    running = start(MORTAL, mode)
    tracee = Tracee.seize(running.pid)
    chance = random.Random(mode)
    for _ in range(150):
        stop = tracee.interrupt(soon())
        assert not stop.ended
        assert tracee.inject_syscall(GETPID) == running.pid
        if chance.random() < 0.5:
            tracee.resume("syscall", stop.signal if stop.kind == "signal" else 0)
            stop = tracee.wait(soon())
            assert tracee.inject_syscall(GETPID) == running.pid
        tracee.resume("cont", stop.signal if stop.kind == "signal" else 0)
    tracee.detach()
    assert running.process.poll() is None


def test_executing_program_changes_under_the_tracer(start: Start) -> None:
    running = start(MORTAL, "exec")
    tracee = Tracee.seize(running.pid)
    seen = 0
    end = time.monotonic() + PATIENCE_S
    while seen < 5 and time.monotonic() < end:
        stop = tracee.interrupt(soon())
        if stop.kind == "event" and stop.event == 4:
            seen += 1
            tracee.resume("syscall")
            assert tracee.wait(soon()).exit
        assert tracee.inject_syscall(GETPID) == running.pid
        tracee.resume()
    assert seen == 5
    tracee.detach()


def test_parking_under_an_alarm(start: Start) -> None:
    running = start("process_programs/waiter.c", "epoll_wait", "300", flags=["-O2"])
    running.wait_until_blocked("epoll_wait")
    past = Past(running.pid)
    try:
        past.connect()
        for _ in range(50):
            past.seize(10.0)
            stop_past(past, 10.0)
            past.release()
    finally:
        past.close()
    assert running.line().split()[1] in ("0", "4")


def test_deadline_of_a_wait(start: Start) -> None:
    running = start(MORTAL, "die", "0")
    tracee = Tracee.seize(running.pid)
    begin = time.monotonic()
    with pytest.raises(DeadlineError) as caught:
        tracee.wait(Deadline(0.05))
    assert time.monotonic() - begin >= 0.05
    assert caught.value.code == "deadline"
    tracee.interrupt(soon())
    tracee.detach()
