"""The page of a report, looked at in a real browser: on a phone and on a desk, light, dark, and on paper."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.page.browser import Browser, Tab
from tests.page.reports import ALL, TRICKS, UPDATED

from instar.cli.page.document import render_page

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
INSPECT = (Path(__file__).parent / "inspect.js").read_text()
SECTIONS = ("timeline", "warnings", "changes", "objects", "pointers", "validation", "descriptors", "versions")
PHONE, DESK = 360, 1280
Look = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all pages."""
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def look(browser: Browser, tmp_path: Path) -> Iterator[Look]:
    """Opens the page of one of the reports."""
    tabs: list[Tab] = []

    def open_page(case: str, *, width: int = DESK) -> Tab:
        path = tmp_path / "report.html"
        path.write_text(render_page(ALL[case], WHEN), encoding="utf-8")
        tabs.append(browser.open(path, width=width))
        return tabs[-1]

    yield open_page
    for tab in tabs:
        tab.close()


@pytest.mark.parametrize("case", ALL)
def test_everybody_can_read_it(look: Look, case: str) -> None:
    tab = look(case, width=DESK)
    if case != "huge":
        tab.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert tab.evaluate(INSPECT) == []
    tab.show(width=PHONE, dark=True)
    assert tab.evaluate(INSPECT) == []
    present = tab.evaluate("[...document.querySelectorAll('section')].map((one) => one.id)")
    failed = ["failure"] if ALL[case].error else []
    assert present == [*failed, *SECTIONS]
    assert tab.messages == [] and tab.requests == []


def test_light_on_a_phone_and_dark_on_a_desk(look: Look) -> None:
    tab = look("updated")
    for width, dark in ((PHONE, False), (DESK, True)):
        tab.show(width=width, dark=dark)
        assert tab.evaluate(INSPECT) == []
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(15, 19, 24)" if dark else "rgb(255, 255, 255)")


def test_names_stay_text(look: Look) -> None:
    tab = look("hostile-failure")
    assert tab.evaluate("typeof hacked") == "undefined"
    assert tab.evaluate("document.querySelectorAll('script, img, iframe, object, embed, a').length") == 0
    attributes = "[...document.querySelectorAll('*')].flatMap((one) => one.getAttributeNames())"
    found = set(tab.evaluate(attributes))
    assert not {name for name in found if name.startswith("on") or name in ("style", "src", "srcset")}
    text = tab.evaluate("document.body.textContent").rstrip("\n")
    assert TRICKS[0] in text and TRICKS[1] in text and TRICKS[4] in text and r"\u202egnp.exe" in text
    controls = {c for c in text if not c.isprintable()}
    assert not controls
    assert tab.messages == [] and tab.requests == []


def test_nothing_could_be_loaded_or_run(look: Look) -> None:
    """Even if something slipped through: the page forbids it, and the browser says so."""
    tab = look("updated")
    tab.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'hacked = 1'}))"
    )
    assert tab.evaluate("typeof hacked") == "undefined"
    tab.evaluate(
        "document.body.append(Object.assign(document.createElement('img'), {src: 'file:///dev/null'}))"
    )
    assert tab.evaluate("document.querySelector('img').complete") is True
    assert len(tab.messages) == 2 and all("Content Security Policy" in one for one in tab.messages)


def test_on_paper_everything_is_unfolded_and_light(look: Look) -> None:
    tab = look("updated")
    tab.show(width=DESK, dark=True, media="print")
    assert tab.evaluate(INSPECT) == []
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    inside = "[...document.querySelectorAll('details:not([open]) :is(p, table)')]"
    assert tab.evaluate(f"{inside}.every((one) => one.checkVisibility())") is True
    tab.show(width=DESK)
    assert tab.evaluate(f"{inside}.some((one) => one.checkVisibility())") is False
    assert tab.evaluate(f"{inside}.length") >= 3
    assert base64.b64decode(tab.pdf()).startswith(b"%PDF-")


def test_areas_are_in_proportion(look: Look) -> None:
    """Cells fill the drawing, lie apart, and are as large as their types."""
    tab = look("updated")
    cells = tab.evaluate(
        "[...document.querySelector('.treemap').children].map((one) => { const box = "
        "one.querySelector('rect').getBoundingClientRect(); return [box.x, box.y, box.width, box.height] })"
    )
    sizes = sorted((one.bytes for one in UPDATED.types), reverse=True)
    areas = [width * height for _, _, width, height in cells]
    assert len(areas) == len(sizes)
    for area, size in zip(areas[:3], sizes, strict=False):
        assert area / sum(areas) == pytest.approx(size / sum(sizes), rel=0.05)
    for index, (x, y, width, height) in enumerate(cells):
        for other_x, other_y, other_width, other_height in cells[:index]:
            apart = x >= other_x + other_width or other_x >= x + width
            assert apart or y >= other_y + other_height or other_y >= y + height


def test_the_bars_are_where_the_phases_were(look: Look) -> None:
    tab = look("updated")
    bars = tab.evaluate(
        "[...document.querySelectorAll('.timeline')[0].querySelectorAll('.bar')].map((one) => "
        "[parseFloat(one.getAttribute('x')), parseFloat(one.getAttribute('width'))])"
    )
    assert len(bars) == len(UPDATED.phases)
    for (begin, length), phase in zip(bars, UPDATED.phases, strict=True):
        assert begin == pytest.approx(100 * phase.at_ms / UPDATED.total_ms, abs=0.01)
        assert length == pytest.approx(max(100 * phase.ms / UPDATED.total_ms, 0.4), abs=0.01)
    for width in (PHONE, DESK):
        tab.show(width=width)
        shares = tab.evaluate(
            "[...document.querySelectorAll('.timeline svg')].map((one) => "
            "one.getBoundingClientRect().width / one.closest('table').getBoundingClientRect().width)"
        )
        assert min(shares) > 0.4, width
    enlarged = tab.evaluate("document.querySelectorAll('.timeline')[1].querySelectorAll('.bar').length")
    assert enlarged == 5
