"""What comes from a peer that is not trusted is a value of the expected type, or garbage."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.pairing.problems import Problem
from instar.process.maps import Mapping
from instar.process.registers import Registers
from instar.transfer.plan import PATCH, Figures, KeptRange, TransferPlan, Write
from instar.update.details import Details
from instar.update.errand import error_from, error_to, own_plan
from instar.update.exchange import GarbageError, Message, Wire
from instar.validation.outcome import Validation

EXPECTED = (
    TransferPlan,
    Details,
    Validation,
    Registers,
    list[Problem],
    dict[int, int],
    tuple[str, ...],
    bool,
)


def through(*values: object) -> Message:
    """What arrives of a message."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Wire(ours, None).send("word", *values)
        return Wire(theirs, None).receive()


def receive(raw: bytes) -> Message:
    """What bytes are taken for."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(raw)
        ours.shutdown(socket.SHUT_WR)
        return Wire(theirs, None).receive()


def frame(value: object, data: bytes = b"") -> bytes:
    text = json.dumps(value).encode()
    return struct.pack("<IQ", len(text), len(data)) + text + data


def plan() -> TransferPlan:
    kept = KeptRange(
        4096, 8192, np.array([[4096, 64]], np.uint64), np.array([[4096, 4096]], np.uint64),
        np.arange(4096, dtype=np.uint16).view(np.uint8)[:4096], 4096, True, 1,
        Mapping(4096, 8192, "rw-s", 0, (8, 1), 7, "/tmp/\udcff file"), np.array([(4100, 1 << 63)], PATCH),
    )  # fmt: skip
    return TransferPlan(
        (kept,), None, (Write(5, b"bytes"), Write(6, np.zeros(3, np.uint8))), {3: (1 << 64) - 1},
        (Problem("code", "path", "cause", "remedy"),), ("warning",), Figures({"heap": 2}, 1, 2, 3, 4, 5),
        lambda words: (words, words), True,
    )  # fmt: skip


def test_a_plan_arrives_whole() -> None:
    sent = plan()
    got = own_plan(through(sent).value(0, TransferPlan), lambda words: (words, words))
    for one, other in zip(sent.kept, got.kept, strict=True):
        columns = ("blocks", "pages", "data", "patches")
        for name in columns:
            column = getattr(other, name)
            assert column.dtype == getattr(one, name).dtype and (column == getattr(one, name)).all()
        rest = [field.name for field in fields(one) if field.name not in columns]
        assert rest and [getattr(one, name) for name in rest] == [getattr(other, name) for name in rest]
    assert [(w.address, bytes(w.data)) for w in got.writes] == [(5, b"bytes"), (6, bytes(3))]
    for name in ("arena", "registers", "problems", "warnings", "figures", "refreshed"):
        assert getattr(got, name) == getattr(sent, name)


def test_other_values_arrive_whole() -> None:
    registers = Registers(rax=(1 << 64) - 1)
    message = through(registers, {1: 2}, None, "\ud800", 1.5, np.int64(7), [True])
    assert message.value(0, Registers) == registers
    assert message.value(1, dict[int, int]) == {1: 2}
    assert message.value(2, str | None) is None
    assert (message.value(3, str), message.value(4, float), message.value(5, int)) == ("\ud800", 1.5, 7)
    assert message.value(6, tuple[bool, ...]) == (True,)


def test_errors_keep_their_words() -> None:
    from instar.errors import FaultError, RefusedError

    got = error_from(through(*error_to(RefusedError("a-code", "why", "what to do", details=("more",)))))
    assert type(got) is RefusedError
    assert (got.code, got.cause, got.remedy, got.details) == ("a-code", "why", "what to do", ("more",))
    fault = error_from(through(*error_to(FaultError(99, 1, 2))))
    assert isinstance(fault, FaultError) and fault.address == 99
    assert error_from(through(*error_to(ZeroDivisionError("x")))).code == "internal"
    with pytest.raises(GarbageError):
        error_from(through("SystemExit", "", "", "", []))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(raw: bytes) -> None:
    for data in (raw, struct.pack("<IQ", len(raw), 0) + raw):
        with pytest.raises((GarbageError, EOFError)):
            receive(data)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just({"array": 0}),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=30,
)


@settings(max_examples=60, deadline=None)
@given(JSON, JSON, st.binary(max_size=64))
def test_random_values(value: Any, described: Any, data: bytes) -> None:
    try:
        message = receive(frame([["done", value], described], data))
    except GarbageError:
        return
    for expected in EXPECTED:
        try:
            got = message.value(0, expected)
        except GarbageError:
            continue
        if expected is TransferPlan:
            own_plan(got, lambda words: (words, words))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_plan_with_something_else_in_it(data: st.DataObject) -> None:
    """One place of a good plan replaced by anything: a plan of the right types, or garbage."""
    holder: list[bytes] = []

    class Sink:
        def sendall(self, piece: bytes) -> None:
            holder.append(bytes(piece))

    Wire(Sink(), None).send("done", plan())  # type: ignore[arg-type]
    length, _ = struct.unpack("<IQ", holder[0][:12])
    value = json.loads(holder[0][12 : 12 + length])
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in (
            range(len(node)) if isinstance(node, list) else list(node) if isinstance(node, dict) else ()
        ):
            places.append((node, key))
            walk(node[key])

    walk(value)
    node, key = data.draw(st.sampled_from(places))
    node[key] = data.draw(JSON)
    text = json.dumps(value).encode()
    rest = holder[0][12 + length :] + b"".join(holder[1:])
    try:
        message = receive(struct.pack("<IQ", len(text), len(rest)) + text + rest)
        got = own_plan(message.value(0, TransferPlan), lambda words: (words, words))
    except (GarbageError, EOFError):
        return
    assert isinstance(got.refreshed, bool) and all(isinstance(w.address, int) for w in got.writes)
    assert all(kept.pages.dtype == np.uint64 and kept.data.dtype == np.uint8 for kept in got.kept)


WRONG: list[Callable[[KeptRange], KeptRange]] = [
    lambda kept: replace(kept, pages=np.zeros((1, 3), np.uint64)),
    lambda kept: replace(kept, pages=np.zeros((1, 2), np.int32)),
    lambda kept: replace(kept, data=np.zeros(9, np.uint64)),
    lambda kept: replace(kept, patches=np.array([(9, 1), (8, 1)], PATCH)),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_columns_of_another_shape(wrong: Callable[[KeptRange], KeptRange]) -> None:
    good = plan()
    with pytest.raises(GarbageError):
        own_plan(replace(good, kept=(wrong(good.kept[0]),)), lambda words: (words, words))
