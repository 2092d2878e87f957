"""The copy of a process that is brought up to date: what it says has changed, and what is read when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.errors import FaultError, InternalError
from instar.native import load
from instar.process.memory import Memory
from instar.state.mirror import PAGE, Mirror, merge

Array = np.ndarray[Any, np.dtype[Any]]

BASE = 0x7F0000000000
MEGABYTE = 1 << 20


class Process:
    """Stands for a process's memory: one range of bytes."""

    def __init__(self, size: int, seed: int = 1) -> None:
        self.data = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
        self.reads: list[tuple[int, int]] = []
        self.before: Callable[[int], None] = lambda address: None

    def read_into(self, address: int, buffer: Array) -> None:
        self.before(address)
        self.reads.append((address, len(buffer)))
        buffer[:] = self.data[address - BASE : address - BASE + len(buffer)]

    def room(self, size: int) -> Array:
        return np.zeros(size, np.uint8)

    @property
    def memory(self) -> Memory:
        return cast(Memory, self)


def copy_again(mirror: Mirror, process: Process) -> Array:
    mirror.begin()
    return mirror.read(process.memory, BASE, len(process.data))


@settings(max_examples=30, deadline=None)
@given(places=st.lists(st.integers(0, 20 * MEGABYTE - 1), max_size=12), prepared=st.booleans())
def test_what_changed_is_told_page_by_page(places: list[int], prepared: bool) -> None:
    process, mirror = Process(20 * MEGABYTE), Mirror()
    copy_again(mirror, process)
    assert mirror.end() is None  # read for the first time
    before = process.data.copy()
    if prepared:
        mirror.prepare(process.memory)
    process.data[places] ^= 0x5A
    copy = copy_again(mirror, process)
    changes = mirror.end()
    assert (copy == process.data).all() and changes is not None
    found = changes.rows["address"].astype(np.int64) - BASE
    assert sorted(found.tolist()) == sorted({place // PAGE * PAGE for place in places})
    for at, saved in zip(found.tolist(), changes.saved, strict=True):
        assert (saved == before[at : at + PAGE]).all()


def test_nobody_reads_any_more_when_a_read_has_failed() -> None:
    """The worker's next word to the tool would come between a question and its answer."""
    process, mirror = Process(64 * MEGABYTE), Mirror()
    mirror.warm(process.memory, [(BASE, BASE + len(process.data))])
    process.reads.clear()
    has_failed = threading.Event()

    def fail_first(address: int) -> None:
        if address == BASE:
            has_failed.set()
            raise FaultError(BASE, 1, 0)
        has_failed.wait()  # the other thread has all of its work before it

    process.before = fail_first
    mirror.begin()
    with pytest.raises(FaultError):
        mirror.read(process.memory, BASE, len(process.data))
    assert len(process.reads) == 8  # chunks of 4 MB, half of them


def test_a_round_that_failed_says_nothing_about_the_next() -> None:
    process, mirror = Process(8 * MEGABYTE), Mirror()
    copy_again(mirror, process)
    mirror.end()
    process.data[5] ^= 1
    copy_again(mirror, process)  # and never came to its end
    process.data[6 * MEGABYTE] ^= 1
    copy_again(mirror, process)
    assert mirror.end() is None


def test_more_changes_than_are_told_apart() -> None:
    old, new = np.zeros(4 * PAGE, np.uint8), np.ones(4 * PAGE, np.uint8)
    assert merge(old, new, BASE, 3) is None and (old == new).all()


@pytest.mark.parametrize("fault", ["a page that is not brought up to date", "a change that is not noted"])
def test_a_change_that_is_missed_is_an_error(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = np.zeros(4 * PAGE, np.uint8), np.zeros(4 * PAGE, np.uint8)
    new[[PAGE + 7, 3 * PAGE + 9]] = 1
    right = load("kernels").instar_state_merge

    def merge_wrongly(*arguments: object) -> int:
        count: int = right(*arguments)
        if fault.startswith("a page"):
            old[3 * PAGE + 9] = 0
            return count
        return count - 1

    kernels = SimpleNamespace(instar_state_merge=merge_wrongly)
    monkeypatch.setattr("instar.state.mirror.load", lambda _name: kernels)
    with pytest.raises(InternalError):
        merge(old, new, BASE)
