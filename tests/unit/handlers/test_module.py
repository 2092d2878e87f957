"""Handler files that lie beside a program: found, and not run when somebody else may have written them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from instar.errors import RefusedError
from instar.handlers.module import find_handlers, require_trusted


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    file = tmp_path / "server.instar.py"
    file.write_text("")
    return file


def test_found_by_its_name(beside: Path, tmp_path: Path) -> None:
    assert find_handlers(None, tmp_path / "server") == beside
    assert find_handlers(None, tmp_path / "other") is None
    assert find_handlers(tmp_path / "given.py", tmp_path / "server") == tmp_path / "given.py"


def test_a_directory_that_may_not_be_read_is_left_to_who_reads_the_program(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", forbidden)
    assert find_handlers(None, tmp_path / "server") is None


def test_own_files_are_run(beside: Path) -> None:
    beside.chmod(0o664)
    require_trusted(beside)


def test_a_file_that_everybody_may_write_is_not_run(beside: Path) -> None:
    beside.chmod(0o666)
    with pytest.raises(RefusedError, match="rights") as caught:
        require_trusted(beside)
    assert caught.value.code == "handlers-not-trusted"
    assert "--handlers" in caught.value.remedy


def test_a_file_of_another_user_is_not_run(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: beside.stat().st_uid + 1)
    owner = beside.stat().st_uid
    if owner == 0:
        require_trusted(beside)  # root may
        os.chown(beside, 65534, -1)
    with pytest.raises(RefusedError, match="another user"):
        require_trusted(beside)
