"""Two that keep the same version at once, and one that is interrupted meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.update import kept_versions

BUILD_ID = "0a" * 20


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    source = os.open(tmp_path, os.O_RDONLY)
    yield source
    os.close(source)


def others_win(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While it is copied, another has kept it, and then comes an error."""
    place = kept_versions.versions_directory() / BUILD_ID

    def fill(directory: Path, source: int, path: Path) -> None:
        (directory / "part").write_text("half of it")
        place.mkdir()
        (place / "kept.json").write_text("{}")
        raise error

    monkeypatch.setattr(kept_versions, "_fill", fill)
    return place


def test_another_was_faster(program: int, monkeypatch: pytest.MonkeyPatch) -> None:
    place = others_win(OSError(errno.ENOTEMPTY, "it is there"), monkeypatch)
    kept_versions.keep(program, Path("/srv/v1"), BUILD_ID)
    assert list(place.parent.iterdir()) == [place]


def test_an_interruption_is_not_taken_for_that(program: int, monkeypatch: pytest.MonkeyPatch) -> None:
    place = others_win(KeyboardInterrupt(), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        kept_versions.keep(program, Path("/srv/v1"), BUILD_ID)
    assert list(place.parent.iterdir()) == [place]
