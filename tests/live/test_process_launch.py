"""Programs are started under trace with exactly the surroundings asked for."""

from __future__ import annotations

import dataclasses
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.live.running import PATIENCE_S, Compile, Start

from instar.errors import RefusedError
from instar.process import ptrace
from instar.process.deadline import Deadline
from instar.process.descriptors import list_numbers
from instar.process.launch import Preparation
from instar.process.maps import read_maps
from instar.process.status import (
    read_arguments,
    read_auxiliary_vector,
    read_children,
    read_environment,
    read_status,
)
from instar.process.surroundings import preparation_like, read_surroundings
from instar.process.syscalls import NUMBERS
from instar.process.tracee import FOLLOW, Tracee, wait_any

NOBODY = 65534
AT_ENTRY, AT_BASE = 9, 7
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def soon() -> Deadline:
    return Deadline(PATIENCE_S)


class Pipes:
    """Standard input and output for a launched program."""

    def __init__(self) -> None:
        self.child_in, self.to = os.pipe()
        self.from_, self.child_out = os.pipe()

    @property
    def numbers(self) -> dict[int, int]:
        return {0: self.child_in, 1: self.child_out, 2: 2}

    def facts(self) -> dict[str, str]:
        data = b""
        while not data.endswith(b"\n"):
            data += os.read(self.from_, 4096)
        return dict(word.split("=", 1) for word in data.decode().rstrip("\n").split("\t"))

    def close(self) -> None:
        for number in (self.child_in, self.to, self.from_, self.child_out):
            os.close(number)


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    pipes = Pipes()
    yield pipes
    pipes.close()


@pytest.fixture
def mirror(compile_c: Compile) -> str:
    program = compile_c("process_programs/mirror.c")
    program.parent.chmod(0o755)
    for parent in program.parents[:3]:
        parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    return str(program)


def run(tracee: Tracee) -> None:
    """Let it run on to where it waits for input."""
    while True:
        stop = tracee.run_until_syscall(soon())
        assert not stop.ended, stop
        call = stop.syscall
        if stop.entry and call is not None and call.number == NUMBERS["read"] and call.arguments[0] == 0:
            return


def test_stands_before_its_first_instruction(mirror: str) -> None:
    before, family = list_numbers(os.getpid()), read_children(os.getpid())
    tracee = Tracee.launch(["a name", "x"], {"MARK": "m"}, executable=mirror)
    try:
        assert list_numbers(os.getpid()) == before
        assert tracee.stop is not None and tracee.stop.exit
        assert tracee.stop.syscall is not None and tracee.stop.syscall.number == NUMBERS["execve"]
        auxiliary = read_auxiliary_vector(tracee.pid)
        interpreter = next(m for m in read_maps(tracee.pid) if m.start == auxiliary[AT_BASE])
        assert "ld-linux" in interpreter.path or "ld-2" in interpreter.path
        assert tracee.registers().rip > interpreter.start
        assert read_arguments(tracee.pid) == [b"a name", b"x"]
        assert read_environment(tracee.pid) == [b"MARK=m"]
        assert tracee.inject_syscall(NUMBERS["getpid"]) == tracee.pid
        assert set(read_children(os.getpid())) - set(family) == {tracee.pid}
    finally:
        tracee.kill()
    assert set(read_children(os.getpid())) <= set(family)


def test_surroundings_as_asked(mirror: str, pipes: Pipes, tmp_path: Path) -> None:
    prepare = Preparation(
        working_directory=str(tmp_path),
        umask=0o137,
        limits={7: (111, 222)},
        new_session=True,
        nice=7,
        blocked_signals=0x8001,
        ignored_signals=1 << (signal.SIGHUP - 1),
        timer_slack_ns=77_000,
        no_new_privileges=True,
        policy=(os.SCHED_BATCH, 0),
        oom_score_adj=321,
        descriptors=pipes.numbers,
    )
    tracee = Tracee.launch(["mirror", "arg"], {"MARK": "here"}, executable=mirror, prepare=prepare)
    try:
        run(tracee)
        facts = pipes.facts()
        assert (facts["argc"], facts["arg"], facts["env"], facts["cwd"]) == (
            "2",
            "arg",
            "here",
            str(tmp_path),
        )
        assert (facts["umask"], facts["files"], facts["blocked"], facts["nice"]) == (
            "137",
            "111:222",
            "8001",
            "7",
        )
        assert (facts["sid"], facts["slack"], facts["nnp"]) == ("1", "77000", "1")
        assert facts["policy"] == str(os.SCHED_BATCH)
        ignored = read_status(tracee.pid).signals_ignored & ~(3 << 31)  # 32 and 33 are libc's own
        assert ignored == 1 << (signal.SIGHUP - 1)
        assert Path(f"/proc/{tracee.pid}/oom_score_adj").read_text() == "321\n"
        assert list_numbers(tracee.pid) == [0, 1, 2]
    finally:
        tracee.kill()


