"""chrony (counters, access rules) and dropbear's parent are updated under load."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.real.builds import build_pair
from tests.real.distribution import UnavailableError
from tests.real.more_servers import Dropbear
from tests.real.other_servers import Chrony
from tests.real.servers import Server
from tests.real.subject import DAEMON, FOREGROUND, Subject, under_load


@pytest.mark.parametrize("mode", [FOREGROUND, DAEMON])
@pytest.mark.parametrize("subject", [Chrony, Dropbear])
def test_update(subject: type[Subject], mode: str, tmp_path: Path) -> None:
    try:
        pair = build_pair(subject.recipe, *subject.states)
    except UnavailableError as error:
        pytest.skip(f"NOT TESTED, no source of {subject.recipe.package}: {error}")
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
