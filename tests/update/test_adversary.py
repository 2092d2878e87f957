"""Hostile targets, hostile new versions and hostile operators: one version serves, its state is whole."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.service import INSTAR, Service
from tests.update.witness import Witness, wait_until_stopped

from instar.testing.programs import Builder, Toolchain
from instar.testing.scenarios import TOOLCHAINS

HERE = Path(__file__).parent / "adversary"
HEADER = Path(__file__).parents[1] / "programs" / "scenario.h"
GCC = TOOLCHAINS[0]

Versions = tuple[Path, Path]


def build(builder: Builder, version: str, *flags: str, toolchain: Toolchain = GCC) -> Path:
    """The target; every version but v1 has another layout of its heap blocks."""
    second = () if version == "v1" else ("-DSECOND",)
    return builder.build(
        {"program.c": HERE / "target.c"},
        toolchain,
        headers=[HEADER],
        flags=(f'-DVERSION="{version}"', *second, *flags, "-pthread"),
    )


@pytest.fixture
def versions(builder: Builder) -> Versions:
    return build(builder, "v1"), build(builder, "v2")


def start(start_service: StartService, program: Path, *arguments: object) -> Service:
    service = start_service(program, arguments=[str(word) for word in arguments])
    assert service.ask("fill") == "ok v1"
    return service


@contextmanager
def storm(service: Service, number: signal.Signals, pause_s: float) -> Iterator[None]:
    """Signals to whoever serves, all the time."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(pause_s):
            try:
                os.kill(service.pid, number)
            except ProcessLookupError:
                time.sleep(0.001)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# Targets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "wait_ms", "habit"),
    [
        ("select", 1, "churn"),
        ("poll", 1, "churn"),
        ("epoll", 1, "churn"),
        ("poll", 1, "reopen"),
        ("epoll", 1, "map"),
        ("poll", 1, "pool"),
        ("read", -1, "none"),
        ("poll", -1, "timer"),
        ("select", 50, "timer"),
        ("epoll", 20, "timer"),
    ],
)
def test_busy_targets(
    versions: Versions, start_service: StartService, way: str, wait_ms: int, habit: str
) -> None:
    service = start(start_service, versions[0], way, wait_ms, habit)
    for program in (versions[1], versions[1]):
        update = service.update_churning(program)
        assert update.outcome == "updated", update.told()
        for command in ("check", "churn", "check"):
            assert service.ask(command) == "ok v2"
        assert service.processes() == [service.pid]


@pytest.mark.parametrize("habit", ["thread", "fork"])
def test_threads_and_children_come_and_go(
    versions: Versions, start_service: StartService, habit: str
) -> None:
    service = start(start_service, versions[0], "poll", 1, habit)
    for _ in range(3):
        update = service.update(versions[1])
        assert update.outcome in ("updated", "refused"), update.told()
        serving = "v2" if service.pid != service.program.pid else "v1"
        assert service.ask("check") == f"ok {serving}", update.told()


@pytest.mark.parametrize("phase", ["start", "pre-copy", "quiesce"])
def test_target_executes_another_program_meanwhile(
    builder: Builder, versions: Versions, start_service: StartService, phase: str
) -> None:
    """What looks the same and has another layout is not what was planned for."""
    other = build(builder, "v1", "-DSECOND", "-DGREETING=1")
    service = start(start_service, versions[0], "poll", -1, "none", other)
    tool = service.tool(versions[1], environment={"INSTAR_FAULT": f"{phase}:middle:stop"})
    wait_until_stopped(tool)
    os.kill(service.pid, signal.SIGUSR2)
    assert service.program.talk.line() == "ready"
    assert service.ask("fill") == "ok v1"
    os.kill(tool.pid, signal.SIGCONT)
    stdout, stderr = tool.communicate(timeout=60)
    update = service.finished(tool.returncode, stdout, stderr)
    assert update.outcome in ("refused", "rolled-back"), update.told()
    assert service.processes() == [service.pid]
    assert service.ask("check") == "ok v1"


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGCHLD, signal.SIGALRM], ids=lambda n: n.name)
def test_signal_storm(versions: Versions, start_service: StartService, number: signal.Signals) -> None:
    service = start(start_service, versions[0], "poll", 20, "storm")
    with storm(service, number, 0.0005):
        for program in (versions[1], versions[1]):
            update = service.update(program)
            assert update.outcome == "updated", update.told()
            assert service.ask("check") == "ok v2"
    assert service.ask("check") == "ok v2"
    assert service.processes() == [service.pid]


@pytest.mark.parametrize("way", ["select", "poll", "epoll"])
def test_rolled_back_past_notices_nothing(versions: Versions, start_service: StartService, way: str) -> None:
    """No EINTR, no timeout that comes early: `check` counts both."""
    service = start(start_service, versions[0], way, 30)
    witness = Witness(service)
    for phase in ("pre-copy", "pre-check", "validate", "commit"):
        tool = service.tool(versions[1], environment={"INSTAR_FAULT": f"{phase}:middle:raise"})
        update = witness.watch(tool)
        assert update.outcome in ("refused", "rolled-back"), update.told()
        assert witness.settled() == "v1"
    witness.updates_again(versions[1])


