"""Refusals because of the machine, the rights, or the process itself."""

from __future__ import annotations

import errno
import os
import platform
import resource
import select
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from instar import native
from instar.control import channel, observation, startup_launch
from instar.errors import FaultError, HostError, InstarError, RefusedError, UsageError
from instar.guard.client import Past
from instar.process import injection, signals
from instar.process import status as status_module
from instar.process.held import Rendezvous
from instar.process.injection import Surgery, find_syscall_instruction
from instar.process.launch import Preparation
from instar.update import access, host, preflight, target

SELF = os.getpid()


def test_native_part_that_was_never_built() -> None:
    with pytest.raises(HostError) as caught:
        native.library_path("no-such")
    assert caught.value.code == "native-missing"


def test_native_part_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libinstar-junk.so").write_bytes(b"junk")
    monkeypatch.setattr(native, "DIRECTORY", tmp_path)
    with pytest.raises(HostError) as caught:
        native.load("junk")
    assert caught.value.code == "native-unloadable" and "libdw1" in caught.value.remedy


def test_another_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert host._platform().code == "wrong-platform"


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EIO, "ptrace-incomplete"), (errno.EPERM, "ptrace-denied")]
)
def test_tracing_that_fails(monkeypatch: pytest.MonkeyPatch, number: int, code: str) -> None:
    def refuse(pid: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(host, "explain_sandbox", lambda: None)
    monkeypatch.setattr(host, "_try_tracing", refuse)
    assert host._tracing().code == code


def surroundings(seccomp: int = 0, namespaces: tuple[str, ...] = ()) -> Any:
    status = SimpleNamespace(seccomp=seccomp)
    return SimpleNamespace(status=status, foreign_namespaces=lambda: namespaces, root="/")


def test_what_confines_a_process() -> None:
    assert [one.code for one in target._sandbox(surroundings(seccomp=1))] == ["seccomp-strict"]
    assert [one.code for one in target._sandbox(surroundings(namespaces=("pid",)))] == ["pid-namespace"]


def test_the_process_is_instar_or_the_first_of_its_container() -> None:
    own = preflight.explain_own(SELF)
    assert own is not None and own.code == "own-process"
    first = preflight.explain_first(cast(Any, SimpleNamespace(pid=7, name="server", pid_in_namespace=1)))
    assert first is not None and first.code == "container-init"
    assert preflight.explain_own(SELF + 1) is None


def test_a_program_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    program.touch(mode=0)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RefusedError) as caught:
        preflight._validate_file(program)
    assert caught.value.code == "not-readable"


@pytest.mark.parametrize(
    ("uids", "capabilities", "code"),
    [
        ((1001,) * 4, 1, "privileged-target"),
        ((1001, 0, 0, 0), 0, "setuid-target"),
        ((1,) * 4, 0, "other-user"),
    ],
)
def test_why_tracing_is_denied(
    monkeypatch: pytest.MonkeyPatch, uids: tuple[int, ...], capabilities: int, code: str
) -> None:
    def read_status(pid: int) -> Any:
        mine = pid == SELF
        permitted = {"permitted": 0 if mine else capabilities}
        return SimpleNamespace(name="server", uids=uids, gids=(1001,) * 4, capabilities=permitted)

    monkeypatch.setattr(access, "read_status", read_status)
    monkeypatch.setattr(os, "getuid", lambda: 1001)
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    assert access._explain_denial(1, PermissionError(errno.EPERM, "no")).code == code


def test_a_user_that_there_is_not() -> None:
    for name in ("nobody-of-this-name", "4294967000"):
        with pytest.raises(UsageError) as caught:
            startup_launch._as_user(Preparation(), name)
        assert caught.value.code == "no-such-user"


def test_an_environment_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup_launch, "read_environment", lambda pid: (b"no assignment",))
    monkeypatch.setattr(startup_launch, "_present_environment", lambda pid: None)
    with pytest.raises(RefusedError) as caught:
        startup_launch.recover_environment(SELF)
    assert caught.value.code == "environment-lost"


