"""What the kernel keeps for a program (cookies, handlers of signals) is validated like its memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.update.conftest import StartService
from tests.update.local import LocalTransaction

from instar.control import handover
from instar.control.epoll import plan_epolls
from instar.errors import RolledBackError
from instar.testing.programs import Builder
from instar.testing.scenarios import TOOLCHAINS, Scenario
from instar.transfer.planner import Planner
from instar.update.driver import Driver
from instar.update.options import UpdateOptions
from instar.update.progress import SilentProgress

PROGRAMS = Path(__file__).parents[1] / "programs"


def _lose_all_but_the_first(words: Any, statuses: Any, values: Any) -> None:
    """Found by the campaign: a loop of a kernel that ends after one turn."""
    statuses[1:], values[1:] = 0, 0


def _go_to_the_neighbour(words: Any, statuses: Any, values: Any) -> None:
    moved = np.flatnonzero(values != words)
    values[moved] = np.roll(values[moved], 1) if len(moved) > 1 else values[moved] + np.uint64(16)


@pytest.mark.parametrize("wrong", [_lose_all_but_the_first, _go_to_the_neighbour])
def test_a_cookie_that_leads_elsewhere_is_found(
    wrong: Any,
    builder: Builder,
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    scenario = Scenario.load(PROGRAMS / "epoll-cookies")
    service = start_service(scenario.build("v1", TOOLCHAINS[0], builder))
    assert service.ask("fill") == "ok v1"
    monkeypatch.setitem(os.environ, "XDG_CACHE_HOME", str(tmp_path))
    translate = Planner.translate

    def translated(planner: Planner, words: Any) -> tuple[Any, Any]:
        statuses, values = translate(planner, words)
        if len(words) > 1:  # not the arguments of its call
            wrong(words, statuses, values)
        return statuses, values

    monkeypatch.setattr(Planner, "translate", translated)
    new = scenario.build("v2", TOOLCHAINS[0], builder)
    report = LocalTransaction(service.pid, new, UpdateOptions(), SilentProgress()).run()
    assert report.error is not None and report.error.code == "validation-difference", report.error
    assert report.error.cause.startswith("an epoll set holds 0x"), report.error.cause
    assert service.ask("check") == "ok v1"


def _without_the_last(items: Any) -> Any:
    return items[:-1]


def _for_other_events(items: Any) -> Any:
    items["events"][-1] ^= 4
    return items


def _with_each_others_cookies(items: Any) -> Any:
    items["data"] = np.roll(items["data"], 1)
    return items


@pytest.mark.parametrize("wrong", [_without_the_last, _for_other_events, _with_each_others_cookies])
def test_a_set_that_is_filled_wrongly_is_found(
    wrong: Any,
    builder: Builder,
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """What was translated is right."""
    monkeypatch.setattr(
        "instar.update.driver.plan_epolls", lambda fetched, translate: wrong(plan_epolls(fetched, translate))
    )
    _refused(builder, start_service, monkeypatch, tmp_path, "epoll set")


def test_files_under_each_others_numbers_are_found(
    builder: Builder, start_service: StartService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import_ = handover._import
    swapped: list[int] = []

    def import_wrongly(runtime: Any, channel: Any, rows: Any, present: Any) -> None:
        if len(rows) > 1:
            rows = rows.copy()
            rows["own"] = np.roll(rows["own"], 1)
            swapped.append(len(rows))
        import_(runtime, channel, rows, present)

    monkeypatch.setattr(handover, "_import", import_wrongly)
    _refused(builder, start_service, monkeypatch, tmp_path, "is another file in the new version")
    assert swapped


def _refused(
    builder: Builder, start_service: StartService, monkeypatch: pytest.MonkeyPatch, home: Path, said: str
) -> None:
    scenario = Scenario.load(PROGRAMS / "epoll-cookies")
    service = start_service(scenario.build("v1", TOOLCHAINS[0], builder))
    assert service.ask("fill") == "ok v1"
    monkeypatch.setitem(os.environ, "XDG_CACHE_HOME", str(home))
    new = scenario.build("v2", TOOLCHAINS[0], builder)
    report = LocalTransaction(service.pid, new, UpdateOptions(), SilentProgress()).run()
    assert report.error is not None and report.error.code == "validation-difference", report.error
    assert said in report.error.cause, report.error.cause
    assert service.ask("check") == "ok v1"


def test_every_kind_of_word_is_looked_at() -> None:
    one = Driver(None, UpdateOptions())  # type: ignore[arg-type]
    words = np.array([0x1000, 0x2000], np.uint64)
    one.told += [("an epoll set holds", words, words), ("a signal is handled by", words, words + 16)]
    with pytest.raises(RolledBackError) as caught:
        one.require_alike(lambda past, future: past == future)
    assert caught.value.cause.startswith("a signal is handled by 0x1000, the new version's 0x1010")
    one.told.pop()
    one.require_alike(lambda past, future: past == future)
