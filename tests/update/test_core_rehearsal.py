"""A rehearsal with a core file in the place of the past."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.service import TOOL_S, Service, Update

from instar.process.core import CoreFile, notes
from instar.testing.programs import Builder
from instar.testing.scenarios import TOOLCHAINS, Scenario

PROGRAMS = Path(__file__).parents[1] / "programs"
TOOLCHAIN = TOOLCHAINS[0]
ADDED = Scenario.load(PROGRAMS / "member-added")
TRIAL = Path(__file__).parent / "trial" / "server.c"


def dump(pid: int, place: Path) -> Path:
    """A core file of a running process, which goes on."""
    assert shutil.which("gcore"), "gcore (gdb) is needed: it makes the core files"
    subprocess.run(["gcore", "-o", place, str(pid)], check=True, capture_output=True)
    return place.with_name(f"{place.name}.{pid}")


def rehearse(service: Service, core: Path, program: Path, *options: str) -> Update:
    """What the tool says of a core."""
    tool = service.start("update", "--from", str(core), str(program), "--rehearse", *options)
    stdout, stderr = tool.communicate(timeout=TOOL_S)
    return service.finished(tool.returncode, stdout, stderr)


@pytest.fixture
def service(builder: Builder, start_service: StartService) -> Service:
    """Version 1, filled."""
    service = start_service(ADDED.build("v1", TOOLCHAIN, builder))
    assert service.ask("fill") == "ok v1"
    return service


@pytest.fixture
def core(service: Service, tmp_path: Path) -> Path:
    """Of version 1."""
    return dump(service.pid, tmp_path / "core")


@pytest.fixture
def next_version(builder: Builder) -> Path:
    """Version 2."""
    return ADDED.build("v2", TOOLCHAIN, builder)


def test_the_state_in_the_core_is_carried(service: Service, core: Path, next_version: Path) -> None:
    done = rehearse(service, core, next_version)
    assert (done.outcome, done.status) == ("rehearsed", 0), done.told()
    assert done.report is not None
    assert done.report["old_pid"] == service.pid and done.report["kind"] == "rehearsal"
    live = service.update(next_version)
    assert live.report is not None and live.outcome == "updated", live.told()
    for key in ("objects", "retyped"):
        assert done.report[key] == live.report[key], key
    assert service.ask("check") == "ok v2"


def test_handlers_and_conditions_are_tried(
    builder: Builder, start_service: StartService, tmp_path: Path
) -> None:
    scenario = Scenario.load(PROGRAMS / "handler-seconds-to-ms")
    old, new = (scenario.build(version, TOOLCHAIN, builder) for version in ("v1", "v2"))
    service = start_service(old)
    assert service.ask("fill") == "ok v1"
    core = dump(service.pid, tmp_path / "core")
    handlers = tmp_path / "handlers.py"
    good = (scenario.directory / "handlers.py").read_text()
    bad = "from instar.ext import *\n@on('before_commit')\ndef f(): call('none')\n"
    for text, expected in {good: "rehearsed", f"{good}\n{bad}": "[handler-failed]"}.items():
        handlers.write_text(text)
        done = rehearse(service, core, new, "--handlers", str(handlers))
        assert expected in done.told()
    config = tmp_path / "instar.toml"
    for line, code in {"filters": "filter-not-met", "invariants": "invariant-broken"}.items():
        config.write_text(f'[{line}]\nnever = "conns.id == 17"\n')
        done = rehearse(service, core, new, "--handlers", str(handlers), "--config", str(config))
        assert f"[{code}]" in done.told()
    assert service.ask("check") == "ok v1"


def test_addresses_in_use_do_not_matter(
    builder: Builder, start_service: StartService, tmp_path: Path
) -> None:
    """The past still listens while its core is tried."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    built = [
        builder.build({"server.c": TRIAL}, TOOLCHAIN, flags=[f'-DVERSION="v{n}"', *extra])
        for n, extra in ((1, []), (2, ["-DSECOND"]))
    ]
    service = start_service(built[0], environment={"TRIAL_PORT": str(port)})
    done = rehearse(service, dump(service.pid, tmp_path / "core"), built[1])
    assert done.report is not None
    if any("no network of its own" in text for text in done.report["warnings"]):
        assert done.report["error"]["code"] == "startup-failed"
    else:
        assert (done.outcome, done.status) == ("rehearsed", 0), done.told()
    assert service.ask("check") == f"v1 {port} 0 0"


# Loaded into the tool: what a core does that takes over whatever reads it, for its facts or for its state.
HOSTILE = """
import os, signal, sys
from instar.update.core_past import Source
tool, opened = os.getpid(), Source.open

def open_hostile(self):
    status = open("/proc/self/status").read()
    rights = int(status.split("CapEff:")[1].split()[0], 16) & ~4  # but reading files
    if os.getpid() == tool or "Seccomp:\\t2" not in status or rights:
        os.write(2, b"HOSTILE it is read with rights\\n")
    if sys._getframe(1).f_code.co_name == os.environ["HOSTILE"]:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    return opened(self)

Source.open = open_hostile
"""


