"""Handlers run by hand: what they see, what they may store, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from instar.errors import RefusedError
from instar.ext.values import HandlerError, RangeError, ReadOnlyError, TypeMismatchError
from instar.metadata.version import Version
from instar.testing.handlers import HandlerBench, run_handler
from instar.testing.versions import VersionBuilder

HEAD = "from instar.ext import *\n"


def _version(*, new: bool) -> Version:
    """struct conn: a timeout in other units under another name, a renamed and a new member."""
    b = VersionBuilder()
    conn = b.struct("conn", 64)
    mode = b.enum("mode", {"SLEEPING": 5, "BUSY": 1} if new else {"IDLE": 0, "BUSY": 1})
    b.member(conn, "id", b.c_int, 0)
    b.member(conn, "timeout_ms" if new else "timeout", b.c_int, 4)
    b.member(conn, "name", b.array(b.c_char, 16), 8)
    b.member(conn, "next", b.pointer(conn), 24)
    b.member(conn, "socket" if new else "fd", b.c_int, 32)
    b.member(conn, "mode", mode, 36)
    b.member(conn, "label", b.pointer(b.c_char), 40)
    b.member(conn, "ports", b.array(b.integer("short", 2), 3), 48)
    if new:
        b.member(conn, "deadline", b.c_int, 56)
    b.variable("limit" if new else "maximum", b.c_int, address=0x4000)
    b.variable("conns", b.pointer(conn), address=0x4008)
    point = b.struct("point", 8)
    b.member(point, "left" if new else "x", b.integer("short", 2) if new else b.pointer(conn), 0)
    b.variable("origin", point, address=0x4010)
    return b.build()


OLD, NEW = _version(new=False), _version(new=True)
RULES = """
pair("struct conn.fd", "struct conn.socket")

@transform("struct conn.timeout_ms", from_="struct conn.timeout")
def milliseconds(seconds):
    return seconds * 1000

@milliseconds.backward
def seconds(milliseconds):
    return milliseconds // 1000

@milliseconds.check
def is_thousandfold(seconds, milliseconds):
    return milliseconds == seconds * 1000

@transform("enum mode")
def mode(value):
    return {"IDLE": "SLEEPING", "BUSY": "BUSY"}[value.name]

@initialize("struct conn.deadline")
def deadline(old, new):
    return old.id + new.timeout_ms

@deadline.check
def is_later(old, new):
    assert new.deadline - new.timeout_ms == old.id, "not later"

@transform("limit", from_="maximum")
def limit(value):
    return value * 2

@limit.check
def is_double(value, made):
    return made == 2 * value
