"""Pairing of two builds of real programs, with both compilers, optimised and not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.pairing.interpreter import Refusal, execute

from instar.metadata.version import Version, load_version
from instar.pairing.mapping import TypePairing
from instar.pairing.plan import PairingPlan, plan_pairing
from instar.pairing.report import make_report
from instar.testing.programs import Builder, Toolchain

PROGRAMS = Path(__file__).parent / "pairing_programs"
TOOLCHAINS = [Toolchain(compiler, level) for compiler in ("gcc", "clang") for level in ("-O0", "-O2")]
EDITED = {f"edited_{what}" for what in ("constant", "string", "call", "variable", "field", "float", "map")}


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    return Builder(tmp_path_factory.mktemp("pairing"))


@pytest.fixture(params=TOOLCHAINS, ids=str)
def toolchain(request: pytest.FixtureRequest) -> Toolchain:
    chosen: Toolchain = request.param
    return chosen


def build(builder: Builder, name: str, toolchain: Toolchain, *flags: str) -> tuple[Path, Path]:
    source = {f"{name}.c": PROGRAMS / f"{name}.c"}
    old, new = (builder.build(source, toolchain, flags=[f"-DVERSION={n}", *flags]) for n in (1, 2))
    return old, new


def load(path: Path) -> Version:
    return load_version(path, cache=path.parent / "cache")


def plan_of(paths: tuple[Path, Path]) -> PairingPlan:
    return plan_pairing(load(paths[0]), load(paths[1]))


# Values ----------------------------------------------------------------------------------------------------


def run(path: Path, *arguments: str, data: bytes = b"") -> bytes:
    return subprocess.run([path, *arguments], input=data, capture_output=True, check=True).stdout


def test_values_survive_a_change_of_every_layout(builder: Builder, toolchain: Toolchain) -> None:
    paths = build(builder, "values", toolchain)
    old, new = load(paths[0]), load(paths[1])
    rows = [version.find_type("struct state") for version in (old, new)]
    assert rows[0] is not None
    assert rows[1] is not None
    mapping = TypePairing(old, new).compile(rows[0], rows[1])
    assert mapping.problems == ()
    raw = run(paths[0])
    assert len(raw) == mapping.old_size
    converted = execute(mapping, raw, bytearray(mapping.new_size))
    assert run(paths[1], data=bytes(converted)).decode() == run(paths[0], "print").decode()


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("big", b"\0\0\0\0\1\0\0\0"),
        ("name", b"a name of twenty bytes and more"),
        ("number", b"\1\0\0\0\0\0\x20\0"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(builder: Builder, member: str, value: bytes) -> None:
    paths = build(builder, "values", TOOLCHAINS[0])
    old, new = load(paths[0]), load(paths[1])
    rows = [version.find_type("struct state") for version in (old, new)]
    mapping = TypePairing(old, new).compile(rows[0], rows[1])  # type: ignore[arg-type]
    found = next(m for m in old.members_of(rows[0]) if old.text(int(m["name"])) == member)  # type: ignore[arg-type]
    raw = bytearray(run(paths[0]))
    at = int(found["bit_offset"]) // 8
    raw[at : at + len(value)] = value
    with pytest.raises(Refusal, match=rf"^\.{member}$"):
        execute(mapping, bytes(raw), bytearray(mapping.new_size))


# Code ------------------------------------------------------------------------------------------------------


def changed_functions(plan: PairingPlan) -> set[str]:
    return {one.name for one in make_report(plan).functions if one.status == "changed"}


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("-no-pie", "-fno-pie"),
        ("-fcf-protection", "-fno-plt"),
        ("-Wl,-z,now",),
        ("-static-libgcc", "-Wl,--gc-sections", "-ffunction-sections"),
    ],
    ids=" ".join,
)
def test_exactly_the_edited_functions_are_changed(
    builder: Builder, toolchain: Toolchain, flags: tuple[str, ...]
) -> None:
    plan = plan_of(build(builder, "functions", toolchain, *flags))
    assert changed_functions(plan) == EDITED


def test_a_program_is_the_same_code_as_itself(builder: Builder, toolchain: Toolchain) -> None:
    path = build(builder, "functions", toolchain)[0]
    plan = plan_of((path, path))
    assert changed_functions(plan) == set()
    assert make_report(plan).is_automatic


# Statics and strings ---------------------------------------------------------------------------------------


def string_at(version: Version, address: int) -> str:
    data = b""
    while not data.endswith(b"\0"):
        data += version.elf.read(address + len(data), 1)
    return data[:-1].decode()


def address_of(version: Version, name: str) -> int:
    row = version.find_variable(name)
    assert row is not None
    return int(version.variables["address"][row])


@pytest.mark.parametrize("flags", [(), ("-no-pie", "-fno-pie")], ids=" ".join)
def test_statics_and_strings_find_their_counterparts(
    builder: Builder, toolchain: Toolchain, flags: tuple[str, ...]
) -> None:
    plan = plan_of(build(builder, "statics", toolchain, *flags))
    content, old, new = plan.content, plan.old, plan.new
    targets = {}
    for name in ("greeting", "kept", "gone_text"):
        target = content.old_initializers.target(address_of(old, name))
        assert target is not None
        targets[name] = target
    kept = content.resolve(targets["kept"])
    assert kept is not None
    assert string_at(new, kept) == "kept as it is"
    assert string_at(new, content.by_content(targets["kept"] + 5) or 0) == "as it is"
    greeting = content.resolve(targets["greeting"])
    assert greeting is not None
    assert string_at(new, greeting) == "good day"
    assert content.resolve(targets["gone_text"]) is None
    pairs = {string_at(old, int(a)): string_at(new, int(b)) for a, b in strings_of(plan)}
    assert pairs["inner literal"] == "inner literal"
    assert pairs["beta"] == "beta"
    assert len(content.unnamed) == 2


def strings_of(plan: PairingPlan) -> list[tuple[int, int]]:
    slots = plan.content.slots
    pairs = zip(slots.old_target.tolist(), slots.new_target.tolist(), strict=True)
    return [(a, b) for a, b in pairs if plan.content.old_constants.contains(a)]


def test_variables_pair_whatever_their_storage(builder: Builder, toolchain: Toolchain) -> None:
    plan = plan_of(build(builder, "statics", toolchain))
    old, new, symbols = plan.old, plan.new, plan.symbols
    values = {}
    for row, new_row in enumerate(symbols.variables.tolist()):
        name = old.text(int(old.variables["name"][row]))
        if new_row < 0 or name not in ("count", "moved_to_global", "hidden"):
            continue
        places = (int(old.variables["address"][row]), int(new.variables["address"][new_row]))
        read = [int.from_bytes(v.elf.read(at, 4), "little") for v, at in zip((old, new), places, strict=True)]
        assert read[0] == read[1]
        values[read[0]] = name
    assert values == {1: "count", 10: "count", 100: "count", 3: "moved_to_global", 4: "hidden"}
    assert symbols.problems == ()


# The verb --------------------------------------------------------------------------------------------------


def diff(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "instar.cli.main", "diff", *arguments]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_diff_prints_lines_in_a_pipe(builder: Builder, tmp_path: Path) -> None:
    paths = build(builder, "functions", TOOLCHAINS[1])
    done = diff(tmp_path, *map(str, paths))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "function added: fresh_function" in lines
    assert "function changed: edited_map" in lines
    assert lines[-1].endswith("everything is automatic")


def test_diff_json_is_one_document_and_tells_what_needs_the_user(builder: Builder, tmp_path: Path) -> None:
    paths = build(builder, "statics", TOOLCHAINS[0])
    other = build(builder, "functions", TOOLCHAINS[0])[0]
    done = diff(tmp_path, "--json", str(paths[0]), str(other))
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    assert document["outcome"] == "needs-user"
    assert "different-program" in [problem["code"] for problem in document["problems"]]


def test_diff_of_a_running_process_reads_the_file_it_runs(builder: Builder, tmp_path: Path) -> None:
    paths = build(builder, "values", TOOLCHAINS[0])
    with subprocess.Popen([paths[1]], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        done = diff(tmp_path, "--json", str(paths[0]), str(process.pid))
        process.stdin.close()  # type: ignore[union-attr]
    assert done.returncode == 0, done.stderr
    assert {one["name"] for one in json.loads(done.stdout)["types"]} >= {"struct state", "enum colour"}


def test_handlers_of_a_diff_have_no_rights(builder: Builder, tmp_path: Path) -> None:
    paths = [str(path) for path in build(builder, "values", TOOLCHAINS[0])]
    handlers, written = tmp_path / "handlers.py", tmp_path / "written"
    for line in (
        f"open({str(written)!r}, 'w')",
        "import socket; socket.socket()",
        "import os; os.mkdir(__file__ + '.d')",
    ):
        handlers.write_text(line + "\n")
        done = diff(tmp_path, *paths, "--handlers", str(handlers))
        assert done.returncode == 3 and "[handlers-not-loaded]" in done.stderr, done.stderr
        assert "PermissionError" in done.stderr
    assert not written.exists()
    handlers.write_text("import ctypes; ctypes.string_at(0)\n")
    done = diff(tmp_path, *paths, "--handlers", str(handlers))
    assert done.returncode not in (0, 1) and "[worker-lost]" in done.stderr, done.stderr


UNCHECKED = """
from instar.ext import transform
@transform("struct state.number")
def number(old, new):
    new.number = 1
