"""A treemap: areas in proportion to sizes, as square as can be.

The algorithm is that of Bruls, Huizing and van Wijk, "Squarified treemaps" (2000).
Coordinates are percent of a drawing that takes whatever width there is, so that labels keep their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from instar.cli.page.markup import Markup, element

HEIGHT = 280  # CSS pixels
_NARROW, _WIDE = 300, 470  # of a drawing on a phone, and of one of two on a desk
_ASPECT = _WIDE / HEIGHT
_LETTER, _LINE, _MARGIN = 7.2, 17, 12  # pixels of a label in 12 px type
_GAP = 0.15


@dataclass(frozen=True)
class Box:
    """A rectangle, in percent of the drawing."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Cell:
    """One area: ``tone`` is the class of its colour, ``text`` what it says when asked."""

    label: str
    size: int
    tone: str
    text: str


def squarify(sizes: Sequence[float], aspect: float = _ASPECT) -> list[Box]:
    """Boxes that fill the drawing; ``sizes`` positive and falling, ``aspect`` its width by its height."""
    total = float(sum(sizes))
    scaled = [size / total * aspect for size in sizes]  # the drawing is aspect x 1
    boxes: list[Box] = []
    x, y, width, height = 0.0, 0.0, aspect, 1.0
    at = 0
    while at < len(scaled):
        side = min(width, height)
        end = _row_end(scaled, at, side)
        row = scaled[at:end]
        thick = sum(row) / side if side else 0.0
        along = 0.0
        for area in row:
            long = area / thick if thick else 0.0
            boxes.append(
                Box(x, y + along, thick, long) if width >= height else Box(x + along, y, long, thick)
            )
            along += long
        if width >= height:
            x, width = x + thick, max(width - thick, 0.0)
        else:
            y, height = y + thick, max(height - thick, 0.0)
        at = end
    return [Box(100 * b.x / aspect, 100 * b.y, 100 * b.width / aspect, 100 * b.height) for b in boxes]


def _row_end(areas: Sequence[float], first: int, side: float) -> int:
    """How many areas the next row takes: as long as its worst box gets more square."""
    end, best = first + 1, _worst(areas[first : first + 1], side)
    while end < len(areas):
        worst = _worst(areas[first : end + 1], side)
        if worst > best:
            break
        end, best = end + 1, worst
    return end


def _worst(row: Sequence[float], side: float) -> float:
    total = sum(row)
    if not total or not side or not min(row):
        return float("inf")
    return max(side * side * max(row) / total**2, total**2 / (side * side * min(row)))


def draw_treemap(cells: Sequence[Cell], label: str) -> Markup:
    """The drawing; ``cells`` by falling size."""
    cells = [cell for cell in cells if cell.size > 0]
    boxes = squarify([cell.size for cell in cells]) if cells else []
    found = [_draw_cell(cell, box) for cell, box in zip(cells, boxes, strict=True)]
    return element("svg", found, class_="treemap", width="100%", height=HEIGHT, role="img", aria_label=label)


def _draw_cell(cell: Cell, box: Box) -> Markup:
    parts = [element("title", cell.text), element("rect", width="100%", height="100%", class_=cell.tone)]
    needed = _LETTER * len(cell.label) + _MARGIN
    tall = box.height / 100 * HEIGHT >= _LINE + _MARGIN / 2
    if tall and needed <= box.width / 100 * _WIDE:
        always = needed <= box.width / 100 * _NARROW
        parts.append(element("text", cell.label, x=6, y=16, class_=None if always else "roomy"))
    return element(
        "svg", parts, x=_percent(box.x), y=_percent(box.y),
        width=_percent(max(box.width - _GAP, 0.05)), height=_percent(max(box.height - 2 * _GAP, 0.05)),
    )  # fmt: skip


def _percent(value: float) -> str:
    return f"{value:.2f}%"
