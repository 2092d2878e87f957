"""The worker's questions: several threads ask, and pages are not asked for one by one twice."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from instar.update.errand import Line, Pages, Relay
from instar.update.exchange import Wire

Array = np.ndarray[Any, np.dtype[Any]]
PAGE = 4096
PID = 7


class Peer:
    """The other end: answers "read" with pages that hold their own number; nothing is above ``end``."""

    def __init__(self, channel: socket.socket, end: int = 1 << 47) -> None:
        self.wire, self.end = Wire(channel, None), end
        self.asked: list[list[int]] = []

    def serve(self) -> None:
        while True:
            try:
                message = self.wire.receive()
            except EOFError:
                return
            starts = message.value(1, Array)[:, 0].tolist() if message.kind == "read" else []
            self.asked.append(starts)
            if any(start >= self.end for start in starts):
                self.wire.send("failed", "FaultError", "", "", "", [str(max(starts))])
            else:
                self.wire.send("answer", b"".join(page_bytes(start) for start in starts))


def page_bytes(start: int) -> bytes:
    return start.to_bytes(8, "little") * (PAGE // 8)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def peer(ends: tuple[socket.socket, socket.socket]) -> Iterator[Peer]:
    peer = Peer(ends[1])
    thread = threading.Thread(target=peer.serve)
    thread.start()
    yield peer
    ends[0].shutdown(socket.SHUT_RDWR)
    thread.join()


def read(relay: Relay, address: int, size: int = 8) -> int:
    """The first word of what a relay copies."""
    room = np.zeros(size, np.uint8)
    relay.copy(np.array([address], np.uint64), np.array([size], np.uint64), room.ctypes.data)
    return int(room[:8].view(np.uint64)[0])


def test_a_question_lies_ready_while_another_is_answered(ends: tuple[socket.socket, socket.socket]) -> None:
    """And each thread gets the answer to its own."""
    line, far = Line(Wire(ends[0], None), None), Wire(ends[1], None)
    with ThreadPoolExecutor(2) as pool:
        answers = {n: pool.submit(line.ask, "look", n) for n in (1, 2)}
        asked = [far.receive().value(0, int) for _ in range(2)]  # both, before either is answered
        for number in asked:
            far.send("answer", 10 * number)
        assert {n: one.result().value(0, int) for n, one in answers.items()} == {1: 10, 2: 20}


def test_all_that_wait_learn_of_the_end(ends: tuple[socket.socket, socket.socket]) -> None:
    line, far = Line(Wire(ends[0], None), None), Wire(ends[1], None)
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(line.ask, "look", n) for n in (1, 2)]
        for _ in answers:
            far.receive()
        ends[1].close()
        for one in answers:
            with pytest.raises(EOFError):
                one.result()


def test_pages_of_the_last_time_are_asked_for_together(
    ends: tuple[socket.socket, socket.socket], peer: Peer
) -> None:
    line = Line(Wire(ends[0], None), None)
    relay, wanted = Relay(PID, line), [n * 10 * PAGE for n in range(1, 6)]
    for expected in ([[page] for page in wanted], [wanted]):
        peer.asked.clear()
        line.pages.begin("plan")
        assert [read(relay, page) for page in wanted] == wanted
        assert peer.asked == expected
    line.pages.begin("validate")  # which needed nothing before
    assert read(relay, wanted[0]) == wanted[0]
    assert peer.asked[-1] == wanted[:1]


def test_a_page_that_is_gone_takes_no_other_with_it(
    ends: tuple[socket.socket, socket.socket], peer: Peer
) -> None:
    line = Line(Wire(ends[0], None), None)
    relay = Relay(PID, line)
    line.pages.begin("plan")
    assert read(relay, 10 * PAGE) == 10 * PAGE and read(relay, 90 * PAGE) == 90 * PAGE
    peer.end = 50 * PAGE
    line.pages.begin("plan")
    assert read(relay, 10 * PAGE) == 10 * PAGE
    assert peer.asked[-2:] == [[10 * PAGE, 90 * PAGE], [10 * PAGE]]


def test_pages_are_those_of_one_process_and_one_task() -> None:
    pages = Pages()
    pages.begin("plan")
    pages[1, PAGE], pages[2, 2 * PAGE] = b"one", b"two"
    pages.begin("plan")
    assert not pages
    assert list(pages.batches(1, [8 * PAGE])) == [[8 * PAGE, PAGE], [8 * PAGE]]
    assert list(pages.batches(1, [9 * PAGE])) == [[9 * PAGE]]
    assert list(pages.batches(2, [2 * PAGE])) == [[2 * PAGE]]