def _deleted_directory(program: Path) -> list[str]:
    return ["sh", "-c", f'mkdir gone && cd gone && rmdir ../gone && exec "{program}" poll 20']


def _memory_file(program: Path) -> list[str]:
    code = "import os, sys; fd = os.memfd_create('server'); os.write(fd, open(sys.argv[1], 'rb').read()); "
    code += "os.execv(f'/proc/self/fd/{fd}', ['server', 'poll', '20'])"
    return [sys.executable, "-c", code, str(program)]


ODD_PLACES = {
    "deleted-directory": _deleted_directory,
    "memory-file": _memory_file,
}


@pytest.mark.parametrize("name", ODD_PLACES)
def test_targets_in_odd_places(versions: Versions, start_service: StartService, name: str) -> None:
    command = ODD_PLACES[name](versions[0])
    service = start_service(Path(shutil.which(command[0]) or command[0]), arguments=command[1:])
    assert service.ask("fill") == "ok v1"
    for program in (versions[1], versions[1]):
        update = service.update(program)
        assert update.outcome == "updated", update.told()
        assert service.ask("check") == "ok v2"


@pytest.mark.parametrize("change", ["deleted", "replaced", "renamed", "overwritten-by-the-new"])
def test_the_old_program_file_changes(
    versions: Versions, start_service: StartService, tmp_path: Path, change: str
) -> None:
    """As a package manager does it; what runs is read, not what lies there."""
    program = tmp_path / "server"
    shutil.copy(versions[0], program)
    service = start(start_service, program, "poll", 20)
    new = versions[1]
    if change == "renamed":
        program.rename(tmp_path / "server.old")
    else:
        program.unlink()
    if change == "replaced":
        shutil.copy("/bin/true", program)
    if change == "overwritten-by-the-new":
        new = Path(shutil.copy(versions[1], program))
    update = service.update(new)
    assert update.outcome == "updated", update.told()
    assert service.ask("check") == "ok v2"


def test_a_descriptor_is_something_else_every_time(versions: Versions, start_service: StartService) -> None:
    """What the plan saw under a number is gone when the past is paused, and something else is there."""
    service = start(start_service, versions[0], "poll", 1, "swap")
    for _ in range(3):
        update = service.update(versions[1])
        assert update.outcome == "updated", update.told()
        assert service.ask("check") == "ok v2"


# New versions -----------------------------------------------------------------------------------------------

NEW_VERSIONS = {
    "helpers": ("-DSTART_HELPERS", ("updated", "refused")),
    "megabytes": ("-DSTART_PRINTS", ("updated", "refused")),
    "loops-in-malloc": ("-DSTART_LOOPS", ("refused",)),
    "closes-all": ("-DSTART_CLOSES", ("updated", "refused")),
    "limits": ("-DSTART_LIMITS", ("updated", "refused")),
    "changes-directory": ("-DSTART_MOVES", ("updated", "refused")),
    "drops-privileges": ("-DSTART_DROPS", ("updated", "refused")),
    "fault-handler": ("-DSTART_FAULTS", ("updated",)),
    "asks-to-be-traced": ("-DSTART_TRACED", ("refused",)),
    "undumpable": ("-DSTART_UNDUMPABLE", ("updated",)),
    "executes-itself": ("-DSTART_AGAIN", ("updated", "refused")),
    "confines-itself": ("-DSTART_CONFINED", ("refused",)),
    "grabs-addresses": ("-DSTART_GRABS", ("updated", "refused")),
    "stops-itself": ("-DSTART_STOPS", ("refused",)),
    "blocks-signals": ("-DSTART_BLOCKS", ("updated",)),
    "static": ("-static", ("refused",)),
    "no-pie": ("-no-pie", ("updated",)),
    "sanitizer": ("-fsanitize=address", ("refused",)),
    "own-allocator": ("-DOWN_ALLOCATOR", ("refused",)),
}


@pytest.mark.parametrize("name", NEW_VERSIONS)
def test_hostile_new_version(
    builder: Builder, versions: Versions, start_service: StartService, name: str
) -> None:
    flag, outcomes = NEW_VERSIONS[name]
    program = build(builder, "v2", flag)
    service = start(start_service, versions[0], "poll", 20)
    witness = Witness(service)
    update = service.update(program, "--start-timeout", "3")
    assert update.outcome in outcomes, update.told()
    if update.outcome == "updated":
        for command in ("check", "churn", "check"):
            assert service.ask(command) == "ok v2"
        assert service.processes() == [service.pid]
    else:
        assert update.report is not None and update.report["error"]["code"] != "internal", update.told()
        assert witness.settled() == "v1"
        witness.updates_again(versions[1])


# Operators --------------------------------------------------------------------------------------------------


