"""Daemons, helpers, surroundings: the new version is started as the old one was."""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.live.running import Compile, Start
from tests.live.startup_support import ask, build, descriptors, free_port, future_of

#: Both programs, the process, its port and pid file, for a way to lock that.
Daemon = Callable[[str], tuple[Path, Path, int, int, Path]]


@pytest.fixture
def daemon(compile_c: Compile, start: Start, tmp_path: Path) -> Iterator[Daemon]:
    """Starts the daemon; gives both programs, its PID, port and pid file."""
    pids: list[int] = []

    def start_daemon(lock: str) -> tuple[Path, Path, int, int, Path]:
        old, new = build(compile_c, "daemon")
        port, path = free_port(), tmp_path / "daemon.pid"
        first = start(old, str(port), str(path), lock)
        pids.append(int(first.ready[0]))
        return old, new, pids[-1], port, path

    yield start_daemon
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("lock", ["flock", "fcntl", "lockf", "excl", "plain"])
def test_daemon_with_a_pid_file(daemon: Daemon, lock: str) -> None:
    old, new, pid, port, path = daemon(lock)
    before = path.read_text()
    assert before == f"{pid}\n"
    with future_of(pid, old, new) as future:
        assert future.pid != pid
        assert os.getsid(future.pid) not in (os.getsid(pid), os.getsid(0))
        assert path.read_text() == before
        assert f"ready {future.pid}" in future.output.decode()
        assert ask(port) == "hello v1"
        if lock == "fcntl":
            path.unlink()  # an update never needs the name again
    if lock != "fcntl":
        assert path.read_text() == before
    assert ask(port) == "hello v1"


@pytest.mark.parametrize("lock", ["flock", "excl", "plain"])
def test_pid_file_is_rewritten_at_commit(daemon: Daemon, lock: str) -> None:
    old, new, pid, port, path = daemon(lock)
    with future_of(pid, old, new) as future:
        os.kill(pid, signal.SIGKILL)
        assert future.commit_held() == []
        assert path.read_text() == f"{future.pid}\n"
        future.tracee.detach()
        assert ask(port) == "hello v2"


def test_helpers_run_to_their_end(compile_c: Compile, start: Start) -> None:
    old, new = build(compile_c, "behaviour")
    past = start(old, "helpers")
    with future_of(past.pid, old, new) as future:
        assert future.chain.functions == ("rest", "main")
        assert not Path(f"/proc/{future.pid}/task/{future.pid}/children").read_text()


def test_probes_are_no_quiescent_point(compile_c: Compile, start: Start) -> None:
    old, new = build(compile_c, "behaviour")
    past = start(old, "probe")
    with future_of(past.pid, old, new) as future:
        assert future.chain.functions == ("rest", "main")


def test_input_of_the_past_is_not_read(compile_c: Compile, start: Start) -> None:
    old, new = build(compile_c, "behaviour")
    past = start(old, "nothing")
    past.line()
    os.kill(past.pid, signal.SIGSTOP)
    past.wait_for_state("T")
    os.kill(past.pid, signal.SIGCONT)
    with future_of(past.pid, old, new) as future:
        past.send("four")
        assert past.line() == "v1 got 5"
        assert b"ready" in future.output
        assert past.silent(0.05)


def test_started_in_the_same_surroundings(compile_c: Compile, start: Start, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    old, new = build(compile_c, "behaviour")
    for program in (old, new):
        for parent in (program.parent, program.parent.parent, program.parent.parent.parent):
            parent.chmod(0o755)
        program.chmod(0o755)

    def prepare() -> None:
        os.umask(0o31)
        os.nice(7)
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
        Path("/proc/self/oom_score_adj").write_text("300")
        os.setgroups([20, 21])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    past = start(
        old, "nothing", preexec_fn=prepare, cwd="/usr/lib", env={"COLOUR": "blue", "PATH": "/bin:/usr/bin"}
    )
    described = past.line()
    assert described == f"65534 65534 2 31 /usr/lib 100 {min(os.nice(0) + 7, 19)} blue"
    with future_of(past.pid, old, new) as future:
        assert described in future.output.decode().splitlines()
        assert Path(f"/proc/{future.pid}/oom_score_adj").read_text() == "300\n"
        environment = Path(f"/proc/{future.pid}/environ").read_bytes()
        assert b"instar" not in environment


def test_started_as_another_user(compile_c: Compile, start: Start) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    old, new = build(compile_c, "behaviour")
    for program in (old, new):
        for parent in (program.parent, program.parent.parent, program.parent.parent.parent):
            parent.chmod(0o755)
    past = start(old, "nothing", user=65534, group=65534, extra_groups=[])
    past.line()
    with future_of(past.pid, old, new, start_as="root") as future:
        groups = len(os.getgrouplist("root", pwd.getpwnam("root").pw_gid))
        assert f"0 0 {groups} " in future.output.decode()
    with future_of(past.pid, old, new, start_as="daemon") as future:
        assert future.output.decode().splitlines()[1].startswith("1 1 ")


def test_standard_descriptors_are_the_past_s(compile_c: Compile, start: Start) -> None:
    old, new = build(compile_c, "behaviour")
    past = start(old, "nothing")
    past.line()
    with future_of(past.pid, old, new) as future:
        before, after = descriptors(past.pid), descriptors(future.pid)
        assert [after[n] for n in range(3)] == [before[n] for n in range(3)]
        assert set(after) == set(before)


def test_overwritten_arguments_must_be_given(compile_c: Compile, start: Start) -> None:
    from instar.errors import RefusedError

    old, new = build(compile_c, "title")
    port = free_port()
    past = start(old, str(port), "overwritten")
    with pytest.raises(RefusedError) as caught, future_of(past.pid, old, new):
        pass
    assert caught.value.code == "arguments-lost"
    with future_of(past.pid, old, new, arguments=["title", str(port), "x"]):
        assert ask(port) == "hello v1"


def test_arguments_that_were_copied_first_are_found(compile_c: Compile, start: Start) -> None:
    old, new = build(compile_c, "title")
    port = free_port()
    past = start(old, str(port), "copied", env={"COLOUR": "green"})
    with future_of(past.pid, old, new) as future:
        assert f"arguments {port} copied green" in future.output.decode()
