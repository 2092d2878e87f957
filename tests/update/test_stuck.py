"""Whoever takes part loops in C or stands still: the old version goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.update.test_faults import programs, witness
from tests.update.witness import Witness

__all__ = ["programs", "witness"]

PAUSE = ("--max-pause", "1500")


def test_the_tool_is_stuck(witness: Witness, programs: tuple[Path, Path]) -> None:
    """In C, and the interpreter with it, while the old version is held."""
    fault = {"INSTAR_FAULT": "quiesce:middle:spin"}
    update = witness.watch(witness.service.tool(programs[1], *PAUSE, environment=fault))
    assert update.status == -signal.SIGKILL
    assert witness.settled() == "v1"


@pytest.mark.parametrize(("who", "codes"), [("guard", ("guard-lost",)), ("worker", ("pause-too-long",))])
def test_another_is_stuck(
    witness: Witness, programs: tuple[Path, Path], who: str, codes: tuple[str, ...]
) -> None:
    fault = {"INSTAR_FAULT": f"pre-check:middle:stop-{who}"}
    update = witness.watch(witness.service.tool(programs[1], *PAUSE, environment=fault))
    assert update.report is not None and update.outcome == "rolled-back", update.told()
    assert update.report["error"]["code"] in (*codes, "pause-too-long"), update.told()
    assert witness.settled() == "v1"
