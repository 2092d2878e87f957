"""The first inputs of every fuzzer in Python (`make fuzz`), so that what was found stays found."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.targets import TARGETS, Target

#: Enough to see what each has found: in a core file's notes, number 230 and 604 of this seed.
INPUTS = {"core": 700, "wire": 2000, "heap": 2000, "program": 60}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_input_is_too_much(target: type[Target], tmp_path: Path) -> None:
    found = target(tmp_path).fuzz(300, 1, INPUTS.get(target.name, 200))
    assert not found.findings
    assert found.executed == INPUTS.get(target.name, 200)
    assert 0 < found.refused < found.executed, "all or nothing was read"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_is_whole_is_read(target: type[Target], tmp_path: Path) -> None:
    one = target(tmp_path)
    assert all(one.read(seed) for seed in one.seeds)
