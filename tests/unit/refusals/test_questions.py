"""Refusals of questions about state: expressions, conditions, lists, cores, files."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from instar.errors import InstarError, RefusedError, UsageError
from instar.metadata import walker
from instar.process import core
from instar.process.core import CoreFile
from instar.state.expression import evaluate
from instar.testing.versions import VersionBuilder
from instar.validation.conditions import Conditions
from instar.validation.expressions import Expression

STATICS = 0x4000


class Memory:
    """All words are zero."""

    def read(self, address: int, size: int) -> bytes:
        return bytes(size)

    def u64(self, address: int) -> int:
        return 0


def subject() -> Any:
    """``struct pair {struct pair *left, *right;} pair, *head; int row[3], twice; _Thread_local int own;``"""
    builder = VersionBuilder()
    pair = builder.struct("pair", 16)
    pointer = builder.pointer(pair)
    builder.member(pair, "left", pointer, 0)
    builder.member(pair, "right", pointer, 8)
    builder.variable("pair", pair, STATICS)
    builder.variable("head", pointer, STATICS + 16)
    builder.variable("row", builder.array(builder.c_int, 3), STATICS + 24)
    builder.variable("twice", builder.c_int, STATICS + 40)
    builder.variable("twice", builder.c_int, STATICS + 48)
    builder.variable("own", builder.c_int, 0, tls=True)
    return SimpleNamespace(version=builder.build(), load_bias=0, memory=Memory(), thread_pointer=None, pid=1)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("pair.middle", "no-such-member"),
        ("row[3]", "index-out-of-range"),
        ("twice[1]", "ambiguous-name"),
        ("pair[1]", "not-an-array"),
        ("*pair", "not-a-pointer"),
        ("head->left", "null-pointer"),
        ("own", "no-thread"),
        ("row[", "bad-expression"),
        ("row[x]", "bad-expression"),
        ("(row", "bad-expression"),
        ("row row", "bad-expression"),
        ("3", "bad-expression"),
    ],
)
def test_expression(text: str, code: str) -> None:
    with pytest.raises(InstarError) as caught:
        evaluate(subject(), text)
    assert caught.value.code == code and caught.value.remedy


@pytest.mark.parametrize(("text", "code"), [("list(head)", "no-link"), ("head ->", "bad-expression")])
def test_condition(text: str, code: str) -> None:
    with pytest.raises(InstarError) as caught:
        Expression(text).value(subject(), cast(Any, Memory()))
    assert caught.value.code == code and caught.value.remedy


@pytest.mark.parametrize("text", ["[invariants", "[invariants]\nname = 3", "invariants = 3", None])
def test_a_file_of_conditions_that_is_none(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "instar.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError) as caught:
        Conditions.find(path, tmp_path / "program")
    assert caught.value.code == "bad-config" and str(path) in caught.value.cause


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (2, "unreadable-elf"),
        (3, "no-debug-info"),
        (4, "empty-debug-info"),
        (5, "damaged-debug-info"),
        (6, "dwarf-version"),
        (7, "zstd-missing"),
        (8, "split-debug-missing"),
        (9, "split-debug-mismatch"),
        (10, "dwz-missing"),
    ],
)
def test_what_the_walker_says(monkeypatch: pytest.MonkeyPatch, error: int, code: str) -> None:
    library = SimpleNamespace(
        instar_walk_create=lambda: 1,
        instar_walk_program=lambda *_: error,
        instar_walk_detail=lambda _: b"the place",
        instar_walk_free=lambda _: None,
    )
    monkeypatch.setattr(walker, "_library", lambda: library)
    with pytest.raises(RefusedError) as caught:
        walker.walk_program(Path("/usr/bin/server"))
    assert caught.value.code == code
    assert caught.value.cause.startswith("/usr/bin/server ") and caught.value.cause.endswith("the place")
    assert len(walker.ERRORS) == 9, "one without a test"


def note(number: int, data: bytes) -> bytes:
    """One entry of a note segment."""
    padded = data.ljust(-(-len(data) // 4) * 4, b"\0")
    return struct.pack("<III", 5, len(data), number) + b"CORE\0\0\0\0" + padded


def test_core_of_a_process_with_threads(tmp_path: Path) -> None:
    files = struct.pack("<QQ", 1, 4096) + struct.pack("<QQQ", 0x1000, 0x2000, 0) + b"/bin/x\0"
    notes = b"".join(
        (note(core._PRSTATUS, bytes(336)), note(core._PRSTATUS, bytes(336)), note(core._AUXV, bytes(16)))
    ) + note(core._FILE, files)
    at = core._HEADER.size + core._PROGRAM_HEADER.size
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    fields = (core._CORE, core._X86_64, 1, 0, core._HEADER.size, 0, 0, core._HEADER.size)
    header = core._HEADER.pack(ident, *fields, core._PROGRAM_HEADER.size, 1, 0, 0, 0)
    segment = core._PROGRAM_HEADER.pack(core._NOTE, 0, at, 0, 0, len(notes), 0, 4)
    path = tmp_path / "core"
    path.write_bytes(header + segment + notes)
    with pytest.raises(RefusedError) as caught:
        CoreFile(path)
    assert caught.value.code == "core-threads" and "2 threads" in caught.value.cause
