"""A past and a future of one program for tests of the handover, with this process as the tool."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.live.holding import hold

from instar.control.channel import open_channel
from instar.control.descriptors import DescriptorPlan, look_again, plan_descriptors
from instar.control.epoll import Cookies, fill_epolls, plan_epolls
from instar.control.gate import Gate
from instar.control.handover import Fetched, fetch_descriptors, hand_over, plan_locks
from instar.control.observation import read_epoll
from instar.control.runtime import Runtime
from instar.guard.client import Past
from instar.native import library_path
from instar.process.deadline import Deadline
from instar.process.death import ProcessDiedError
from instar.process.launch import Preparation
from instar.process.tracee import Tracee

SOON = 20.0
EPOLL_WAIT, READ = (232, 281), (0,)


def keep(cookies: Cookies) -> Cookies:
    """A translation for programs without pointers in cookies."""
    return cookies


class Handing:
    """Starts the past; ``begin`` starts the future and stops the past; ``commit`` lets the future serve."""

    def __init__(
        self, program: Path, past: list[str], future: list[str], point: tuple[int, ...] = EPOLL_WAIT
    ) -> None:
        self.program, self.arguments, self.point = program, future, point
        self.stdin, self.to = os.pipe()
        self.from_, self.stdout = os.pipe()
        self.past = subprocess.Popen([str(program), *past], stdin=self.stdin, stdout=self.stdout)
        assert self.line() == "ready"
        self.plan: DescriptorPlan = plan_descriptors(self.past.pid)
        self.future: Tracee
        self.channel: socket.socket | None = None
        self.held: Past | None = None

    # ---------------------------------------------------------------------------------- talking

    def line(self, seconds: float = SOON) -> str:
        got = b""
        while not got.endswith(b"\n"):
            if not select.select([self.from_], [], [], seconds)[0]:
                raise TimeoutError(repr(got))
            got += os.read(self.from_, 1)
        return got.decode().strip()

    def ask(self, text: str) -> str:
        os.write(self.to, text.encode() + b"\n")
        return self.line()

    # ---------------------------------------------------------------------------------- the update

    def begin(self) -> None:
        self.plan.require()
        self.future = self._start()
        self.plan = look_again(self.plan)
        self.held = hold(self.past.pid)
        self.runtime = Runtime(self.future)
        self.channel = open_channel(self.runtime, self.plan.highest + 1)

    def _start(self) -> Tracee:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        env = {"PATH": os.environ["PATH"], "LD_PRELOAD": str(library_path("runtime"))}
        prepare = Preparation(descriptors={0: self.stdin, 1: self.stdout, 2: nowhere})
        tracee = Tracee.launch(
            [str(self.program), *self.arguments], env, executable=self.program, prepare=prepare
        )
        os.close(nowhere)
        while True:
            stop = tracee.run_until_syscall(Deadline(SOON))
            assert stop.entry or stop.exit, stop
            if not stop.entry or stop.syscall is None:
                continue
            if stop.syscall.number == 1:  # its "ready" is swallowed
                tracee.suppress_syscall(stop.syscall.arguments[2])
            elif stop.syscall.number in self.point and (self.point != READ or stop.syscall.arguments[0] == 0):
                return tracee

    def hand_over(self, translate: Callable[[Cookies], Cookies] = keep) -> Fetched:
        assert self.channel is not None
        fetched = fetch_descriptors(self.plan)
        try:
            hand_over(fetched, self.runtime, self.channel)
            fill_epolls(self.runtime, plan_epolls(fetched, translate))
            self.locks = plan_locks(fetched)
        finally:
            fetched.close()
        return fetched

    def commit(self) -> None:
        assert self.channel is not None and self.held is not None
        gate = Gate(self.runtime, self.channel)
        gate.prepare(self.past.pid, self.plan.highest + 9, self.held.signal_mask(), self.locks)
        gate.enter(Deadline(SOON))
        self.held.keep(self.channel.fileno())
        self.held.prepare_end()
        gate.announce_ending(Deadline(SOON))
        self.held.commit_end()
        gate.announce_ended()
        self.held.run_end(SOON)
        if not len(self.locks):
            gate.go()
        self.held.release()
        gate.wait_until_serving(Deadline(SOON))
        assert self.past.wait(SOON) == 0

    def roll_back(self) -> None:
        assert self.channel is not None and self.held is not None
        self.channel.close()
        self.future.kill()
        self.held.release()

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()
        if hasattr(self, "future") and self.future.end is None:
            with suppress(ProcessLookupError, ProcessDiedError):
                self.future.kill()  # it has a stop on its way to the end
        if self.held is not None:
            self.held.close()
        self.past.kill()
        self.past.wait()
        for descriptor in (self.stdin, self.to, self.from_, self.stdout):
            os.close(descriptor)


def entries_of(pid: int, number: int) -> list[tuple[int, int, int]]:
    """(descriptor, events, cookie) of an epoll set, as /proc shows them."""
    rows = read_epoll(pid, number)
    return sorted(rows[["descriptor", "events", "data"]].tolist())
