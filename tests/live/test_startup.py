"""The new version comes up beside the old one, which serves on and sees nothing of it."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.live.running import Compile, Start
from tests.live.startup_support import (
    PATIENCE_S,
    ask,
    build,
    descriptors,
    free_port,
    future_of,
    observe,
    symbol_names,
    wait_until,
)

from instar.control.startup import StartSpec, start_future
from instar.control.startup_past import read_past
from instar.process.deadline import Deadline

MODES = ("epoll", "poll", "ppoll", "select", "accept", "udp", "udp-poll")


@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_parked_where_the_past_waits(compile_c: Compile, start: Start, level: str) -> None:
    old, new = build(compile_c, "epoll_server", level)
    port = free_port()
    past = start(old, str(port))
    before = descriptors(past.pid)
    with future_of(past.pid, old, new) as future:
        assert future.chain.functions[-1] == "main"
        assert future.point.name == "epoll_wait"
        assert descriptors(future.pid)[3] == before[3]  # the very socket
        assert future.descriptor_pairs == {number: number for number in before}
        assert [(r.number, r.past) for r in future.registrations] == [(3, 3)]
        assert ask(port) == "hello v1"
        assert b"ready v2" in future.output
        assert past.silent(0.05)
    assert ask(port) == "hello v1"
    end = time.monotonic() + PATIENCE_S  # it closes our connection after we have
    while descriptors(past.pid) != before and time.monotonic() < end:
        time.sleep(0.01)
    assert descriptors(past.pid) == before


def _question(mode: str, port: int) -> socket.socket:
    """A client that waits for an answer."""
    if mode.startswith("udp"):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(PATIENCE_S)
        sock.connect(("127.0.0.1", port))
    else:
        sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    sock.send(b"hello")
    return sock


@pytest.mark.parametrize("mode", MODES)
def test_no_client_of_the_past_reaches_the_future(compile_c: Compile, start: Start, mode: str) -> None:
    old, new = build(compile_c, "loops")
    port = free_port()
    past = start(old, mode, str(port), "early")
    point = observe(past.pid, old)
    facts = read_past(past.pid)
    os.kill(past.pid, signal.SIGSTOP)
    past.wait_for_state("T")
    with _question(mode, port) as client:
        spec = StartSpec(new, symbol_names(new))
        future = start_future(spec, facts, point, Deadline(PATIENCE_S))
        try:
            assert future.chain.functions[-2:] == ("wait_for_work", "main")
            os.kill(past.pid, signal.SIGCONT)
            assert client.recv(64) == b"hello v1"
        finally:
            assert future.abort() == []
    with _question(mode, port) as client:
        assert client.recv(64) == b"hello v1"


def test_future_goes_on_where_it_was_parked(compile_c: Compile, start: Start) -> None:
    """The past is killed, the future let go: it makes the call and serves."""
    old, new = build(compile_c, "loops")
    port = free_port()
    past = start(old, "poll", str(port))
    with future_of(past.pid, old, new) as future:
        past.process.kill()
        past.process.wait()
        future.tracee.detach()
        assert ask(port) == "hello v2"


def test_new_descriptors_take_the_numbers_of_the_past(
    compile_c: Compile, start: Start, tmp_path: Path
) -> None:
    old = compile_c("startup_programs/numbers.c", "-DVERSION=1")
    new = compile_c("startup_programs/numbers.c", "-DVERSION=2")
    port = free_port()
    past = start(old, str(port), str(tmp_path / "log"))
    numbers = past.ready[:-1]
    assert len(numbers) > 3
    with ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S))
            client.sendall(b"?")
            assert client.recv(64) == b"!"
        before = descriptors(past.pid)
        future = stack.enter_context(future_of(past.pid, old, new))
        words = next(line for line in future.output.decode().splitlines() if line.startswith("ready")).split()
        assert words[1 : len(numbers) + 1] == numbers
        extra = int(words[-1])
        assert extra not in before and extra > max(before) + 16
        assert all(future.descriptor_pairs[int(number)] == int(number) for number in numbers)
        after = descriptors(future.pid)
        assert all(kind(after[int(n)]) == kind(before[int(n)]) for n in numbers)


def kind(target: str) -> str:
    """What a descriptor is, without its identity."""
    return target if target.startswith(("anon", "/")) else target.split("[")[0]


def test_load_on_the_past_during_the_start(compile_c: Compile, start: Start) -> None:
    """Clients of a busy past see no error."""
    old, new = build(compile_c, "epoll_server")
    port = free_port()
    past = start(old, str(port))
    answers, stop = [], threading.Event()

    def load() -> None:
        while not stop.is_set():
            answers.append(ask(port))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        wait_until(lambda: answers, "no answer")
        with future_of(past.pid, old, new) as future:
            assert future.chain.functions[-1] == "main"
            seen = len(answers)
            wait_until(lambda: len(answers) > seen + 20, "the past stopped serving")
    finally:
        stop.set()
        thread.join()
    assert set(answers) == {"hello v1"}
