"""A cheap look at whether a process has opened or closed anything."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from instar.update.probation import Glance

KERNEL = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
TELLS = KERNEL >= (6, 2)  # of a directory of descriptors how many they are


def test_what_is_opened_and_closed_is_noticed_once(tmp_path: Path) -> None:
    glance = Glance(os.getpid())
    assert not glance.differs()
    with (tmp_path / "file").open("w"):
        assert [glance.differs(), glance.differs()] == [TELLS, False]
    assert [glance.differs(), glance.differs()] == [TELLS, False]


def test_the_end_of_a_process_is_a_difference_at_most() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        glance = Glance(child.pid)
        child.kill()
    assert glance.differs() in (True, False)
    assert not glance.differs()
