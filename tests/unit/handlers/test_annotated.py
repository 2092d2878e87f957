"""Tags of pointers as the program itself says them: what becomes of words, and who comes first."""

from __future__ import annotations

import pytest

from instar.errors import RefusedError
from instar.ext.registry import Registry
from instar.handlers.annotated import annotated_handlers
from instar.handlers.module import run_handlers
from instar.metadata.annotations import tag_mask
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
    address = target._instar_address  # type: ignore[attr-defined]
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


def test_a_tagged_variable_is_refused_by_name() -> None:
    with pytest.raises(RefusedError, match="the variable first is TAGGED") as caught:
        annotated_handlers(_version(static=True), _version(), Registry())
    assert caught.value.code == "bad-annotation"
