"""The worker has no right over anything, and whatever becomes of it, exactly one version serves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.service import Service, Update
from tests.update.witness import Witness

from instar.testing.programs import Builder, Toolchain
from instar.testing.scenarios import TOOLCHAINS, Scenario
from instar.update.progress import PHASES

PROGRAMS = Path(__file__).parents[1] / "programs"
POINTS = [("plan", "after"), *((phase, "middle") for phase in PHASES[1:])]
Try = Callable[..., Update]

# Tried inside of a handler, while the past stands still: every one must fail.
TRIES = """
import ctypes, fcntl, socket, subprocess, threading, pathlib, tempfile
from instar.ext import *
libc = ctypes.CDLL(None, use_errno=True)
PAST, TOOL, GUARD = {past}, os.getppid(), {past}

def call(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

def peek(pid):
    room = ctypes.create_string_buffer(8)
    here, there = (ctypes.c_uint64 * 2)(ctypes.addressof(room), 8), (ctypes.c_uint64 * 2)({address}, 8)
    call(310, pid, here, 1, there, 1, 0)

def links(pid):
    return [os.readlink(f"/proc/{{pid}}/fd/{{n}}") for n in os.listdir(f"/proc/{{pid}}/fd")]

FORBIDDEN = {{
    "write a file": lambda: open({outside!r}, "w"),
    "make a temporary file": lambda: tempfile.TemporaryFile(),
    "append to a file": lambda: open({present!r}, "a"),
    "truncate a file": lambda: os.truncate({present!r}, 0),
    "make a directory": lambda: os.mkdir({outside!r}),
    "remove a file": lambda: os.unlink({present!r}),
    "rename a file": lambda: os.rename({present!r}, {outside!r}),
    "make a link": lambda: os.symlink("/", {outside!r}),
    "change rights": lambda: os.chmod({present!r}, 0o777),
    "change times": lambda: os.utime({present!r}),
    "lock a file": lambda: fcntl.flock(open({present!r}), fcntl.LOCK_EX),
    "have signals sent": lambda: fcntl.fcntl(1, 8, PAST),
    "type into the terminal": lambda: fcntl.ioctl(2, 0x5412, b"x"),
    "open a TCP socket": lambda: socket.create_connection(("127.0.0.1", {port})),
    "open a datagram socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "open a local socket": lambda: socket.socket(socket.AF_UNIX),
    "make a pair of sockets": lambda: socket.socketpair(),
    "trace the past": lambda: call(101, 0x4206, PAST, 0, 0),
    "trace the tool": lambda: call(101, 0x4206, TOOL, 0, 0),
    "read the past": lambda: peek(PAST),
    "read the tool": lambda: peek(TOOL),
    "open the past's memory": lambda: open(f"/proc/{{PAST}}/mem", "rb"),
    "open the tool's memory": lambda: open(f"/proc/{{TOOL}}/mem", "r+b"),
    "see the past's mappings": lambda: open(f"/proc/{{PAST}}/maps").read(),
    "see the tool's descriptors": lambda: links(TOOL),
    "open the past's descriptors": lambda: [os.open(f"/proc/{{PAST}}/fd/{{n}}", 0) for n in (0, 1)],
    "take the past's descriptors": lambda: call(438, os.pidfd_open(PAST), 0, 0),
    "signal the past": lambda: call(62, PAST, 0),
    "signal the tool": lambda: call(62, TOOL, 0),
    "queue a signal": lambda: call(129, PAST, 10, 0),
    "run a program": lambda: subprocess.run(["/bin/true"], check=True),
    "replace itself": lambda: call(59, b"/bin/true", 0, 0),
    "fork": lambda: call(57),
    "fork by clone": lambda: call(56, 17, 0, 0, 0, 0),
    "enter a namespace": lambda: call(272, 0x10000000),
    "mount": lambda: call(165, b"none", b"/mnt", b"tmpfs", 0, 0),
    "a ring of its own": lambda: call(425, 1, ctypes.create_string_buffer(120)),
    "another filter": lambda: call(157, 22, 2, 0),
    "regain a right": lambda: call(105, 65534),
    "hide in 32 bits": lambda: call(135, 8),
    "limit the past": lambda: call(302, PAST, 0, 0, ctypes.create_string_buffer(16)),
}}

@on("{event}")
def attempt():
    done = []
    for name, deed in FORBIDDEN.items():
        try:
            deed()
        except OSError:
            continue
        except BaseException as error:
            done.append(f"{{name}}: {{error!r}}")
        else:
            done.append(name)
    if done:
        raise ValueError("possible: " + "; ".join(done))
    # And what it may:
    assert len(open({present!r}).read()) == 7
    ran = []
    thread = threading.Thread(target=lambda: ran.append(1))
    thread.start()
    thread.join()
    assert ran
    raise ValueError("nothing of it is possible")
"""


@pytest.fixture
def pair(builder: Builder) -> tuple[Path, Path]:
    scenario = Scenario.load(PROGRAMS / "handler-seconds-to-ms")
    return scenario.build("v1", Toolchain(), builder), scenario.build("v2", Toolchain(), builder)


@pytest.fixture
def attempt(pair: tuple[Path, Path], start_service: StartService, tmp_path: Path) -> tuple[Service, Try]:
    service = start_service(pair[0])
    assert service.ask("fill") == "ok v1"

    def update(source: str, *options: str) -> Update:
        path = tmp_path / "handlers.py"
        path.write_text("import os, sys, time\nfrom instar.ext import *\n" + source)
        return service.update(pair[1], "--handlers", str(path), *options)

    return service, update


def _code(update: Update) -> str:
    assert update.report is not None and update.report["error"] is not None, update.told()
    return str(update.report["error"]["code"])


@pytest.mark.parametrize("event", ["quiesced", "after_transfer"])
def test_nothing_is_within_its_reach(attempt: tuple[Service, Try], tmp_path: Path, event: str) -> None:
    service, update = attempt
    present = tmp_path / "present"
    present.write_text("present")
    present.chmod(0o600)
    maps = Path(f"/proc/{service.pid}/maps").read_text()
    values = {
        "past": service.pid, "outside": str(tmp_path / "outside"), "present": str(present), "port": 9,
        "address": int(maps.split("-")[0], 16), "event": event,
    }  # fmt: skip
    done = update(TRIES.format(**values))
    assert "nothing of it is possible" in done.told(), done.told()
    assert _code(done) == "handler-failed"
    assert present.read_text() == "present" and not (tmp_path / "outside").exists()
    assert service.ask("check") == "ok v1"


@pytest.mark.parametrize(("phase", "where"), POINTS)
def test_killed(builder: Builder, start_service: StartService, phase: str, where: str) -> None:
    """By the kernel for its memory, by somebody: a refusal, or nothing if it is not needed any more."""
    scenario = Scenario.load(PROGRAMS / "counting")
    old, new = (scenario.build(version, TOOLCHAINS[0], builder) for version in ("v1", "v2"))
    service = start_service(old)
    assert service.ask("fill") == "ok v1"
    witness = Witness(service)
    tool = service.tool(new, environment={"INSTAR_FAULT": f"{phase}:{where}:kill-worker"})
    update = witness.watch(tool)
    assert update.report is not None, update.stderr
    version = witness.settled()
    if update.outcome == "updated":
        assert version == "v2"
        assert phase == "commit", update.told()
    else:
        assert version == "v1"
        assert _code(update) == "worker-lost", update.told()
    witness.updates_again(new)


def test_a_crash_is_a_refusal(attempt: tuple[Service, Try]) -> None:
    service, update = attempt
    done = update('import ctypes\n@on("quiesced")\ndef f(): ctypes.string_at(8)\n')
    assert _code(done) == "worker-lost" and "SIGSEGV" in done.told()
    assert service.ask("check") == "ok v1"


def test_one_that_does_not_end_is_ended(attempt: tuple[Service, Try]) -> None:
    """Longer than the pause may take, in a way that no exception gets it out of."""
    service, update = attempt
    body = "    while True:\n        try: time.sleep(1)\n        except BaseException: pass\n"
    done = update(f'@on("quiesced")\ndef f():\n{body}', "--max-pause", "700")
    assert _code(done) == "pause-too-long", done.told()
    assert service.ask("check") == "ok v1"


@pytest.mark.parametrize("deed", ["import ctypes; ctypes.string_at(0)", "hang()"])
def test_handlers_hear_of_the_way_back_though_the_worker_was_lost(
    attempt: tuple[Service, Try], tmp_path: Path, deed: str
) -> None:
    """In a process of their own, which has no rights either."""
    service, update = attempt
    source = (
        "def hang():\n    while True:\n        try: time.sleep(1)\n        except BaseException: pass\n"
        f"@on('quiesced')\ndef f():\n    {deed}\n"
        "@on('rolled_back')\ndef told():\n"
        f"    try: open({str(tmp_path / 'written')!r}, 'w')\n"
        "    except PermissionError: print('the handler was told')\n"
    )
    done = update(source, "--max-pause", "700")
    assert _code(done) in ("worker-lost", "pause-too-long"), done.told()
    assert "the handler was told" in done.stderr, done.stderr
    assert not (tmp_path / "written").exists()
    assert service.ask("check") == "ok v1"


def test_its_memory_is_bounded(attempt: tuple[Service, Try]) -> None:
    service, update = attempt
    source = (
        "import mmap, resource\n@on('quiesced')\ndef f():\n"
        "    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_CPU):\n"
        "        limits = resource.getrlimit(kind)\n"
        "        resource.setrlimit(kind, (limits[1], limits[1]))\n"
        "    try: mmap.mmap(-1, 2 * os.sysconf('SC_PHYS_PAGES') * 4096, flags=mmap.MAP_PRIVATE)\n"
        "    except OSError as error: raise ValueError(f'no room: {error.errno}')\n"
    )
    done = update(source)
    assert "no room: 12" in done.told() and _code(done) == "handler-failed", done.told()
    assert service.ask("check") == "ok v1"


LIES = {
    "no frame": ("os.write(FD, bytes(range(256)) * 64)", "worker-garbage"),
    "an endless one": ("os.write(FD, b'\\xff' * 12)", "worker-garbage"),
    "not JSON": ("send(b'{' * 99)", "worker-garbage"),
    "deep JSON": ("send(b'[' * 60000 + b']' * 60000)", "worker-garbage"),
    "another answer": ("send(b'[[\"done\",1,[]],[]]')", "worker-garbage"),
    "a question that is none": ("send(b'[[\"exec\",1,[]],[]]')", "worker-garbage"),
    "another process": ("send(b'[[\"proc\",1,\"maps\",-1,0],[]]')", "worker-garbage"),
    "another file": ("send(b'[[\"proc\",%d,\"environ\",-1,0],[]]' % PAST)", "worker-garbage"),
    "a place outside": (
        "send(b'[[\"copy\",%d,{\"array\":0},0],[[\"<u8\",[1,2],null]]]' % PAST, bytes(16))", "worker-garbage",
    ),
    "objects": ("send(b'[[\"done\",1,{\"array\":0}],[[\"|O\",[1],null]]]', bytes(8))", "worker-garbage"),
    "a call too early": ("send(b'[[\"call\",4096,[]],[]]')", "internal worker-lost worker-garbage"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_what_it_says_is_not_believed(attempt: tuple[Service, Try], name: str) -> None:
    """A handler that has found the worker's own connection."""
    service, update = attempt
    lie, code = LIES[name]
    source = (
        f"import struct\nPAST = {service.pid}\n"
        "FD = [int(n) for n in os.listdir('/proc/self/fd') if os.path.islink('/proc/self/fd/' + n)\n"
        "      and os.readlink('/proc/self/fd/' + n).startswith('socket')][-1]\n"
        "def send(text, data=b''): os.write(FD, struct.pack('<IQ', len(text), len(data)) + text + data)\n"
        "@on('quiesced')\n"
        f"def f():\n    {lie}\n    time.sleep(0.05)\n"
    )
    done = update(source)
    assert _code(done) in code.split(), done.told()
    assert service.ask("check") == "ok v1"
