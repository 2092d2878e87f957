"""A handler file runs anew before its handlers do: what they kept is of a state that is no more."""

from __future__ import annotations

import pytest

from instar.errors import RefusedError
from instar.handlers.inverse import invert
from instar.handlers.module import forget, run_handlers

KEEPING = """
from instar.ext import transform

seen = []

@transform("count")
def count(value):
    seen.append(value)
    return len(seen)

@count.backward
def uncount(value):
    return value - len(seen)

@count.check
def counted(value, made):
    return made == len(seen)
"""


@pytest.mark.parametrize("turned", [False, True])
def test_its_variables_are_as_at_the_start(turned: bool) -> None:
    registry = run_handlers(KEEPING, "keeping")
    registry = invert(registry) if turned else registry
    (handler,) = registry.handlers
    forwards = handler.inverse if turned else handler.function
    assert forwards is not None
    assert [forwards(7), forwards(7)] == [1, 2]
    forget(registry)
    backwards = handler.function if turned else handler.inverse
    assert backwards is not None
    assert backwards(5) == 5, "its halves share the new variables"
    assert turned or (handler.predicate is not None and handler.predicate(7, 0))


def test_what_declares_something_else_is_refused() -> None:
    once = "import builtins\nn = builtins.__dict__['instar_n'] = builtins.__dict__.get('instar_n', 0) + 1\n"
    text = f"{once}from instar.ext import transform\ntransform(f'a{{n}}')(abs)\n"
    registry = run_handlers(text, "other")
    with pytest.raises(RefusedError, match="other handlers when it runs a second time"):
        forget(registry)
