"""The rules for names and files, without any process."""

from __future__ import annotations

import errno
import os
import stat
import struct

import pytest
from tests.unit.control.situations import PAST_PID, Made, call, facts, place, status

from instar.control.paths import FileFacts, Place
from instar.control.startup_answers import Alter, Answer, Fake, Handle, Refuse, Run
from instar.control.startup_files import may_change_directory, permits
from instar.control.startup_rules import decide

FILE = b"/file"
WRITE, CREATE = os.O_WRONLY, os.O_WRONLY | os.O_CREAT


def made(found: FileFacts | None = None, **changes: object) -> Made:
    """A situation with one path."""
    return Made(places={FILE: place("/file", found, **changes)})


def open_file(situation: Made, flags: int) -> Answer:
    return decide(call("openat", -100, situation.put(FILE), flags, 0o644), situation)


# ---------------------------------------------------------------------------------------- open


def test_reading_runs() -> None:
    answer = open_file(made(facts(1)), os.O_RDONLY)
    assert isinstance(answer, Run) and answer.note.descriptor


def test_new_file_runs_and_is_noted() -> None:
    situation = made(None)
    answer = open_file(situation, CREATE)
    assert isinstance(answer, Run) and answer.note.created is situation.places[FILE]


@pytest.mark.parametrize("name", ["open", "openat", "creat", "openat2"])
def test_truncation_of_a_foreign_file_is_held(name: str) -> None:
    situation = made(facts(1))
    flags = CREATE | os.O_TRUNC
    path = situation.put(FILE)
    if name == "openat2":
        answer = decide(
            call(name, -100, path, situation.put(struct.pack("<QQQ", flags, 0, 0)), 24), situation
        )
        assert isinstance(answer, Refuse)
        return
    arguments = {"open": (path, flags), "openat": (-100, path, flags), "creat": (path, 0o644)}[name]
    answer = decide(call(name, *arguments), situation)
    assert isinstance(answer, Alter)
    index = {"open": 1, "openat": 2, "creat": 1}[name]
    assert not answer.arguments[index] & os.O_TRUNC
    assert [(held.verb, held.values) for held in answer.held] == [("truncate", (0,))]
    assert (answer.number >= 0) == (name == "creat")


def test_truncation_of_an_empty_or_own_file() -> None:
    answer = open_file(made(facts(1, size=0)), CREATE | os.O_TRUNC)
    assert isinstance(answer, Alter) and not answer.held
    assert isinstance(open_file(made(facts(1), created=True), CREATE | os.O_TRUNC), Run)


def test_exclusive_file_of_the_past_is_lent() -> None:
    answer = open_file(made(facts(1), claimed=True), CREATE | os.O_EXCL)
    assert isinstance(answer, Alter)
    assert answer.arguments == {2: WRITE}
    assert answer.held[0].verb == "truncate"


def test_exclusive_file_of_somebody_else_fails_by_itself() -> None:
    assert isinstance(open_file(made(facts(1)), CREATE | os.O_EXCL), Run)


def test_removed_file() -> None:
    gone = made(None, absent=True)
    assert open_file(gone, os.O_RDONLY) == Fake(-errno.ENOENT)
    answer = open_file(gone, CREATE)
    assert isinstance(answer, Alter)
    assert answer.paths == {1: b"/.shadow-file"}
    assert answer.note.shown_as is gone.places[FILE]


def test_renamed_file_is_opened_where_it_is() -> None:
    situation = made(facts(1), real=(1, 2, b"other"), real_text="/other")
    for flags in (os.O_RDONLY, WRITE):
        answer = open_file(situation, flags)
        assert isinstance(answer, Alter) and answer.paths == {1: b"/other"}
    assert open_file(situation, CREATE | os.O_EXCL) == Fake(-errno.EEXIST)


@pytest.mark.parametrize(
    "text", ["/proc/sys/kernel/hostname", "/sys/power/state", "/proc/sysrq-trigger", "/proc/77/mem"]
)
def test_kernel_settings(text: str) -> None:
    situation = Made(places={FILE: place(text, facts(1))})
    assert isinstance(open_file(situation, WRITE), Refuse)
    assert isinstance(open_file(situation, os.O_RDONLY), Run)


