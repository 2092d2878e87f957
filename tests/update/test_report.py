"""What a report tells beside the outcome: figures by type, by class and by kind, and what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.update.conftest import StartService

from instar.testing.programs import Builder
from instar.testing.scenarios import TOOLCHAINS, Scenario

PROGRAMS = Path(__file__).parents[1] / "programs"
TOOLCHAIN = TOOLCHAINS[0]


@pytest.fixture
def build(builder: Builder) -> Any:
    return lambda name, which: Scenario.load(PROGRAMS / name).build(which, TOOLCHAIN, builder)


def by_name(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in report["types"] if (one["name"], one["kind"]) == (name, "heap")]
    return dict(found)


def test_figures_add_up(build: Any, start_service: StartService) -> None:
    service = start_service(build("member-added", "v1"))
    assert service.ask("fill") == "ok v1"
    update = service.update(build("member-added", "v2"))
    report = update.report
    assert update.outcome == "updated" and report is not None
    client = by_name(report, "struct client")
    assert (client["new_name"], client["objects"], client["new_objects"], client["converted"]) == (
        "struct client", 50, 50, 50,
    )  # fmt: skip
    assert client["new_bytes"] - client["bytes"] >= 50 * 8
    assert sum(one["objects"] for one in report["types"]) == sum(report["objects"].values())
    assert sum(one["bytes"] for one in report["types"]) == report["bytes"]
    assert sum(one["converted"] for one in report["types"] if one["kind"] == "heap") == report["retyped"]
    assert sum(report["pointer_classes"].values()) == report["pointers"]
    assert report["pointer_classes"]["moved"] >= 50
    assert sum(report["descriptor_kinds"].values()) == report["descriptors"]
    assert {one["number"] for one in report["named_descriptors"]} >= {0, 1, 2}
    assert 0 < report["pause_at_ms"] < report["pause_at_ms"] + report["pause_ms"] <= report["total_ms"]
    starts = [phase["at_ms"] for phase in report["phases"]]
    assert starts == sorted(starts)
    (aligned,) = report["changes"]["aligned"]
    assert [row["change"] for row in aligned["rows"]] == ["same", "added", "moved", "moved", "added"]
    assert report["changes"]["functions"]["changed"] is None


def test_a_refusal_of_what_was_planned_tells_what_differs(build: Any, start_service: StartService) -> None:
    service = start_service(build("member-renamed", "v1"))
    assert service.ask("fill") == "ok v1"
    update = service.update(build("member-renamed", "v2"))
    report = update.report
    assert update.outcome == "refused" and report is not None
    assert (report["error"]["code"], report["phases"][-1]["name"]) == ("likely-rename", "pre-copy")
    assert report["pause_at_ms"] is None
    (aligned,) = report["changes"]["aligned"]
    assert {row["change"] for row in aligned["rows"]} >= {"added", "removed"}


def test_a_refusal_before_the_plan_tells_what_differs(
    builder: Builder, build: Any, start_service: StartService, tmp_path: Path
) -> None:
    source = PROGRAMS / "member-added" / "v2.c"
    renamed = tmp_path / "v2.c"
    renamed.write_text(source.read_text().replace("clients", "client_list"))
    headers = sorted(PROGRAMS.glob("*.h"))
    new = builder.build({"program.c": renamed}, TOOLCHAIN, headers=headers, flags=('-DVERSION="v2"',))
    service = start_service(build("member-added", "v1"))
    update = service.update(new)
    report = update.report
    assert update.outcome == "refused" and report is not None
    assert (report["error"]["code"], report["phases"][-1]["name"]) == ("likely-rename", "plan")
    assert report["old"]["build_id"] and report["new"]["path"] == str(new)
    assert report["types"] == [] and report["changes"]["variables"] == {
        "added": {"shown": ["client_list"], "more": 0},
        "removed": {"shown": ["clients"], "more": 0},
        "changed": {"shown": [], "more": 0},
    }
