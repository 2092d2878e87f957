"""10,000 epoll connections against 100: the longest that a client waits for an answer during the update."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

from bench.measure import Row, program, update

_INTERVAL = 0.0005


class Clients:
    """Connections that ask in turn, one every half millisecond; the longest wait is kept."""

    def __init__(self, port: int, count: int) -> None:
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        self._by_number = {one.fileno(): one for one in self._sockets}
        self._asked = dict.fromkeys(self._by_number, 0)
        self._since: dict[int, float] = {}
        self._poll = select.epoll()
        for number in self._by_number:
            self._poll.register(number, select.EPOLLIN)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.longest = 0.0
        self.errors = 0

    def __enter__(self) -> Clients:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._poll.close()
        for one in self._sockets:
            one.close()

    def _run(self) -> None:
        turn, due = 0, time.perf_counter()
        while not self._stop.is_set() or self._since:
            now = time.perf_counter()
            if now >= due and not self._stop.is_set():
                self._ask(self._sockets[turn % len(self._sockets)])
                turn, due = turn + 1, due + _INTERVAL
            self._collect(max(0.0, due - time.perf_counter()))

    def _ask(self, one: socket.socket) -> None:
        number = one.fileno()
        if number not in self._since:
            self._since[number] = time.perf_counter()
            one.send(b"?")

    def _collect(self, seconds: float) -> None:
        for number, _ in self._poll.poll(seconds):
            answer = self._by_number[number].recv(16)
            self._asked[number] += 1
            if answer != bytes([self._asked[number] & 0xFF]):
                self.errors += 1
            if number in self._since:
                self.longest = max(self.longest, time.perf_counter() - self._since.pop(number))


def run(*, quick: bool) -> Iterator[Row]:
    _raise_limit()
    many = 1_000 if quick else 10_000
    few = _measure(100)
    lots = _measure(many)
    yield Row("longest wait with 100 connections", few, "ms")
    yield Row(f"longest wait with {many:,} connections", lots, "ms", few, "that of 100", 4.0)


def _raise_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _measure(count: int) -> float:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen([str(program("connections", 1)), str(port)])
    pid = server.pid
    try:
        _wait_for(port)
        with Clients(port, count) as clients:
            time.sleep(0.3)  # a stretch of ordinary service before the update
            clients.longest = 0.0
            pid = update(pid, program("connections", 2)).new_pid
            time.sleep(0.3)
        assert clients.errors == 0, f"{clients.errors} wrong answers"
        return clients.longest * 1e3
    finally:
        os.kill(pid, signal.SIGKILL)
        server.wait()


def _wait_for(port: int) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < end, "the server does not listen"
            time.sleep(0.01)
