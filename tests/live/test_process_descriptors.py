"""Descriptors, timers and sockets of a live process, seen from outside."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from pathlib import Path

import pytest
from tests.live.running import Running, Start

from instar.errors import HostError, InstarError
from instar.process.deadline import Deadline
from instar.process.descriptors import (
    Descriptor,
    close_on_exec,
    duplicate,
    duplicate_many,
    list_descriptors,
    list_numbers,
    read_descriptor,
)
from instar.process.signals import read_interval_timers, read_posix_timer_value, read_posix_timers
from instar.process.tracee import Tracee

OBJECTS = "process_programs/objects.c"


@pytest.fixture
def objects(start: Start, tmp_path: Path) -> tuple[Running, dict[str, int], dict[str, Descriptor]]:
    running = start(OBJECTS, str(tmp_path), flags=["-lutil"])
    running.wait_until_blocked("read")
    numbers = {name: int(number) for name, number in (word.split("=") for word in running.ready)}
    found = {descriptor.number: descriptor for descriptor in list_descriptors(running.pid)}
    assert sorted(found) == list_numbers(running.pid)
    return running, numbers, {name: found[number] for name, number in numbers.items() if number in found}


Objects = tuple[Running, dict[str, int], dict[str, Descriptor]]


def test_kinds(objects: Objects) -> None:
    _, _, by_name = objects
    expected = {
        "file": "file", "gone": "file", "directory": "directory", "device": "device", "memfd": "memfd",
        "pipe": "pipe", "timerfd": "timerfd", "eventfd": "eventfd", "signalfd": "signalfd",
        "inotify": "inotify", "epoll": "epoll", "pidfd": "pidfd", "terminal": "terminal",
        "listener": "socket", "client": "socket", "local": "socket", "udp": "socket", "pair": "socket",
    }  # fmt: skip
    assert {name: by_name[name].kind for name in expected} == expected


def test_files(objects: Objects, tmp_path: Path) -> None:
    _, _, by_name = objects
    file = by_name["file"]
    assert (file.target, file.offset, file.deleted) == (str(tmp_path / "file"), 3, False)
    assert file.flags & os.O_APPEND
    assert file.flags & os.O_ACCMODE == os.O_RDWR
    assert len(file.locks) == 1 and "FLOCK" in file.locks[0]
    status = (tmp_path / "file").stat()
    assert (file.inode, file.device) == (status.st_ino, status.st_dev)
    assert by_name["gone"].deleted
    assert by_name["gone"].cloexec
    assert not file.cloexec
    assert by_name["device"].nonblocking
    assert by_name["device"].device_number == Path("/dev/null").stat().st_rdev


def test_anonymous_objects(objects: Objects) -> None:
    running, numbers, by_name = objects
    timer = by_name["timerfd"].timer
    assert timer is not None
    assert (timer.clock, timer.interval_ns) == (1, 2_000_000_500)
    assert 90 * 10**9 < timer.value_ns <= 100 * 10**9
    assert (by_name["eventfd"].event_count, by_name["eventfd"].event_semaphore) == (7, True)
    assert by_name["signalfd"].signal_mask == 1 << (signal.SIGHUP - 1)
    assert by_name["pidfd"].pid == running.pid
    (watch,) = by_name["inotify"].watches
    root = Path("/").stat()
    assert (watch.watch, watch.inode, watch.device) == (numbers["watch"], root.st_ino, root.st_dev)


def test_epoll_items(objects: Objects) -> None:
    _, numbers, by_name = objects
    items = {item.number: item for item in by_name["epoll"].epoll_items}
    assert set(items) == {numbers["pipe"], numbers["eventfd"]}
    item = items[numbers["pipe"]]
    assert item.data == 0x123456789ABCDEF0
    assert item.events & select.EPOLLET
    assert (item.inode, item.device) == (by_name["pipe"].inode, by_name["pipe"].device)
    assert items[numbers["eventfd"]].data == 42
    assert items[numbers["eventfd"]].events & select.EPOLLONESHOT


def test_sockets(objects: Objects, tmp_path: Path) -> None:
    _, numbers, by_name = objects
    details = {name: by_name[name].socket for name in ("listener", "client", "local", "udp", "pair")}
    listener, client, local = details["listener"], details["client"], details["local"]
    assert listener is not None and client is not None and local is not None
    assert listener.listening and listener.local == ("127.0.0.1", numbers["port"]) and listener.peer is None
    assert not client.listening and client.peer == ("127.0.0.1", numbers["port"])
    assert (local.family, local.local) == (socket.AF_UNIX, str(tmp_path / "socket"))
    assert details["udp"] is not None and details["udp"].type == socket.SOCK_DGRAM
    assert details["pair"] is not None and details["pair"].type == socket.SOCK_SEQPACKET
    assert struct.unpack_from("!xxH", listener.raw_local) == (numbers["port"],)


def test_timers(objects: Objects) -> None:
    running, _, _ = objects
    (timer,) = read_posix_timers(running.pid)
    assert (timer.signal, timer.value & 0xFFFFFFFF, timer.notify) == (signal.SIGUSR2, 99, "signal")
    assert (timer.clock, timer.to_thread, timer.target) == (0, False, running.pid)
    tracee = Tracee.seize(running.pid)
    tracee.interrupt(Deadline(10))
    with tracee.surgery() as surgery:
        value, interval = read_posix_timer_value(surgery, timer)
        real = read_interval_timers(surgery)[0]
    tracee.detach()
    assert 400 * 10**9 < value <= 500 * 10**9 and interval == 5 * 10**9
    assert 900 * 10**9 < real.value_ns <= 1000 * 10**9 and real.interval_ns == 10**9


def test_duplicates_share_the_open_file(objects: Objects) -> None:
    running, numbers, _ = objects
    copy = duplicate(running.pid, numbers["file"])
    try:
        assert close_on_exec(copy)
        os.lseek(copy, 5, os.SEEK_SET)
        entry = read_descriptor(running.pid, numbers["file"])
        assert entry is not None and entry.offset == 5
    finally:
        os.close(copy)


def test_duplicating_what_is_not_there(objects: Objects) -> None:
    running, numbers, _ = objects
    before = list_numbers(os.getpid())
    with pytest.raises(InstarError) as caught:
        duplicate_many(running.pid, [numbers["file"], 9999])
    assert caught.value.code == "no-such-descriptor"
    assert list_numbers(os.getpid()) == before
    assert read_descriptor(running.pid, 9999) is None
    running.close()
    with pytest.raises(HostError) as gone:
        list_descriptors(running.pid)
    assert gone.value.code == "no-such-process"
