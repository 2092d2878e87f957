"""The whole page. Nothing is loaded from anywhere: the style is inside, and there are no scripts."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from functools import cache
from importlib import resources

from instar import __version__
from instar.cli.page import sections
from instar.cli.page.differences import draw_changes
from instar.cli.page.markup import Content, Markup, element
from instar.cli.page.objects import draw_objects, draw_pointers
from instar.cli.page.timeline import draw_timeline
from instar.update.outcome import UpdateReport

DOCTYPE = "<!doctype html>\n"
GENERATOR = "instar"


@cache
def _style() -> str:
    return resources.files("instar.cli.page").joinpath("style.css").read_text(encoding="utf-8")


def render_page(report: UpdateReport, when: datetime) -> str:
    """The page of one report.

    Args:
        report: What is told.
        when: When the update ended, UTC.
    """
    main = element(
        "main",
        sections.draw_header(report),
        sections.draw_failure(report),
        _section("timeline", "Timeline", draw_timeline(report)),
        _section("warnings", "Warnings", sections.draw_warnings(report)),
        _section("changes", "What changed", draw_changes(report.changes)),
        _section("objects", "Objects by type", draw_objects(report)),
        _section("pointers", "Pointers by class", draw_pointers(report)),
        _section("validation", "Validation", sections.draw_validation(report)),
        _section("descriptors", "Descriptors", sections.draw_descriptors(report)),
        _section("versions", "Versions", sections.draw_versions(report)),
        element("footer", f"instar {__version__} · {when:%Y-%m-%d %H:%M:%S} UTC"),
    )
    return f"{DOCTYPE}{element('html', _head(report), element('body', main), lang='en')}\n"


def _section(identifier: str, title: str, content: Content) -> Markup:
    return element("section", element("h2", title), content, id=identifier)


def _head(report: UpdateReport) -> Markup:
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="generator", content=f"{GENERATOR} {__version__}"),
        element("title", f"{sections.program_name(report)}: {report.kind} {report.outcome}"),
        element("link", rel="icon", href="data:,"),
        Markup(f"<style>{style}</style>"),
    )
