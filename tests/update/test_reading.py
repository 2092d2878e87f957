"""Programs that wait inside stdio: a line that has come in half is not lost, the update is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.update.conftest import StartService

from instar.testing.programs import Builder, Toolchain
from instar.testing.scenarios import TOOLCHAINS

SOURCE = Path(__file__).parent / "reading" / "lines.c"


def build(builder: Builder, toolchain: Toolchain, *flags: str) -> Path:
    return builder.build({"lines.c": SOURCE}, toolchain, headers=[], flags=flags)


@pytest.mark.parametrize("toolchain", TOOLCHAINS, ids=str)
@pytest.mark.parametrize("how", ["fgets", "getline", "fread"])
def test_half_of_a_line(
    builder: Builder, start_service: StartService, how: str, toolchain: Toolchain
) -> None:
    old = build(builder, toolchain, '-DVERSION="v1"')
    new = build(builder, toolchain, '-DVERSION="v2"', "-DSECOND")
    service = start_service(old, arguments=[how])
    assert service.program.process.stdin is not None
    to = service.program.process.stdin.fileno()
    assert service.ask("1234567") == "v1 1 8"
    os.write(to, b"123")
    update = service.update(new)
    assert update.outcome in ("refused", "rolled-back"), update.told()
    assert "half-read-line" in update.told()
    assert service.ask("4567") == "v1 2 16"
    update = service.update(new)
    assert update.outcome == "updated", update.told()
    assert service.ask("1234567") == "v2 3 24"
    os.write(to, b"1234")
    assert "half-read-line" in service.update(new).told()
    assert service.ask("567") == "v2 4 32"


@pytest.mark.parametrize("toolchain", TOOLCHAINS, ids=str)
def test_half_of_a_line_in_a_loop_of_its_own(
    builder: Builder, start_service: StartService, toolchain: Toolchain
) -> None:
    """Found by the campaign of faults: gcc keeps ``line + used`` in a register that nothing describes."""
    source = {"bytewise.c": SOURCE.with_name("bytewise.c")}
    old = builder.build(source, toolchain, flags=['-DVERSION="v1"'])
    new = builder.build(source, toolchain, flags=['-DVERSION="v2"', "-DSECOND"])
    service = start_service(old)
    assert service.program.process.stdin is not None
    assert service.ask("1234567") == "v1 1 7 1234567"
    os.write(service.program.process.stdin.fileno(), b"123")
    update = service.update(new)
    if update.outcome == "updated":  # -O0: every local has a place
        assert service.ask("45") == "v2 2 12 12345"
        return
    assert "half-read-line" in update.told()
    assert service.ask("45") == "v1 2 12 12345"
    assert service.update(new).outcome == "updated"
    assert service.ask("6789") == "v2 3 16 6789"