"""


def bench(source: str = RULES) -> HandlerBench:
    return HandlerBench(HEAD + source, old=OLD, new=NEW)


def test_everything_at_once() -> None:
    new = bench().run(
        "struct conn",
        {
            "id": 3,
            "timeout": 30,
            "name": "a name",
            "fd": 7,
            "mode": "IDLE",
            "ports": [1, -2, 3],
            "label": "x",
        },
    )
    assert (new.id, new.timeout_ms, new.socket, new.deadline) == (3, 30000, 7, 30003)
    assert new.name.string() == "a name" and new.label.string() == "x"
    assert new.mode.name == "SLEEPING" and list(new.ports) == [1, -2, 3]
    assert not new.next


def test_what_is_pointed_at_is_converted_once() -> None:
    one = bench()
    inner = one.old("struct conn", {"timeout": 1})
    new = one.run("struct conn", {"timeout": 2, "next": inner})
    assert new.next.timeout_ms == 1000 and new.timeout_ms == 2000
    assert one.run("struct conn", {"next": inner}).next == new.next


def test_variables_and_the_way_back() -> None:
    one = bench()
    one.past.maximum = 21
    assert one.variable("limit") == 42
    assert one.back("struct conn.timeout_ms", 30000) == 30


def test_run_handler() -> None:
    new = run_handler(HEAD + RULES, "struct conn", {"timeout": 1}, old=OLD, new=NEW)
    assert new.timeout_ms == 1000


def test_checks_are_asked_alone() -> None:
    one = bench()
    assert one.check("struct conn.timeout_ms", 30, 30000)
    assert not one.check("struct conn.timeout_ms", 30, 30001)
    with pytest.raises(KeyError, match="no check"):
        one.check("enum mode", 1, 1)


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("return seconds * 1000", "return seconds * 1001", "does not hold (old = 30; new = 30030)"),
        ("return old.id + new.timeout_ms", "return old.id", "AssertionError: not later"),
        ("return milliseconds == seconds * 1000", "return 1", "it returned 1: return True or False"),
        ("def is_thousandfold(seconds, milliseconds):", "def is_thousandfold(seconds):", "2 or 4 arguments"),
        ("return milliseconds == seconds * 1000", "past.maximum = 1", "read-only"),
        ("return milliseconds == seconds * 1000", "future.limit = 1", "a check changes nothing"),
        ("return milliseconds == seconds * 1000", "alloc('int')", "nothing can be allocated"),
    ],
)
def test_what_a_check_does_not_accept(right: str, wrong: str, said: str) -> None:
    assert right in RULES
    with pytest.raises(RefusedError) as caught:
        bench(RULES.replace(right, wrong)).run("struct conn", {"id": 3, "timeout": 30, "mode": "IDLE"})
    assert caught.value.code == "check-failed"
    assert said in caught.value.cause and "handlers:" in caught.value.cause, caught.value.cause


def test_a_variable_is_checked() -> None:
    one = bench(RULES.replace("return value * 2", "return value * 2 + 1"))
    one.past.maximum = 3
    with pytest.raises(RefusedError, match="variable limit: check of transform limit") as caught:
        one.variable("limit")
    assert caught.value.code == "check-failed"


SAME = """
@transform("struct conn")
def whole(old, new):
    {body}

@whole.check
def is_same(old, new):
    return same(old.next, new.next) and same(old.name, new.name) and same(old.ports, new.ports)
"""


@pytest.mark.parametrize("body", ["pass", "new.next = new", "new.name = 'z'", "new.ports = [1]"])
def test_what_is_the_same(body: str) -> None:
    one = bench(RULES + SAME.format(body=body))
    inner = one.old("struct conn", {"timeout": 1, "name": "z", "ports": [1], "mode": "IDLE"})
    values = {"next": inner, "name": "a", "ports": [1, 2], "mode": "IDLE"}
    if body == "pass":
        assert one.run("struct conn", values).name.string() == "a"
        return
    with pytest.raises(RefusedError, match="check of transform struct conn"):
        one.run("struct conn", values)


def test_structs_with_nothing_in_common_are_not_the_same() -> None:
    """All of no members would be the same."""
    same = "same(past.origin, future.origin)"
    one = bench(RULES.replace("return made == 2 * value", f"return {same}"))
    with pytest.raises(RefusedError, match="have no member in common") as caught:
        one.variable("limit")
    assert caught.value.code == "check-failed"


def test_only_one_check() -> None:
    source = RULES + "@limit.check\ndef another(value, made): return True\n"
    with pytest.raises(RefusedError, match="limit has a check already"):
        bench(source)


def _error(body: str, values: dict[str, Any] | None = None) -> str:
    source = (
        RULES.replace("return seconds * 1000", "return 0")
        + f"""
@transform("struct conn")
def whole(old, new):
    {body}
