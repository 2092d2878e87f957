"""Fixtures of whole updates: services that are always cleaned up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.update.service import Service

StartService = Callable[..., Service]


@pytest.fixture(scope="session")
def tool_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tool keeps what it knows about versions; one for the whole run, never the user's own."""
    return tmp_path_factory.mktemp("tool-cache")


@pytest.fixture
def start_service(tmp_path: Path, tool_cache: Path) -> Iterator[StartService]:
    """Starts a program as a ``Service`` in a directory of its own."""
    running: list[Service] = []

    def start(program: Path, **options: Any) -> Service:
        home = tmp_path / f"service{len(running)}"
        service = Service(program, **{"home": home, "cache": tool_cache, **options})
        running.append(service)
        return service

    yield start
    for service in running:
        service.close()
