"""What a worker tells of a value and a state is data, and stays what it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from instar.pairing.problems import Problem
from instar.state.values import Symbol
from instar.update.exchange import GarbageError
from instar.update.look import Census, Seen, Shown, _wrap

CENSUS = Census((), 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "rendered",
    [3, -1, 1 << 70, 2.5, None, "text", Symbol("GREEN"), [], [1, "a", Symbol("b")], {}, {"a": {"b": [None]}},
     {"symbol": "text"}, {"members": [1]}, [[["\udcff\0"]]], True],
)  # fmt: skip
def test_a_value_comes_over(rendered: Any) -> None:
    found = Shown("int", 1, 2, json.dumps(_wrap(rendered))).rendered
    assert found == rendered and type(found) is type(rendered)
    if isinstance(rendered, list):
        assert [type(one) for one in found] == [type(one) for one in rendered]


@pytest.mark.parametrize(
    "contents", ["", "{", '{"members": 3}', '{"members": [[1]]}', "[" * 100_000, '{"a": 1}']
)
def test_what_is_no_value_is_garbage(contents: str) -> None:
    with pytest.raises(GarbageError):
        _ = Shown("int", 1, 2, contents).rendered


def test_a_state_is_wrong_by_its_problems() -> None:
    problem = Problem("wild-pointer", "head", "why", "what to do")
    assert Seen(CENSUS, {}, 0, (problem,), ()).is_wrong
    assert not Seen(CENSUS, {}, 0, (), ("a warning",)).is_wrong
