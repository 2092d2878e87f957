"""The timeline of an update: a row and a bar for every phase, the pause behind them; the pause enlarged."""

from __future__ import annotations

from collections.abc import Sequence

from instar.cli.page.markup import Content, Markup, element, table
from instar.cli.wording import format_ms
from instar.update.outcome import PhaseTime, UpdateReport
from instar.update.progress import PAUSED_PHASES

_WHAT = {
    "plan": "compares both versions",
    "start": "starts the new version beside the old one",
    "pre-copy": "a first copy and plan, in service",
    "quiesce": "stops the old version at rest",
    "pre-check": "copies what changed and plans again",
    "transfer": "writes the state, hands over descriptors",
    "validate": "transfers back and compares",
    "commit": "the new version takes over",
    "probation": "the old version is kept in case the new one fails",
}
_LEAST = 0.4  # percent: a bar that can be seen
_ENLARGED = 0.5  # the pause is drawn once more where it is shorter than this part of the whole


def draw_timeline(report: UpdateReport) -> Markup:
    """All phases; a table for those who cannot see bars."""
    if not report.phases:
        return element("p", "It ended before its first phase.", class_="muted")
    end = max(report.total_ms, *(phase.at_ms + phase.ms for phase in report.phases))
    pause = _pause(report)
    parts: list[Content] = [_rows("Phases of the update", report.phases, (0.0, end), pause)]
    if pause is not None:
        parts.append(_legend(report))
        held = [one for one in report.phases if one.name in PAUSED_PHASES]
        if held and pause[1] - pause[0] < _ENLARGED * end:
            parts.append(element("h3", f"The pause, enlarged: {format_ms(report.pause_ms)}"))
            parts.append(_rows("Phases of the pause", held, pause, None))
    return element("div", parts)


def _pause(report: UpdateReport) -> tuple[float, float] | None:
    if report.pause_at_ms is None:
        return None
    return report.pause_at_ms, report.pause_at_ms + report.pause_ms


def _rows(
    caption: str, phases: Sequence[PhaseTime], window: tuple[float, float], pause: tuple[float, float] | None
) -> Markup:
    rows = [
        (
            [element("span", phase.name, class_="phase"), element("small", _WHAT.get(phase.name, ""))],
            _bar(phase, window, pause),
            format_ms(phase.ms),
        )
        for phase in phases
    ]
    columns = ("names", "bars", "times")
    found = table(caption, ("phase", "when", "took"), rows, numbers=(2,), columns=columns)
    return element("div", found, class_="timeline")


def _bar(phase: PhaseTime, window: tuple[float, float], pause: tuple[float, float] | None) -> Markup:
    tone = "bar paused" if phase.name in PAUSED_PHASES else "bar"
    parts = [_span(phase.at_ms, phase.at_ms + phase.ms, window, tone)]
    if pause is not None:
        parts.insert(0, _span(*pause, window, "pause"))
    return element("svg", parts, width="100%", height=50, aria_hidden="true")


def _span(begin: float, end: float, window: tuple[float, float], css: str) -> Markup:
    low, high = window
    scale = 100 / (high - low) if high > low else 0.0
    first = min(max((begin - low) * scale, 0.0), 100 - _LEAST)
    width = min(max((end - begin) * scale, _LEAST), 100 - first)
    top, height = ("0", "100%") if css == "pause" else ("34%", "32%")
    return element(
        "rect", x=f"{first:.3f}%", width=f"{width:.3f}%", y=top, height=height,
        rx=None if css == "pause" else 2, class_=css,
    )  # fmt: skip


def _legend(report: UpdateReport) -> Markup:
    return element(
        "p",
        element("span", class_="swatch paused", aria_hidden="true"),
        f"neither version served for {format_ms(report.pause_ms)}",
        class_="legend",
    )
