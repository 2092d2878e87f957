"""Real servers: fetched and built once, skipped aloud where the archive is out of reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.real.builds import Pair, Recipe, build_pair
from tests.real.distribution import UnavailableError
from tests.real.recipes import DNSMASQ, MOSQUITTO, TINYPROXY
from tests.real.servers import Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/real" in item.path.as_posix():
            item.add_marker(pytest.mark.real)


def _pair(recipe: Recipe, old: int = 1, new: int | None = None) -> Pair:
    try:
        return build_pair(recipe, old, new)
    except UnavailableError as error:
        pytest.skip(f"NOT TESTED, no source of {recipe.package}: {error}")


@pytest.fixture(scope="session")
def dnsmasq() -> Pair:
    return _pair(DNSMASQ)


@pytest.fixture(scope="session")
def tinyproxy() -> Pair:
    return _pair(TINYPROXY)


@pytest.fixture(scope="session")
def mosquitto() -> Pair:
    """From the seventh patch, CVE-2021-34434, to the eleventh: five files, one member of another type."""
    return _pair(MOSQUITTO, 7, 11)


@pytest.fixture(scope="session")
def mosquitto_of_other_meaning() -> Pair:
    """From the first patch to all: subscriptions kept in another way, which no rule can know."""
    return _pair(MOSQUITTO)


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts servers that end with the test."""
    servers: list[Server] = []

    def begin(*args: object, **options: object) -> Server:
        servers.append(Server(*args, **options))  # type: ignore[arg-type]
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()
