"""What is asked about a call that may wait: only what is expected is taken for an answer."""

from __future__ import annotations

import os
import resource

import pytest
from tests.live.running import Compile, Start

from instar.control.startup_answers import Call
from instar.control.startup_waiting import Onlooker, inspect_wait
from instar.errors import HostError
from instar.process.syscalls import NUMBERS


def wait_of(pid: int, number: int) -> str:
    """What epoll_wait without a timeout would do on a descriptor."""
    call = Call(pid, NUMBERS["epoll_wait"], "epoll_wait", (number, 0, 1, (1 << 64) - 1, 0, 0))
    return inspect_wait(call, Onlooker(pid)).outcome


def test_a_closed_descriptor_fails_at_once(compile_c: Compile, start: Start) -> None:
    past = start(compile_c("startup_programs/loops.c", "-DVERSION=1"), "poll", "0")
    assert wait_of(past.pid, 900) == "returns"


def test_no_room_for_a_duplicate_is_not_taken_for_ready(compile_c: Compile, start: Start) -> None:
    past = start(compile_c("startup_programs/loops.c", "-DVERSION=1"), "poll", "0")
    wait_of(past.pid, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))  # room for the pidfd, none for the duplicate
    try:
        with pytest.raises(HostError) as caught:
            wait_of(past.pid, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.code == "too-many-descriptors"


def test_the_process_is_gone(compile_c: Compile, start: Start) -> None:
    past = start(compile_c("startup_programs/loops.c", "-DVERSION=1"), "poll", "0")
    past.process.kill()
    past.process.wait()
    with pytest.raises(HostError) as caught:
        wait_of(past.pid, 0)
    assert caught.value.code == "no-such-process"
