"""A unit of systemd ends with its main process: told beforehand, or refused by name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from instar.process.surroundings import Surroundings, read_surroundings
from instar.update import endings

PARENT = 77


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    """This process, as if systemd had started it as the main process of a unit."""
    real = read_surroundings(os.getpid())
    monkeypatch.setattr(endings, "read_status", lambda pid: SimpleNamespace(name="systemd"))
    monkeypatch.setenv("PATH", "/nowhere")
    status = replace(real.status, parent=PARENT)
    return replace(real, status=status, cgroups=("0::/system.slice/server.service",))


def systemctl(directory: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    tool = directory / "systemctl"
    tool.write_text(f"#!/bin/sh\n{text}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def environment(monkeypatch: pytest.MonkeyPatch, words: list[bytes], *, root: bool) -> None:
    monkeypatch.setattr(endings, "read_environment", lambda pid: words)
    monkeypatch.setattr(endings, "has_capability", lambda number: root)


def test_a_unit_that_would_end_is_refused_by_name(
    service: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(monkeypatch, [], root=True)
    error = endings.explain_manager(service)
    assert error is not None and error.code == "service-manager" and "server.service" in error.cause


@pytest.mark.parametrize("root", [True, False])
def test_who_can_be_told(service: Surroundings, monkeypatch: pytest.MonkeyPatch, root: bool) -> None:
    """In another process's name only root can speak."""
    environment(monkeypatch, [b"NOTIFY_SOCKET=/run/systemd/notify"], root=root)
    assert (endings.explain_manager(service) is None) is root


@pytest.mark.parametrize(
    ("text", "fine"),
    [("echo /run/server.pid", True), ("echo", False), ("echo /run/server.pid; exit 1", False)],
    ids=["pid-file", "none", "fails"],
)
def test_a_pid_file_is_read_again(
    service: Surroundings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, fine: bool
) -> None:
    environment(monkeypatch, [], root=True)
    systemctl(
        tmp_path, monkeypatch, f'test "$1" = --user || exit 2; test "$5" = server.service || exit 3; {text}'
    )
    assert (endings.explain_manager(service) is None) is fine


@pytest.mark.parametrize("groups", [("0::/user.slice/user@1000.service",), ("0::/",), ()])
def test_others_have_no_unit(
    service: Surroundings, monkeypatch: pytest.MonkeyPatch, groups: tuple[str, ...]
) -> None:
    environment(monkeypatch, [], root=False)
    assert endings.explain_manager(replace(service, cgroups=groups)) is None


def test_another_parent_is_no_manager(service: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "read_status", lambda pid: SimpleNamespace(name="bash"))
    assert endings.explain_manager(service) is None