def test_descriptors_may_trade_places(mirror: str, tmp_path: Path) -> None:
    first, second = (os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in "ab")
    high = os.dup2(first, 900)
    wanted = {first: second, second: first, 5000: high, 0: first}
    tracee = Tracee.launch(["mirror"], {}, executable=mirror, prepare=Preparation(descriptors=wanted))
    try:
        names = {n: Path(f"/proc/{tracee.pid}/fd/{n}").readlink().name for n in list_numbers(tracee.pid)}
        assert names == {first: "b", second: "a", 5000: "a", 0: "a"}
    finally:
        tracee.kill()
        for number in (first, second, high):
            os.close(number)


def test_wherever_our_own_pipes_lie(mirror: str) -> None:
    """One of them may have the very number to which it would be moved out of the way."""
    held: list[int] = []
    try:
        while not held or held[-1] < 70:
            held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            if held[-1] < 55:
                continue
            tracee = Tracee.launch(["mirror"], {}, executable=mirror, prepare=Preparation(descriptors={0: 0}))
            try:
                assert list_numbers(tracee.pid) == [0]
            finally:
                tracee.kill()
    finally:
        for number in held:
            os.close(number)


def test_no_descriptors_at_all(mirror: str) -> None:
    tracee = Tracee.launch(["mirror"], {}, executable=mirror, prepare=Preparation(descriptors={}))
    try:
        assert list_numbers(tracee.pid) == []
    finally:
        tracee.kill()


@needs_root
def test_another_user_with_some_rights_left(mirror: str, pipes: Pipes) -> None:
    net_bind = 1 << 10
    prepare = Preparation(
        users=(NOBODY,) * 3,
        groups=(NOBODY,) * 3,
        supplementary=(4, 24),
        kept_capabilities=net_bind,
        bounding_capabilities=net_bind | 1,
        descriptors=pipes.numbers,
    )
    tracee = Tracee.launch(["mirror"], {}, executable=mirror, prepare=prepare)
    try:
        run(tracee)
        facts = pipes.facts()
        assert (facts["uid"], facts["gid"], facts["groups"]) == (str(NOBODY), str(NOBODY), "2")
        status = read_status(tracee.pid)
        assert status.capabilities["effective"] == net_bind
        assert status.capabilities["bounding"] == net_bind | 1
        assert status.groups == (4, 24)
    finally:
        tracee.kill()


@pytest.mark.parametrize("change", ["plain", "user", "chroot"])
def test_resembles_a_running_process(mirror: str, pipes: Pipes, tmp_path: Path, change: str) -> None:
    if change != "plain" and os.geteuid() != 0:
        pytest.skip("needs root")
    model = Tracee.launch(
        ["mirror"],
        {},
        executable=mirror,
        prepare=Preparation(
            working_directory="/usr",
            umask=0o077,
            limits={7: (100, 200), 4: (0, 0)},
            nice=3,
            users=(NOBODY,) * 3 if change == "user" else None,
            groups=(NOBODY,) * 3 if change == "user" else None,
            supplementary=(5,) if change == "user" else None,
            new_session=True,
            descriptors=pipes.numbers,
        ),
    )
    try:
        if change == "chroot":
            path = b"/usr\0"
            with model.surgery() as surgery:
                room = surgery.scratch(64)
                model.memory.write(room, path)
                assert surgery.syscall(NUMBERS["chroot"], room) == 0
        wanted = read_surroundings(model.pid)
        assert wanted.root == ("/usr" if change == "chroot" else "/")
        with preparation_like(wanted) as prepare:
            # The program is outside of the model's root: opened before, it is executed by descriptor.
            program = mirror if change != "chroot" else f"/proc/self/fd/{os.open(mirror, os.O_PATH)}"
            if change == "chroot":
                prepare = dataclasses.replace(prepare, root=None)
            prepare = dataclasses.replace(prepare, descriptors=None)
            twin = Tracee.launch(["mirror"], {}, executable=program, prepare=prepare)
        try:
            seen = read_surroundings(twin.pid)
            same = ("working_directory", "limits", "namespaces", "cgroups", "oom_score_adj", "nice", "policy",
                    "affinity", "personality", "slack_ns")  # fmt: skip
            for name in same:
                assert getattr(seen, name) == getattr(wanted, name), name
            assert (seen.status.uids, seen.status.gids, seen.status.groups) == (
                wanted.status.uids, wanted.status.gids, wanted.status.groups,
            )  # fmt: skip
            assert seen.status.umask == 0o077
            assert seen.status.capabilities == wanted.status.capabilities
            assert seen.session == twin.pid
        finally:
            twin.kill()
    finally:
        model.kill()


