"""What /proc says, read from fixed texts."""

from __future__ import annotations

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.process.descriptors import parse_descriptor
from instar.process.maps import find_mapping, mappings_of, parse_maps
from instar.process.signals import PosixTimer, parse_posix_timers
from instar.process.status import parse_status
from instar.process.surroundings import parse_limits

MAPS = """\
55d0c0a00000-55d0c0a28000 r--p 00000000 fe:00 1234                       /usr/bin/my prog
55d0c0a28000-55d0c0b00000 r-xp 00028000 fe:00 1234                       /usr/bin/my prog
55d0c0b00000-55d0c0b01000 rw-p 00000000 00:00 0
7f0000000000-7f0000001000 r--s 00002000 fe:00 99                         /tmp/old (deleted)
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""


def test_maps() -> None:
    maps = parse_maps(MAPS)
    assert len(maps) == 6
    code = maps[1]
    assert (code.start, code.end, code.perms, code.offset) == (
        0x55D0C0A28000,
        0x55D0C0B00000,
        "r-xp",
        0x28000,
    )
    assert (code.device, code.inode, code.path) == ((0xFE, 0), 1234, "/usr/bin/my prog")
    assert code.executable and code.readable and not code.writable and not code.shared
    assert maps[2].path == "" and maps[2].file == ""
    assert maps[3].deleted and maps[3].file == "/tmp/old" and maps[3].shared
    assert maps[4].file == ""
    assert mappings_of(maps, "/usr/bin/my prog") == maps[:2]


@given(st.integers(0, 1 << 64))
def test_find_mapping_agrees_with_a_search(address: int) -> None:
    maps = parse_maps(MAPS)
    expected = next((mapping for mapping in maps if mapping.start <= address < mapping.end), None)
    assert find_mapping(maps, address) is expected


@pytest.mark.parametrize("index", range(6))
def test_find_mapping_at_its_ends(index: int) -> None:
    maps = parse_maps(MAPS)
    assert find_mapping(maps, maps[index].start) is maps[index]
    assert find_mapping(maps, maps[index].end - 1) is maps[index]
    assert find_mapping(maps, maps[index].start - 1) in (None, maps[index - 1])


STATUS = """\
Name:\ta b
Umask:\t0027
State:\tS (sleeping)
Tgid:\t500
Pid:\t500
PPid:\t1
TracerPid:\t7
Uid:\t1000\t1001\t1002\t1003
Gid:\t100\t101\t102\t103
Groups:\t4 24
NSpid:\t500\t3
VmSize:\t    9000 kB
Threads:\t2
SigPnd:\t0000000000000001
ShdPnd:\t0000000000000002
SigBlk:\t0000000000010000
SigIgn:\t0000000000001000
SigCgt:\t0000000180004002
CapInh:\t0000000000000000
CapPrm:\t0000000000000400
CapEff:\t0000000000000400
CapBnd:\t000001ffffffffff
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
"""


def test_status() -> None:
    status = parse_status(STATUS)
    assert (status.name, status.state, status.parent, status.tracer_pid, status.threads) == (
        "a b",
        "S",
        1,
        7,
        2,
    )
    assert status.uids == (1000, 1001, 1002, 1003) and status.gids[2] == 102 and status.groups == (4, 24)
    assert (status.umask, status.signals_pending, status.signals_blocked) == (0o27, 3, 0x10000)
    assert (status.signals_ignored, status.signals_caught) == (0x1000, 0x180004002)
    assert status.capabilities["permitted"] == 0x400 and status.capabilities["bounding"] == 0x1FFFFFFFFFF
    assert status.no_new_privileges and status.seccomp == 2 and status.pid_in_namespace == 3
    assert not status.kernel_thread and not status.zombie and not status.stopped


def test_limits() -> None:
    text = (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max cpu time              unlimited            unlimited            seconds   \n"
        "Max stack size            8388608              unlimited            bytes     \n"
        "Max nice priority         0                    5                    \n"
        "Max something new         1                    2                    bytes\n"
    )
    assert parse_limits(text) == {0: (-1, -1), 3: (8388608, -1), 13: (0, 5)}


def test_posix_timers() -> None:
    text = (
        "ID: 0\nsignal: 12/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: 0\n"
        "ID: 7\nsignal: 60/0000000000000063\nnotify: none/tid.2640\nClockID: -6\n"
    )
    first, second = parse_posix_timers(text)
    assert first == PosixTimer(0, 12, 0x7FFF86E452A8, "signal", False, 2634, 0)
    assert second == PosixTimer(7, 60, 0x63, "none", True, 2640, -6)


def fake_stat(mode: int, rdev: int = 0) -> os.stat_result:
    return os.stat_result((mode, 11, 22, 1, 0, 0, 0, 0, 0, 0), {"st_rdev": rdev})


@pytest.mark.parametrize(
    ("target", "mode", "rdev", "kind"),
    [
        ("/var/log/x", stat.S_IFREG, 0, "file"),
        ("/var/log/x (deleted)", stat.S_IFREG, 0, "file"),
        ("/memfd:name (deleted)", stat.S_IFREG, 0, "memfd"),
        ("/run/fifo", stat.S_IFIFO, 0, "pipe"),
        ("/dev/pts/3", stat.S_IFCHR, os.makedev(136, 3), "terminal"),
        ("/dev/null", stat.S_IFCHR, os.makedev(1, 3), "device"),
        ("/dev/sda", stat.S_IFBLK, os.makedev(8, 0), "device"),
        ("anon_inode:[userfaultfd]", stat.S_IFREG, 0, "unknown"),
        ("anon_inode:bpf-map", stat.S_IFREG, 0, "unknown"),
        ("anon_inode:[io_uring]", stat.S_IFREG, 0, "io_uring"),
        ("socket:[77]", stat.S_IFSOCK, 0, "socket"),
    ],
)
def test_kinds_of_descriptors(target: str, mode: int, rdev: int, kind: str) -> None:
    info = "pos:\t5\nflags:\t02100001\nmnt_id:\t1\nlock:\t1: FLOCK  ADVISORY  WRITE 12 fe:00:5 0 EOF\n"
    descriptor = parse_descriptor(9, target, fake_stat(mode | 0o600, rdev), info)
    assert (descriptor.kind, descriptor.offset, descriptor.cloexec) == (kind, 5, True)
    assert descriptor.flags == 0o100001
    assert descriptor.locks == ("1: FLOCK  ADVISORY  WRITE 12 fe:00:5 0 EOF",)
    assert (descriptor.inode, descriptor.device) == (11, 22)


def test_epoll_text_with_and_without_inodes() -> None:
    info = (
        "pos:\t0\nflags:\t02\n"
        "tfd:        4 events: 80000019 data: ffff00000000abcd  pos:0 ino:786c sdev:f\n"
        "tfd:       12 events: 40000000 data:                7 \n"
    )
    epoll = parse_descriptor(3, "anon_inode:[eventpoll]", fake_stat(0o600), info)
    first, second = epoll.epoll_items
    assert (first.number, first.events, first.data, first.inode, first.device) == (
        4, 0x80000019, 0xFFFF00000000ABCD, 0x786C, 15,
    )  # fmt: skip
    assert (second.number, second.events, second.data) == (12, 0x40000000, 7)
