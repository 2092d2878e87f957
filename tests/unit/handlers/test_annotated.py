"""Tags of pointers as the program itself says them: what becomes of words, and who comes first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from instar.errors import RefusedError
from instar.ext.registry import Registry
from instar.handlers.annotated import annotated_handlers
from instar.handlers.declared import is_tagged_alike
from instar.handlers.module import run_handlers
from instar.handlers.store import Tagged
from instar.metadata.annotations import NOTES, UnionNote, tag_mask, union_notes
from instar.metadata.elf import Section
from instar.metadata.version import Version
from instar.testing.handlers import HandlerBench
from instar.testing.versions import VersionBuilder


def _version(name: str = "instar_tagged_7_word", *, static: bool = False) -> Version:
    b = VersionBuilder()
    node = b.struct("node", 24)
    word = b.typedef(name, b.integer("unsigned long", 8, signed=False))
    b.member(node, "next", word, 0)
    b.member(node, "key", b.c_int, 8)
    b.variable("first", word if static else b.pointer(node), address=0x4000)
    return b.build()


def _bench(version: Version) -> HandlerBench:
    registry = Registry()
    registry.handlers += annotated_handlers(version, version, registry)
    return HandlerBench(registry, old=version, new=version)


def test_the_address_is_translated_and_the_tag_stays() -> None:
    bench = _bench(_version())
    target = bench.old("struct node", {"key": 4})
    address = target._instar_address
    new = bench.run("struct node", {"next": address | 5})
    assert new.next & 7 == 5
    assert new.next != address | 5


@pytest.mark.parametrize("word", [0, 3])
def test_a_tag_without_an_address_stays(word: int) -> None:
    assert _bench(_version()).run("struct node", {"next": word}).next == word


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("instar_tagged_1_t", 1),
        ("instar_tagged_0x0f_node_ptr", 15),
        ("instar_tagged_256_t", 0),
        ("instar_tagged_0_t", 0),
        ("instar_tagged_MASK_t", 0),
        ("instar_pxfer_t", 0),
    ],
)
def test_masks(name: str, mask: int) -> None:
    version = _version(name)
    (row,) = version.find_types(name)
    assert tag_mask(version, row) == mask


def test_a_handler_of_the_user_comes_first() -> None:
    text = "from instar.ext import *\n@resolve_pointer('struct node.next')\ndef f(old): return None\n"
    assert annotated_handlers(_version(), _version(), run_handlers(text, "handlers")) == []


@pytest.mark.parametrize("word", [0, 5])
def test_a_tagged_variable_is_translated(word: int) -> None:
    bench = _bench(_version(static=True))
    target = bench.old("struct node", {"key": 4})
    address = target._instar_address if word else 0
    bench.past.first = address | word
    new = bench.variable("first")
    assert new & 7 == word and (new == 0) == (word == 0) and (not word or new != address | word)


def _leads_same(past: int, future: int) -> bool:
    return (past, future) in ((0, 0), (0x1000, 0x2000))


@pytest.mark.parametrize(
    ("found", "same"), [(0x2005, True), (0x2000, False), (0x2004, False), (0x200D, False), (0x1005, False)]
)
def test_what_is_declared_is_checked(found: int, same: bool) -> None:
    """A word that did not follow its object, or lost its bits, is no answer."""
    assert is_tagged_alike(Tagged(0x1000, 5), found, _leads_same) == same
    assert is_tagged_alike([Tagged(None, 3), Tagged(0x1000, 5)], [3, found], _leads_same) == same
    assert not is_tagged_alike([Tagged(None, 3)], [2], _leads_same)


def test_a_tagged_variable_without_a_name_of_its_own_is_refused() -> None:
    version = _version(static=True)
    with pytest.raises(RefusedError, match="there are several of that name") as caught:
        annotated_handlers(_doubled(), version, Registry())
    assert caught.value.code == "bad-annotation"


def _doubled() -> Version:
    """With the same variable twice in its unit."""
    b = VersionBuilder()
    word = b.typedef("instar_tagged_7_word", b.integer("unsigned long", 8, signed=False))
    for address in (0x4000, 0x4008):
        b.variable("first", word, address=address)
    return b.build()


# Texts of INSTAR_UNION --------------------------------------------------------------------------------------


def _noted(*texts: str) -> Version:
    version = _version("instar_pxfer_t")
    data = b"".join(text.encode() + b"\0" for text in texts)
    section = Section(NOTES, 0x9000, len(data), 0, 2, 1)
    version.elf = replace(version.elf, sections=(section,), image=memoryview(data))
    return version


def test_a_text_is_read_with_spaces_and_a_comma_at_its_end() -> None:
    (note,) = union_notes(_noted("union|struct  value.u| kind |1: number, TEXT : text,*: other, "))
    assert note == UnionNote("struct value.u", "kind", (("1", "number"), ("TEXT", "text")), "other")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("union|struct value.u|kind", "three texts"),
        ("union|struct value.u|kind|1: a|2: b", "three texts"),
        ("onion|struct value.u|kind|1: a", "three texts"),
        ("union||kind|1: a", "not named"),
        ("union|struct value.u||1: a", "not named"),
        ("union|struct value.u|kind|", "no case"),
        ("union|struct value.u|kind|1 = a", "'1 = a' is not VALUE: MEMBER"),
        ("union|struct value.u|kind|1: a: b", "is not VALUE: MEMBER"),
        ("union|struct value.u|kind|1: a, 2:", "'2:' is not VALUE: MEMBER"),
        ("union|struct value.u|kind|1: a, 1: b", "1 is there twice"),
    ],
)
@pytest.mark.parametrize("which", ["old", "new"])
def test_a_text_that_cannot_be_read_is_refused_by_name(text: str, why: str, which: str) -> None:
    versions = {"old": _version("instar_pxfer_t"), "new": _version("instar_pxfer_t"), which: _noted(text)}
    with pytest.raises(RefusedError) as info:
        annotated_handlers(versions["old"], versions["new"], Registry())
    assert info.value.code == "bad-annotation"
    assert all(part in info.value.cause for part in (text, why, which))
    assert "INSTAR_UNION(" in info.value.remedy


def test_a_handler_answers_for_a_text_that_cannot_be_read() -> None:
    source = "from instar.ext import *\n@resolve_union('struct value.u')\ndef f(old): return None\n"
    known = run_handlers(source, "handlers")
    old = _noted("union|struct value.u|kind|1 = a")
    assert annotated_handlers(old, _version("instar_pxfer_t"), known) == []
