"""Files of repairs: what may be in them, and repairs of objects made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.errors import RefusedError, UsageError
from instar.ext.values import RangeError
from instar.handlers.repairing import Repairs
from instar.metadata.version import Version
from instar.state.slots import build_type_table
from instar.testing.handlers import HandlerBench, run_repair
from instar.testing.versions import VersionBuilder
from instar.validation.taint import TaintPolicy

HEAD = "from instar.ext import *\n"


def _version() -> Version:
    b = VersionBuilder()
    buffer = b.struct("buffer", 24)
    b.member(buffer, "used", b.c_int, 0)
    b.member(buffer, "data", b.array(b.c_char, 8), 4)
    b.member(buffer, "next", b.pointer(buffer), 16)
    b.variable("first", b.pointer(buffer), address=0x4000)
    b.variable("count", b.c_int, address=0x4008)
    return b.build()


OLD = _version()
CUT = """
@repair("struct buffer")
def cut(buffer):
    buffer.used = min(buffer.used, len(buffer.data))
    while buffer.next:
        if buffer.next == buffer:
            buffer.next = None
"""


def test_an_object_is_repaired_in_place() -> None:
    assert run_repair(HEAD + CUT, "struct buffer", {"used": 12}, old=OLD).used == 8
    assert run_repair(HEAD + CUT, "struct buffer", {"used": 3}, old=OLD).used == 3


def test_stores_are_checked() -> None:
    with pytest.raises(RangeError, match="does not fit"):
        run_repair(
            HEAD + "@repair('struct buffer')\ndef f(b):\n    b.used = 1 << 40\n",
            "struct buffer",
            {},
            old=OLD,
        )


WRONG = {
    "an update's handler": (
        "@transform('struct buffer')\ndef f(old, new): pass",
        "handler-mismatch",
        "no repair",
    ),
    "a pair": ("pair('first', 'first')", "handler-mismatch", "nothing else"),
    "nothing": ("", "handler-mismatch", "nothing else"),
    "a member": ("@repair('struct buffer.used')\ndef f(b): pass", "handler-mismatch", "a member"),
    "no such thing": ("@repair('struct bufer')\ndef f(b): pass", "handler-unknown-name", "struct buffer"),
    "a line of nonsense": ("@repair(", "handlers-not-loaded", ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused(name: str, tmp_path: Path) -> None:
    body, code, text = WRONG[name]
    path = tmp_path / "repairs.py"
    path.write_text(HEAD + body + "\n")
    with pytest.raises(RefusedError) as caught:
        Repairs(path, OLD, build_type_table(OLD))
    assert caught.value.code == code
    assert text in f"{caught.value.cause} {caught.value.remedy}"


def test_a_repair_among_handlers_is_refused() -> None:
    with pytest.raises(RefusedError, match="file of its own"):
        HandlerBench(HEAD + CUT, old=OLD, new=OLD)


def test_the_option_may_be_given_more_than_once() -> None:
    parts = [TaintPolicy.parse(text) for text in ("abort", "allow=a,b->c", "allow=d", "repair=x=y.py")]
    joined = TaintPolicy.join(parts)
    assert joined.abort and joined.repair == Path("x=y.py")
    assert joined.allow == {"a", "b->c", "d"}
    with pytest.raises(UsageError, match="twice"):
        TaintPolicy.join([parts[3], parts[3]])
    with pytest.raises(UsageError):
        TaintPolicy.parse("repair=")