"""


@pytest.mark.parametrize(
    ("more", "options", "invariants", "status"),
    [
        ("", (), "", 3),
        ("", ("--allow", "unchecked-handler"), "", 0),
        ("@number.check\ndef right(old, new):\n    return True\n", (), "", 0),
        ("", (), '[invariants]\nnumbered = "state.number == 1"\n', 0),
    ],
    ids=["unchecked", "allowed", "checked", "invariants decide later"],
)
def test_diff_names_handlers_that_nothing_checks(
    builder: Builder, tmp_path: Path, more: str, options: tuple[str, ...], invariants: str, status: int
) -> None:
    """Before anything is rehearsed; where there are invariants, what they read decides."""
    old, built = build(builder, "values", TOOLCHAINS[0])
    new = Path(shutil.copy(built, tmp_path / "new"))
    (tmp_path / "new.instar.py").write_text(UNCHECKED + more)
    if invariants:
        (tmp_path / "instar.toml").write_text(invariants)
    done = diff(tmp_path, "--json", str(old), str(new), *options)
    assert done.returncode == status, done.stdout
    found = [one for one in json.loads(done.stdout)["problems"] if one["code"] == "unchecked-handler"]
    assert len(found) == (status == 3)
    for one in found:
        assert "new.instar.py" in one["cause"] and "@number.check" in one["remedy"]


@pytest.mark.parametrize("arguments", [("/nonexistent", "/bin/ls"), ("999999999", "/bin/ls")])
def test_diff_names_what_it_cannot_read(tmp_path: Path, arguments: tuple[str, str]) -> None:
    done = diff(tmp_path, *arguments)
    assert done.returncode in (3, 6)
    assert arguments[0] in done.stderr