def test_own_proc_directory_may_be_written() -> None:
    situation = Made(places={FILE: place("/proc/600/oom_score_adj", facts(1))})
    assert isinstance(open_file(situation, WRITE), Run)


def test_disks_and_shared_memory() -> None:
    assert isinstance(open_file(made(facts(1, stat.S_IFBLK | 0o600)), WRITE), Refuse)
    situation = Made(places={FILE: place("/dev/shm/x")})
    assert isinstance(open_file(situation, CREATE), Refuse)


def test_the_past_is_not_in_proc() -> None:
    situation = Made(places={FILE: place(f"/proc/{PAST_PID}/exe", facts(1))})
    assert open_file(situation, os.O_RDONLY) == Fake(-errno.ENOENT)
    assert decide(call("access", situation.put(FILE), 0), situation) == Fake(-errno.ENOENT)


# ---------------------------------------------------------------------------------------- names


def unlink(situation: Made, name: str = "unlink") -> Answer:
    return decide(call(name, situation.put(FILE)), situation)


def test_unlink() -> None:
    assert unlink(made(None)) == Run()
    assert unlink(made(None, absent=True)) == Fake(-errno.ENOENT)
    own = unlink(made(facts(1), created=True))
    assert isinstance(own, Run) and own.note.removed is not None
    answer = unlink(made(facts(1)))
    assert isinstance(answer, Fake) and answer.held[0].verb == "unlink"


def test_unlink_of_what_the_past_is_bound_to_is_only_shown() -> None:
    answer = unlink(made(facts(1, 0o140755), owner=7))
    assert isinstance(answer, Fake) and not answer.held and len(answer.hides) == 1
    fifo = unlink(made(facts(1, stat.S_IFIFO | 0o600), claimed=True))
    assert isinstance(fifo, Fake) and fifo.hides


def test_unlink_needs_the_right() -> None:
    situation = made(facts(1))
    situation.status = status(1000)
    assert unlink(situation) == Fake(-errno.EACCES)


def test_rmdir() -> None:
    directory = facts(1, 0o40755)
    answer = unlink(made(directory), "rmdir")
    assert isinstance(answer, Fake) and answer.held[0].verb == "rmdir"
    full = made(directory)
    full.empty = False
    assert unlink(full, "rmdir") == Fake(-errno.ENOTEMPTY)
    assert unlink(made(directory)) == Run()  # EISDIR by itself
    assert unlink(made(facts(1)), "rmdir") == Run()


def rename(source: Place, target: Place, flags: int = 0) -> Answer:
    situation = Made(places={b"/a": source, b"/b": target})
    return decide(call("renameat2", -100, situation.put(b"/a"), -100, situation.put(b"/b"), flags), situation)


def test_rename() -> None:
    own, foreign, nothing = place("/a", facts(1), created=True), place("/b", facts(2)), place("/b")
    moved = rename(own, nothing)
    assert isinstance(moved, Run) and moved.note.removed is own and moved.note.created is nothing
    over = rename(own, foreign)
    assert isinstance(over, Fake) and over.held[0].verb == "rename"
    away = rename(place("/a", facts(1)), nothing)
    assert isinstance(away, Fake) and away.held[0].target == nothing.entry
    assert rename(place("/a"), nothing) == Run()
    assert rename(place("/a", None, absent=True), nothing) == Fake(-errno.ENOENT)
    assert rename(place("/a", facts(1)), foreign, 1) == Fake(-errno.EEXIST)
    assert isinstance(rename(own, foreign, 2), Refuse)
    assert isinstance(rename(place("/a", facts(1, 0o40755)), nothing), Refuse)


@pytest.mark.parametrize("name", ["mkdir", "mknod", "symlink", "link"])
def test_making_names(name: str) -> None:
    def make(situation: Made, mode: int = stat.S_IFIFO) -> Answer:
        path = situation.put(FILE)
        arguments = (path, mode) if name in ("mkdir", "mknod") else (situation.put(b"x"), path)
        return decide(call(name, *arguments), situation)

    fresh = make(made(None))
    assert isinstance(fresh, Run) and fresh.note.created is not None
    assert make(made(facts(1))) == Run()
    assert isinstance(make(made(None, absent=True)), Alter)
    shown = make(made(None, absent=True, hidden=True))
    assert isinstance(shown, Fake) and shown.shows
    if name == "mknod":
        assert isinstance(make(made(None), stat.S_IFCHR), Refuse)


