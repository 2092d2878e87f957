"""What changed: types side by side with their members aligned, and the names of what came and went."""

from __future__ import annotations

from collections.abc import Sequence

from instar.cli.page.markup import Content, Markup, code, element, prose, table
from instar.cli.wording import count_of, format_bytes
from instar.pairing.alignment import AlignedType, Place, Row
from instar.update.changes import ByStatus, Names, VersionChanges

_OPEN_TYPES, _OPEN_ROWS = 4, 40  # shown without a click
_MOST_ROWS = 800  # of all types together
_SAME_SHOWN = 5
_MARKS = {
    "same": ("", "unchanged"),
    "moved": ("→", "moved"),
    "retyped": ("≠", "another type"),
    "renamed": ("→", "renamed"),
    "added": ("+", "added"),
    "removed": ("−", "removed"),
}


def draw_changes(changes: VersionChanges | None) -> Markup:
    """The section's content."""
    if changes is None:
        return element("p", "It did not come to a comparison of the versions.", class_="muted")
    parts: list[Content] = [_overview(changes)]
    shown = _within(changes.aligned)
    parts += [_aligned(one, index < _OPEN_TYPES) for index, one in enumerate(shown)]
    more = (changes.types.changed.total if changes.types.changed else 0) - len(shown)
    if more > 0:
        parts.append(element("p", f"and {count_of(more, 'changed type')} more", class_="muted"))
    if changes.details:
        lines = [[code(name), _lines(lines)] for name, lines in changes.details]
        parts.append(
            _folded(
                "what is done about changed variables",
                table("Variables", ("variable", "what is done"), lines),
            )
        )
    parts += _all_names(changes)
    return element("div", parts)


def _within(types: Sequence[AlignedType]) -> Sequence[AlignedType]:
    """The first types, as many as keep the page small."""
    rows = 0
    for index, one in enumerate(types):
        rows += len(_runs(one.rows))
        if rows > _MOST_ROWS and index:
            return types[:index]
    return types


def _overview(changes: VersionChanges) -> Markup:
    rows = []
    for label, one in (
        ("types", changes.types),
        ("variables", changes.variables),
        ("functions", changes.functions),
    ):
        changed = "not compared" if one.changed is None else f"{one.changed.total:,}"
        rows.append((label, f"{one.added.total:,}", f"{one.removed.total:,}", changed))
    return table("Differences", ("", "added", "removed", "changed"), rows, numbers=(1, 2, 3))


def _folded(summary: Content, content: Content, *, is_open: bool = False, css: str | None = None) -> Markup:
    return element("details", element("summary", summary), content, open=is_open, class_=css)


def _aligned(one: AlignedType, is_open: bool) -> Markup:
    sizes = format_bytes(one.old_size)
    if one.new_size != one.old_size:
        sizes = f"{one.old_size:,} → {one.new_size:,} bytes"
    names: list[Content] = [code(one.name)]
    if one.new_name != one.name:
        names += [" → ", code(one.new_name)]
    summary = [*names, " ", element("span", sizes, class_="muted")]
    rows = _runs(one.rows)
    body = element(
        "table",
        element("caption", "Members of ", code(one.name), " in both versions", class_="unseen"),
        element(
            "thead",
            element(
                "tr",
                element("th", element("span", "change", class_="unseen"), scope="col", class_="mark"),
                element("th", "old version", scope="col"),
                element("th", "new version", scope="col"),
            ),
        ),
        element("tbody", [_row(row, one.kind == "enum") for row in rows]),
        class_="sides",
    )
    left = [element("p", f"and {one.left_out:,} more", class_="muted")] if one.left_out else []
    return _folded(summary, [body, *left], is_open=is_open and len(rows) <= _OPEN_ROWS, css="type")


def _runs(rows: Sequence[Row]) -> list[Row | int]:
    """Long runs of unchanged members become their number."""
    found: list[Row | int] = []
    run: list[Row] = []
    for row in [*rows, None]:
        if row is not None and row.change == "same":
            run.append(row)
            continue
        found += run if len(run) <= _SAME_SHOWN else [run[0], len(run) - 2, run[-1]]
        run = []
        if row is not None:
            found.append(row)
    return found


def _row(row: Row | int, is_enum: bool) -> Markup:
    if isinstance(row, int):
        text = f"{count_of(row, 'unchanged ' + ('enumerator' if is_enum else 'member'))}"
        return element("tr", element("td"), element("td", text, colspan=2, class_="muted"))
    mark, word = _MARKS[row.change]
    marks = element("span", mark, aria_hidden="true"), element("span", word, class_="unseen")
    return element(
        "tr",
        element("td", marks, class_="mark"),
        _side(row.old, is_enum),
        _side(row.new, is_enum),
        class_=row.change,
    )  # fmt: skip


def _side(place: Place | None, is_enum: bool) -> Markup:
    if place is None:
        return element("td", element("span", "—", class_="muted"))
    if is_enum:
        return element(
            "td", element("b", code(place.name)), " ", element("span", f"= {place.at}", class_="muted")
        )
    where = f"at {place.at}" + (f", bits {place.bits}" if place.bits else "")
    size = "" if place.bits else f", {format_bytes(place.size)}"
    return element(
        "td", element("b", code(place.name)), " ", code(place.type), element("small", where + size)
    )


def _all_names(changes: VersionChanges) -> list[Markup]:
    found = []
    for label, one in (
        ("types", changes.types),
        ("variables", changes.variables),
        ("functions", changes.functions),
    ):
        lists = _lists(one)
        if lists:
            found.append(_folded(f"names of {label}", lists))
    return found


def _lines(lines: Sequence[str]) -> Markup:
    return element("ul", [element("li", element("bdi", prose(line))) for line in lines], class_="plain")


def _lists(one: ByStatus) -> list[Markup]:
    found = []
    for status, names in (("added", one.added), ("removed", one.removed), ("changed", one.changed)):
        if names is not None and names.total:
            found.append(element("p", element("b", f"{status}: "), _names(names)))
    return found


def _names(names: Names) -> list[Content]:
    parts: list[Content] = []
    for name in names.shown:
        parts += [code(name), ", "]
    return [*parts[:-1], f" and {names.more:,} more"] if names.more else parts[:-1]
