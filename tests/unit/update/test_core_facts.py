"""What the tool must know of a core it is told by a process without rights, and believes little of it."""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instar.errors import FaultError, HostError, InstarError, RefusedError
from instar.process.core import CoreFile
from instar.process.maps import Mapping
from instar.update import core_past
from instar.update.core_past import CoreFacts, PeekedMemory, Source, require_sane
from instar.update.core_rehearsal import find_facts, open_source
from instar.update.exchange import GarbageError

PLACE = Mapping(0x1000, 0x3000, "r-xp", 0, (0, 0), 1, "/bin/x")
FACTS = CoreFacts(7, "/bin/x", "ab", (b"x", b"-v"), (b"A=\xff",), (PLACE,))


@pytest.fixture
def source(tmp_path: Path) -> Source:
    core = tmp_path / "core"
    core.write_bytes(b"no core")
    return Source(core, None, {})


def refusal(source: Source, seconds: float = 60.0) -> InstarError:
    before = _left()
    with pytest.raises((RefusedError, HostError)) as refused:
        find_facts(source, seconds)
    assert _left() == before
    return refused.value


def _left() -> tuple[set[str], set[str]]:
    """Children and descriptors of this process."""
    children = {word for at in Path("/proc/self/task").glob("*/children") for word in at.read_text().split()}
    return children, {path.name for path in Path("/proc/self/fd").iterdir()}


def test_facts_come_back(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.update.core_rehearsal.read_facts", lambda _: replace(FACTS, pid=os.getpid()))
    found = find_facts(source, 60.0)
    assert found.pid != os.getpid()  # another process has read it
    assert replace(found, pid=7) == FACTS


@pytest.mark.parametrize(
    ("deed", "code", "how"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "reader-lost", "SIGKILL"),
        (lambda: os._exit(0), "reader-lost", "has ended"),
        (lambda: 3, "reader-lost", "no answer"),
        (lambda: replace(FACTS, maps=((1, 2),)), "reader-lost", "no answer"),  # type: ignore[arg-type]
        (lambda: np.zeros(1 << 62, np.uint8), "out-of-memory", ""),
    ],
    ids=["killed", "ended", "number", "mapping", "memory"],
)
def test_whatever_becomes_of_it_is_told(
    source: Source, monkeypatch: pytest.MonkeyPatch, deed: Callable[[], Any], code: str, how: str
) -> None:
    monkeypatch.setattr("instar.update.core_rehearsal.read_facts", lambda _: deed())
    found = refusal(source)
    assert found.code == code and how in found.cause


def test_what_does_not_end_is_ended(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.update.core_rehearsal.read_facts", lambda _: time.sleep(3600))
    assert refusal(source, 0.2).code == "reader-lost"


@pytest.mark.parametrize("error", [ValueError("x"), IndexError("x"), struct.error("x"), FaultError(1, 2, 3)])
def test_a_contradiction_is_no_core(
    source: Source, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Damaged:
        def __init__(self, *_given: object) -> None:
            raise error

    monkeypatch.setattr(core_past, "CoreFile", Damaged)
    assert refusal(source).code == "not-a-core"


@pytest.mark.parametrize(
    "wrong",
    [
        replace(FACTS, maps=(replace(PLACE, start=0x3000),)),
        replace(FACTS, maps=(replace(PLACE, start=-4096),)),
        replace(FACTS, maps=(replace(PLACE, start=0x1001),)),
        replace(FACTS, maps=(replace(PLACE, end=(1 << 64) + 1),)),
        replace(FACTS, maps=(replace(PLACE, offset=-1),)),
        replace(FACTS, maps=(replace(PLACE, perms="r"),)),
        replace(FACTS, maps=(replace(PLACE, path="/bin/\0x"),)),
        replace(FACTS, arguments=(b"a\0b",)),
        replace(FACTS, environment=(b"A=a\0b",)),
        replace(FACTS, program="/bin/\0x"),
    ],
)
def test_nonsense_is_not_believed(wrong: CoreFacts) -> None:
    assert require_sane(FACTS) == FACTS
    with pytest.raises(GarbageError):
        require_sane(wrong)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Also in the place of a file that a core names."""
    os.mkfifo(tmp_path / "core")
    with pytest.raises(HostError) as refused:
        CoreFile(tmp_path / "core")
    assert refused.value.code == "unreadable-file"
    with open_source(tmp_path / "core", None) as source:
        assert refusal(source).code == "unreadable-file"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_core_of_somebody_else_needs_trust(tmp_path: Path) -> None:
    """It says with which LD_PRELOAD the new version starts."""
    core = tmp_path / "core"
    core.write_bytes(b"core")
    with open_source(core, None):
        pass
    os.chown(core, 65534, 65534)
    with pytest.raises(RefusedError) as refused, open_source(core, None):
        pass
    assert refused.value.code == "core-of-other-user" and "65534" in refused.value.cause
    with pytest.raises(RefusedError), open_source(core, None, "root"):
        pass
    with open_source(core, None, "nobody"):
        pass


def test_memory_is_asked_for() -> None:
    asked: list[tuple[list[int], list[int]]] = []

    def peek(starts: Any, sizes: Any) -> Any:
        asked.append((starts.tolist(), sizes.tolist()))
        return np.arange(int(sizes.sum()), dtype=np.uint8)

    memory = PeekedMemory(peek)
    assert memory.read(0x10, 3) == b"\0\1\2" and memory.u64(0x20) == int.from_bytes(bytes(range(8)), "little")
    buffer = np.zeros(2, np.uint8)
    memory.read_into(0x30, buffer)
    assert buffer.tolist() == [0, 1] and memory.read_spans([1, 2], [3, 4]).tolist() == list(range(7))
    assert asked == [([16], [3]), ([32], [8]), ([48], [2]), ([1, 2], [3, 4])]
