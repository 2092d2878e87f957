"""Builds the test program in many ways, and writes a version down so that two can be compared."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from instar.metadata.version import Version, load_version

PROGRAMS = Path(__file__).parent / "metadata_programs"
COMPILERS = ("gcc", "clang")
LEVELS = ("-O0", "-O2")
Facts = dict[str, set[Any]]


def run(*command: str | Path, cwd: Path | None = None, timeout: float = 60) -> str:
    """Run a tool; its output."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        check=True,
        timeout=timeout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ).stdout


class Workshop:
    """Compiles into directories below ``root``; each program only once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = root / "source"
        shutil.copytree(PROGRAMS, self.source)

    @cache  # noqa: B019 -- lives as long as the test session
    def build(self, compiler: str, *options: str, files: Sequence[str] = ("main.c", "other.c")) -> Path:
        """Compile with -g; .dwo files go beside the program."""
        directory = self.root / f"build{len(list(self.root.iterdir()))}"
        directory.mkdir()
        sources = [self.source / file for file in files]
        run(compiler, "-w", "-g", "-fcommon", *options, *sources, "-o", "prog", cwd=directory)
        return directory / "prog"

    def copy(self, program: Path, name: str) -> Path:
        """A copy of a program that a tool may change."""
        target = self.root / f"{program.parent.name}-{name}"
        shutil.copy2(program, target)
        return target

    def load(self, program: Path) -> Version:
        """Load without a cache that could hide something."""
        return load_version(program, cache=self.root / f"cache{len(list(self.root.iterdir()))}")


def facts(version: Version) -> Facts:
    """All that a version says, without row numbers."""
    v = version
    return {
        "types": {_type_fact(v, row) for row in range(len(v.types))},
        "variables": {_variable_fact(v, row) for row in range(len(v.variables))},
        "functions": {_function_fact(v, row) for row in range(len(v.functions))},
        "locals": {fact for row in range(len(v.functions)) for fact in _local_facts(v, row)},
        "lines": {(int(one["address"]), base(v.text(one["file"])), int(one["line"])) for one in v.lines},
    }


def base(path: str) -> str:
    """The name of a file without its directories."""
    return path.rpartition("/")[2]


def _type_fact(v: Version, row: int) -> tuple[Any, ...]:
    one = v.types[row]
    members = tuple(
        (v.text(m["name"]), v.type_name(int(m["type"])), int(m["bit_offset"]), int(m["bit_size"]))
        for m in v.members_of(row)
    )
    enumerators = tuple((v.text(e["name"]), int(e["value"])) for e in v.enumerators_of(row))
    numbers = tuple(int(one[field]) for field in ("kind", "size", "flags", "encoding", "elements", "line"))
    return (v.type_name(row), numbers, members, enumerators, base(v.text(one["file"])))


def _variable_fact(v: Version, row: int) -> tuple[Any, ...]:
    one = v.variables[row]
    function = int(one["function"])
    numbers = tuple(int(one[field]) for field in ("address", "kind", "tls", "flags", "line"))
    return (
        v.text(one["name"]),
        v.type_name(int(one["type"])),
        numbers,
        base(v.text(v.units[one["unit"]]["name"])),
        v.text(one["scope"]),
        v.text(v.functions[function]["name"]) if function >= 0 else "",
        base(v.text(one["file"])),
    )


def _function_fact(v: Version, row: int) -> tuple[Any, ...]:
    one = v.functions[row]
    return (
        v.text(one["name"]),
        v.type_name(int(one["type"])),
        tuple(int(one[field]) for field in ("low", "high", "external", "line")),
        tuple(v.ranges_of(row).tolist()),
        base(v.text(v.units[one["unit"]]["name"])),
        v.frame_base(row),
        base(v.text(one["file"])),
    )


def _local_facts(v: Version, function: int) -> list[tuple[Any, ...]]:
    return [
        (
            v.text(v.functions[function]["name"]),
            v.text(one["name"]),
            v.type_name(int(one["type"])),
            int(one["flags"]),
            v.text(one["origin"]),
            tuple(v.scopes_of(one).tolist()),
            tuple((int(w["low"]), int(w["high"]), v.expression(w)) for w in v.locations_of(one)),
        )
        for one in v.locals_of(function)
    ]


def variable(version: Version, name: str, **wanted: str) -> Any:
    """The one variable of a name, with `unit` or `scope` where there are several."""
    rows = [
        row
        for row in version.find_variables(name)
        if all(
            {
                "unit": base(version.text(version.units[version.variables[row]["unit"]]["name"])),
                "scope": version.text(version.variables[row]["scope"]),
            }[key]
            == value
            for key, value in wanted.items()
        )
    ]
    assert len(rows) == 1, (name, wanted, rows)
    return version.variables[rows[0]]
