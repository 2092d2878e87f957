"""Handler modules turned round."""

from __future__ import annotations

import pytest
from tests.unit.handlers.test_bench import HEAD, NEW, OLD, RULES

from instar.errors import RefusedError
from instar.handlers.inverse import invert
from instar.handlers.module import run_handlers
from instar.testing.handlers import HandlerBench

BOTH_WAYS = (
    RULES
    + """
@mode.backward
def old_mode(value):
    return {"SLEEPING": "IDLE", "BUSY": "BUSY"}[value.name]

@limit.backward
def old_limit(value):
    return value // 2
"""
)


def test_there_and_back() -> None:
    source = {"id": 3, "timeout": 30, "fd": 7, "mode": "IDLE", "name": "x"}
    new = HandlerBench(HEAD + BOTH_WAYS, old=OLD, new=NEW).run("struct conn", source)
    back = HandlerBench(invert(run_handlers(HEAD + BOTH_WAYS, "handlers")), old=NEW, new=OLD)
    values = {name: getattr(new, name) for name in ("id", "timeout_ms", "socket", "deadline")}
    old = back.run("struct conn", {**values, "mode": new.mode.name, "name": new.name.string()})
    assert (old.id, old.timeout, old.fd, old.mode.name, old.name.string()) == (3, 30, 7, "IDLE", "x")
    back.past.limit = 42
    assert back.variable("maximum") == 21


def test_without_a_backward_half_there_is_no_way_back() -> None:
    with pytest.raises(RefusedError) as caught:
        invert(run_handlers(HEAD + RULES, "handlers"))
    assert caught.value.code == "handler-not-invertible"
    assert "enum mode" in caught.value.cause and "@mode.backward" in caught.value.remedy
