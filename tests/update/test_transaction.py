"""Updates that cannot succeed: a new version that fails, files that are none, a machine that is full."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.service import Service
from tests.update.witness import Witness

from instar.testing.programs import Builder, wait_until_gone
from instar.testing.scenarios import TOOLCHAINS, Scenario

PROGRAMS = Path(__file__).parents[1] / "programs"
FAULTY = Scenario(PROGRAMS / "faulty-start", "new versions that go wrong at start", ())
TOOLCHAIN = TOOLCHAINS[0]


@pytest.fixture
def witness(builder: Builder, start_service: StartService) -> Witness:
    """Version 1 of the program whose later versions fail, filled and watched."""
    service = start_service(FAULTY.build("v1", TOOLCHAIN, builder))
    assert service.ask("fill") == "ok v1"
    return Witness(service)


@pytest.fixture
def next_version(builder: Builder) -> Path:
    """The one that works."""
    return FAULTY.build("v2", TOOLCHAIN, builder)


@pytest.mark.parametrize(
    ("version", "code", "text"),
    [
        ("crashes", "startup-crashed", "about to crash"),
        ("aborts", "startup-crashed", "assertion of the new version failed"),
        ("exits", "startup-failed", "cannot read its configuration"),
        ("exits-silently", "startup-failed", ""),
        ("spins", "startup-timeout", ""),
        ("sleeps", "different-point", "pause"),
        ("waits-elsewhere", "different-point", "main > start (poll)"),
        ("forks", "different-point", "pause"),
        ("ignores-everything", "different-point", "pause"),
    ],
)
def test_the_new_version_fails_at_start(
    witness: Witness, next_version: Path, builder: Builder, version: str, code: str, text: str
) -> None:
    program = FAULTY.build(version, TOOLCHAIN, builder)
    update = witness.watch(witness.service.tool(program, "--start-timeout", "1"))
    assert update.outcome == "refused", update.told()
    assert update.report is not None and update.report["error"]["code"] == code, update.told()
    assert text in update.told()
    assert update.status == 3
    assert witness.settled() == "v1"
    witness.updates_again(next_version)


def _static(home: Path, program: Path) -> None:
    source = home / "static.c"
    source.write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", "-g", "-static", "-o", home / "new", source], check=True)


def _stripped(home: Path, program: Path) -> None:
    shutil.copy(program, home / "new")
    subprocess.run(["strip", "--strip-debug", home / "new"], check=True)


def _script(home: Path, program: Path) -> None:
    (home / "new").write_text("#!/bin/sh\nexec sleep 1\n")
    (home / "new").chmod(0o755)


def _text(home: Path, program: Path) -> None:
    (home / "new").write_text("not a program\n")
    (home / "new").chmod(0o755)


def _foreign(home: Path, program: Path) -> None:
    data = bytearray(program.read_bytes())
    data[18:20] = (183).to_bytes(2, "little")  # e_machine: EM_AARCH64
    (home / "new").write_bytes(data)
    (home / "new").chmod(0o755)


def _truncated(home: Path, program: Path) -> None:
    (home / "new").write_bytes(program.read_bytes()[:5000])
    (home / "new").chmod(0o755)


def _empty(home: Path, program: Path) -> None:
    (home / "new").write_bytes(b"")
    (home / "new").chmod(0o755)


def _missing(home: Path, program: Path) -> None:
    pass


def _directory(home: Path, program: Path) -> None:
    (home / "new").mkdir()


def _not_executable(home: Path, program: Path) -> None:
    shutil.copy(program, home / "new")
    (home / "new").chmod(0o644)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_static, "statically-linked"),
        (_stripped, "no-debug-info"),
        (_script, "script"),
        (_text, "not-elf"),
        (_foreign, "wrong-architecture"),
        (_truncated, "truncated-elf"),
        (_empty, "not-elf"),
        (_missing, "no-such-file"),
        (_directory, "not-a-file"),
        (_not_executable, "not-executable"),
    ],
    ids=lambda value: value.__name__[1:] if callable(value) else None,
)
def test_a_file_that_is_no_next_version(
    witness: Witness, next_version: Path, tmp_path: Path, make: Callable[[Path, Path], None], code: str
) -> None:
    make(tmp_path, next_version)
    update = witness.watch(witness.service.tool(tmp_path / "new"))
    assert update.outcome == "refused", update.told()
    assert update.report is not None and update.report["error"]["code"] == code, update.told()
    assert update.report["error"]["remedy"]
    assert witness.settled() == "v1"
    witness.updates_again(next_version)


def test_another_program_altogether(witness: Witness, next_version: Path, builder: Builder) -> None:
    """Next to nothing pairs."""
    other = Path(__file__).parents[1] / "live" / "process_programs" / "waiter.c"
    program = builder.build({"waiter.c": other}, TOOLCHAIN)
    update = witness.watch(witness.service.tool(program))
    assert update.outcome == "refused", update.told()
    assert update.report is not None and update.report["error"]["code"] == "different-program", update.told()
    assert witness.settled() == "v1"
    witness.updates_again(next_version)


# Limits of the tool. Whatever it comes to: exactly one version serves, and the next update works.


def _limited(kind: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


@pytest.mark.parametrize("megabytes", [64, 150, 200, 250, 300, 400, 600, 900, 1500])
def test_little_memory(witness: Witness, next_version: Path, megabytes: int) -> None:
    """Where the tool cannot even load NumPy it just fails; a new version that serves has no such limit."""
    service = witness.service
    limits = Path(f"/proc/{service.pid}/limits").read_text()
    tool = service.tool(next_version, preexec_fn=_limited(resource.RLIMIT_AS, megabytes << 20))
    stdout, stderr = tool.communicate(timeout=60)
    assert tool.returncode >= 0, f"died by a signal: {stderr}"
    if stdout and "outcome" in json.loads(stdout):
        service.finished(tool.returncode, stdout, stderr)
    elif stdout:  # it failed before there was anything to report on
        assert tool.returncode == 6 and json.loads(stdout)["error"]["code"] == "library-unloadable", stdout
    assert witness.settled() == ("v2" if tool.returncode == 0 else "v1")
    assert Path(f"/proc/{service.pid}/limits").read_text() == limits
    witness.updates_again(next_version)


@pytest.mark.parametrize("size", [0, 4096])
def test_full_disk(witness: Witness, next_version: Path, tmp_path: Path, size: int) -> None:
    """Neither cache nor journal can be written: told, and no reason not to update."""
    service = witness.service
    limits = Path(f"/proc/{service.pid}/limits").read_text()
    update = service.update(
        next_version,
        environment={"XDG_CACHE_HOME": str(tmp_path / "cold")},
        preexec_fn=_limited(resource.RLIMIT_FSIZE, size),
    )
    assert update.outcome == "updated", update.told()
    assert update.report is not None
    if size == 0:
        assert any("journal" in warning for warning in update.report["warnings"]), update.told()
    assert witness.settled() == "v2"
    assert Path(f"/proc/{service.pid}/limits").read_text() == limits
    cold = [path for path in (tmp_path / "cold").rglob("*") if path.is_file() and path.stat().st_size <= size]
    assert not cold, "half a cache entry was left"
    witness.updates_again(next_version)


def test_nowhere_to_write(witness: Witness, next_version: Path, tmp_path: Path) -> None:
    """The directories of cache and journal cannot be made, because files are in the way."""
    for name in ("cache", "state"):
        (tmp_path / name).write_text("in the way")
    update = witness.service.update(
        next_version,
        environment={
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
        },
    )
    assert update.outcome == "updated", update.told()
    assert update.report is not None
    assert any("journal" in warning for warning in update.report["warnings"]), update.told()
    assert witness.settled() == "v2"


@pytest.mark.parametrize("files", [8, 16, 24, 40])
def test_few_descriptors(witness: Witness, next_version: Path, files: int) -> None:
    service = witness.service
    limits = Path(f"/proc/{service.pid}/limits").read_text()
    tool = service.tool(next_version, preexec_fn=_limited(resource.RLIMIT_NOFILE, files))
    stdout, stderr = tool.communicate(timeout=60)
    if stdout:
        service.finished(tool.returncode, stdout, stderr)
    assert witness.settled() == ("v2" if tool.returncode == 0 else "v1")
    assert Path(f"/proc/{service.pid}/limits").read_text() == limits
    witness.updates_again(next_version)


# Wrong targets.


def test_no_such_process(start_service: StartService, builder: Builder, next_version: Path) -> None:
    service = start_service(FAULTY.build("v1", TOOLCHAIN, builder))
    old = service.pid
    service.pid = 2**22 - 1  # above the default pid_max of 32-bit systems, free on ours unless very busy
    update = service.update(next_version)
    assert update.outcome == "refused" and update.status in (3, 6)
    assert update.report is not None and update.report["error"]["code"] == "no-such-process", update.told()
    service.pid = old


def test_a_zombie(start_service: StartService, builder: Builder, next_version: Path) -> None:
    service = start_service(FAULTY.build("v1", TOOLCHAIN, builder))
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert wait_until_gone(child)
    old, service.pid = service.pid, child
    update = service.update(next_version)
    service.pid = old
    os.waitpid(child, 0)
    assert update.outcome == "refused", update.told()
    assert update.report is not None and update.report["error"]["code"] == "zombie", update.told()


def test_a_traced_process(witness: Witness, next_version: Path, start_service: StartService) -> None:
    """The tracer is named."""
    strace = shutil.which("gdb")
    assert strace, "gdb is needed: the refusal must name it"
    service = witness.service
    debugger = subprocess.Popen(
        [strace, "-q", "-nx", "-p", str(service.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for_tracer(service, debugger.pid)
        update = service.update(next_version)
        assert update.outcome == "refused", update.told()
        assert update.report is not None and update.report["error"]["code"] == "already-traced", update.told()
        assert "gdb" in update.told() and str(debugger.pid) in update.told()
    finally:
        debugger.communicate(b"detach\nquit\n", timeout=30)
    assert witness.settled() == "v1"
    witness.updates_again(next_version)


def _wait_for_tracer(service: Service, tracer: int) -> None:
    status = Path(f"/proc/{service.pid}/status")
    for _ in range(20_000_000):
        if f"TracerPid:\t{tracer}\n" in status.read_text():
            return
    raise AssertionError("gdb did not attach")


def test_two_tools_at_once(witness: Witness, next_version: Path) -> None:
    """One of them updates, the other is refused; or both are, but never neither and a broken service."""
    service = witness.service
    tools = [service.tool(next_version) for _ in range(2)]
    results = [(tool, *tool.communicate(timeout=120)) for tool in tools]
    updates = [service.finished(tool.returncode, out, err) for tool, out, err in results]
    assert sorted(update.outcome for update in updates).count("updated") <= 1
    assert all(update.outcome in ("updated", "refused", "rolled-back") for update in updates)
    witness.settled()
    witness.updates_again(next_version)
