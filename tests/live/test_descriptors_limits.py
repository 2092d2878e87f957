"""What is refused by name, what must not be disturbed, and many descriptors at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.live.handing import Handing, entries_of, keep
from tests.live.obedient import build, obedient

from instar.control.channel import open_channel
from instar.control.descriptors import Action, look_again, plan_descriptors
from instar.control.epoll import plan_epolls
from instar.control.handover import fetch_descriptors, hand_over
from instar.control.runtime import CLOEXEC, REPLACE, Runtime, RuntimeCallError
from instar.errors import RefusedError
from instar.process.descriptors import list_descriptors, list_numbers
from instar.process.status import read_children

PRELUDE = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) { char byte; int pair[2]; struct epoll_event event = {.events = EPOLLIN};
"""
READY = '\nwrite(1, "ready\\n", 6); while (read(0, &byte, 1) > 0) { %s } return 0; }\n'


class Program:
    """A small program made for one test."""

    def __init__(self, directory: Path, body: str, loop: str = "") -> None:
        source, program = directory / "program.c", directory / "program"
        source.write_text(PRELUDE + body + READY % loop)
        subprocess.run(["gcc", "-w", "-o", str(program), str(source)], check=True)
        self.process = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None and self.process.stdin is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.pid = self.process.pid

    def step(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"x")
        self.process.stdin.flush()

    def said(self) -> bytes:
        """The next byte it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.read(1)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


MakeProgram = Callable[..., Program]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[MakeProgram]:
    made: list[Program] = []

    def make(body: str, loop: str = "") -> Program:
        made.append(Program(tmp_path, body, loop))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("struct io_uring_params p = {0}; if (syscall(SYS_io_uring_setup, 4, &p) < 0) return 9;", "io_uring"),
        ("if (syscall(SYS_userfaultfd, O_CLOEXEC | 1) < 0) return 9;", "userfaultfd"),
        ("if (syscall(SYS_fanotify_init, 0, O_RDONLY) < 0) return 9;", "fanotify"),
    ],
    ids=["io_uring", "userfaultfd", "fanotify"],
)
def test_what_belongs_to_memory_is_refused_by_name(program: MakeProgram, body: str, name: str) -> None:
    plan = plan_descriptors(program(body).pid)
    assert [entry.action for entry in plan.problems] == [Action.REFUSE]
    with pytest.raises(RefusedError) as info:
        plan.require()
    assert info.value.code == "descriptor-not-carried"
    assert name in info.value.cause and f"descriptor {plan.problems[0].descriptor.number}" in info.value.cause


def test_a_registration_whose_file_only_a_child_has_is_refused(program: MakeProgram) -> None:
    past = program(
        "int set = epoll_create1(0); socketpair(AF_UNIX, SOCK_STREAM, 0, pair);"
        "epoll_ctl(set, EPOLL_CTL_ADD, pair[0], &event);"
        "if (fork() == 0) { close(0); pause(); } close(pair[0]);"
    )
    plan = look_again(plan_descriptors(past.pid))
    fetched = fetch_descriptors(plan)
    try:
        with pytest.raises(RefusedError) as info:
            plan_epolls(fetched, keep)
    finally:
        fetched.close()
        for child in read_children(past.pid):
            os.kill(child, signal.SIGKILL)
    assert info.value.code == "epoll-orphan"


def test_an_anonymous_file_reused_under_a_watched_number_is_told_apart(program: MakeProgram) -> None:
    """Number 7 is another eventfd now: same inode, another file; the watched one lives on as number 8."""
    past = program(
        "int set = epoll_create1(0); dup2(eventfd(0, 0), 7); close(4); dup2(7, 8);"
        "epoll_ctl(set, EPOLL_CTL_ADD, 7, &event); close(7); dup2(eventfd(0, 0), 7);"
    )
    fetched = fetch_descriptors(look_again(plan_descriptors(past.pid)))
    try:
        items = plan_epolls(fetched, keep)
    finally:
        fetched.close()
    assert [(int(row["descriptor"]), int(row["source"])) for row in items] == [(7, 8)]


def test_the_close_on_exec_flag_is_seen_when_it_changes_after_the_plan(program: MakeProgram) -> None:
    past = program(
        "socketpair(AF_UNIX, SOCK_STREAM, 0, pair); dup2(pair[0], 20);",
        'fcntl(20, F_SETFD, FD_CLOEXEC); write(1, "d", 1);',
    )
    plan = plan_descriptors(past.pid)
    past.step()
    assert past.said() == b"d"
    fetched = fetch_descriptors(plan)
    fetched.close()
    entry = next(e for e in fetched.plan.entries if e.descriptor.number == 20)
    assert entry.descriptor.cloexec
    assert fetched.plan.observed["flags"][fetched.plan.observed["number"] == 20][0] & os.O_CLOEXEC


def test_the_plan_holds_nothing_open(program: MakeProgram) -> None:
    """A peer sees the end as soon as the past closes, and an epoll set of the past forgets it."""
    past = program(
        "int set = epoll_create1(0); socketpair(AF_UNIX, SOCK_STREAM, 0, pair); dup2(pair[0], 20);"
        "close(pair[0]); dup2(pair[1], 21); close(pair[1]); dup2(set, 10);"
        "epoll_ctl(set, EPOLL_CTL_ADD, 20, &event);",
        'close(20); write(1, read(21, &byte, 1) == 0 ? "e" : "?", 1);',
    )
    plan = plan_descriptors(past.pid)
    assert entries_of(past.pid, 10) == [(20, 25, 0)]
    past.step()
    assert past.said() == b"e"
    assert entries_of(past.pid, 10) == []
    after = look_again(plan)
    assert 20 not in [entry.descriptor.number for entry in after.entries]
    assert 20 in [entry.descriptor.number for entry in plan.entries]


def test_numbers_in_any_order_arrive_where_they_are_wanted() -> None:
    """Received numbers lie on wanted ones in every way there is."""
    rng = random.Random(5)
    with obedient() as process:
        runtime = Runtime(process.park())
        channel = open_channel(runtime, 3000)
        files = [os.memfd_create(f"file{i}") for i in range(600)]
        inodes = [os.fstat(file).st_ino for file in files]
        numbers = list(range(3, 603))
        try:
            for attempt in range(3):
                rng.shuffle(numbers)
                flags = np.array([rng.choice([0, CLOEXEC]) for _ in numbers], np.uint32)
                runtime.import_descriptors(channel, numbers, files, flags | (REPLACE if attempt else 0))
                for number, inode, flag in zip(numbers, inodes, flags.tolist(), strict=True):
                    assert Path(f"/proc/{process.pid}/fd/{number}").stat().st_ino == inode
                    info = Path(f"/proc/{process.pid}/fdinfo/{number}").read_text()
                    assert bool(int(info.split()[3], 8) & os.O_CLOEXEC) == bool(flag)
                assert list_numbers(process.pid) == [0, 1, 2, *sorted(numbers), 3000]
            with pytest.raises(RuntimeCallError) as caught:
                runtime.import_descriptors(channel, [700, 3], files[:2])
            assert caught.value.errno == 17
            runtime.close_descriptors([700, *numbers])
            assert list_numbers(process.pid) == [0, 1, 2, 3000]
        finally:
            for file in files:
                os.close(file)
            channel.close()


def test_a_number_that_the_future_uses_for_something_else_is_refused() -> None:
    handing = Handing(build("many"), ["past", "2"], ["future", "2"])
    try:
        handing.begin()
        assert handing.channel is not None
        memory = os.memfd_create("of the future")
        handing.runtime.import_descriptors(handing.channel, [11], [memory])
        os.close(memory)
        fetched = fetch_descriptors(handing.plan)
        with pytest.raises(RefusedError) as info:
            hand_over(fetched, handing.runtime, handing.channel)
        fetched.close()
        assert info.value.code == "descriptor-collision"
        assert "descriptor 11" in info.value.cause
        handing.roll_back()
        assert handing.ask("sum") == "2"
    finally:
        handing.close()


def test_thousands_of_connections() -> None:
    count = 2500
    handing = Handing(build("many"), ["past", str(count)], ["future", str(count)])
    try:
        handing.begin()
        handing.hand_over()
        handing.commit()
        assert len(list_descriptors(handing.future.pid, sockets=False)) == 2 * count + 4
        assert handing.ask("sum") == str(count)
    finally:
        handing.close()