"""
    )
    with pytest.raises(RefusedError) as caught:
        bench(source).run("struct conn", values or {"id": 3, "name": "abc", "mode": "IDLE"})
    assert caught.value.code == "handler-failed"
    return caught.value.cause


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("new.id = 1 << 31", ["new.id", "does not fit int", "-2147483648"]),
        ("new.id = 1.0", ["new.id", "1.0", "say int(...)"]),
        ("new.id = 'x'", ["new.id", "'x' (str)"]),
        ("new.ids = 1", ["no member `ids`", "did you mean id"]),
        ("old.id = 1", ["read-only"]),
        ("old.name[0] = 1", ["read-only"]),
        ("new.name = 'sixteen letters!'", ["room for 16 bytes, not for 17"]),
        ("new.name[16]", ["16 elements"]),
        ("new.name['a']", ["whole number"]),
        ("new.ports = [1, 2, 3, 4]", ["3 elements, 4"]),
        ("new.ports = [1, 2, 40000]", ["new.ports[2]", "does not fit"]),
        ("new.mode = 'IDLE'", ["no enumerator IDLE", "SLEEPING, BUSY"]),
        ("new.mode = old.mode", ["no enumerator IDLE"]),
        ("new.next.id", ["new.next is null"]),
        ("new.next = 5", ["raw()"]),
        ("new.label = 'text'", ["alloc_string()"]),
        ("new.next = alloc('int')", ["not at int"]),
        ("new.next = alloc('struct none')", ["no one type `struct none`"]),
        ("new.next = old.name", ["struct conn"]),
        ("new.label = tagged(new, 8); new.label = tagged(new, 4096)", ["4096 is no tag"]),
        ("old.next.string()", ["null"]),
        ("cast(old.id, 'struct conn')", ["pointer type"]),
        ("past.nothing", ["nothing"]),
        ("past.conns = None", ["read-only"]),
        ("call('main')", ["after_transfer"]),
        ("return 1", ["store in `new`"]),
        ("raise KeyError('k')", ["KeyError", "old = struct conn {id=3", "handlers:"]),
    ],
)
def test_mistakes_are_named(body: str, names: list[str]) -> None:
    cause = _error(body)
    assert not [name for name in names if name not in cause], cause


def test_what_may_be_stored() -> None:
    source = (
        RULES.replace("assert new.deadline", "return\n    assert new.deadline")  # it is overwritten
        + """
@transform("struct conn")
def whole(old, new):
    new.next = alloc("struct conn")
    new.next.name = "inner"
    new.next.next = new
    new.label = alloc_string("a label")
    new.ports = [7]
    new.mode = "BUSY"
    block = alloc("struct conn", 3)
    block[2].id = 9
    block[1] = {"id": 4, "name": "four"}
    block[0] = block[1]
    new.next.socket = sum(one.id for one in block)
    new["deadline"] = len(members_of(new))
    assert type_of(new) == "struct conn" and address_of(new) == int(new.next.next)
    future.conns = block[2]
    future.limit = past.maximum + 1
"""
    )
    one = bench(source)
    one.past.maximum = 4
    new = one.run("struct conn", {"ports": [1, 2, 3]})
    assert new.next.name.string() == "inner" and new.next.next == new.next.next
    assert list(new.ports) == [7, 0, 0] and new.mode.name == "BUSY" and new.label.string() == "a label"
    assert new.next.socket == 17 and new.deadline == 9
    assert one.future.conns.id == 9 and one.future.limit == 5


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ('pair("struct conn.nothing", "struct conn.id")', "handler-unknown-name"),
        ('pair("struct conn", "enum mode")', "handler-mismatch"),
        (
            'pair("struct conn.fd", "struct conn.socket")\npair("struct conn.fd", "struct conn.id")',
            "handler-conflict",
        ),
        ('@transform("int")\ndef f(v): return v', "handler-mismatch"),
        ('@initialize("enum mode")\ndef f(v): return v', "handler-mismatch"),
        ('@on("sometimes")\ndef f(): pass', "handlers-not-loaded"),
        ("transform(3)", "handlers-not-loaded"),
        ("1 / 0", "handlers-not-loaded"),
        ("import no_such_module", "handlers-not-loaded"),
        ("raise SystemExit(0)", "handlers-not-loaded"),
    ],
)
def test_wrong_files(source: str, code: str) -> None:
    with pytest.raises(RefusedError) as caught:
        bench(source)
    assert caught.value.code == code


def test_handlers_settle_what_they_are_for() -> None:
    assert {p.code for p in HandlerBench(HEAD, old=OLD, new=NEW).plan.problems} >= {"likely-rename"}
    assert not bench().plan.problems


def test_outside_of_a_handler_nothing_is_there() -> None:
    from instar.ext import alloc, past

    with pytest.raises(HandlerError):
        alloc("int")
    with pytest.raises(HandlerError):
        _ = past.conns


def test_errors_are_what_they_seem() -> None:
    assert issubclass(RangeError, ValueError)
    assert issubclass(ReadOnlyError, TypeError) and issubclass(TypeMismatchError, TypeError)
