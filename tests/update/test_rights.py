"""A new version that may do more than the old one is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.update.conftest import StartService

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
    assert any(text.startswith("more-capabilities") for text in update.report["warnings"])
    assert service.ask("check") == "ok v2"
