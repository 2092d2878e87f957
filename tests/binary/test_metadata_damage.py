"""Damaged debug information: the walker refuses or answers, but never reads outside or hangs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.binary.metadata_support import Workshop

from instar.errors import RefusedError
from instar.metadata.elf_reader import read_elf
from instar.metadata.version import load_version

ROOT = Path(__file__).parents[2]
WALKS = 1000
OK, DAMAGED, BUG = "0", "5", "11"


@pytest.fixture(scope="module")
def walker_damage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("damage") / "walker_damage"
    sources = [*(ROOT / "native/dwarf").glob("walker*.c"), ROOT / "tests/native/walker_damage.c"]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-fsanitize=address,undefined"]
    command = ["gcc", *flags, "-fno-sanitize-recover=all", "-o", str(output), *map(str, sources)]
    subprocess.run([*command, "-ldw", "-lelf", "-ldl"], check=True)
    return output


@pytest.mark.parametrize(
    "build",
    [
        ("gcc", "-O2", "-gdwarf-5"),
        ("gcc", "-O2", "-gdwarf-4", "-fdebug-types-section"),
        ("clang", "-O2", "-gdwarf-5"),
        ("clang", "-O2", "-gdwarf-4", "-gsplit-dwarf"),
        ("gcc", "-O1", "-gdwarf-2", "-gz=zlib"),
    ],
    ids="".join,
)
def test_random_damage(workshop: Workshop, walker_damage: Path, build: tuple[str, ...]) -> None:
    program = workshop.build(*build)
    done = subprocess.run(
        [str(walker_damage), str(program), "1", str(WALKS), str(program.parent)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = dict(line.split() for line in done.stdout.splitlines())
    assert sum(map(int, results.values())) == WALKS
    assert BUG not in results and int(results[DAMAGED]) > WALKS / 10 and int(results[OK]) > 0


def test_every_truncation_is_refused_by_name(workshop: Workshop, tmp_path: Path) -> None:
    whole = workshop.build("gcc", "-O2").read_bytes()
    codes = set()
    for size in [0, 1, 4, 15, 16, 63, 64, 100, *range(200, len(whole) - 1, 997), len(whole) - 1]:
        program = tmp_path / f"cut{size}"
        program.write_bytes(whole[:size])
        with pytest.raises(RefusedError) as caught:
            load_version(program, cache=tmp_path / "cache")
        codes.add(caught.value.code)
        assert caught.value.remedy and str(program) in caught.value.cause
    assert codes == {"not-elf", "truncated-elf"}


def test_damage_of_everything_else_in_the_file(workshop: Workshop, tmp_path: Path) -> None:
    """Headers, symbols, relocations, dynamic section: an answer or a refusal, no other exception."""
    whole = workshop.build("gcc", "-O2").read_bytes()
    state = 12345
    refused = 0
    program = tmp_path / "prog"
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(4):
            state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
            place = (state >> 20) % (0x1000 if state & 1 else len(whole))
            damaged[place] = (state >> 8) & 0xFF if state & 2 else 0xFF
        program.write_bytes(damaged)
        try:
            elf = read_elf(program)
        except RefusedError:
            refused += 1
            continue
        assert all(elf.text(name) is not None for name in elf.symbols["name"].tolist())
        assert elf.relocations["symbol"].max(initial=-1) < len(elf.symbols)
    assert 20 < refused < 400
