"""The report of an update and its published schema agree."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from instar.errors import DamagedError, InstarError, RefusedError, RolledBackError
from instar.update.outcome import Failure, Leaked, PhaseTime, UpdateReport, VersionId
from instar.update.progress import PHASES

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "update.schema.json").read_text())
UPDATED = UpdateReport(
    "updated",
    old_pid=10,
    new_pid=11,
    old=VersionId("/srv/v1", "0a"),
    new=VersionId("/srv/v2", "0b"),
    pause_ms=13.84219,
    total_ms=812.5,
    phases=tuple(PhaseTime(name, 1.0) for name in PHASES),
    objects={"heap": np.int64(5), "static": 2},  # type: ignore[dict-item]
    retyped=np.uint32(3),  # type: ignore[arg-type]
    pointers=7,
    bytes=4096,
    leaked=Leaked(np.int64(1), 64),  # type: ignore[arg-type]
    descriptors=4,
    connections=1,
    warnings=("an assumed pointer",),
)


def violations(document: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)]


def through_text(report: UpdateReport) -> Any:
    return json.loads(json.dumps(report.to_json()))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_an_update() -> None:
    document = through_text(UPDATED)
    assert violations(document) == []
    assert document["pause_ms"] == 13.842
    assert document["objects"] == {"heap": 5, "static": 2}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RefusedError("no-debug-info", "x", "y"), "refused"),
        (RolledBackError("pause-exceeded", "x", "y", details=("z",)), "rolled-back"),
        (DamagedError("commit-failed", "x", "y"), "damaged"),
    ],
)
def test_an_error(error: InstarError, outcome: str) -> None:
    document = through_text(UpdateReport.from_error(10, error))
    assert violations(document) == []
    assert document["outcome"] == outcome
    assert document["error"] == Failure.from_error(error).to_json()


def test_the_schema_names_exactly_the_keys() -> None:
    keys = ["schema", *(field.name for field in fields(UpdateReport))]
    assert sorted(keys) == sorted(SCHEMA["properties"]) == sorted(SCHEMA["required"])
    assert list(UPDATED.to_json()) == ["schema", "outcome", *keys[2:]]


@pytest.mark.parametrize(
    "wrong",
    [
        replace(UPDATED, new_pid=None),
        replace(UPDATED, outcome="refused"),
        replace(UPDATED, error=Failure("c", "x", "y")),
        replace(UPDATED, phases=(PhaseTime("dream", 1.0),)),
        replace(UPDATED, leaked=Leaked(-1, 0)),
        replace(UPDATED, new=VersionId("/x", "NO")),
    ],
)
def test_the_schema_can_say_no(wrong: UpdateReport) -> None:
    assert violations(through_text(wrong))


def test_a_warning_is_added_at_the_end() -> None:
    assert UPDATED.with_warning("late").warnings == ("an assumed pointer", "late")
