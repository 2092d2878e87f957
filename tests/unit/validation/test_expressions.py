"""Expressions see a program's typed state and nothing else."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from instar.errors import FaultError, RefusedError, UsageError
from instar.state.capture import Subject
from instar.testing.versions import VersionBuilder
from instar.validation import expressions
from instar.validation.conditions import Conditions
from instar.validation.expressions import Expression

NODES, STATICS = 0x5000, 0x4000


class Memory:
    """Two pieces of memory."""

    def __init__(self, pieces: dict[int, bytes]) -> None:
        self.pieces = pieces
        self.pid = 1

    def read(self, address: int, size: int) -> bytes:
        for start, data in self.pieces.items():
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
        raise FaultError(address, size, 1)


def world(links: list[int]) -> tuple[Subject, Memory]:
    """``struct node {struct node *next; long key;} *head; long count; int row[3]; enum mode mode;``"""
    builder = VersionBuilder()
    node = builder.struct("node", 16)
    pointer = builder.pointer(node)
    builder.member(node, "next", pointer, 0)
    builder.member(node, "key", builder.c_long, 8)
    mode = builder.enum("mode", {"IDLE": 0, "BUSY": 7})
    for name, kind, address in (
        ("head", pointer, 0),
        ("count", builder.c_long, 8),
        ("row", builder.array(builder.c_int, 3), 16),
        ("mode", mode, 28),
        ("name", builder.array(builder.c_char, 8), 32),
    ):
        builder.variable(name, kind, STATICS + address)
    nodes = b"".join(struct.pack("<Qq", link, 10 + i) for i, link in enumerate(links))
    head = NODES if links else 0
    statics = struct.pack("<Qq3iI8s", head, len(links), 1, 2, 3, 7, b"eth0")
    memory = Memory({NODES: nodes, STATICS: statics})
    subject: Any = Subject(1, builder.build(), memory, (), 0, None)  # type: ignore[arg-type]
    return subject, memory


def value(text: str, links: list[int] | None = None) -> Any:
    """Of an expression over three nodes."""
    subject, memory = world([NODES + 16, NODES + 32, 0] if links is None else links)
    return Expression(text).value(subject, memory)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("len(list(head)) == count", True),
        ("sum(n.key for n in list(head))", 33),
        ("[n->key for n in list(head) if n.key != 11]", [10, 12]),
        ("head->next->next->key", 12),
        ("row[0] + row[1] * row[2] - 1", 6),
        ("len(row)", 3),
        ("max(row) == 3 and min(row) == 1 and not any(x > 3 for x in row)", True),
        ("mode == BUSY and mode != IDLE", True),
        ("name == 'eth0' and len(name) == 4", True),
        ("'->' != name", True),
        ("head->next->next->next == NULL", True),
        ("1 < row[1] < 3", True),
        ("2 in [x for x in row]", True),
        ("(count if count > 5 else -count) == -3", True),
        ("list(head, 'next')[1].key", 11),
        ("static('count') << 2 | 1", 13),
    ],
)
def test_value(text: str, expected: Any) -> None:
    assert value(text) == expected


def test_ring_ends_where_it_began() -> None:
    assert value("len(list(head))", [NODES + 16, NODES]) == 2


def test_empty_list() -> None:
    assert value("len(list(head)) == count", []) is True


def test_list_that_comes_back_elsewhere() -> None:
    with pytest.raises(RefusedError) as caught:
        value("len(list(head))", [NODES + 16, NODES + 32, NODES + 16])
    assert caught.value.code == "list-cycle"


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__",
        "head.__class__",
        "'a'.join",
        "open('/etc/passwd')",
        "(lambda: 1)()",
        "[x for x in row for y in row]",
        "(x := 3)",
        "f'{count}'",
        "2 ** 100000",
        "1 << 100000",
        "'x' * 1000000000",
        "row[0:2]",
        "b'bytes'",
        "{1: 2}",
        "count is 3",
        "list",
        "len()",
        "len(row, row)",
        "len(x=row)",
        "head +",
        "1 / 0",
        "head.key.more",
        "",
        "a" * 10_000 + "(",
        "(" * 500 + ")" * 500,
    ],
)
def test_what_is_not_allowed(text: str) -> None:
    with pytest.raises((UsageError, RefusedError)):
        value(text)


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "STEPS", 3000)
    inner = "1"
    for name in "abcdefgh":
        inner = f"sum({inner} for {name} in row)"
    with pytest.raises(RefusedError) as caught:
        value(inner)
    assert caught.value.code == "too-many-steps"


def test_both_sides_are_shown() -> None:
    subject, memory = world([0])
    (broken,) = Conditions.parse({"invariants": {"few": "len(list(head)) == count + 1"}}, "x").broken(
        subject, memory, "old version"
    )
    assert broken.code == "invariant-broken" and "(1 == 2)" in broken.cause


def test_unknown_names() -> None:
    subject, _ = world([0])
    assert Expression("sum(x.key for x in list(head)) + gone + BUSY").unknown(subject.version) == ["gone"]
