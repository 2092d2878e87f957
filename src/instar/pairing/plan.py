"""The plan of a pairing: what `instar diff` prints and `instar update` executes, as one immutable value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from instar.metadata.model import TypeFlag, TypeKind
from instar.pairing.code import CodeComparison
from instar.pairing.layout import TAGGED
from instar.pairing.mapping import TypePairing
from instar.pairing.members import similar_names
from instar.pairing.problems import Change, Problem
from instar.pairing.settled import Settled, settle_symbols
from instar.pairing.strings import ContentPairing
from instar.pairing.symbols import SymbolPairing, is_constant, pair_symbols

if TYPE_CHECKING:
    from instar.metadata.version import Version

MINIMUM_SHARE = 0.2
"""Below this share of the old version's functions and variables, the new file is a different program."""


@dataclass(frozen=True, eq=False)
class PairingPlan:
    """Everything known about two versions without a process.

    Attributes:
        old, new: The versions.
        types, symbols, content, code: Their pairing (immutable; types, content and code answer lazily).
        problems: What needs the user, each once. Those of types matter only where objects of the type live,
            so that `update` asks the mappings it uses; `diff` reports all.
        variable_problems: The part of ``problems`` that is certain to matter: static variables.
    """

    old: Version
    new: Version
    types: TypePairing
    symbols: SymbolPairing
    content: ContentPairing
    code: CodeComparison
    problems: tuple[Problem, ...]
    variable_problems: tuple[Problem, ...]


def plan_pairing(
    old: Version,
    new: Version,
    *,
    allow: Iterable[str] = (),
    type_renames: Mapping[str, str] | None = None,
    member_renames: Mapping[str, Mapping[str, str]] | None = None,
    settled: Settled | None = None,
) -> PairingPlan:
    """Pair two versions.

    Args:
        old, new: Both versions.
        allow: Codes of problems that the user accepts (their data is dropped or left as it is).
        type_renames, member_renames: See ``TypePairing``.
        settled: What handlers settle.
    """
    allowed = frozenset(allow)
    types = TypePairing(
        old, new, type_renames=type_renames, member_renames=member_renames, allow=allowed, settled=settled
    )
    symbols = pair_symbols(old, new, types.identity.units)
    if settled is not None:
        symbols = settle_symbols(symbols, settled, _made_by_handlers(types, symbols, settled))
    content = ContentPairing(old, new, types, symbols)
    code = CodeComparison(old, new, symbols, content)
    of_variables = [*_different_program(old, symbols), *symbols.problems, *variable_problems(types, symbols)]
    certain = _once(problem for problem in of_variables if problem.code not in allowed)
    possible = type_problems(types)
    problems = _once((*certain, *possible))
    return PairingPlan(old, new, types, symbols, content, code, problems, certain)


def _made_by_handlers(types: TypePairing, symbols: SymbolPairing, settled: Settled) -> list[tuple[int, int]]:
    """Paired variables that a handler turns into each other, and that are not laid out alike."""
    found = []
    for new_row in settled.new_variables:
        old_row = int(symbols.old_variables[new_row])
        if old_row < 0:
            continue
        pair = (
            int(types.old.version.variables["type"][old_row]),
            int(types.new.version.variables["type"][new_row]),
        )
        if not types.compiler.fragment(*pair).in_place:
            found.append((old_row, new_row))
    return found


