"""The first inputs of every fuzzer in Python (`make fuzz`), so that what was found stays found."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from fuzz.guided import HARNESSES, Harness
from fuzz.peers import PEERS, Questions, framed
from fuzz.targets import TARGETS, Target

from instar.errors import InstarError
from instar.update.exchange import GarbageError

INPUTS = {
    "core": 60,
    "wire": 2000,
    "heap": 2000,
    "program": 60,
    "bindings": 600,
    "answers": 400,
    "questions": 400,
}
#: What has found something.
FOUND = {
    "core": ("1:core:230", "1:core:604"),
    "answers": tuple(f"11:answers:{n}" for n in (30399, 38950, 46276, 75073, 79181, 88922)),
    "questions": ("11:questions:264013", "11:questions:376658"),
}


@pytest.mark.parametrize("target", (*TARGETS, *PEERS), ids=lambda target: target.name)
def test_no_input_is_too_much(target: type[Target], tmp_path: Path) -> None:
    one = target(tmp_path)
    found = one.fuzz(300, 1, INPUTS.get(target.name, 200))
    assert not found.findings
    assert found.executed == INPUTS.get(target.name, 200)
    assert 0 < found.refused < found.executed, "all or nothing was read"
    for seed in FOUND.get(target.name, ()):
        with suppress(InstarError):
            one.read(one.one(seed))


@pytest.mark.parametrize("harness", HARNESSES.values(), ids=lambda harness: harness.name)
def test_a_guided_one_runs(harness: Harness, tmp_path: Path) -> None:
    """Built from the sources as they are now, over its valid inputs and some more."""
    done = harness.run(tmp_path, 60, 1, most=1000)
    assert not done.findings
    assert done.executed >= 1000 and done.covered > 20


@pytest.mark.parametrize("target", (*TARGETS, *PEERS), ids=lambda target: target.name)
def test_what_is_whole_is_read(target: type[Target], tmp_path: Path) -> None:
    one = target(tmp_path)
    assert all(one.read(seed) for seed in one.seeds)


def test_an_offset_that_no_file_has_is_refused(tmp_path: Path) -> None:
    """Found by the fuzzer: it came as OverflowError, for which nobody is to blame."""
    target = Questions(tmp_path)
    for offset in (1 << 63, 1 << 64, -1):
        with pytest.raises(GarbageError):
            target.read(framed("proc", os.getpid(), "stat", 64, offset))
