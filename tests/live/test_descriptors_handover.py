"""Every kind of descriptor arrives in the future and works there; a rolled-back past has lost nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.live.handing import Handing, entries_of
from tests.live.obedient import build

from instar.process.descriptors import list_descriptors

EPOLL, INNER, TWIN = 10, 23, 26
EXPECTED = (
    "accepted=3 again=1 pipe=4 file=1 memfd=5 event=7 timer=1 cloexec=1 shared=5 inner=0 silent=0 edge=1 "
    "edge2=0 armed=1 spent=0 lock=1 owner=1"
)
SHIFT = 0x10_0000_0000
Make = Callable[[], Handing]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Handing] = []

    def make_() -> Handing:
        made.append(Handing(build("descriptors"), ["past", str(tmp_path / "file")], ["future"]))
        return made[-1]

    yield make_
    for handing in made:
        handing.close()


def facts(pid: int) -> dict[int, tuple[object, ...]]:
    return {d.number: (d.kind, d.target, d.flags, d.cloexec, d.offset) for d in list_descriptors(pid)}


def test_the_program_itself_finds_all_well(make: Make) -> None:
    """The expectations hold in a process that was never updated."""
    assert make().ask("check") == EXPECTED


def test_everything_works_in_the_future(make: Make) -> None:
    handing = make()
    before = facts(handing.past.pid)
    sets = {number: entries_of(handing.past.pid, number) for number in (EPOLL, INNER, TWIN)}
    handing.begin()
    handing.hand_over()
    handing.commit()
    future = handing.future.pid
    assert facts(future) == before
    assert {number: entries_of(future, number) for number in (EPOLL, INNER, TWIN)} == sets
    assert handing.ask("check") == EXPECTED
    assert handing.line() == "event 9"  # of the registration whose number is closed
    assert handing.ask("hello") == f"hello {future}"


def test_cookies_are_translated_as_one_column(make: Make) -> None:
    handing = make()
    expected = {
        number: [(tfd, events, (data + SHIFT) % 2**64 if data != 1000 else data) for tfd, events, data in
                 entries_of(handing.past.pid, number)]
        for number in (EPOLL, INNER, TWIN)
    }  # fmt: skip
    calls = []

    def translate(cookies: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        calls.append(len(cookies))
        cookies[cookies != 1000] += np.uint64(SHIFT)
        return cookies

    handing.begin()
    handing.hand_over(translate)
    handing.commit()
    assert {number: entries_of(handing.future.pid, number) for number in (EPOLL, INNER, TWIN)} == expected
    assert calls == [sum(map(len, expected.values()))]


def test_a_signal_reaches_the_futures_signalfd(make: Make) -> None:
    handing = make()
    handing.begin()
    handing.hand_over()
    handing.commit()
    os.kill(handing.future.pid, signal.SIGUSR2)
    assert handing.line() == "event 6"


def test_a_rolled_back_past_is_as_it_was(make: Make) -> None:
    handing = make()
    before = facts(handing.past.pid)
    sets = {number: entries_of(handing.past.pid, number) for number in (EPOLL, INNER, TWIN)}
    handing.begin()
    handing.hand_over()
    handing.roll_back()
    assert facts(handing.past.pid) == before
    assert {number: entries_of(handing.past.pid, number) for number in (EPOLL, INNER, TWIN)} == sets
    assert handing.ask("check") == EXPECTED
    assert handing.line() == "event 9"
    assert handing.ask("hello") == f"hello {handing.past.pid}"