@pytest.mark.parametrize(
    ("where", "code"), [("read_facts", "reader-lost"), ("core", "worker-lost"), ("nowhere", "")]
)
def test_a_core_that_takes_over_what_reads_it(
    service: Service, core: Path, next_version: Path, tmp_path: Path, where: str, code: str
) -> None:
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "sitecustomize.py").write_text(HOSTILE)
    hooks = {"PYTHONPATH": str(tmp_path / "hooks"), "HOSTILE": where}
    tool = service.start("update", "--from", str(core), str(next_version), "--rehearse", environment=hooks)
    stdout, stderr = tool.communicate(timeout=TOOL_S)
    assert "HOSTILE" not in stderr and "Traceback" not in stderr
    done = service.finished(tool.returncode, stdout, stderr)
    assert done.report is not None
    if code:
        assert (done.status, done.report["error"]["code"]) == (3, code), done.told()
        assert "SIGSEGV" in done.report["error"]["cause"]
    else:
        assert done.outcome == "rehearsed", done.told()
    assert service.ask("check") == "ok v1"


def _cut(data: bytearray) -> None:
    del data[len(data) - 4096 :]


def _no_header(data: bytearray) -> None:
    del data[40:]


def _empty(data: bytearray) -> None:
    del data[:]


def _narrow(data: bytearray) -> None:
    data[4] = 1


def _foreign(data: bytearray) -> None:
    data[18:20] = struct.pack("<H", 183)


def _program(data: bytearray) -> None:
    data[16:18] = struct.pack("<H", 3)


def _text(data: bytearray) -> None:
    data[:4] = b"what"


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_cut, "core-truncated"),
        (_no_header, "not-a-core"),
        (_empty, "not-a-core"),
        (_narrow, "not-a-core"),
        (_foreign, "not-a-core"),
        (_program, "not-a-core"),
        (_text, "not-a-core"),
    ],
)
def test_what_is_no_whole_core_is_refused(
    service: Service,
    core: Path,
    next_version: Path,
    damage: Callable[[bytearray], None],
    code: str,
) -> None:
    data = bytearray(core.read_bytes())
    damage(data)
    core.write_bytes(data)
    refused = rehearse(service, core, next_version)
    assert (refused.outcome, refused.status) == ("refused", 3), refused.told()
    assert refused.report is not None and refused.report["error"]["code"] == code, refused.told()


def test_a_core_of_another_program(
    service: Service, core: Path, next_version: Path, builder: Builder
) -> None:
    refused = rehearse(service, core, next_version, "--old", str(next_version))
    assert refused.report is not None and refused.report["error"]["code"] == "core-of-another"
    waiter = Path(__file__).parents[1] / "live" / "process_programs" / "waiter.c"
    refused = rehearse(service, core, builder.build({"waiter.c": waiter}, TOOLCHAIN))
    assert refused.report is not None and refused.report["error"]["code"] == "different-program"


def test_the_program_is_somewhere_else_now(
    service: Service, next_version: Path, tmp_path: Path, builder: Builder, start_service: StartService
) -> None:
    installed = tmp_path / "server"
    shutil.copy(ADDED.build("v1", TOOLCHAIN, builder), installed)
    moving = start_service(installed)
    assert moving.ask("fill") == "ok v1"
    core = dump(moving.pid, tmp_path / "core")
    installed.rename(tmp_path / "old-server")
    refused = rehearse(moving, core, next_version)
    assert refused.outcome == "refused"
    done = rehearse(moving, core, next_version, "--old", str(tmp_path / "old-server"))
    assert done.outcome == "rehearsed", done.told()


def test_a_core_that_was_dumped_at_work(service: Service, core: Path, next_version: Path) -> None:
    data = bytearray(core.read_bytes())
    registers = struct.pack("<Q", CoreFile(core).registers().orig_rax)
    (state,) = (note for note in _notes(bytes(data)) if note[0] == 1)
    at = data.index(state[1]) + 112 + 15 * 8
    assert data[at : at + 8] == registers
    data[at : at + 8] = b"\xff" * 8
    core.write_bytes(data)
    refused = rehearse(service, core, next_version)
    assert refused.report is not None and refused.report["error"]["code"] == "core-not-waiting"


def _notes(data: bytes) -> list[tuple[int, bytes]]:
    (table,) = struct.unpack_from("<Q", data, 32)
    (count,) = struct.unpack_from("<H", data, 56)
    rows = [struct.unpack_from("<IIQQQQQQ", data, table + 56 * index) for index in range(count)]
    return [note for row in rows if row[0] == 4 for note in notes(data[row[2] : row[2] + row[5]])]


def test_a_core_is_only_rehearsed(service: Service, core: Path, next_version: Path) -> None:
    for words in (
        ["--from", str(core), str(next_version)],
        ["--from", str(core), str(next_version), "--hold"],
    ):
        tool = service.start("update", *words)
        tool.communicate(timeout=TOOL_S)
        assert tool.returncode == 2
