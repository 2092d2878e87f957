"""Markup that nobody's text can break, areas that add up, pages that stay small."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.page.reports import ALL

from instar.cli.page.document import render_page
from instar.cli.page.markup import MOST_CHARACTERS, code, element, escape, prose
from instar.cli.page.objects import CLASSES
from instar.cli.page.treemap import squarify
from instar.cli.wording import printable
from instar.transfer.census import POINTER_CLASS

WHEN = datetime(2026, 1, 2, tzinfo=UTC)
texts = st.text(st.characters(), max_size=60)


class Reader(HTMLParser):
    """What a browser makes of markup."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.data: list[str] = []
        self.values: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.data.append(data)


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


@given(texts, texts)
def test_text_stays_text(text: str, value: str) -> None:
    reader = read(element("p", text, element("b", text), title=value))
    assert reader.tags == ["p", "b"]
    assert "".join(reader.data) == printable(text) * 2
    assert reader.values == [printable(value)]


@given(texts)
def test_what_is_escaped_moves_nothing(text: str) -> None:
    assert all(character.isprintable() for character in html.unescape(escape(text)))


@given(texts)
def test_prose_loses_nothing_but_quotes(text: str) -> None:
    reader = read(prose(text))
    assert set(reader.tags) <= {"code"}
    assert "".join(reader.data).replace("`", "") == printable(text).replace("`", "")


def test_names_in_prose_are_set_as_code() -> None:
    assert prose("`a` became `b`") == f"{code('a')} became {code('b')}"
    assert prose("it`s <b>") == "it`s &lt;b&gt;"


def test_long_text_is_cut_in_the_middle() -> None:
    cut = escape("a" * 5000 + "z" * 5000)
    assert len(cut) < MOST_CHARACTERS + 10 and cut.startswith("aaa") and cut.endswith("zzz")


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60))
def test_areas_add_up_and_stay_inside(sizes: list[int]) -> None:
    sizes.sort(reverse=True)
    boxes = squarify([float(size) for size in sizes])
    assert len(boxes) == len(sizes)
    for size, box in zip(sizes, boxes, strict=True):
        assert box.width * box.height / 10_000 == pytest.approx(size / sum(sizes), rel=1e-6, abs=1e-9)
        assert box.x >= 0 and box.y >= 0
        assert box.x + box.width <= 100 + 1e-6 and box.y + box.height <= 100 + 1e-6


def test_even_sizes_make_even_squares() -> None:
    boxes = squarify([1.0] * 16, aspect=1.0)
    assert all(box.width == pytest.approx(25) and box.height == pytest.approx(25) for box in boxes)


@pytest.mark.parametrize("case", ALL)
def test_pages_stay_small_and_whole(case: str) -> None:
    page = render_page(ALL[case], WHEN)
    assert len(page.encode(errors="backslashreplace")) < 800_000
    assert not re.search(
        r"https?://|url\(|@import|<script|\bon[a-z]+=[\"']?[a-z]+\(", page.split("<body>")[0]
    )
    opened = [
        tag for tag in re.findall(r"<(/?[a-z0-9]+)", page) if tag not in ("meta", "link", "rect", "col")
    ]
    stack: list[str] = []
    for tag in opened:
        if not tag.startswith("/"):
            stack.append(tag)
        else:
            assert stack.pop() == tag[1:]
    assert not stack


def test_every_class_of_pointers_is_described() -> None:
    assert set(CLASSES) == set(POINTER_CLASS.values())


def test_sections_come_in_order() -> None:
    page = render_page(ALL["refused"], WHEN)
    places = [
        page.index(f'id="{name}"') for name in ("failure", "timeline", "changes", "objects", "versions")
    ]
    assert all(a < b for a, b in pairwise(places))
    assert "2026-01-02 00:00:00 UTC" in page
