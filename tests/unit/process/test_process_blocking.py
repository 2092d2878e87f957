"""Knowledge of blocking calls."""

from __future__ import annotations

import struct

import pytest

from instar.process.blocking import (
    CALLS,
    Restart,
    Timeout,
    blocking_call,
    describe_call,
    may_rest,
)
from instar.process.syscalls import NAMES, NUMBERS, syscall_name
from instar.process.timeouts import timeout_ns

MASK = (1 << 64) - 1


class Words:
    def __init__(self, **spans: bytes) -> None:
        self.data = struct.pack("<qq", 2, 500)

    def read(self, address: int, size: int) -> bytes:
        return self.data[:size]


def timeout(name: str, *arguments: int) -> int | None:
    return timeout_ns(NUMBERS[name], (*arguments, *[0] * (6 - len(arguments))), Words().read)


def test_numbers_are_those_of_the_kernel() -> None:
    assert (NUMBERS["read"], NUMBERS["epoll_wait"], NUMBERS["futex"], NUMBERS["epoll_pwait2"]) == (
        0,
        232,
        202,
        441,
    )
    assert len(NAMES) == len(NUMBERS)
    assert syscall_name(999) == "syscall 999"


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("epoll_wait", (3, 4, 1, 1500), 1_500_000_000),
        ("epoll_wait", (3, 4, 1, -1 & MASK), None),
        ("epoll_wait", (3, 4, 1, 0xFFFFFFFF), None),
        ("poll", (3, 4, 0x7FFFFFFF), 0x7FFFFFFF * 1_000_000),
        ("ppoll", (3, 4, 0), None),
        ("ppoll", (3, 4, 0x1000), 2_000_000_500),
        ("select", (3, 0, 0, 0, 0x1000), 2_000_500_000),
        ("clock_nanosleep", (1, 0, 0x1000), 2_000_000_500),
        ("clock_nanosleep", (1, 1, 0x1000), None),
        ("futex", (1, 0x80, 0, 0x1000), 2_000_000_500),
        ("futex", (1, 0x89, 0, 0x1000), None),
        ("read", (0, 0, 0), None),
        ("mq_timedreceive", (0, 0, 0, 0, 0x1000), None),
    ],
)
def test_timeouts(name: str, arguments: tuple[int, ...], expected: int | None) -> None:
    assert timeout(name, *arguments) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "blocks"),
    [
        ("epoll_wait", (3, 4, 1, 0), False),
        ("epoll_wait", (3, 4, 1, 1 << 32), False),
        ("epoll_wait", (3, 4, 1, 5), True),
        ("fcntl", (3, 7, 0), True),
        ("fcntl", (3, 6, 0), False),
        ("futex", (1, 0x81, 1), False),
        ("futex", (1, 0x80, 1), True),
        ("flock", (3, 2), True),
        ("flock", (3, 6), False),
        ("wait4", (MASK, 0, 1, 0), False),
        ("waitid", (0, 0, 0, 4), True),
        ("recvfrom", (3, 0, 0, 0x40), False),
        ("recvmsg", (3, 0, 0x40), False),
        ("recvmsg", (3, 0, 0), True),
        ("getpid", (), False),
    ],
)
def test_calls_that_return_at_once(name: str, arguments: tuple[int, ...], blocks: bool) -> None:
    full = (*arguments, *[0] * (6 - len(arguments)))
    assert (blocking_call(NUMBERS[name], full) is not None) == blocks


def test_where_a_main_loop_rests() -> None:
    assert may_rest(NUMBERS["epoll_wait"], (3, 4, 1, 5, 0, 0))
    assert may_rest(NUMBERS["accept"], (3, 0, 0, 0, 0, 0))
    assert not may_rest(NUMBERS["write"], (3, 0, 0, 0, 0, 0))
    assert not may_rest(NUMBERS["flock"], (3, 2, 0, 0, 0, 0))


def test_every_timeout_has_its_place() -> None:
    for call in CALLS.values():
        assert (call.timeout is Timeout.NONE) == (call.timeout_index < 0), call
        assert call.restart in Restart


def test_descriptions() -> None:
    assert describe_call(NUMBERS["epoll_wait"], (5, 0, 1, 1000, 0, 0), Words()) == (
        "epoll_wait on descriptor 5, at most 1 s"
    )
    assert describe_call(NUMBERS["accept"], (5, 0, 0, 0, 0, 0), Words()) == "accept on descriptor 5"
    assert describe_call(NUMBERS["getpid"], (0,) * 6, Words()) == "getpid"
