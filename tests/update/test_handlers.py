"""Handlers that are wrong in every way: refused by name, and the old version never notices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.service import Service, Update

from instar.testing.programs import Builder, Toolchain
from instar.testing.scenarios import Scenario

PROGRAMS = Path(__file__).parents[1] / "programs"
HEAD = "import os, sys, time\nfrom instar.ext import *\n"
Try = Callable[..., Update]
ALLOWED = "--allow", "unchecked-handler"

WRONG = {
    "raises": (
        "raise KeyError('nowhere')",
        "handler-failed",
        ["KeyError", "nowhere", "pool.first->next", "wrong.py:5"],
    ),
    "too-large": ("return 1 << 40", "handler-failed", ["does not fit", "1099511627776"]),
    "exit": ("os._exit(0)", "handler-failed", ["end the process"]),
    "alloc": ("return alloc('char', 1 << 50)", "handler-failed", ["alloc", "bytes"]),
    "memory": ("x = bytearray(1 << 44); return 0", "handler-failed", ["memory"]),
    "past": ("past.pool = 0; return 0", "handler-failed", ["read-only"]),
}


@pytest.fixture
def attempt(builder: Builder, start_service: StartService, tmp_path: Path) -> tuple[Service, Try]:
    scenario = Scenario.load(PROGRAMS / "handler-seconds-to-ms")
    old, new = (scenario.build(version, Toolchain(), builder) for version in ("v1", "v2"))
    service = start_service(old)
    assert service.ask("fill") == "ok v1"

    def update(source: str, *options: str) -> Update:
        path = tmp_path / "wrong.py"
        path.write_text(HEAD + source)
        return service.update(new, "--handlers", str(path), *options)

    return service, update


def _refused(service: Service, update: Update, code: str, names: list[str]) -> None:
    assert update.outcome in ("refused", "rolled-back"), update.told()
    assert update.report is not None
    assert update.report["error"]["code"] == code, update.told()
    missing = [name for name in names if name not in update.told()]
    assert not missing, f"{missing} not in {update.told()}"
    assert service.ask("check") == "ok v1"


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_handler_is_refused(name: str, attempt: tuple[Service, Try]) -> None:
    body, code, names = WRONG[name]
    service, update = attempt
    source = f'@transform("struct conn.timeout")\ndef f(seconds):\n    {body}\n'
    _refused(service, update(source, *ALLOWED), code, [*names, "wrong.py"])


def test_a_handler_that_hangs_is_refused(attempt: tuple[Service, Try]) -> None:
    service, update = attempt
    source = '@transform("struct conn.timeout")\ndef f(seconds):\n    while True:\n        pass\n'
    _refused(service, update(source, *ALLOWED), "handler-timeout", ["pool.first", "wrong.py"])


@pytest.mark.parametrize(
    ("source", "code", "names"),
    [
        ("import nothing_of_this_name", "handlers-not-loaded", ["nothing_of_this_name", "wrong.py:3"]),
        (
            '@transform("struct conn", batch=True)\ndef f(old, new): new["timeout"] = old["nothing"]',
            "handler-failed",
            ["nothing", "struct conn"],
        ),
        (
            '@transform("struct conn.timeout", batch=True)\ndef f(v): return v.astype("i8") << 40',
            "handler-failed",
            ["does not fit", "timeout"],
        ),
        ('@on("quiesced")\ndef f(): raise ValueError("not now")', "handler-failed", ["not now"]),
        ('@on("before_commit")\ndef f(): raise ValueError("after all")', "handler-failed", ["after all"]),
        (
            '@on("after_transfer")\ndef f(): \n    future.conns = raw(8)\n    call("check")',
            "handler-failed",
            ["did not return"],
        ),
        (
            "@invariant\ndef f(state): return state.conns.id == 17",
            "invariant-broken",
            ["before the transfer"],
        ),
    ],
)
def test_a_wrong_file_is_refused(
    source: str, code: str, names: list[str], attempt: tuple[Service, Try]
) -> None:
    service, update = attempt
    _refused(service, update(source, *ALLOWED), code, names)


@pytest.mark.parametrize(
    ("body", "code", "names"),
    [
        ("old.id = old.nothing", "handler-failed", ["pool", "nothing", "repairs.py:6"]),
        (
            "cast(0x1000, 'struct conn *').id = 1",
            "handler-failed",
            ["no memory that the program may write", "repairs.py:6"],
        ),
        ("cast(main, 'struct conn *').id = 1", "handler-failed", ["no memory that the program may write"]),
        ("alloc('struct conn')", "handler-failed", ["is not there at this point"]),
        ("os._exit(0)", "handler-failed", ["end the process"]),
    ],
)
def test_a_wrong_repair_is_refused(
    body: str, code: str, names: list[str], attempt: tuple[Service, Try], tmp_path: Path
) -> None:
    service, _ = attempt
    path = tmp_path / "repairs.py"
    main = f"main = {_program_start(service.pid):#x}\n"
    path.write_text(f"{HEAD}{main}@repair('struct conn')\ndef f(old): {body}\n".replace("): ", "):\n    "))
    program = Path(f"/proc/{service.pid}/exe").readlink()
    _refused(service, service.update(program, "--tainted", f"repair={path}"), code, names)


def _program_start(pid: int) -> int:
    return int(Path(f"/proc/{pid}/maps").read_text().partition("-")[0], 16)


def test_what_handlers_print_goes_to_standard_error(attempt: tuple[Service, Try]) -> None:
    service, update = attempt
    source = (
        '@transform("struct conn.timeout")\ndef f(seconds):\n    print("hello")\n    return seconds * 1000\n'
    )
    result = update(source, *ALLOWED)
    assert result.outcome == "updated", result.told()
    assert "hello" in result.stderr
    assert service.ask("check") == "ok v2"


def test_events_see_and_change_the_future(attempt: tuple[Service, Try]) -> None:
    service, update = attempt
    source = """
