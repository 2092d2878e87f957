"""A new version that may do more than the old one is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.service import INSTAR

from instar.testing.programs import Builder
from instar.testing.scenarios import TOOLCHAINS, Scenario

PROGRAMS = Path(__file__).parents[1] / "programs"


def test_root_without_rights(builder: Builder, start_service: StartService) -> None:
    """Securebits cannot be seen from outside, and an exec as root gives everything back."""
    tool = shutil.which("setpriv")
    if tool is None or os.geteuid() != 0:
        pytest.skip("needs root and setpriv")
    scenario = Scenario.load(PROGRAMS / "counting")
    old, new = (scenario.build(version, TOOLCHAINS[0], builder) for version in ("v1", "v2"))
    service = start_service(Path(tool), arguments=["--securebits=+noroot", str(old)])
    assert service.ask("fill") == "ok v1"
    update = service.update(new)
    assert update.outcome == "updated", update.told()
    assert update.report is not None
    assert any(text.startswith("more-capabilities") for text in update.whole["warnings"])
    assert service.ask("check") == "ok v2"


NOBODY = 65534
AS_NOBODY = ("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
# All that this user may do besides is read what others keep to themselves: this interpreter, these programs.
READER = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")


def setpriv() -> Path:
    tool = shutil.which("setpriv")
    if tool is None or os.geteuid() != 0:
        pytest.skip("needs root and setpriv")
    return Path(tool)


@pytest.fixture
def versions(builder: Builder) -> Iterator[list[Path]]:
    """Two versions where everybody may read them."""
    scenario = Scenario.load(PROGRAMS / "counting")
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield [
            Path(shutil.copy(scenario.build(version, TOOLCHAINS[0], builder), Path(directory) / version))
            for version in ("v1", "v2")
        ]


def rights(pid: int) -> list[str]:
    """Who a process is."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = [
        line for line in lines if line.startswith(("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd"))
    ]
    return [*found, str(Path(f"/proc/{pid}/ns/user").readlink())]


@pytest.mark.parametrize(
    "namespace", [(), ("unshare", "--map-root-user", "--net", "--")], ids=["plain", "own"]
)
def test_a_user_updates_what_is_theirs(
    versions: list[Path], start_service: StartService, namespace: tuple[str, ...]
) -> None:
    """Also in a user namespace that they have made (a container without root)."""
    tool = setpriv()
    old, new = versions
    service = start_service(tool, arguments=[*AS_NOBODY, *READER, *namespace, str(old)])
    assert service.ask("fill") == "ok v1"
    before = rights(service.pid)
    for path in (service.home, *service.home.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    words = [str(tool), *AS_NOBODY, *READER, str(INSTAR), "update", str(service.pid), str(new), "--json"]
    places = {"XDG_CACHE_HOME": "cache", "XDG_STATE_HOME": "state", "TMPDIR": "tmp"}
    environment = {**os.environ, **{name: str(service.home / place) for name, place in places.items()}}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=100)
    update = service.finished(done.returncode, done.stdout, done.stderr)
    assert update.outcome == "updated", update.told()
    assert service.ask("check") == "ok v2"
    assert rights(service.pid) == before


@pytest.mark.parametrize(
    ("user", "mapped"),
    [((), ("--map-root-user",)), (AS_NOBODY, ())],
    ids=["root-mapped", "nobody-unmapped"],
)
def test_a_user_namespace_is_entered_by_root(
    versions: list[Path], start_service: StartService, user: tuple[str, ...], mapped: tuple[str, ...]
) -> None:
    """Users are those outside of it: also where it has no name for them."""
    tool = setpriv()
    old, new = versions
    reader = READER if user else ()
    words = [*user, *reader, "unshare", "--user", *mapped, "--uts", "--", str(old)]
    service = start_service(tool, arguments=words)
    assert service.ask("fill") == "ok v1"
    before = rights(service.pid)
    update = service.update(new)
    assert update.outcome == "updated", update.told()
    assert service.ask("check") == "ok v2"
    assert rights(service.pid) == before
    assert not [text for text in update.whole["warnings"] if text.startswith("surroundings")]


FILTERED = """
import ctypes, os, struct, sys
code = ctypes.create_string_buffer(struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000), 8)
program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", 1, ctypes.addressof(code)), 16)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_filter_that_the_new_version_would_be_without(
    versions: list[Path], start_service: StartService
) -> None:
    """As a service manager gives one to all of a unit."""
    old, new = versions
    service = start_service(Path(sys.executable), arguments=["-c", FILTERED, str(old)])
    assert service.ask("fill") == "ok v1"
    update = service.update(new)
    assert update.outcome == "refused" and update.whole["error"]["code"] == "less-confined", update.told()
    assert service.ask("check") == "ok v1"
    update = service.update(new, "--allow", "less-confined")
    assert update.outcome == "updated", update.told()
    assert any(text.startswith("less-confined") for text in update.whole["warnings"])
    assert service.ask("check") == "ok v2"
