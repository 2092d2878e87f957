"""The environment a process was started with, read from /proc/PID/environ as it is now."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.control import startup_launch
from instar.errors import RefusedError

WORDS = (b"HOME=/root", b"PATH=/bin")
WHOLE = b"HOME=/root\0PATH=/bin\0"


def recover(monkeypatch: pytest.MonkeyPatch, data: bytes) -> tuple[bytes, ...]:
    monkeypatch.setattr(Path, "read_bytes", lambda _: data)
    words = [word for word in data.split(b"\0") if word]
    monkeypatch.setattr(startup_launch, "read_environment", lambda _: words)
    monkeypatch.setattr(startup_launch, "_present_environment", lambda _: None)
    return startup_launch.recover_environment(1)


@pytest.mark.parametrize("data", [WHOLE, WHOLE + bytes(40)])
def test_as_it_was_or_without_the_runtime_at_its_end(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    assert recover(monkeypatch, data) == WORDS


@pytest.mark.parametrize(
    "data", [bytes(9) + WHOLE, WORDS[0] + bytes(9) + WORDS[1], bytes(21), b"title\0" + WHOLE]
)
def test_written_over(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    with pytest.raises(RefusedError, match="overwritten its environment"):
        recover(monkeypatch, data)