seen = []

@on("quiesced")
def quiesced():
    seen.append(past.conns.timeout)

@on("after_transfer")
def transferred():
    conn = future.conns
    while conn:
        conn.timeout = conn.timeout * 1000
        conn = conn.next
    for conn in [*future.pool.spare, *(future.array[i] for i in range(4))]:
        conn.timeout *= 1000
    assert call("check") == None or call("check").string() == "", call("check").string()
    seen.append(future.conns.timeout)

@on("before_commit")
def committing():
    assert seen == [34, 34000], seen
    assert past.conns.timeout == 34

@invariant
def ordered(state):
    return state.conns.next.id == state.conns.id - 1
"""
    result = update(source)
    assert result.outcome == "updated", result.told()
    assert service.ask("check") == "ok v2"


_HALVES = {
    "member": (
        '@transform("struct conn.timeout")\ndef f(v): return v * 1000 + (1000 if v == 34 else 0)\n',
        "@f.backward\ndef g(v): return v // 1000\n",
    ),
    "batch": (
        '@transform("struct conn.timeout", batch=True)\ndef f(v): return v * 1000 + (v == 34) * 1000\n',
        "@f.backward\ndef g(v): return v // 1000\n",
    ),
    "whole": (
        '@transform("struct conn")\n'
        "def f(old, new): new.timeout = old.timeout * 1000 + (old.timeout == 34)\n",
        "@f.backward\ndef g(old, new): new.timeout = old.timeout // 1000 + old.timeout % 1000\n",
    ),
    "left out": (
        '@transform("struct conn")\ndef f(old, new): new.timeout = old.timeout * 1000\n',
        "@f.backward\ndef g(old, new):\n    if old.timeout != 34000: new.timeout = old.timeout // 1000\n",
    ),
}


@pytest.mark.parametrize("name", _HALVES)
def test_a_value_that_does_not_come_back_rolls_back(name: str, attempt: tuple[Service, Try]) -> None:
    service, update = attempt
    result = update("".join(_HALVES[name]))
    _refused(service, result, "backward-difference", ["pool.first", "34", "f.backward", "wrong.py"])
    assert result.outcome == "rolled-back"


@pytest.mark.parametrize("batch", ["", ", batch=True"])
def test_what_comes_back_is_counted_and_the_rest_is_named(batch: str, attempt: tuple[Service, Try]) -> None:
    service, update = attempt
    forward = f'@transform("struct conn.timeout"{batch})\ndef f(v): return v * 1000\n'
    result = update(forward + "@f.backward\ndef g(v): return v // 1000\n")
    assert result.outcome == "updated", result.told()
    assert result.report is not None
    assert result.report["validation"]["taken_back"] > 4
    assert result.report["validation"]["unchecked"] == []
    assert service.ask("check") == "ok v2"


FORWARD = '@transform("struct conn.timeout")\ndef f(v): return v * 1000 + (v == 34)\n'


def test_what_nothing_checks_is_refused_before_anything_is_done(attempt: tuple[Service, Try]) -> None:
    service, update = attempt
    result = update(FORWARD)
    _refused(service, result, "unchecked-handler", ["struct conn.timeout", "wrong.py:3", "@f.check"])
    assert result.outcome == "refused" and result.report is not None
    assert not result.report["pause_ms"]
    assert "start" not in [phase["name"] for phase in result.report["phases"]]


def test_what_nothing_checks_is_named_where_it_is_allowed(attempt: tuple[Service, Try]) -> None:
    service, update = attempt
    result = update(FORWARD, *ALLOWED)
    assert result.report is not None
    (line,) = result.report["validation"]["unchecked"]
    assert all(text in line for text in ("struct conn.timeout", "wrong.py", "nothing checks", "pool"))
    assert f"unchecked-handler: {line}" in result.report["warnings"]
    assert service.ask("check") != "ok v2"  # nobody could know


_CHECKS = {
    "member": (FORWARD, "@f.check\ndef g(v, made): return made == v * 1000\n", "does not hold"),
    "member and objects": (
        FORWARD,
        "@f.check\ndef g(v, made, old, new):\n    assert new.timeout == old.timeout * 1000, 'no'\n",
        "AssertionError: no",
    ),
    "batch": (
        '@transform("struct conn.timeout", batch=True)\ndef f(v): return v * 1000 + (v == 34)\n',
        "@f.check\ndef g(v, made): return made == v * 1000\n",
        "does not hold",
    ),
    "whole": (
        '@transform("struct conn")\n'
        "def f(old, new): new.timeout = old.timeout * 1000 + (old.timeout == 34)\n",
        "@f.check\ndef g(old, new): return new.timeout == old.timeout * 1000 and same(old.next, new.next)\n",
        "does not hold",
    ),
    "initialize": (
        '@initialize("struct conn.timeout")\ndef f(old): return old.timeout * 1000 + (old.timeout == 34)\n',
        "@f.check\ndef g(old, new): return new.timeout == old.timeout * 1000\n",
        "does not hold",
    ),
}


@pytest.mark.parametrize("name", _CHECKS)
def test_what_a_check_does_not_accept_rolls_back(name: str, attempt: tuple[Service, Try]) -> None:
    service, update = attempt
    handler, check, said = _CHECKS[name]
    result = update(handler + check)
    _refused(service, result, "check-failed", ["pool", "34", "wrong.py:", said])
    assert result.outcome == "rolled-back"


def test_what_is_checked_is_counted(attempt: tuple[Service, Try]) -> None:
    service, update = attempt
    handler = '@transform("struct conn.timeout")\ndef f(v): return v * 1000\n'
    result = update(handler + _CHECKS["member"][1])
    assert result.outcome == "updated", result.told()
    assert result.report is not None
    assert result.report["validation"]["checked"] == 12
    assert result.report["validation"]["unchecked"] == []
    assert service.ask("check") == "ok v2"


_READING = """
@invariant
def all_are_plausible(state):
    conns, one = [*state.pool.spare, *state.array.array(4)], state.conns
    while one:
        conns, one = [*conns, one], one.next
    return all(conn.timeout >= 0 for conn in conns)
