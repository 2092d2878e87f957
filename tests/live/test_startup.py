"""The new version comes up beside the old one, which serves on and sees nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from startup_support import ask, descriptors, free_port, future_of

PROGRAMS = "startup_programs"


@pytest.fixture
def versions(compile_c):
    """Builds a scenario twice."""

    def build(name: str, *flags: str) -> tuple[Path, Path]:
        source = f"{PROGRAMS}/{name}.c"
        return compile_c(source, "-DVERSION=1", *flags), compile_c(source, "-DVERSION=2", *flags)

    return build


@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_epoll_server_is_parked_where_the_past_waits(versions, start, level):
    old, new = versions("epoll_server", level)
    port = free_port()
    past = start(old, str(port))
    before = descriptors(past.pid)
    with future_of(past.pid, old, new) as future:
        assert future.chain.functions == (
            ("wait_for_events", "main") if level == "-O0" else future.chain.functions
        )
        assert future.point.name == "epoll_wait"
        assert descriptors(future.pid)[3] == before[3]  # the very socket
        assert future.descriptor_pairs == {number: number for number in before}
        assert [(r.number, r.past) for r in future.registrations] == [(3, 3)]
        assert ask(port) == "hello v1"
        assert b"ready v2" in future.output
        assert past.silent(0.05)
    assert ask(port) == "hello v1"
    assert descriptors(past.pid) == before