def test_attributes() -> None:
    def chmod(situation: Made, mode: int) -> Answer:
        return decide(call("chmod", situation.put(FILE), mode), situation)

    def chown(situation: Made, user: int, group: int) -> Answer:
        return decide(call("chown", situation.put(FILE), user, group), situation)

    assert chmod(made(facts(1)), 0o644) == Fake(0)
    held = chmod(made(facts(1)), 0o600)
    assert isinstance(held, Fake) and held.held[0].values == (0o600,)
    assert isinstance(chmod(made(facts(1), created=True), 0o600), Run)
    assert chown(made(facts(1, user=5)), -1, 5) == Fake(0)
    assert isinstance(chown(made(facts(1)), 3, -1), Fake)
    stranger = made(facts(1))
    stranger.status = status(1000)
    assert chmod(stranger, 0o600) == Fake(-errno.EPERM)
    assert chown(stranger, 1000, -1) == Fake(-errno.EPERM)


def test_rights() -> None:
    directory = facts(1, 0o40755, user=7)
    assert permits(status(7), directory, 3) and not permits(status(8), directory, 3)
    assert permits(status(0), directory, 3)
    sticky = facts(1, 0o41777)
    assert may_change_directory(status(8), sticky, facts(2, user=8))
    assert not may_change_directory(status(8), sticky, facts(2, user=9))


def test_looks_see_what_is_held_back() -> None:
    def look(situation: Made, name: str = "stat") -> Answer:
        return decide(call(name, situation.put(FILE), 0), situation)

    assert look(made(facts(1))) == Run()
    assert look(made(None, absent=True)) == Fake(-errno.ENOENT)
    gone = look(made(facts(1), names_past=True, claimed=True))
    assert isinstance(gone, Fake) and gone.result == -errno.ENOENT and len(gone.hides) == 1
    moved = look(made(facts(1), real=(1, 2, b"x"), real_text="/x"), "lstat")
    assert isinstance(moved, Alter) and moved.paths == {0: b"/x"}


# ---------------------------------------------------------------------------------------- descriptors


def file(number: int = 5, **changes: object) -> Handle:
    values: dict[str, object] = {"kind": "file", "target": "/log", "device": 8, "inode": 80}
    return Handle(number, **{**values, **changes})  # type: ignore[arg-type]


def write(handle: Handle, name: str = "write", *rest: int, data: bytes = b"abc", **changes: object) -> Answer:
    situation = Made(handles={handle.number: handle}, **changes)  # type: ignore[arg-type]
    if name in ("writev", "pwritev", "pwritev2"):
        vector = situation.put(struct.pack("<QQ", situation.put(data), len(data)))
        return decide(call(name, handle.number, vector, 1, *rest), situation)
    return decide(call(name, handle.number, situation.put(data), len(data), *rest), situation)


@pytest.mark.parametrize(
    ("name", "rest", "offset"),
    [("write", (), -1), ("writev", (), -1), ("pwrite64", (7,), 7), ("pwritev", (9,), 9)],
)
def test_writes_to_foreign_files_are_held(name: str, rest: tuple[int, ...], offset: int) -> None:
    answer = write(file(), name, *rest)
    assert isinstance(answer, Fake) and answer.result == 3
    (held,) = answer.held
    assert (held.verb, held.data, held.values, held.number) == ("write", b"abc", (offset,), 5)


@pytest.mark.parametrize(
    "handle",
    [file(created=True), file(kind="device", target="/dev/null"), file(kind="memfd"), file(kind="pipe"),
     file(target="/proc/600/comm")],
)  # fmt: skip
def test_other_writes_run(handle: Handle) -> None:
    handle = handle if handle.kind != "memfd" else file(kind="memfd", created=True)
    assert isinstance(write(handle), Run)


@pytest.mark.parametrize("kind", ["pipe", "terminal", "socket", "file"])
def test_output_is_held(kind: int) -> None:
    answer = write(file(1, kind=kind, past=(1,), inherited=True))
    assert isinstance(answer, Fake) and answer.held[0].verb == "output"