def _closed(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


def _limited(kind: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (value, value))


def _in_deleted_directory() -> None:
    place = f"/tmp/instar-adversary-{os.getpid()}"
    Path(place).mkdir()
    os.chdir(place)
    Path(place).rmdir()


CIRCUMSTANCES: dict[str, tuple[Callable[[], None], dict[str, str | None]]] = {
    "no-stdin": (_closed(0), {}),
    "no-stdout": (_closed(1), {}),
    "no-stderr": (_closed(2), {}),
    "nothing-open": (_closed(0, 1, 2), {}),
    "deleted-directory": (_in_deleted_directory, {}),
    "few-files": (_limited(resource.RLIMIT_NOFILE, 24), {}),
    "hardly-any-files": (_limited(resource.RLIMIT_NOFILE, 8), {}),
    "little-memory": (_limited(resource.RLIMIT_AS, 300 << 20), {}),
    "no-file-size": (_limited(resource.RLIMIT_FSIZE, 0), {}),
    "no-home": (lambda: None, {"HOME": None, "XDG_CACHE_HOME": None, "XDG_STATE_HOME": None}),
    "home-is-nowhere": (
        lambda: None,
        {"HOME": "/proc/1/nowhere", "XDG_CACHE_HOME": None, "XDG_STATE_HOME": None},
    ),
    "ignored-signals": (lambda: _ignore(signal.SIGCHLD, signal.SIGALRM), {}),
    "blocked-signals": (lambda: _block(), {}),
}


def _ignore(*numbers: signal.Signals) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _block() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})


@pytest.mark.parametrize("name", CIRCUMSTANCES)
def test_tool_in_bad_circumstances(versions: Versions, start_service: StartService, name: str) -> None:
    """It may refuse; it may not do half of it."""
    prepare, changes = CIRCUMSTANCES[name]
    service = start(start_service, versions[0], "poll", 20)
    witness = Witness(service)
    environment = {**os.environ, "XDG_STATE_HOME": str(service.home / "state"), **changes}
    tool = subprocess.Popen(
        [str(INSTAR), "update", str(service.pid), str(versions[1]), "--json"],
        env={name: value for name, value in environment.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )
    _, stderr = tool.communicate(timeout=60)
    assert tool.returncode in (0, 3, 4, 6, 120), f"{tool.returncode}: {stderr}"
    assert "Traceback" not in stderr, stderr
    version = witness.settled()
    if tool.returncode == 0:
        assert version == "v2", stderr
    witness.updates_again(versions[1])


def test_two_tools_at_once(versions: Versions, start_service: StartService) -> None:
    """One of them may win; the loser says why."""
    service = start(start_service, versions[0], "poll", 20)
    witness = Witness(service)
    tools = [service.tool(versions[1]) for _ in range(3)]
    outputs = [tool.communicate(timeout=90) for tool in tools]
    statuses = [tool.returncode for tool in tools]
    assert all(status in (0, 3, 4, 6) for status in statuses), outputs
    assert statuses.count(0) <= 1, outputs
    assert witness.settled() == ("v2" if 0 in statuses else "v1"), outputs
    witness.updates_again(versions[1])
    witness.updates_again(versions[1])


@pytest.mark.parametrize("seed", range(15))
def test_interrupted_at_any_moment(versions: Versions, start_service: StartService, seed: int) -> None:
    """Ctrl-C, SIGTERM, SIGHUP, sometimes two of them, whenever."""
    chance = random.Random(seed)
    service = start(start_service, versions[0], "poll", 5, "churn")
    witness = Witness(service)
    tool = service.tool(versions[1])
    time.sleep(chance.uniform(0.1, 2.0))
    for _ in range(chance.choice((1, 1, 2))):
        if tool.poll() is None:
            tool.send_signal(chance.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)))
        time.sleep(chance.uniform(0, 0.05))
    _, stderr = tool.communicate(timeout=60)
    version = witness.settled()
    assert (tool.returncode == 0) == (version == "v2"), f"{tool.returncode} {stderr}"
    assert "Traceback" not in stderr, stderr
    witness.updates_again(versions[1])


@pytest.mark.parametrize("seed", range(8))
def test_control_c_reaches_all_processes_of_the_tool(
    versions: Versions, start_service: StartService, seed: int
) -> None:
    """A terminal sends SIGINT to the whole group: to whatever the tool has forked, too."""
    service = start(start_service, versions[0], "poll", 5)
    witness = Witness(service)
    tool = service.tool(versions[1], start_new_session=True)
    time.sleep(random.Random(seed).uniform(0.15, 0.6))
    if tool.poll() is None:
        os.killpg(tool.pid, signal.SIGINT)
    stdout, stderr = tool.communicate(timeout=60)
    version = witness.settled()
    assert (tool.returncode == 0) == (version == "v2"), stderr
    assert "Traceback" not in stderr, stderr
    if stdout:
        json.loads(stdout)
    witness.updates_again(versions[1])
