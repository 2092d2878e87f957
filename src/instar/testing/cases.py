"""What an update promises to carry or to refuse, case by case, and what shows it (see CASES.toml)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from instar.testing.scenarios import Scenario

TEST = "::"  # between the file and the name of a test

_HEAD = """# Cases

What an update promises to carry, or to refuse by name, case by case, and what shows it. A scenario is a pair
of programs in `tests/programs` that check their own state; each runs with gcc and clang at -O0 and -O2. Where
a case is shown by tests instead, the reason is given. (Made by `scripts/cases.py` from
`tests/programs/CASES.toml`.)
"""


@dataclass(frozen=True)
class Case:
    """One promise.

    Attributes:
        text: What is promised; with "refused" in it, that an update is refused.
        shown_by: Names of scenarios, or tests as ``FILE::NAME``.
        why: Why tests show it and no scenario; "": scenarios do.
    """

    text: str
    shown_by: tuple[str, ...]
    why: str = ""

    @property
    def refused(self) -> bool:
        """Whether it is about a refusal."""
        return "refused" in self.text


@dataclass(frozen=True)
class Group:
    """Cases under one heading."""

    title: str
    cases: tuple[Case, ...]
    why: str = ""


def load_groups(path: Path) -> tuple[Group, ...]:
    """Read the file; raises KeyError for a group without a title or cases."""
    groups = []
    for table in tomllib.loads(path.read_text())["group"]:
        why = table.get("why", "")
        cases = tuple(Case(text, tuple(shown_by), why) for text, shown_by in table["cases"].items())
        groups.append(Group(table["title"], cases, why))
    return tuple(groups)


def render(groups: Iterable[Group], scenarios: Iterable[Scenario]) -> str:
    """The page docs/cases.md: a table for each group, and the scenarios that are in none."""
    groups = tuple(groups)
    named = {name for group in groups for case in group.cases for name in case.shown_by}
    lines = [_HEAD]
    for group in groups:
        lines += [f"## {group.title}\n", *([f"Tests, because {group.why}.\n"] if group.why else [])]
        lines += ["| case | shown by |", "|---|---|", *_rows(group), ""]
    lines += ["## Further scenarios\n", "| scenario | what it shows |", "|---|---|"]
    lines += [f"| `{one.name}` | {one.idea} |" for one in scenarios if one.name not in named]
    return "\n".join(lines) + "\n"


def _rows(group: Group) -> Iterator[str]:
    for case in group.cases:
        yield f"| {case.text} | {', '.join(f'`{name}`' for name in case.shown_by)} |"
