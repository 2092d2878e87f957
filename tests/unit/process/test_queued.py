"""Signals of a queue as the successor must see them, and how the gate tells what the kernel did not take."""

from __future__ import annotations

import signal
import socket
import struct
from types import SimpleNamespace
from typing import Any, cast

import pytest

from instar.control.gate import SIGNAL, Gate
from instar.errors import InternalError
from instar.process.deadline import Deadline
from instar.process.queued import QueuedSignal, blockable, own_values

PAST, FUTURE, OTHER = 4711, 4801, 99
USER, QUEUE, TIMER, TKILL, EXITED = 0, -1, -2, -6, 1


def made(code: int, sender: int = OTHER, value: int = 0, number: int = 40) -> QueuedSignal:
    return QueuedSignal(
        False, struct.pack("<iiiiiIQ", number, 0, code, 0, sender, 1000, value).ljust(128, b"\0")
    )


def test_what_a_signal_says() -> None:
    one = made(QUEUE, OTHER, 7)
    assert (one.number, one.code, one.sender) == (40, QUEUE, OTHER)
    assert made(EXITED).sender is None, "the words mean something else for a child's end"


@pytest.mark.parametrize(
    ("one", "value"),
    [
        (made(QUEUE, PAST, 0x1000), 0x1000),
        (made(QUEUE, OTHER, 0x1000), None),
        (made(TIMER, 3, 0x1000), 0x1000),
        (made(USER, PAST, 0x1000), None),
        (made(EXITED, PAST, 0x1000), None),
    ],
)
def test_only_what_the_process_chose_may_be_its_address(one: QueuedSignal, value: int | None) -> None:
    assert one.own_value(PAST) == value
    assert own_values([one], PAST) == ({value} - {None})
    adapted = one.for_successor(PAST, FUTURE, {0x1000: 0x2000})
    assert struct.unpack_from("<Q", adapted.info, 24)[0] == (0x2000 if value else 0x1000)


def test_what_came_from_itself_comes_from_itself() -> None:
    for code in (USER, QUEUE, TKILL):
        assert made(code, PAST).for_successor(PAST, FUTURE, {}).sender == FUTURE
        assert made(code, OTHER).for_successor(PAST, FUTURE, {}).sender == OTHER
    for code in (TIMER, EXITED):  # a timer's number, a child
        assert made(code, PAST).for_successor(PAST, FUTURE, {}) == made(code, PAST)


def test_what_no_mask_holds_back_is_left_out() -> None:
    numbers = [signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTERM]
    kept = blockable(made(USER, number=int(number)) for number in numbers)
    assert [one.number for one in kept] == [signal.SIGTSTP, signal.SIGTERM]


def gate_and_peer() -> tuple[Gate, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    runtime = SimpleNamespace(memory=None, state_address=0, tracee=SimpleNamespace(pid=FUTURE))
    return Gate(cast(Any, runtime), ours), theirs


def test_the_gate_counts_what_was_not_taken() -> None:
    gate, peer = gate_and_peer()
    with gate.channel, peer:
        for said in (b"W", b"L", b"L", b"W"):  # nothing lost of the first 32, two of the others
            peer.send(said)
        signals = [made(QUEUE, OTHER, value) for value in range(40)]
        assert gate.queue_signals(signals, Deadline(5)) == 2
        got = [peer.recv(4096) for _ in range(42)]
    assert got[32] == got[-1] == b"P"
    assert {len(message) for message in got} == {1, SIGNAL.itemsize}
    assert got[0] == b"Q" + bytes(7) + signals[0].info


def test_a_gate_that_says_something_else_is_a_bug() -> None:
    gate, peer = gate_and_peer()
    with gate.channel, peer, pytest.raises(InternalError):
        peer.send(b"S")
        gate.queue_signals([made(QUEUE)], Deadline(5))
