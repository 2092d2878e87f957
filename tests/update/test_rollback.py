"""Going back after a commit: the version before, with the state of now; and what `instar status` tells."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.update.conftest import StartService
from tests.update.service import Service

from instar.testing.programs import Builder
from instar.testing.scenarios import TOOLCHAINS, Scenario

PROGRAMS = Path(__file__).parents[1] / "programs"
TOOLCHAIN = TOOLCHAINS[0]


class Pair:
    """Two versions as files of their own, as a package manager would put them there."""

    def __init__(self, name: str, builder: Builder, directory: Path) -> None:
        scenario = Scenario.load(PROGRAMS / name)
        directory.mkdir()
        self.paths = [directory / f"server-{version}" for version in ("v1", "v2")]
        for path, version in zip(self.paths, ("v1", "v2"), strict=True):
            shutil.copy(scenario.build(version, TOOLCHAIN, builder), path)


@pytest.fixture
def pair(builder: Builder, tmp_path: Path) -> Pair:
    """A struct that gains a member."""
    return Pair("member-added", builder, tmp_path / "installed")


@pytest.fixture
def service(pair: Pair, start_service: StartService) -> Service:
    """Version 1, filled."""
    service = start_service(pair.paths[0])
    assert service.ask("fill") == "ok v1"
    return service


def update(service: Service, path: Path) -> None:
    """Carry the service over; it must work."""
    done = service.update(path)
    assert done.outcome == "updated", done.told()
    assert service.ask("check") == "ok v2"


def back(service: Service, *options: str) -> None:
    """Take the service back; it must work."""
    done = service.rollback(*options)
    assert done.outcome == "updated", done.told()
    assert done.report is not None and done.report["kind"] == "rollback"
    assert service.ask("check") == "ok v1"
    assert service.processes() == [service.pid]


def test_back_and_forth(service: Service, pair: Pair) -> None:
    for _ in range(2):
        update(service, pair.paths[1])
        back(service)
        assert service.ask("churn") == "ok v1"


def test_the_old_file_was_overwritten_and_then_deleted(service: Service, pair: Pair) -> None:
    """As a package manager does it: the new file takes the old one's name."""
    installed = pair.paths[0]
    installed.unlink()
    shutil.copy(pair.paths[1], installed)
    update(service, installed)
    installed.unlink()
    back(service)
    assert "/versions/" in str(Path(f"/proc/{service.pid}/exe").readlink())
    update(service, pair.paths[1])
    back(service)


def test_the_file_in_its_own_place_is_preferred(service: Service, pair: Pair) -> None:
    update(service, pair.paths[1])
    back(service)
    assert Path(f"/proc/{service.pid}/exe").readlink() == pair.paths[0]


def test_several_steps(service: Service, pair: Pair) -> None:
    update(service, pair.paths[1])
    update(service, pair.paths[1])
    refused = service.rollback("--steps", "3")
    assert refused.report is not None and refused.report["error"]["code"] == "no-kept-version"
    assert "2 updates" in refused.told()
    back(service, "--steps", "2")
    (status,) = service.status(str(service.pid))
    assert (status["updates"], status["rollbacks"], status["kept"]) == (3, 1, [])


def test_a_rehearsed_rollback_goes_nowhere(service: Service, pair: Pair) -> None:
    update(service, pair.paths[1])
    done = service.rollback("--rehearse")
    assert (done.outcome, done.status) == ("rehearsed", 0), done.told()
    assert service.ask("check") == "ok v2"
    back(service)


def test_a_process_that_was_never_updated(service: Service) -> None:
    refused = service.rollback()
    assert (refused.outcome, refused.status) == ("refused", 3)
    assert refused.report is not None and refused.report["error"]["code"] == "no-kept-version"
    assert service.ask("check") == "ok v1"


@pytest.mark.parametrize("damage", ["gone", "changed", "note"])
def test_a_kept_version_that_is_gone_or_was_changed(service: Service, pair: Pair, damage: str) -> None:
    update(service, pair.paths[1])
    pair.paths[0].unlink()
    (kept,) = (service.home / "state" / "instar" / "versions").iterdir()
    if damage == "gone":
        shutil.rmtree(kept)
    elif damage == "changed":
        (kept / pair.paths[0].name).write_bytes(pair.paths[1].read_bytes())
    else:
        (kept / "kept.json").write_text('{"digests": 3}')
    refused = service.rollback()
    assert refused.report is not None and refused.report["error"]["code"] == "no-kept-version", refused.told()
    assert service.ask("check") == "ok v2"


