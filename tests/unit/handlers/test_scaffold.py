"""What `instar scaffold` writes: it can be loaded, settles every problem, and says what it cannot know."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.handlers.test_bench import OLD

from instar.errors import RefusedError
from instar.handlers.binding import bind
from instar.handlers.module import find_handlers, run_handlers
from instar.handlers.scaffold import write_scaffold
from instar.metadata.version import Version
from instar.pairing.plan import plan_pairing
from instar.testing.handlers import HandlerBench
from instar.testing.versions import VersionBuilder


def _record(*, new: bool) -> Version:
    """A renamed struct with a renamed member, a union that changes, and an integer that narrows."""
    b = VersionBuilder()
    page = b.struct("sheet" if new else "page", 32)
    b.member(page, "id", b.c_int, 0)
    b.member(page, "next", b.pointer(page), 8)
    b.member(page, "count", b.c_int, 16)
    value = b.struct("value", 24)
    body = b.union("body", 8)
    b.member(body, "number", b.c_long if new else b.c_int, 0)
    b.member(body, "text", b.pointer(b.c_char), 0)
    b.member(value, "u", body, 0)
    b.member(value, "requests" if new else "hits", b.c_int, 8)
    b.member(value, "level", b.c_short if new else b.c_long, 16)
    b.variable("pages", b.pointer(page), address=0x4000)
    b.variable("values", b.pointer(value), address=0x4008)
    return b.build()


def test_it_settles_what_it_was_written_for() -> None:
    old, new = _record(new=False), _record(new=True)
    text, count = write_scaffold(plan_pairing(old, new))
    assert count
    assert 'pair("struct page", "struct sheet")' in text
    assert 'pair("struct value.hits", "struct value.requests")' in text
    assert '# @transform("struct value.level")' in text and "32767" in text
    binding = bind(run_handlers(text, "scaffold"), old, new)
    assert not plan_pairing(old, new, settled=binding.settled).problems


def test_what_it_writes_is_complete() -> None:
    """Every handler has a check, which refuses until it is filled in, too."""
    text, _ = write_scaffold(plan_pairing(_record(new=False), _record(new=True)))
    handlers = run_handlers(text, "scaffold").handlers
    assert handlers and all(handler.is_checked for handler in handlers)
    for handler in handlers:
        assert handler.predicate is not None
        with pytest.raises(NotImplementedError):
            handler.predicate(None, None)


def test_stubs_refuse_until_they_are_filled_in() -> None:
    old, new = _record(new=False), _record(new=True)
    text, _ = write_scaffold(plan_pairing(old, new))
    assert "#   old" in text and "raise NotImplementedError" in text
    with pytest.raises(RefusedError, match="NotImplementedError"):
        HandlerBench(text, old=old, new=new).run("struct value", {"hits": 3})


def test_nothing_is_needed_for_the_same_version() -> None:
    text, count = write_scaffold(plan_pairing(OLD, OLD))
    assert not count and "nothing is needed" in text
    assert not run_handlers(text, "scaffold").handlers


def test_a_file_beside_the_new_program_is_found(tmp_path: Path) -> None:
    program = tmp_path / "server"
    assert find_handlers(None, program) is None
    beside = tmp_path / "server.instar.py"
    beside.write_text("")
    assert find_handlers(None, program) == beside
    assert find_handlers(tmp_path / "other.py", program) == tmp_path / "other.py"
