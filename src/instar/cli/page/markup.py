"""Elements of a page. Text becomes markup here only: what is not ``Markup`` is escaped, wherever it is from.

Names, paths and strings are other people's: they may hold tags, quotes, control characters, text that runs
from right to left, or a megabyte.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from instar.cli.wording import printable

MOST_CHARACTERS = 2000
"""Of one piece of text."""
_VOID = {"meta", "link", "br", "wbr", "rect", "line", "col", "path"}


class Markup(str):
    """Text that is markup already; made by this module only."""

    __slots__ = ()


Content = str | Markup | Iterable["Content"]
Attribute = str | int | float | bool | None


def escape(text: str) -> Markup:
    """Text as markup; control characters and those that turn the direction of writing are spelled out."""
    if len(text) > MOST_CHARACTERS:
        half = MOST_CHARACTERS // 2
        text = f"{text[:half]} … {text[-half:]}"
    return Markup(html.escape(printable(text)))


def join(content: Content) -> Markup:
    """Content one after the other."""
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return escape(content)
    return Markup("".join(join(one) for one in content))


def element(name: str, /, *content: Content, **attributes: Attribute) -> Markup:
    """An element; ``class_`` becomes ``class``, ``aria_label`` ``aria-label``; None is left out."""
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{escape(str(value))}"')
    opened = Markup(f"<{' '.join(words)}>")
    if name in _VOID:
        return opened if name in ("meta", "link", "br", "wbr", "col") else Markup(f"{opened[:-1]}/>")
    return Markup(f"{opened}{join(content)}</{name}>")


def name_of(text: str, tag: str = "bdi") -> Markup:
    """A name of somebody else's, which does not change the direction of what is around it."""
    return element(tag, text, dir="auto")


def code(text: str) -> Markup:
    """A piece of C, a path or an address."""
    return element("code", text, dir="auto")


def prose(text: str) -> Markup:
    """A line for people; what stands between backquotes is a name."""
    parts = text[:MOST_CHARACTERS].split("`")
    if len(parts) % 2 == 0 or len(text) > MOST_CHARACTERS:
        return join(text)
    return join([code(part) if index % 2 else part for index, part in enumerate(parts)])


def term_list(rows: Iterable[tuple[str, Content]]) -> Markup:
    """Terms with what they are."""
    found = [element("div", element("dt", term), element("dd", value)) for term, value in rows]
    return element("dl", found, class_="facts")


def table(
    caption: str,
    heads: Iterable[str],
    rows: Iterable[Iterable[Content]],
    *,
    numbers: Iterable[int] = (),
    columns: Iterable[str] = (),
) -> Markup:
    """A table whose first column heads its rows; ``numbers`` are columns that are set flush right.

    ``columns`` are classes of the columns, where they have widths of their own.
    """
    right = set(numbers)

    def cell(index: int, content: Content, head: bool) -> Markup:
        css = "number" if index in right else None
        if head:
            return element("th", content, scope="col", class_=css)
        if index == 0:
            return element("th", content, scope="row", class_=css)
        return element("td", content, class_=css)

    top = element("tr", [cell(index, head, True) for index, head in enumerate(heads)])
    body = [element("tr", [cell(index, one, False) for index, one in enumerate(row)]) for row in rows]
    widths = [element("col", class_=one) for one in columns]
    return element(
        "table",
        element("caption", caption, class_="unseen"),
        element("colgroup", widths) if widths else (),
        element("thead", top),
        element("tbody", body),
    )