def test_output_to_nowhere_is_remembered() -> None:
    answer = write(file(2, kind="device", target="/dev/null"))
    assert isinstance(answer, Run) and answer.output == b"abc"


def test_too_much_is_refused() -> None:
    assert isinstance(write(file(), held_bytes=64 << 20), Refuse)


def test_reading_back_is_refused() -> None:
    situation = Made(handles={5: file(written=True), 6: file(6)})
    assert isinstance(decide(call("read", 5, 0, 1), situation), Refuse)
    assert isinstance(decide(call("read", 6, 0, 1), situation), Run)


def test_locks_of_the_past_are_got() -> None:
    from tests.unit.control.situations import descriptor

    locked = descriptor(3, "file", 80, locks=("1: FLOCK ADVISORY WRITE 500",))
    situation = Made([locked], {5: file(), 6: file(6, inode=81)})
    lock = situation.put(struct.pack("<hhqqi", 1, 0, 0, 0, 0))
    assert decide(call("flock", 5, 6), situation) == Fake(0)
    assert decide(call("fcntl", 5, 6, lock), situation) == Fake(0)
    assert decide(call("fcntl", 5, 5, lock), situation) == Fake(0, stores=((lock, struct.pack("<h", 2)),))
    assert decide(call("flock", 6, 6), situation) == Run()
    assert decide(call("fcntl", 6, 6, lock), situation) == Run()


def test_flags_of_shared_descriptors_are_held() -> None:
    lent = file(4, kind="socket", past=(7,))
    situation = Made(handles={4: lent, 5: file()})
    answer = decide(call("fcntl", 4, 4, os.O_NONBLOCK), situation)
    assert isinstance(answer, Fake) and answer.held[0].verb == "flags"
    assert decide(call("fcntl", 4, 4, 0), situation) == Fake(0)
    assert decide(call("fcntl", 5, 4, os.O_NONBLOCK), situation) == Run()
    duplicate = decide(call("fcntl", 4, 1030, 0), situation)
    assert isinstance(duplicate, Run) and duplicate.note.descriptor


def test_epoll_registrations_of_lent_descriptors_are_recorded() -> None:
    situation = Made(
        handles={3: file(3, kind="epoll"), 4: file(4, kind="socket", past=(7,)), 5: file(5, kind="socket")}
    )
    event = situation.put(struct.pack("<IQ", 1, 0xABC))
    added = decide(call("epoll_ctl", 3, 1, 4, event), situation)
    assert added == Fake(0, register=(3, 1, 4, 1, 0xABC))
    assert decide(call("epoll_ctl", 3, 1, 5, event), situation) == Run()
    situation.registered = frozenset({(3, 4)})
    assert decide(call("epoll_ctl", 3, 1, 4, event), situation) == Fake(-errno.EEXIST)
    assert isinstance(decide(call("epoll_ctl", 3, 2, 4, 0), situation), Fake)


def test_shared_mappings() -> None:
    situation = Made(handles={5: file(), 6: file(6, created=True)})
    assert isinstance(decide(call("mmap", 0, 4096, 3, 1, 5, 0), situation), Refuse)
    assert decide(call("mmap", 0, 4096, 3, 2, 5, 0), situation) == Run()
    assert decide(call("mmap", 0, 4096, 1, 1, 5, 0), situation) == Run()
    assert decide(call("mmap", 0, 4096, 3, 1, 6, 0), situation) == Run()
    assert decide(call("mmap", 0, 4096, 3, 0x21, -1, 0), situation) == Run()


def test_ways_around() -> None:
    situation = Made(handles={5: file(), 6: file(6, created=True)})
    assert decide(call("io_uring_setup", 8, 0), situation) == Fake(-errno.ENOSYS)
    assert decide(call("sendfile", 5, 6, 0, 10), situation) == Fake(-errno.EINVAL)
    assert decide(call("copy_file_range", 6, 0, 5, 0, 10), situation) == Fake(-errno.EINVAL)
    block = situation.put(bytes(16) + struct.pack("<HhI", 1, 0, 5) + bytes(40))
    assert isinstance(
        decide(call("io_submit", 1, 1, situation.put(struct.pack("<Q", block))), situation), Refuse
    )
