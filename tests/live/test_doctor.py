"""What the doctor finds in real processes, without disturbing them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.live.running import Compile, Running, Start

from instar.update.findings import Finding
from instar.update.host import examine_host
from instar.update.target import examine_target

ODD = "bad_input/odd.c"


def blocking(findings: list[Finding]) -> dict[str, str]:
    """Subject -> code of what stands in the way."""
    assert all(finding.remedy for finding in findings if finding.code)
    return {finding.subject: finding.code for finding in findings if finding.verdict in ("refused", "host")}


def text_of(findings: list[Finding], subject: str) -> str:
    (found,) = [finding for finding in findings if finding.subject == subject]
    return f"{found.verdict}: {found.text}"


def test_this_machine_can_trace() -> None:
    """A machine that runs these tests can; what the doctor says must be what the other live tests need."""
    found = examine_host()
    assert blocking(found) == {}
    assert len({finding.subject for finding in found}) == len(found)


def test_examining_the_machine_leaves_nothing_behind() -> None:
    before = leftovers()
    examine_host()
    assert leftovers() == before


def leftovers() -> tuple[set[str], str]:
    descriptors = {path.name for path in Path("/proc/self/fd").iterdir()}
    return descriptors, Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def test_a_process_without_obstacles_is_not_disturbed(start: Start) -> None:
    running = start(ODD, "plain")
    running.wait_until_blocked("read")
    before = switches(running)
    found = examine_target(running.pid)
    assert blocking(found) == {}
    assert text_of(found, "debug information").startswith("ok: 1 unit, ")
    assert text_of(found, "threads, children") == "ok: one thread, no children"
    assert switches(running) == before  # it never ran, so it was never stopped


def switches(running: Running) -> list[str]:
    lines = Path(f"/proc/{running.pid}/status").read_text().splitlines()
    return [line for line in lines if "ctxt_switches" in line]


@pytest.mark.parametrize(
    ("kind", "subject", "code"),
    [("uring", "descriptors", "descriptor-not-carried"), ("title", "arguments", "arguments-lost")],
)
def test_what_stands_in_the_way(kind: str, subject: str, code: str, start: Start) -> None:
    assert blocking(examine_target(start(ODD, kind).pid)) == {subject: code}


def test_locked_memory_is_noted(start: Start) -> None:
    assert "note: " in text_of(examine_target(start(ODD, "locked").pid), "locked memory")


def test_threads(start: Start) -> None:
    assert blocking(examine_target(start("bad_input/pair.c").pid)) == {"threads, children": "multi-threaded"}


def test_stopped(start: Start) -> None:
    running = start(ODD, "plain")
    os.kill(running.pid, signal.SIGSTOP)
    running.wait_for_state("T")
    assert blocking(examine_target(running.pid)) == {"state": "stopped"}


def test_a_program_file_that_was_deleted(start: Start, compile_c: Compile, tmp_path: Path) -> None:
    program = tmp_path / "gone"
    program.write_bytes(compile_c(ODD).read_bytes())
    program.chmod(0o755)
    running = start(program, "plain")
    program.unlink()
    found = examine_target(running.pid)
    assert blocking(found) == {}
    assert text_of(found, "program file").startswith(f"note: {program} was deleted or replaced")


def test_a_process_that_has_ended(start: Start) -> None:
    running = start(ODD, "plain")
    os.kill(running.pid, signal.SIGKILL)
    running.wait_for_state("Z")
    assert blocking(examine_target(running.pid)) == {"process": "zombie"}
    running.close()
    assert blocking(examine_target(running.pid)) == {"process": "no-such-process"}


def test_the_parent_is_named(start: Start) -> None:
    found = text_of(examine_target(start(ODD, "plain").pid), "parent")
    assert f"{os.getpid()} (" in found or found.startswith("ok: ")


@pytest.mark.parametrize(("arguments", "status"), [([], 0), (["PID"], 0), (["PID", "--json"], 0)])
def test_command_line(arguments: list[str], status: int, start: Start) -> None:
    words = [str(start(ODD, "plain").pid) if word == "PID" else word for word in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "instar", "doctor", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
