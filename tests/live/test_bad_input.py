"""What a user can get wrong on the real command line: each its code, and a target that never notices."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.live.running import Compile, Running, Start

from instar.cli.main import main
from instar.update.journal import DETAILS, read_history

COUNTER = "bad_input/counter.c"
MORTAL = "process_programs/mortal.c"
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "update.schema.json").read_text())
NOBODY = 65534
E_MACHINE, AARCH64, X86_64_I386 = 18, 183, 3
USAGE, REFUSED, HOST = 2, 3, 6


@dataclass
class Attempt:
    """An `instar update ... --json` that has ended."""

    status: int
    document: Any
    messages: str

    @property
    def code(self) -> str:
        return str(self.document["error"]["code"])


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def update() -> Callable[..., Attempt]:
    """Runs the command line; standard output must be one document of the published schema."""

    def run(pid: object, new: object, *options: str, command: Sequence[str] = (), **keywords: Any) -> Attempt:
        flags = ("--json", *options, "--")
        words = [*command, sys.executable, "-m", "instar", "update", *flags, str(pid), str(new)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, **keywords)
        return parsed(done.returncode, done.stdout, done.stderr)

    return run


def parsed(status: int, output: str, messages: str) -> Attempt:
    document = json.loads(output)
    if "outcome" in document:
        jsonschema.validate(document, SCHEMA)
    error = document["error"]
    if error is not None:
        assert f"instar: {error['cause']} [{error['code']}]\n  {error['remedy']}\n" in messages
        assert "\n" not in error["cause"] + error["remedy"]
    return Attempt(status, document, messages)


@dataclass
class Witness:
    """A running counter.c and how it looked before."""

    running: Running
    program: Path
    lines: int = 0

    def __post_init__(self) -> None:
        self.before = self.look()

    @property
    def pid(self) -> int:
        return self.running.pid

    def look(self) -> object:
        """What an update would disturb: descriptors, mappings, the call it waits in, children."""
        self.running.wait_until_blocked("poll")
        directory = Path(f"/proc/{self.pid}")
        descriptors = {path.name: str(path.readlink()) for path in (directory / "fd").iterdir()}
        words = (directory / "status").read_text().splitlines()
        status = [
            w for w in words if w.split(":")[0] in ("State", "TracerPid", "Threads", "SigPnd", "SigBlk")
        ]
        children = (directory / "task" / str(self.pid) / "children").read_text()
        return (
            descriptors,
            status,
            (directory / "syscall").read_text(),
            (directory / "maps").read_text(),
            children,
        )

    def is_untouched(self) -> None:
        """It looks as before and goes on counting where it was."""
        assert self.look() == self.before
        self.lines += 1
        self.running.send("x")
        assert self.running.line(5.0) == str(self.lines)


@pytest.fixture
def witness(start: Start, compile_c: Compile) -> Iterator[Witness]:
    """A target; whatever a test did with the command line, it must be untouched at the end."""
    program = compile_c(COUNTER)
    found = Witness(start(program), program)
    yield found
    found.is_untouched()


def refused(attempt: Attempt, code: str, status: int = REFUSED) -> None:
    """The whole answer of a refusal."""
    assert (attempt.code, attempt.status) == (code, status), attempt.messages
    assert attempt.document["outcome"] == "refused"
    assert "is untouched" in attempt.messages


# ------------------------------------------------------------------------------------ the wrong process


@pytest.mark.parametrize("word", ["x", "-1", "0", "1.5", "99999999999", "4711x", ""])
def test_not_a_process_id(word: str, update: Callable[..., Attempt], witness: Witness) -> None:
    attempt = update(word, witness.program)
    assert (attempt.code, attempt.status) == ("usage", USAGE)


def test_no_such_process(update: Callable[..., Attempt], start: Start) -> None:
    gone = start(COUNTER)
    gone.close()
    refused(update(gone.pid, "/bin/true"), "no-such-process", HOST)


def test_zombie(update: Callable[..., Attempt], start: Start) -> None:
    dead = start(COUNTER)
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait_for_state("Z")
    refused(update(dead.pid, "/bin/true"), "zombie", HOST)


def test_kernel_thread(update: Callable[..., Attempt], compile_c: Compile) -> None:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    threads = [pid for pid in pids if "Kthread:\t1" in status(pid)]
    if not threads:
        pytest.skip("no kernel thread is visible in this PID namespace")
    refused(update(threads[0], compile_c(COUNTER)), "kernel-thread", HOST)


def status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def test_thread_of_another_process(update: Callable[..., Attempt]) -> None:
    release, known = threading.Event(), threading.Event()

    def live() -> None:
        known.set()
        release.wait()

    thread = threading.Thread(target=live)
    thread.start()
    known.wait()
    try:
        refused(update(thread.native_id, "/bin/true"), "not-a-process", HOST)
    finally:
        release.set()
        thread.join()


def test_stopped_process(update: Callable[..., Attempt], start: Start, compile_c: Compile) -> None:
    running = start(COUNTER)
    os.kill(running.pid, signal.SIGSTOP)
    running.wait_for_state("T")
    refused(update(running.pid, compile_c(COUNTER)), "stopped")
    assert running.state() == "T"
    os.kill(running.pid, signal.SIGCONT)
    running.send("x")
    assert running.line() == "1"


def test_process_that_is_traced_already(update: Callable[..., Attempt], witness: Witness) -> None:
    program = "import sys; from instar.process.tracee import Tracee; "
    program += "Tracee.seize(int(sys.argv[1])); print(flush=True); input()"
    command = [sys.executable, "-c", program, str(witness.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == b"\n"
        attempt = update(witness.pid, witness.program)
        refused(attempt, "already-traced", HOST)
        assert f"process {tracer.pid} " in attempt.document["error"]["cause"]
        tracer.kill()  # the kernel detaches what it traced


def test_process_with_threads(update: Callable[..., Attempt], start: Start, compile_c: Compile) -> None:
    program = compile_c("bad_input/pair.c")
    running = start(program)
    refused(update(running.pid, program), "multi-threaded")
    running.send("x")
    assert running.line() == "alive"


def test_process_with_children(update: Callable[..., Attempt], compile_c: Compile) -> None:
    shell = subprocess.Popen(["sh", "-c", "cat; :"], stdin=subprocess.PIPE)
    try:
        children = Path(f"/proc/{shell.pid}/task/{shell.pid}/children")
        while not children.read_text():
            assert shell.poll() is None
        refused(update(shell.pid, compile_c(COUNTER)), "has-children")
    finally:
        shell.communicate()


# ------------------------------------------------------------------------------------ no permission


def as_nobody(words: Sequence[str], prepare: Callable[[], None] = lambda: None) -> Attempt:
    """Run the command line in a forked child, whose user may be unable to start the interpreter itself."""
    main(["update", str(os.getpid()), "/nonexistent", "--json"])  # loads the modules while that can be done
    pipes = [os.pipe(), os.pipe()]
    child = os.fork()
    if child == 0:
        try:
            for (_, writer), number in zip(pipes, (1, 2), strict=True):
                os.dup2(writer, number)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            prepare()
            status = main(words)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        finally:
            os._exit(99)
    texts = []
    for reader, writer in pipes:
        os.close(writer)
        with os.fdopen(reader) as stream:
            texts.append(stream.read())
    return parsed(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *texts)


def drop_rights() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


@needs_root
def test_process_of_another_user(witness: Witness, capfd: pytest.CaptureFixture[str]) -> None:
    attempt = as_nobody(["update", str(witness.pid), str(witness.program), "--json"], drop_rights)
    refused(attempt, "other-user", HOST)
    assert "root" in attempt.document["error"]["cause"]


@needs_root
def test_setuid_target_without_privilege(
    compile_c: Compile, start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = Path(f"/tmp/instar-setuid-{os.getpid()}")
    directory.mkdir()
    try:
        program = directory / "counter"
        shutil.copy(compile_c(COUNTER), program)
        program.chmod(0o4755)
        running = start(program, user=NOBODY, group=NOBODY, extra_groups=[])
        attempt = as_nobody(["update", str(running.pid), str(program), "--json"], drop_rights)
        refused(attempt, "setuid-target", HOST)
        running.send("x")
        assert running.line() == "1"
    finally:
        shutil.rmtree(directory)


def forbid_ptrace() -> None:
    """A seccomp filter as of a container: ptrace(2) fails with EPERM."""
    load, jump_equal, give = 0x20, 0x15, 0x06
    allow, fail = 0x7FFF0000, 0x00050001
    program = b"".join(
        struct.pack("<HBBI", *line)
        for line in ((load, 0, 0, 0), (jump_equal, 0, 1, 101), (give, 0, 0, fail), (give, 0, 0, allow))
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    filter_program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", 4, ctypes.addressof(buffer)), 16)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, filter_program, 0, 0) == 0


def test_container_that_forbids_ptrace(update: Callable[..., Attempt], witness: Witness) -> None:
    attempt = update(witness.pid, witness.program, preexec_fn=forbid_ptrace)
    refused(attempt, "ptrace-sandboxed", HOST)
    assert "SYS_PTRACE" in attempt.document["error"]["remedy"]


# ------------------------------------------------------------------------------------ the wrong program


def missing(good: Path, directory: Path) -> Path:
    return directory / "nothing"


def a_directory(good: Path, directory: Path) -> Path:
    return directory


def a_script(good: Path, directory: Path) -> Path:
    path = directory / "script"
    path.write_text(f"#!/bin/sh\nexec {good}\n")
    path.chmod(0o755)
    return path


def a_text(good: Path, directory: Path) -> Path:
    path = directory / "text"
    path.write_text("hello\n")
    path.chmod(0o755)
    return path


def empty(good: Path, directory: Path) -> Path:
    path = directory / "empty"
    path.touch(0o755)
    return path


def not_executable(good: Path, directory: Path) -> Path:
    path = directory / "plain"
    shutil.copy(good, path)
    path.chmod(0o644)
    return path


def truncated(good: Path, directory: Path) -> Path:
    path = directory / "half"
    data = good.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    path.chmod(0o755)
    return path


def foreign_machine(good: Path, directory: Path) -> Path:
    path = directory / "arm"
    data = bytearray(good.read_bytes())
    struct.pack_into("<H", data, E_MACHINE, AARCH64)
    path.write_bytes(data)
    path.chmod(0o755)
    return path


def stripped(good: Path, directory: Path) -> Path:
    path = directory / "stripped"
    subprocess.run(["strip", "-o", path, good], check=True)
    return path


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (missing, "no-such-file"),
        (a_directory, "not-a-file"),
        (a_script, "script"),
        (a_text, "not-elf"),
        (empty, "not-elf"),
        (not_executable, "not-executable"),
        (truncated, "truncated-elf"),
        (foreign_machine, "wrong-architecture"),
        (stripped, "no-debug-info"),
    ],
)
def test_new_version_that_will_not_do(
    make: Callable[[Path, Path], Path],
    code: str,
    update: Callable[..., Attempt],
    witness: Witness,
    tmp_path: Path,
) -> None:
    refused(update(witness.pid, make(witness.program, tmp_path)), code)


def test_new_version_that_is_linked_statically(
    update: Callable[..., Attempt], witness: Witness, compile_c: Compile
) -> None:
    refused(update(witness.pid, compile_c(COUNTER, "-static")), "statically-linked")


def test_another_program_altogether(
    update: Callable[..., Attempt], witness: Witness, compile_c: Compile
) -> None:
    refused(update(witness.pid, compile_c("bad_input/stranger.c")), "different-program")


def test_old_version_without_debug_information(
    update: Callable[..., Attempt], start: Start, compile_c: Compile, tmp_path: Path
) -> None:
    running = start(stripped(compile_c(COUNTER), tmp_path))
    refused(update(running.pid, compile_c(COUNTER)), "no-debug-info")
    running.send("x")
    assert running.line() == "1"


def test_old_version_that_is_linked_statically(
    update: Callable[..., Attempt], start: Start, compile_c: Compile
) -> None:
    running = start(compile_c(COUNTER, "-static"))
    refused(update(running.pid, compile_c(COUNTER)), "statically-linked")
    running.send("x")
    assert running.line() == "1"


# ------------------------------------------------------------------------------------ journal, full disk


def test_refusals_are_in_the_journal(
    update: Callable[..., Attempt], witness: Witness, state_home: Path
) -> None:
    attempt = update(witness.pid, "/nonexistent")
    (entry,) = read_history(path=state_home / "instar" / "journal.jsonl").entries
    kept = {name: value for name, value in attempt.document.items() if name not in DETAILS}
    assert entry.report == kept and kept["error"]


@needs_root
def test_full_disk_for_cache_and_journal(
    update: Callable[..., Attempt], witness: Witness, tmp_path: Path
) -> None:
    """On a file system without a free byte a refusal is the same, with a warning about the journal."""
    full = tmp_path / "full"
    full.mkdir()
    script = (
        f'mount -t tmpfs -o size=4k,nr_inodes=3 none "{full}" && cat /dev/zero >"{full}/zeros" 2>/dev/null; '
        f'export XDG_STATE_HOME="{full}" XDG_CACHE_HOME="{full}"; exec "$@"'
    )
    attempt = update(witness.pid, tmp_path, command=["unshare", "--mount", "sh", "-c", script, "sh"])
    refused(attempt, "not-a-file")
    (warning,) = attempt.document["warnings"]
    assert "No space left" in warning
