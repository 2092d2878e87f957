"""The cache of columns: what comes back, and what a damaged or hostile file cannot do."""

from __future__ import annotations

import logging
import os
import random
import resource
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from instar.metadata import cache
from instar.metadata.cache import HEADER, cache_path, default_directory, read_cached, write_cached
from instar.metadata.model import COLUMNS
from instar.metadata.version import Version
from instar.testing.versions import VersionBuilder

PRINT = bytes(range(16))


@pytest.fixture
def version() -> Version:
    b = VersionBuilder()
    b.unit("a.c")
    b.unit("b.c")
    node = b.struct("node", 40)
    b.member(node, "next", b.pointer(node))
    b.member(node, "name", b.array(b.c_char, 16), 8)
    b.member(node, "flag", b.c_unsigned, bit_offset=192, bits=3)
    b.member(node, "color", b.enum("color", {"RED": 1, "BLUE": -2}, signed=True), 28)
    b.member(node, "value", b.typedef("value_t", b.union("value", 8)), 32)
    main = b.function(
        "main", 0x1000, 64, type_row=b.function_type(b.c_int, [b.c_int]), ranges=[(0x900, 0x910)]
    )
    b.local(main, "argc", b.c_int, b"\x91\x6c", parameter=True)
    b.local(main, "x", b.c_long, [(0x1000, 0x1010, b"\x50")], scope=[(0x1000, 0x1020)])
    b.variable("head", b.pointer(node), 0x4000)
    b.variable("calls", b.c_int, 0x4010, function=main, unit=1)
    b.line(0x1000, "a.c", 3)
    b.line(0x1040, "", 0)
    return b.build()


def ask_everything(version: Version) -> int:
    """Every question about every row; returns the number of answers."""
    answers = 0
    for row in range(len(version.types)):
        answers += bool(version.type_name(row)) + version.strip(row) + version.size_of(row)
        answers += len(version.members_of(row)) + len(version.enumerators_of(row))
    for table in ("members", "enumerators", "variables", "functions", "locals", "units"):
        answers += sum(len(version.text(name)) for name in version.columns[table]["name"].tolist())
    for row in range(len(version.functions)):
        answers += len(version.frame_base(row)) + len(version.ranges_of(row))
        for local in version.locals_of(row):
            answers += len(version.scopes_of(local))
            answers += sum(len(version.expression(place)) for place in version.locations_of(local))
    for address in (0, 0x900, 0x1000, 0x4000, 2**63, 2**64 - 1):
        answers += (version.function_at(address) or 0) + (version.variable_at(address) or 0)
        answers += len(version.line_at(address) or ())
    return answers + bool(version.find_type("struct node"))


def test_columns_come_back_as_they_were(version: Version, tmp_path: Path) -> None:
    path = cache_path(tmp_path / "new" / "directory", "abcd")
    assert read_cached(path, PRINT) is None
    assert write_cached(path, PRINT, version.columns)
    found = read_cached(path, PRINT)
    assert found is not None and set(found) == set(COLUMNS)
    for name, column in version.columns.items():
        assert found[name].dtype == column.dtype and np.array_equal(found[name], column)
    assert ask_everything(Version(Path(), version.elf, found)) == ask_everything(version)


def test_only_the_owner_can_read_it(version: Version, tmp_path: Path) -> None:
    path = cache_path(tmp_path / "directory", "abcd")
    write_cached(path, PRINT, version.columns)
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    path.chmod(0o622)
    assert read_cached(path, PRINT) is None


def test_another_build_of_the_same_build_id(version: Version, tmp_path: Path) -> None:
    path = cache_path(tmp_path, "abcd")
    write_cached(path, PRINT, version.columns)
    assert read_cached(path, PRINT[::-1]) is None


def test_another_layout_is_not_read(
    version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cache_path(tmp_path, "abcd")
    write_cached(path, PRINT, version.columns)
    monkeypatch.setattr(cache, "LAYOUT", bytes(16))
    assert read_cached(path, PRINT) is None


def test_flipped_bytes_and_every_length_are_noticed(version: Version, tmp_path: Path) -> None:
    path = cache_path(tmp_path, "abcd")
    write_cached(path, PRINT, version.columns)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        assert read_cached(path, PRINT) is None, place
    for size in range(0, len(whole), 31):
        path.write_bytes(whole[:size])
        assert read_cached(path, PRINT) is None, size


def forge(raw: bytearray) -> bytes:
    """With the checksum that it must have."""
    header: npt.NDArray[Any] = np.frombuffer(raw[: HEADER.itemsize], HEADER).copy()
    header["checksum"] = zlib.crc32(raw[HEADER.itemsize :])
    return header.tobytes() + bytes(raw[HEADER.itemsize :])


@pytest.mark.parametrize("seed", range(4))
def test_a_forged_file_gives_nothing_or_columns_that_work(
    version: Version, tmp_path: Path, seed: int
) -> None:
    path = cache_path(tmp_path, "abcd")
    write_cached(path, PRINT, version.columns)
    whole = path.read_bytes()
    chance = random.Random(seed)
    accepted = 0
    for _ in range(500):
        raw = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(48, len(raw))
            size = chance.choice((1, 4, 8))
            value = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
            raw[place : place + size] = bytes([value]) * len(raw[place : place + size])
        path.write_bytes(forge(raw))
        found = read_cached(path, PRINT)
        if found is not None:
            accepted += 1
            ask_everything(Version(Path(), version.elf, found))
    assert 0 < accepted < 500


def test_row_counts_that_overflow(version: Version, tmp_path: Path) -> None:
    path = cache_path(tmp_path, "abcd")
    write_cached(path, PRINT, version.columns)
    whole = path.read_bytes()
    for column in range(len(COLUMNS)):
        for count in (1 << 63, (1 << 64) - 1, 1 << 60, 1 << 32):
            raw = bytearray(whole)
            place = HEADER.itemsize - 8 * (len(COLUMNS) - column)
            raw[place : place + 8] = count.to_bytes(8, "little")
            path.write_bytes(forge(raw))
            assert read_cached(path, PRINT) is None


def test_a_full_disk_leaves_nothing_behind(
    version: Version, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cache_path(tmp_path / "directory", "abcd")
    path.parent.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # EFBIG; Python ignores SIGXFSZ
    try:
        with caplog.at_level(logging.WARNING):
            assert not write_cached(path, PRINT, version.columns)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(path.parent.iterdir())
    assert "not written" in caplog.text


def test_old_files_are_dropped(version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEPT_FILES", 3)
    for number in range(5):
        path = cache_path(tmp_path, f"id{number}")
        write_cached(path, PRINT, version.columns)
        os.utime(path, (1000 + number, 1000 + number))
    assert sorted(one.stem for one in tmp_path.iterdir()) == ["id2", "id3", "id4"]


def test_default_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_directory() == Path("/somewhere/instar")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    monkeypatch.setenv("HOME", "/home/me")
    assert default_directory() == Path("/home/me/.cache/instar")