def _once(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(dict.fromkeys(problems))


def _different_program(old: Version, symbols: SymbolPairing) -> list[Problem]:
    count = len(symbols.variables) + len(symbols.functions)
    paired = int((symbols.variables >= 0).sum() + (symbols.functions >= 0).sum())
    if not count or paired >= MINIMUM_SHARE * count:
        return []
    cause = f"{paired} of {count} functions and variables of {old.path} exist in the new version"
    return [Problem("different-program", "", cause, "give the next version of the same program")]


def type_problems(types: TypePairing) -> list[Problem]:
    """Problems of paired structs, unions and enums, and of those that have no certain counterpart."""
    problems: list[Problem] = []
    for row in range(len(types.old)):
        if types.old.kind(row) not in TAGGED or types.old.flags[row] & TypeFlag.INCOMPLETE:
            continue
        problem = types.problem_of(row)
        if problem is not None:
            problems += [problem] if problem.code != "type-vanished" else []
            continue
        new_row = types.identity.counterpart(row)
        if new_row is not None and new_row not in types.settled.answered:
            own = types.compiler.fragment(row, new_row).problems
            problems += [one.under(types.label(row)) for one in own]
    return problems


def variable_name(version: Version, row: int) -> str:
    """What the user calls a variable: ``name``, ``function.name`` for a function static."""
    variable = version.variables[row]
    scope = version.text(int(variable["scope"]))
    name = version.text(int(variable["name"]))
    return f"{scope}.{name}" if scope else name


def variable_problems(types: TypePairing, symbols: SymbolPairing) -> list[Problem]:
    """Problems of the types of paired variables that hold state, and likely renames of variables."""
    old, new = types.old.version, types.new.version
    problems: list[Problem] = []
    lost: list[int] = []
    for row, new_row in enumerate(symbols.variables.tolist()):
        if is_constant(old, row):
            continue
        if new_row < 0:
            lost.append(row)
        elif not is_constant(new, new_row):
            pair = (int(old.variables["type"][row]), int(new.variables["type"][new_row]))
            prefix = f"variable {variable_name(old, row)}"
            fragment = types.compiler.fragment(*pair)
            if not _is_reported_as_type(types, *pair):
                problems += [one.under(prefix) for one in fragment.problems]
    return problems + _variable_renames(types, symbols, lost)


def _is_reported_as_type(types: TypePairing, old_type: int, new_type: int) -> bool:
    """Whether a variable's problems are those of a type that is reported anyway."""
    if not types.compiler.is_named(old_type):
        return False
    cores = []
    for layout, row in ((types.old, old_type), (types.new, new_type)):
        row = layout.strip(row)
        while row >= 0 and layout.kind(row) == TypeKind.ARRAY:
            row = layout.strip(layout.target(row))
        cores.append(row)
    return types.identity.counterpart(cores[0]) == cores[1]


def _variable_renames(types: TypePairing, symbols: SymbolPairing, lost: list[int]) -> list[Problem]:
    old, new = types.old.version, types.new.version
    fresh = [
        row
        for row, back in enumerate(symbols.old_variables.tolist())
        if back < 0 and not is_constant(new, row)
    ]
    problems: list[Problem] = []
    settled = types.settled
    for row in (row for row in lost if row not in settled.old_variables):
        for heir in (heir for heir in fresh if heir not in settled.new_variables):
            if _is_renamed(types, row, heir):
                problems.append(_variable_rename(variable_name(old, row), variable_name(new, heir)))
                break
    return problems


def _is_renamed(types: TypePairing, old_row: int, new_row: int) -> bool:
    old, new = types.old.version, types.new.version
    sides = (old.variables[old_row], new.variables[new_row])
    if old.text(int(sides[0]["scope"])) != new.text(int(sides[1]["scope"])):
        return False
    if not similar_names(old.text(int(sides[0]["name"])), new.text(int(sides[1]["name"]))):
        return False
    fragment = types.compiler.fragment(int(sides[0]["type"]), int(sides[1]["type"]))
    return fragment.in_place and not fragment.changes


def _variable_rename(old_name: str, new_name: str) -> Problem:
    return Problem(
        "likely-rename",
        f"variable {old_name}",
        f"`{old_name}` is gone and `{new_name}`, of the same type, is new: its value would be lost",
        f"keep the name, or say in a handler that `{old_name}` became `{new_name}`",
    )


def type_changes(types: TypePairing, old_row: int, new_row: int) -> tuple[Change, ...]:
    """What is automatic about a type pair, its size first."""
    changes = types.compiler.fragment(old_row, new_row).changes
    sizes = (types.old.size(old_row), types.new.size(new_row))
    if sizes[0] != sizes[1] and not any(change.kind == "resized" and not change.path for change in changes):
        changes = (Change("resized", "", f"{sizes[0]} -> {sizes[1]} bytes"), *changes)
    return changes
