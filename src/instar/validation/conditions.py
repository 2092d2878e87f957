"""Invariants and filters: what must be true of the state for an update, from ``instar.toml``. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from instar.errors import FaultError, RefusedError, UsageError
from instar.metadata.version import Version
from instar.pairing.problems import Problem
from instar.state.capture import Subject
from instar.state.kernel import State
from instar.state.values import Reader
from instar.validation.expressions import Expression

FILE = "instar.toml"
_TABLES = ("invariants", "filters")


@dataclass(frozen=True)
class Conditions:
    """Named expressions.

    Attributes:
        invariants: Must hold in the old version before, and in the new one after the transfer.
        filters: Must hold for an update to happen at all; it waits for them.
        source: The file they are from.
    """

    invariants: Mapping[str, Expression] = field(default_factory=dict)
    filters: Mapping[str, Expression] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def find(cls, given: Path | None, new_program: Path) -> Conditions:
        """Those of a file, or of ``instar.toml`` beside the new program; none where there is no file.

        Raises:
            UsageError: "bad-config", "bad-expression".
        """
        path = given or new_program.resolve().parent / FILE
        if given is None and not path.is_file():
            return cls()
        try:
            with path.open("rb") as file:
                document = tomllib.load(file)
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(
                "bad-config", f"{path}: {error}", "see docs/validation.md for an example"
            ) from error
        return cls.parse(document, str(path))

    @classmethod
    def parse(cls, document: Mapping[str, object], source: str) -> Conditions:
        """From the contents of a file; other tables than ours are left to others."""
        tables: list[dict[str, Expression]] = []
        for name in _TABLES:
            table = document.get(name, {})
            if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
                raise UsageError(
                    "bad-config",
                    f"{source}: [{name}] has something else than texts",
                    'write name = "expression"',
                )
            tables.append({key: Expression(text) for key, text in table.items()})
        return cls(tables[0], tables[1], source)

    def require_names(self, old: Version, new: Version) -> None:
        """Raise UsageError "bad-expression" when one names what a version that it is for does not have."""
        both = [("old version", old), ("new version", new)]
        for conditions, versions in ((self.filters, both[:1]), (self.invariants, both)):
            for name, expression in conditions.items():
                for when, version in versions:
                    missing = expression.unknown(version)
                    if missing:
                        raise UsageError(
                            "bad-expression",
                            f"{self.source}: {name}: the {when} has no static variable {', '.join(missing)}",
                            "name a global or static variable that it has",
                        )

    def broken(self, subject: Subject, memory: Reader, when: str) -> list[Problem]:
        """Invariants that do not hold.

        Args:
            subject: The process.
            memory: Its state; a copy.
            when: "old version" or "new version", for messages.
        """
        found = []
        for name, text in _failing(self.invariants, subject, memory):
            cause = f"invariant {name} does not hold in the {when}: {self.invariants[name].text} ({text})"
            remedy = "wait until it holds, correct the state or the invariant"
            found.append(Problem("invariant-broken", name, cause, remedy))
        return found

    def holds(self, subject: Subject, memory: Reader) -> bool:
        """Whether all invariants hold."""
        return not list(_failing(self.invariants, subject, memory))

    def unmet(self, subject: Subject, memory: Reader) -> list[str]:
        """Filters that do not hold: ``name: expression (values)``."""
        return [
            f"{name}: {self.filters[name].text} ({text})"
            for name, text in _failing(self.filters, subject, memory)
        ]


def _failing(
    conditions: Mapping[str, Expression], subject: Subject, memory: Reader
) -> Iterable[tuple[str, str]]:
    for name, expression in conditions.items():
        try:
            if not expression.holds(subject, memory):
                yield name, expression.sides(subject, memory)
        except FaultError as error:
            yield name, f"it leads to {error.address:#x}, where no memory is"
        except RefusedError as error:
            if error.code in ("no-such-variable", "no-such-member", "ambiguous-name", "no-link"):
                raise UsageError("bad-expression", f"{name}: {error.cause}", error.remedy) from error
            yield name, error.cause


class CopyReader:
    """Memory of a process as it was copied; what was not copied (constants) is read from the process.

    Args:
        state: The copy.
        other: For everything else.
    """

    def __init__(self, state: State, other: Reader) -> None:
        self._state, self._other = state, other

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``."""
        copied = self._state.bytes_at(address, size)
        return self._other.read(address, size) if copied is None else copied
