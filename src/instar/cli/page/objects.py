"""Objects by type before and after, as two treemaps and a table; pointers by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from instar.cli.page.markup import Content, Markup, code, element, join, table
from instar.cli.page.treemap import Cell, draw_treemap
from instar.cli.wording import count_of, format_bytes, printable
from instar.transfer.census import TEXT, UNTYPED, TypeFigures
from instar.update.outcome import UpdateReport

_MOST_CELLS = 40
_MOST_ROWS = 12  # of the table, without a click
_MOST_FOLDED = 200
_LABEL = 40

_TONES = {
    "kept": "laid out as before",
    "converted": "laid out anew",
    "dropped": "not carried",
    "untyped": "text and blocks without a type",
}
CLASSES = {
    "null": ("null", "quiet"),
    "number": ("hold a small number", "quiet"),
    "unmoved": ("to blocks that stay where they are", "kept"),
    "moved": ("to what has another address now", "converted"),
    "library": ("into shared libraries", "library"),
    "dangling": ("to freed memory, carried as they are", "warned"),
    "wild": ("to memory that does not exist", "dropped"),
    "no-counterpart": ("to what the new version does not have", "dropped"),
    "odd": ("inside something that moves, where no member starts", "dropped"),
    "dropped-member": ("to members that the new version does not have", "dropped"),
    "unknown-constant": ("to constants that the new version does not have", "dropped"),
    "ambiguous": ("between two variables", "dropped"),
}


@dataclass(frozen=True)
class _Total:
    """A type over all places where its objects live."""

    name: str
    new_name: str | None
    tone: str
    objects: int
    bytes: int
    new_objects: int
    new_bytes: int


def draw_objects(report: UpdateReport) -> Markup:
    """The section's content."""
    types = report.types
    if not types:
        return element("p", "The state of the program was not looked at.", class_="muted")
    totals = _merge(types)
    used = {one.tone for one in totals}
    legend = [
        element("li", element("span", class_=f"swatch {tone}", aria_hidden="true"), text)
        for tone, text in _TONES.items()
        if tone in used
    ]
    planned = "As it was planned: the new version was not given anything that lasts."
    done = report.outcome == "updated"
    return element(
        "div",
        "" if done else element("p", planned, class_="muted"),
        element("div", _side("before", totals, False), _side("after", totals, True), class_="pair"),
        element("ul", legend, class_="legend plain"),
        _left_behind(report),
        _tables(totals),
    )


def _left_behind(report: UpdateReport) -> Content:
    if not report.leaked.blocks:
        return ()
    amount = f"{count_of(report.leaked.blocks, 'block')}, {format_bytes(report.leaked.bytes)}"
    return element("p", f"Left behind, because nothing reached it: {amount}.")


def _merge(types: Sequence[TypeFigures]) -> list[_Total]:
    found: dict[tuple[str, str | None], list[TypeFigures]] = {}
    for one in types:
        found.setdefault((one.name, one.new_name), []).append(one)
    totals = [
        _Total(
            name,
            new_name,
            _tone(parts),
            sum(p.objects for p in parts),
            sum(p.bytes for p in parts),
            sum(p.new_objects for p in parts),
            sum(p.new_bytes for p in parts),
        )
        for (name, new_name), parts in found.items()
    ]
    return sorted(totals, key=lambda one: -max(one.bytes, one.new_bytes))


def _tone(parts: Sequence[TypeFigures]) -> str:
    if parts[0].name in (UNTYPED, TEXT):
        return "untyped"
    if not any(part.new_objects for part in parts):
        return "dropped"
    return "converted" if any(part.converted for part in parts) else "kept"


def _side(title: str, totals: Sequence[_Total], after: bool) -> Markup:
    sized = [(one.new_bytes if after else one.bytes, one) for one in totals]
    sized.sort(key=lambda pair: -pair[0])
    shown = [(size, one) for size, one in sized if size][:_MOST_CELLS]
    rest = sum(size for size, _ in sized) - sum(size for size, _ in shown)
    cells = [_cell(one, size, after) for size, one in shown]
    if rest:
        cells.append(Cell("other types", rest, "quiet", f"other types: {format_bytes(rest)}"))
        cells.sort(key=lambda cell: -cell.size)
    whole = format_bytes(sum(size for size, _ in sized))
    largest = ", ".join(cell.text for cell in cells[:3])
    return element(
        "figure",
        element("figcaption", element("b", title), " ", element("span", whole, class_="muted")),
        draw_treemap(cells, f"Treemap of objects by type {title} the update, {whole}. Largest: {largest}"),
    )


def _cell(one: _Total, size: int, after: bool) -> Cell:
    name = (one.new_name or one.name) if after else one.name
    count = one.new_objects if after else one.objects
    label = printable(name.removeprefix("struct "))
    if len(label) > _LABEL:
        label = f"{label[: _LABEL - 1]}…"
    return Cell(label, size, one.tone, f"{name}: {count_of(count, 'object')}, {format_bytes(size)}")


def _tables(totals: Sequence[_Total]) -> Markup:
    rows = [_row(one) for one in totals[: _MOST_ROWS + _MOST_FOLDED]]
    heads = ("type", "objects", "before", "after")
    parts = [table("Objects by type", heads, rows[:_MOST_ROWS], numbers=(1, 2, 3))]
    if len(rows) > _MOST_ROWS:
        more = table("More objects by type", heads, rows[_MOST_ROWS:], numbers=(1, 2, 3))
        summary = element("summary", f"{count_of(len(totals) - _MOST_ROWS, 'more type')}")
        left = len(totals) - len(rows)
        note = [element("p", f"and {left:,} smaller ones", class_="muted")] if left else []
        parts.append(element("details", summary, more, note))
    return element("div", parts)


def _row(one: _Total) -> list[Content]:
    objects: Content = f"{one.objects:,}"
    if one.new_objects != one.objects:
        objects = f"{one.objects:,} → {one.new_objects:,}"
    name: list[Content] = [code(one.name)]
    if one.new_name not in (one.name, None):
        name += [" → ", code(one.new_name or "")]
    after = format_bytes(one.new_bytes) if one.new_objects else "not carried"
    return [name, objects, format_bytes(one.bytes), after]


def draw_pointers(report: UpdateReport) -> Markup:
    """The section's content: one bar, and a table."""
    counts = {name: count for name, count in report.pointer_classes.items() if count}
    total = sum(counts.values())
    if not total:
        return element("p", "No pointer was looked at.", class_="muted")
    order = [name for name in CLASSES if name in counts]
    order += [name for name in counts if name not in CLASSES]
    bar, at = [], 0.0
    for name in order:
        share = 100 * counts[name] / total
        bar.append(
            element("rect", x=f"{at:.3f}%", width=f"{share:.3f}%", height="100%", class_=_class(name)[1])
        )
        at += share
    rows = [
        (
            [element("span", class_=f"swatch {_class(name)[1]}", aria_hidden="true"), join(name)],
            _class(name)[0],
            f"{counts[name]:,}",
            _share(counts[name], total),
        )
        for name in order
    ]
    label = "Pointers by class: " + ", ".join(f"{name} {_share(counts[name], total)}" for name in order)
    return element(
        "div",
        element("svg", bar, class_="stack", width="100%", height=18, role="img", aria_label=label),
        table("Pointers by class", ("class", "where they lead", "pointers", "share"), rows, numbers=(2, 3)),
    )


def _class(name: str) -> tuple[str, str]:
    return CLASSES.get(name, ("", "quiet"))


def _share(count: int, total: int) -> str:
    share = 100 * count / total
    return f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"