"""


@pytest.mark.parametrize(
    ("reading", "missed"),
    [(_READING, ""), (_READING.replace("*state.pool.spare, ", ""), "pool.spare[0]")],
)
def test_invariants_count_for_what_they_read(reading: str, missed: str, attempt: tuple[Service, Try]) -> None:
    service, update = attempt
    result = update('@transform("struct conn.timeout")\ndef f(v): return v * 1000\n' + reading)
    if missed:
        _refused(service, result, "unchecked-handler", [missed, "3 made", "struct conn.timeout"])
        return
    assert result.outcome == "updated", result.told()
    assert service.ask("check") == "ok v2"


UNIONS = """
@resolve_union("struct value.u")
def of_value(value): return {{1: "number", 2: "text", 3: "other"}}.get(value.kind)

@of_value.backward
def of_new_value(value): return of_value(value)

@resolve_union("struct cell.number")
def of_cell(cell): return {forward}

@of_cell.backward
def of_new_cell(cell): return "text" if cell.is_text else "number"
"""


def test_of_a_union_the_member_in_use_comes_back(
    builder: Builder, start_service: StartService, tmp_path: Path
) -> None:
    """Its other bytes are what a smaller member left there."""
    scenario = Scenario.load(PROGRAMS / "handler-union")
    old, new = (scenario.build(version, Toolchain(), builder) for version in ("v1", "v2"))
    service, path = start_service(old), tmp_path / "wrong.py"
    assert service.ask("fill") == "ok v1"
    path.write_text(HEAD + UNIONS.format(forward='"number"'))
    update = service.update(new, "--handlers", str(path))
    _refused(service, update, "backward-difference", ["cells[1]", "of_cell.backward"])
    path.write_text(HEAD + UNIONS.format(forward='"text" if cell.is_text else "number"'))
    assert service.update(new, "--handlers", str(path)).outcome == "updated"
    assert service.ask("check") == "ok v2"


def test_there_and_back(builder: Builder, start_service: StartService, tmp_path: Path) -> None:
    scenario = Scenario.load(PROGRAMS / "handler-seconds-to-ms")
    old, new = (scenario.build(version, Toolchain(), builder) for version in ("v1", "v2"))
    path = tmp_path / "handlers.py"
    forward = '@transform("struct conn.timeout")\ndef f(seconds): return seconds * 1000\n'
    check = "@f.check\ndef c(seconds, made): return made == seconds * 1000\n"
    service = start_service(old)
    assert service.ask("fill") == "ok v1"
    path.write_text(HEAD + forward + check)
    assert service.update(new, "--handlers", str(path)).outcome == "updated"
    assert service.ask("check") == "ok v2"
    refused = service.rollback("--handlers", str(path))
    assert refused.report is not None
    assert refused.report["error"]["code"] == "handler-not-invertible", refused.told()
    path.write_text(HEAD + forward + "@f.backward\ndef g(milliseconds): return milliseconds // 1000\n")
    back = service.rollback("--handlers", str(path))
    assert back.outcome == "updated", back.told()
    assert service.ask("check") == "ok v1"
