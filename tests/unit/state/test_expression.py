"""A name that the program does not have: what it has is told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from instar.errors import RefusedError
from instar.state.expression import evaluate
from instar.testing.versions import VersionBuilder


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), "it has none"),
        (("tables", "users"), "it has tables, users"),
        (tuple(f"users{index:02}" for index in range(11)), "users06, users07 and 3 more"),
        (("entries", "hall"), "did you mean entries?"),
    ],
)
def test_what_there_is_is_told(names: tuple[str, ...], told: str) -> None:
    builder = VersionBuilder()
    for index, name in enumerate(names):
        builder.variable(name, builder.c_int, 0x4000 + 8 * index)
    subject = SimpleNamespace(version=builder.build(), load_bias=0, memory=None, thread_pointer=0)
    with pytest.raises(RefusedError) as caught:
        evaluate(subject, "entrees")  # type: ignore[arg-type]
    assert caught.value.code == "no-such-variable" and caught.value.remedy.endswith(told)
