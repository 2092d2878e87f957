"""The other sections of the page: outcome, failure, warnings, validation, descriptors, versions."""

from __future__ import annotations

from pathlib import PurePath

from instar.cli.page.markup import Content, Markup, code, element, prose, table, term_list
from instar.cli.wording import count_of, format_bytes, format_ms
from instar.update.outcome import UpdateReport, VersionId

_MOST_WARNINGS, _MOST_DETAILS = 200, 50
_BUILD_ID = 16
_BADGES = {
    "updated": ("updated", "good"),
    "rehearsed": ("could be updated", "good"),
    "refused": ("refused", "wary"),
    "rolled-back": ("rolled back", "wary"),
    "damaged": ("damaged", "bad"),
}
_KINDS = {"update": "update", "rehearsal": "rehearsal of an update", "rollback": "rollback"}


def program_name(report: UpdateReport) -> str:
    """What the report is about."""
    version = report.old or report.new
    return PurePath(version.path).name if version else f"process {report.old_pid}"


def draw_header(report: UpdateReport) -> Markup:
    """Title, outcome and the most important figures."""
    badge, tone = _BADGES[report.outcome]
    if report.kind == "rollback" and report.outcome == "updated":
        badge = "taken back"
    return element(
        "header",
        element("p", f"instar · {_KINDS[report.kind]}", class_="eyebrow"),
        element(
            "h1", element("bdi", program_name(report), dir="auto"), " ",
            element("span", badge, class_=f"badge {tone}"),
        ),
        element("p", _lead(report), class_="lead"),
        _tiles(report),
    )  # fmt: skip


def _lead(report: UpdateReport) -> str:
    old = f"process {report.old_pid}" if report.old_pid else "The process"
    return {
        "updated": f"{old[0].upper()}{old[1:]} became process {report.new_pid}, which serves now.",
        "rehearsed": f"Everything but the last step was done; {old} serves as before.",
        "refused": f"Nothing was changed; {old} is untouched.",
        "rolled-back": f"The update failed and was undone; {old} serves again as before.",
        "damaged": f"{old[0].upper()}{old[1:]} is damaged: restart it.",
    }[report.outcome]


def _tiles(report: UpdateReport) -> Markup:
    tiles = []
    if report.pause_at_ms is not None:
        tiles.append((format_ms(report.pause_ms), "pause"))
    if report.total_ms:
        tiles.append((format_ms(report.total_ms), "in all"))
    if report.objects:
        tiles.append((f"{sum(report.objects.values()):,}", "objects"))
        tiles.append((f"{report.pointers:,}", "pointers"))
        tiles.append((format_bytes(report.bytes), "of state"))
    if report.connections:
        tiles.append((f"{report.connections:,}", "connections"))
    found = [element("div", element("dt", label), element("dd", figure)) for figure, label in tiles]
    return element("dl", found, class_="tiles") if found else Markup("")


def draw_failure(report: UpdateReport) -> Markup:
    """Cause, remedy and details of what was not done."""
    failure = report.error
    if failure is None:
        return Markup("")
    parts: list[Content] = [
        element("p", prose(failure.cause), class_="cause", dir="auto"),
        element("p", element("b", "What to do: "), element("span", prose(failure.remedy), dir="auto")),
    ]
    if failure.details:
        lines = [element("li", element("bdi", prose(line))) for line in failure.details[:_MOST_DETAILS]]
        more = len(failure.details) - _MOST_DETAILS
        parts.append(element("ul", lines))
        parts += [element("p", f"and {more:,} more", class_="muted")] if more > 0 else []
    parts.append(element("p", "code ", code(failure.code), class_="muted"))
    return element("section", element("h2", "Why it was not done"), parts, id="failure", class_="failure")


def draw_warnings(report: UpdateReport) -> Markup:
    """One item a warning, its code first."""
    if not report.warnings:
        return element("p", "None.", class_="muted")
    items = []
    for text in report.warnings[:_MOST_WARNINGS]:
        head, colon, rest = text.partition(": ")
        named = colon and head.replace("-", "").isalnum() and " " not in head
        shown: Content = (code(head), " ", prose(rest)) if named else prose(text)
        items.append(element("li", element("bdi", shown)))
    more = len(report.warnings) - _MOST_WARNINGS
    left = [element("p", f"and {more:,} more", class_="muted")] if more > 0 else []
    return element("div", element("ul", items, class_="warnings"), left)


def draw_validation(report: UpdateReport) -> Markup:
    """What was compared, and what was not."""
    found = report.validation
    if found is None:
        return element("p", "It did not come to a validation.", class_="muted")
    alike = not found.problems and report.outcome in ("updated", "rehearsed")
    text = "The state was transferred back and compared with the old version's"
    rows: list[tuple[str, Content]] = [
        ("objects", f"{found.objects:,}, {found.reversed:,} of them through an inverse mapping"),
        ("pointers followed on both sides", f"{found.slots:,}"),
        ("functions, strings, variables and libraries", f"{found.targets:,}"),
        ("bytes", format_bytes(found.bytes)),
        ("frame words and registers", f"{found.words:,}"),
        ("compared again in the pause", count_of(found.again, "object")),
    ]
    parts: list[Content] = [
        element(
            "p",
            f"{text}: " if alike else f"{text}.",
            element("b", "everything is as it was.") if alike else "",
        ),
        term_list(rows),
    ]
    exempt = {reason: count for reason, count in found.exempt.items() if count}
    if exempt:
        lines = [(reason, f"{count:,}") for reason, count in exempt.items()]
        parts.append(table("Not compared", ("not compared, because", "how many"), lines, numbers=(1,)))
    return element("div", parts)


def draw_descriptors(report: UpdateReport) -> Markup:
    """By kind, then those with a name."""
    if not report.descriptor_kinds:
        text = (
            f"{count_of(report.descriptors, 'descriptor')}." if report.descriptors else "None were looked at."
        )
        return element("p", text, class_="muted")
    rows = [(kind, f"{count:,}") for kind, count in report.descriptor_kinds.items()]
    parts: list[Content] = [table("Descriptors by kind", ("kind", "descriptors"), rows, numbers=(1,))]
    if report.named_descriptors:
        named = [(str(one.number), one.kind, code(one.what)) for one in report.named_descriptors]
        parts.append(
            element(
                "details",
                element("summary", "by number, connections left out"),
                table("Descriptors by number", ("number", "kind", "what"), named),
            )
        )
    return element("div", parts)


def draw_versions(report: UpdateReport) -> Markup:
    """Both program files."""
    rows = [_version("old", report.old), _version("new", report.new)]
    return table("Versions", ("version", "program", "build-id"), rows)


def _version(side: str, version: VersionId | None) -> list[Content]:
    if version is None:
        return [side, element("span", "not known", class_="muted"), ""]
    return [side, code(version.path), code(version.build_id[:_BUILD_ID])]