def failure(executable: str, prepare: Preparation | None = None) -> str:
    before, family = list_numbers(os.getpid()), read_children(os.getpid())
    with pytest.raises(RefusedError) as caught:
        Tracee.launch(["x"], {}, executable=executable, prepare=prepare)
    assert caught.value.code == "launch-failed"
    assert list_numbers(os.getpid()) == before
    assert set(read_children(os.getpid())) <= set(family)
    return caught.value.cause


def test_failures_name_the_step(mirror: str, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("not a program")
    assert "execve: No such file" in failure(str(tmp_path / "missing"))
    assert "execve: Permission denied" in failure(str(plain))
    plain.chmod(0o755)
    assert "execve: Exec format" in failure(str(plain))
    assert "chdir: No such file" in failure(mirror, Preparation(working_directory=str(tmp_path / "no")))
    assert "setpgid" in failure(mirror, Preparation(process_group=1))
    assert "dup2: Bad file" in failure(mirror, Preparation(descriptors={0: 4000}))
    assert "setrlimit" in failure(mirror, Preparation(limits={7: (10, 5)}))


def test_daemons_are_followed(mirror: str, pipes: Pipes) -> None:
    """A double fork: every child is seized from its first instruction on, and dies with this process."""
    tracee = Tracee.launch(
        ["m", "daemon"], {}, executable=mirror, prepare=Preparation(descriptors=pipes.numbers)
    )
    family = {tracee.pid: tracee}
    tracee.resume("cont")
    last = None
    while last is None:
        current, stop = wait_any([t for t in family.values() if t.stop is None], soon())
        if stop.event in (ptrace.EVENT_FORK, ptrace.EVENT_VFORK, ptrace.EVENT_CLONE):
            family[stop.message] = Tracee.adopt(stop.message, FOLLOW | ptrace.O_EXITKILL)
        if stop.event == ptrace.EVENT_STOP:  # a child's first stop: it can work for us already
            assert current.inject_syscall(NUMBERS["getpid"]) == current.pid
        if not stop.ended:
            current.resume("cont" if len(family) < 3 else "syscall")
        call = stop.syscall
        if stop.entry and call is not None and call.number == NUMBERS["read"] and call.arguments[0] == 0:
            last = current
    facts = pipes.facts()
    assert int(facts["pid"]) == last.pid and len(family) == 3
    assert last.pid != tracee.pid
    for member in family.values():
        member.kill()


def test_future_dies_with_its_tool(mirror: str, pipes: Pipes) -> None:
    child = os.fork()
    if child == 0:
        try:
            tracee = Tracee.launch(
                ["m"], {}, executable=mirror, prepare=Preparation(descriptors=pipes.numbers)
            )
            tracee.resume("cont")
            pipes.facts()
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    os.close(pipes.child_out)
    assert os.read(pipes.from_, 1) == b""  # nobody holds the other end any more
    pipes.child_out = os.dup(0)


def test_start_of_a_running_process(start: Start) -> None:
    running = start("process_programs/mortal.c", "alarm")
    surroundings = read_surroundings(running.pid)
    assert surroundings.pid == running.pid
    assert surroundings.session == os.getsid(0)
    assert surroundings.process_group == os.getpgid(0)
    assert surroundings.foreign_namespaces() == ()
    assert surroundings.started > 0
