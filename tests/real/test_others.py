"""chrony (counters, access rules) and dropbear's parent are updated under load."""

from __future__ import annotations

from pathlib import Path

import pytest
from builds import build_pair
from distribution import UnavailableError
from more_servers import Dropbear
from other_servers import Chrony
from servers import Server
from subject import DAEMON, FOREGROUND, Subject, under_load


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
