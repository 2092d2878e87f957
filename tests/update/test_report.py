"""What a report tells beside the outcome: figures by type, by class and by kind, and what differs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.update.conftest import StartService
from tests.update.service import INSTAR

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


def read_page(place: Path) -> str:
    text = place.read_text()
    assert text.startswith("<!doctype html>") and text.endswith("</html>\n")
    return text


def test_a_page_of_an_update_and_of_the_way_back(
    build: Any, start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(build("member-added", "v1"))
    assert service.ask("fill") == "ok v1"
    new, place = build("member-added", "v2"), tmp_path / "report.html"
    rehearsed = service.update(new, "--rehearse", "--report", str(place))
    assert rehearsed.outcome == "rehearsed" and "could be updated" in read_page(place)
    update = service.update(new, "--report", str(place))
    assert update.outcome == "updated" and update.report is not None
    assert update.report["changes"]["functions"]["changed"]["shown"]
    page = read_page(place)
    assert f"became process {service.pid}" in page and "struct client" in page
    assert service.ask("check") == "ok v2"
    back = service.rollback("--allow", "data-left-behind", "--report", str(place))
    assert back.outcome == "updated", back.told()
    assert "taken back" in read_page(place)
    assert service.ask("check") == "ok v1"
    refused = service.update(tmp_path / "absent", "--report", str(place))
    assert refused.outcome == "refused" and "Why it was not done" in read_page(place)


def test_a_page_of_an_update_that_was_rolled_back(
    build: Any, start_service: StartService, tmp_path: Path
) -> None:
    service, place = start_service(build("member-added", "v1")), tmp_path / "report.html"
    assert service.ask("fill") == "ok v1"
    update = service.update(build("member-added", "v2"), "--max-pause", "0.001", "--report", str(place))
    assert update.outcome == "rolled-back"
    page = read_page(place)
    assert "pause-too-long" in page and "serves again as before" in page
    assert service.ask("check") == "ok v1"


def test_a_page_that_cannot_be_written_stops_nothing_but_before(
    build: Any, start_service: StartService, tmp_path: Path
) -> None:
    service, new = start_service(build("member-added", "v1")), build("member-added", "v2")
    assert service.ask("fill") == "ok v1"
    before = service.start("update", str(service.pid), str(new), "--report", str(tmp_path / "no" / "r.html"))
    stdout, _ = before.communicate(timeout=60)
    assert before.returncode == 6 and json.loads(stdout)["error"]["code"] == "report-unwritable"
    program = new.read_bytes()
    mixed_up = service.start("update", str(service.pid), str(new), "--report", str(new))
    assert mixed_up.communicate(timeout=60) and mixed_up.returncode == 2 and new.read_bytes() == program
    journal = service.home / "state" / "instar" / "journal.jsonl"
    assert not journal.exists() and service.ask("check") == "ok v1"
    home = tmp_path / "home"
    home.mkdir()
    held = service.start(
        "update", str(service.pid), str(new), "--rehearse", "--hold", "--report", str(home / "r.html"),
        stdin=subprocess.PIPE,
    )  # fmt: skip
    assert held.stderr is not None and held.stdin is not None
    for line in held.stderr:
        if "is kept as process" in line or "the new one is kept" in line:
            break
    home.rmdir()
    held.stdin.write("\n")
    stdout, _ = held.communicate(timeout=60)
    report = json.loads(stdout)
    assert (held.returncode, report["outcome"]) == (0, "rehearsed")
    assert any(text.startswith("report-not-written: ") for text in report["warnings"])


def test_the_page_on_standard_output(build: Any, start_service: StartService) -> None:
    service = start_service(build("member-added", "v1"))
    assert service.ask("fill") == "ok v1"
    words = ["update", str(service.pid), str(build("member-added", "v2")), "--rehearse", "--report", "-"]
    tool = subprocess.run(
        [str(INSTAR), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert tool.returncode == 0 and tool.stdout.startswith("<!doctype html>")
    assert tool.stdout.endswith("</html>\n") and "could be updated" in tool.stderr
