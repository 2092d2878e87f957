"""A program file that takes libdw over takes nothing else: the tool reads it in a process without rights.

What such a file would do is done by a preloaded library, in whatever process calls libelf.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.live.running import Compile, Running, Start

COUNTER = "bad_input/counter.c"
FAULT = "hostile_files/fault.c"
REFUSED, INTERRUPTED = 3, 130
Command = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def counter(start: Start) -> Running:
    """A target that counts lines; it goes on counting at the end of each test."""
    return start(COUNTER)


@pytest.fixture
def hostile(compile_c: Compile, tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """The environment in which reading a program does something; nothing is in the cache."""
    library = compile_c(FAULT, "-shared", "-fPIC", "-D_GNU_SOURCE", "-ldl")

    def environment(what: str) -> dict[str, str]:
        return {
            **os.environ,
            "LD_PRELOAD": str(library),
            "HOSTILE": what,
            "HOSTILE_FILE": str(tmp_path / "made"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
        }

    return environment


def run(environment: Mapping[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "instar", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def goes_on(counter: Running, line: str = "1") -> None:
    counter.wait_until_blocked("poll")
    status = Path(f"/proc/{counter.pid}/status").read_text()
    assert "TracerPid:\t0\n" in status
    counter.send("x")
    assert counter.line(5.0) == line


@pytest.mark.parametrize("verb", ["update", "inspect", "check", "diff", "scaffold", "doctor"])
def test_a_crash_in_it_is_a_refusal(
    verb: str, counter: Running, compile_c: Compile, hostile: Callable[[str], dict[str, str]]
) -> None:
    new = [compile_c(COUNTER)] if verb in ("update", "diff", "scaffold") else []
    done = run(hostile("crash"), verb, counter.pid, *new)
    code = "worker-lost" if verb in ("diff", "scaffold") else "reader-lost"
    assert done.returncode == REFUSED, done.stderr
    assert f"[{code}]" in done.stderr + done.stdout and "SIGSEGV" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    goes_on(counter)


def test_it_has_no_rights(counter: Running, tmp_path: Path, hostile: Callable[[str], dict[str, str]]) -> None:
    """It tries, and reads on: the answer is right."""
    done = run(hostile("deeds"), "inspect", counter.pid, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["types"]
    told = [line for line in done.stderr.splitlines() if line.startswith("HOSTILE")]
    assert set(told) <= {"HOSTILE libelf in the tool itself"}
    assert not (tmp_path / "made").exists()
    goes_on(counter)


# Loaded into the tool: what a state would do that takes over whatever makes sense of it.
STATE = """
import os, signal
from instar.state.capturer import Capturer
tool = os.getpid()

def taken_over(self, *given, **named):
    if os.getpid() == tool or "Seccomp:\\t2" not in open("/proc/self/status").read():
        os.write(2, b"HOSTILE with rights")
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)

Capturer.image = Capturer.subject = taken_over
"""


@pytest.mark.parametrize("words", [["check"], ["inspect"], ["inspect", "lines"]])
def test_a_state_that_takes_over_what_looks_at_it(words: list[str], counter: Running, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(STATE)
    verb, *expression = words
    done = run({**os.environ, "PYTHONPATH": str(tmp_path)}, verb, counter.pid, *expression)
    assert done.returncode == REFUSED, done.stderr
    assert "[reader-lost]" in done.stderr and "SIGSEGV" in done.stderr
    assert "HOSTILE" not in done.stderr and "Traceback" not in done.stderr
    goes_on(counter)


def test_an_interruption_ends_it(
    counter: Running, compile_c: Compile, tmp_path: Path, hostile: Callable[[str], dict[str, str]]
) -> None:
    """Ctrl-C while it hangs: nothing is left behind."""
    command = [sys.executable, "-m", "instar", "update", str(counter.pid), str(compile_c(COUNTER))]
    with subprocess.Popen(
        command, env=hostile("hang"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as tool:  # fmt: skip
        reader = _reader_of(tool.pid)
        tool.send_signal(signal.SIGINT)
        _, messages = tool.communicate(timeout=60)
    assert tool.returncode == INTERRUPTED, messages
    assert not Path(f"/proc/{reader}").exists()
    assert not list((tmp_path / "cache").rglob("*.columns"))
    goes_on(counter)


def _reader_of(tool: int) -> int:
    """The tool's child that sleeps in the preloaded library."""
    while True:
        for child in Path(f"/proc/{tool}/task/{tool}/children").read_text().split():
            try:
                call = Path(f"/proc/{child}/syscall").read_text().split()[0]
            except OSError:
                continue
            if call == "34":  # pause
                return int(child)