def test_what_an_update_left_behind_is_not_made_up(
    builder: Builder, tmp_path: Path, start_service: StartService
) -> None:
    pair = Pair("member-removed", builder, tmp_path / "installed")
    service = start_service(pair.paths[0])
    assert service.ask("fill") == "ok v1"
    update(service, pair.paths[1])
    refused = service.rollback()
    assert refused.report is not None and refused.report["error"]["code"] == "data-left-behind"
    assert "struct " in refused.told()
    assert service.ask("check") == "ok v2"
    allowed = service.rollback("--allow", "data-left-behind")
    assert allowed.outcome == "updated", allowed.told()
    assert service.ask("version") == "ok v1"


def test_a_pid_that_was_used_anew_is_no_confusion(service: Service, pair: Pair) -> None:
    """The journal tells of this pid, but of another process."""
    update(service, pair.paths[1])
    journal = service.home / "state" / "instar" / "journal.jsonl"
    document = json.loads(journal.read_text())
    document["processes"]["new_started"] -= 1
    journal.write_text(json.dumps(document) + "\n")
    refused = service.rollback()
    assert refused.report is not None and refused.report["error"]["code"] == "no-kept-version"
    assert service.status() == []


def test_status(service: Service, pair: Pair) -> None:
    (status,) = service.status(str(service.pid))
    assert (status["updates"], status["kept"], status["path"]) == (0, [], str(pair.paths[0]))
    assert service.status() == []
    update(service, pair.paths[1])
    (status,) = service.status()
    assert status["pid"] == service.pid and status["updates"] == 1
    assert status["path"] == str(pair.paths[1]) and len(status["build_id"]) >= 32
    (kept,) = status["kept"]
    assert (kept["steps"], kept["path"], kept["kept"]) == (1, str(pair.paths[0]), True)


def test_versions_that_nobody_needs_go(service: Service, pair: Pair) -> None:
    import os

    update(service, pair.paths[1])
    versions = service.home / "state" / "instar" / "versions"
    stale = versions / "0123abcd"
    stale.mkdir()
    os.utime(stale, (0, 0))
    (kept,) = (path for path in versions.iterdir() if path != stale)
    os.utime(kept, (0, 0))
    update(service, pair.paths[1])
    assert not stale.exists()
    assert kept.exists()


def test_no_room_to_keep_is_a_warning(service: Service, pair: Pair) -> None:
    (service.home / "state" / "instar").mkdir(parents=True)
    (service.home / "state" / "instar" / "versions").write_text("in the way")
    done = service.update(pair.paths[1])
    assert done.outcome == "updated"
    assert done.report is not None
    assert any(text.startswith("not-kept") for text in done.report["warnings"])


def test_the_handlers_of_an_update_lead_back_though_their_file_is_gone(
    builder: Builder, tmp_path: Path, start_service: StartService
) -> None:
    pair = Pair("handler-member-renamed", builder, tmp_path / "installed")
    service = start_service(pair.paths[0])
    assert service.ask("fill") == "ok v1"
    file = tmp_path / "handlers.py"
    shutil.copy(PROGRAMS / "handler-member-renamed" / "handlers.py", file)
    done = service.update(pair.paths[1], "--handlers", str(file))
    assert done.outcome == "updated", done.told()
    assert service.ask("check") == "ok v2"
    file.unlink()
    back(service)
    again = service.update(pair.paths[1])
    assert again.outcome == "refused", "without handlers the rename is not known"
    file.write_bytes((PROGRAMS / "handler-member-renamed" / "handlers.py").read_bytes())
    done = service.update(pair.paths[1], "--handlers", str(file))
    assert done.outcome == "updated", done.told()
    assert service.ask("check") == "ok v2"
    update(service, pair.paths[1])
    back(service, "--steps", "2")
    (kept,) = (service.home / "state" / "instar" / "versions").glob("handlers-*.py")
    assert service.update(pair.paths[1], "--handlers", str(file)).outcome == "updated"
    kept.write_text("# changed\n")
    refused = service.rollback()
    assert refused.report is not None and refused.report["error"]["code"] == "no-kept-version"
    assert service.ask("check") == "ok v2"