def test_a_pid_namespace_of_its_own() -> None:
    past: Any = SimpleNamespace(pid=7, surroundings=surroundings(namespaces=("pid",)))
    nothing = cast(Any, None)
    launches = [value for name, value in vars(startup_launch).items() if name.startswith("launch")]
    assert len(launches) == 1
    with pytest.raises(RefusedError) as caught:
        launches[0](nothing, past, nothing, nothing, nothing)
    assert caught.value.code == "pid-namespace"


def test_too_few_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(resource, "prlimit", refuse)
    monkeypatch.setattr(channel, "parse_limits", lambda text: {resource.RLIMIT_NOFILE: (10, 20)})
    with pytest.raises(HostError) as caught, channel.raised_limit(SELF, 100):
        pass
    assert caught.value.code == "descriptor-limit" and "--nofile=10:101" in caught.value.remedy
    with pytest.raises(HostError) as caught:
        observation._check(-errno.EMFILE, SELF)
    assert caught.value.code == "descriptor-limit"


def test_an_epoll_set_in_an_unknown_form(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writer, "wb"), select.epoll() as epoll:
        epoll.register(reader)
        assert len(observation.read_epoll(SELF, epoll.fileno())) == 1
        unknown = SimpleNamespace(instar_epoll_parse=lambda *_: 0)
        monkeypatch.setattr(observation, "_library", lambda: unknown)
        with pytest.raises(HostError) as caught:
            observation.read_epoll(SELF, epoll.fileno())
    assert caught.value.code == "epoll-unreadable"


def test_a_kernel_without_a_list_of_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Path) -> str:
        raise FileNotFoundError(errno.ENOENT, "no such file", str(self))

    monkeypatch.setattr(Path, "read_text", missing)
    with pytest.raises(InstarError) as caught:
        signals.read_posix_timers(SELF)
    assert caught.value.code == "no-timer-list"


def test_two_that_inspect_one_process() -> None:
    first = Rendezvous(SELF)
    with first.socket, pytest.raises(HostError) as caught:
        Rendezvous(SELF)
    assert caught.value.code == "rendezvous-taken"


def test_a_question_that_the_kernel_does_not_answer() -> None:
    past = object.__new__(Past)
    cast(Any, past).inject = lambda *_: (-errno.EINVAL, b"")
    with pytest.raises(InstarError) as caught:
        past.ask([("timer", 5)])
    assert caught.value.code == "remote-call-failed" and "timer 5" in caught.value.cause


def surgery(**tracee: Any) -> Any:
    one = object.__new__(Surgery)
    one.tracee = cast(Any, SimpleNamespace(pid=SELF, **tracee))
    return one


@pytest.mark.parametrize(
    ("shadow", "ignored", "code"), [(True, 0, "shadow-stack"), (False, 1 << 10, "fault-ignored")]
)
def test_a_process_in_which_no_function_can_be_called(
    monkeypatch: pytest.MonkeyPatch, shadow: bool, ignored: int, code: str
) -> None:
    status = SimpleNamespace(shadow_stack=shadow, signals_ignored=ignored)
    monkeypatch.setattr(status_module, "read_status", lambda pid: status)
    with pytest.raises(HostError) as caught:
        surgery()._refuse_unsuitable()
    assert caught.value.code == code


def test_no_room_below_the_stack_pointer(monkeypatch: pytest.MonkeyPatch) -> None:
    one = surgery()
    one._registers = SimpleNamespace(rsp=0x1000)
    monkeypatch.setattr(Surgery, "syscall", lambda *_: -errno.EFAULT)
    with pytest.raises(InstarError) as caught:
        one._grow_stack(0xF00)
    assert caught.value.code == "stack-exhausted"


def test_code_without_a_system_call() -> None:
    def nothing(address: int, size: int) -> bytes:
        raise FaultError(address, size, SELF)

    tracee: Any = SimpleNamespace(pid=SELF, memory=SimpleNamespace(read=nothing))
    with pytest.raises(HostError) as caught:
        find_syscall_instruction(tracee)
    assert caught.value.code == "no-syscall-instruction" and injection.SYSCALL_INSTRUCTION == b"\x0f\x05"
