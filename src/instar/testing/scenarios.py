"""Scenario programs (tests/programs): what each is about, how it is built and what its update must do."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instar.testing.programs import Builder, Toolchain

VERSIONS = ("v1", "v2")


@dataclass(frozen=True)
class Expectation:
    """What an update with certain options must come to.

    Attributes:
        name: Part of the test's id; "" for the plain one.
        options: Further arguments of ``instar update``.
        outcome: Of the report; "updated-or-refused" where it depends on what the compiler left of a variable.
        code: Of the refusal; "": any.
        names: Texts that cause or details of the refusal must contain: variables, members, paths.
        warnings: Texts, each in some warning of the report.
        leaked_blocks: Blocks that are left behind.
        handlers: File of the directory that is given with ``--handlers``; "": none.
        repairs: The same with ``--tainted repair=``.
        config: The same with ``--config``.
    """

    name: str = ""
    options: tuple[str, ...] = ()
    outcome: str = "updated"
    code: str = ""
    names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    leaked_blocks: int = 0
    handlers: str = ""
    repairs: str = ""
    config: str = ""

    @classmethod
    def from_toml(cls, table: Mapping[str, Any]) -> Expectation:
        """One table of a scenario.toml."""
        return cls(
            name=table.get("name", ""),
            options=tuple(table.get("options", ())),
            outcome=table.get("outcome", "updated"),
            code=table.get("code", ""),
            names=tuple(table.get("names", ())),
            warnings=tuple(table.get("warnings", ())),
            leaked_blocks=table.get("leaked_blocks", 0),
            handlers=table.get("handlers", ""),
            repairs=table.get("repairs", ""),
            config=table.get("config", ""),
        )

    def arguments(self, directory: Path) -> tuple[str, ...]:
        """Arguments of `instar update` for a scenario in a directory."""
        found = [*self.options]
        found += ["--handlers", str(directory / self.handlers)] if self.handlers else []
        found += ["--tainted", f"repair={directory / self.repairs}"] if self.repairs else []
        found += ["--config", str(directory / self.config)] if self.config else []
        return tuple(found)


@dataclass(frozen=True)
class Scenario:
    """A directory with v1.c, v2.c and scenario.toml.

    Attributes:
        directory: ``VERSION.c`` is the main source; ``VERSION.NAME.c`` are further ones.
        idea: What the scenario shows.
        expectations: The plain one first.
        arguments, environment: The program is started with these.
        flags: For the compiler.
        chain: Whether updates back and forth must work too.
    """

    directory: Path
    idea: str
    expectations: tuple[Expectation, ...]
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    flags: tuple[str, ...] = ()
    chain: bool = False

    @property
    def name(self) -> str:
        """That of the directory."""
        return self.directory.name

    @classmethod
    def load(cls, directory: Path) -> Scenario:
        """Read scenario.toml; raises KeyError without an idea, TypeError for an unknown key."""
        table = tomllib.loads((directory / "scenario.toml").read_text())
        _refuse_unknown(table, directory)
        also = [Expectation.from_toml(entry) for entry in table.get("also", [])]
        return cls(
            directory,
            table["idea"],
            (Expectation.from_toml(table), *also),
            tuple(table.get("arguments", ())),
            tuple(table.get("environment", {}).items()),
            tuple(table.get("flags", ())),
            bool(table.get("chain", False)),
        )

    def build(self, version: str, toolchain: Toolchain, builder: Builder) -> Path:
        """The program of one version. All versions are compiled under the same file names."""
        sources = {"program.c": self.directory / f"{version}.c"}
        for path in sorted(self.directory.glob(f"{version}.*.c")):
            sources[path.name.removeprefix(f"{version}.")] = path
        headers = sorted([*self.directory.parent.glob("*.h"), *self.directory.glob("*.h")])
        return builder.build(
            sources, toolchain, headers=headers, flags=(f'-DVERSION="{version}"', *self.flags)
        )


_EXPECTATION_KEYS = {
    *(
        "name",
        "options",
        "outcome",
        "code",
        "names",
        "warnings",
        "leaked_blocks",
        "handlers",
        "repairs",
        "config",
    )
}
_SCENARIO_KEYS = {"idea", "also", "arguments", "environment", "flags", "chain"}


def _refuse_unknown(table: Mapping[str, Any], directory: Path) -> None:
    unknown = table.keys() - _EXPECTATION_KEYS - _SCENARIO_KEYS
    for entry in table.get("also", []):
        unknown |= entry.keys() - _EXPECTATION_KEYS
    if unknown:
        raise TypeError(f"{directory / 'scenario.toml'}: unknown {', '.join(sorted(unknown))}")


def load_scenarios(programs: Path) -> tuple[Scenario, ...]:
    """All scenarios, by name."""
    return tuple(Scenario.load(path.parent) for path in sorted(programs.glob("*/scenario.toml")))


TOOLCHAINS = tuple(
    Toolchain(compiler, optimisation) for compiler in ("gcc", "clang") for optimisation in ("-O2", "-O0")
)
