"""chrony (counters, access rules), dropbear's parent, pen, xl2tpd and nginx are updated under load."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.builds import Pair, build_pair
from tests.real.distribution import UnavailableError
from tests.real.more_servers import Dropbear
from tests.real.other_servers import Chrony
from tests.real.relays import Pen
from tests.real.servers import Server
from tests.real.subject import DAEMON, FOREGROUND, Subject, under_load
from tests.real.tunnels import Xl2tpd
from tests.real.web_servers import Nginx


def _pair(subject: type[Subject]) -> Pair:
    try:
        return build_pair(subject.recipe, *subject.states)
    except UnavailableError as error:
        pytest.skip(f"NOT TESTED, no source of {subject.recipe.package}: {error}")


@pytest.mark.parametrize("mode", [FOREGROUND, DAEMON])
@pytest.mark.parametrize("subject", [Chrony, Dropbear])
def test_update(subject: type[Subject], mode: str, tmp_path: Path) -> None:
    pair = _pair(subject)
    place = subject(tmp_path, mode)
    server = Server(place.command(pair.old), place.pid_file, place.ready)
    try:
        place.populate()
        with under_load(place) as raised:
            server.update(pair.new)
        place.check()
        assert not raised
    finally:
        place.close()
        server.stop()


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory to which a server finds its way that gives up its rights, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="instar-real-") as directory:
        yield Path(directory)


@pytest.mark.parametrize("mode", [FOREGROUND, DAEMON])
@pytest.mark.parametrize("subject", [Pen, Xl2tpd])
def test_there_and_back(subject: type[Subject], mode: str, reachable: Path) -> None:
    """A relay gives up its rights at its start; a tunnel server keeps all of its peers under one socket."""
    pair = _pair(subject)
    place = subject(reachable, mode)
    server = Server(place.command(pair.old), place.pid_file, place.ready)
    try:
        place.populate()
        with under_load(place) as raised:
            for program in (pair.new, pair.old):
                report = server.update(program, *place.options)
                assert report["retyped"], report
        place.check()
        assert not raised
    finally:
        place.close()
        server.stop()


def test_pools(reachable: Path) -> None:
    """Words in pools lead to entries of tables that lie elsewhere in the other version."""
    pair = _pair(Nginx)
    place = Nginx(reachable, FOREGROUND)
    server = Server(place.command(pair.old), place.pid_file, place.ready)
    try:
        place.populate()
        with under_load(place) as raised:
            for program in (pair.new, pair.old):
                report = server.update(program)
                assert not report["retyped"], report
        place.check()
        assert not raised
    finally:
        place.close()
        server.stop()
