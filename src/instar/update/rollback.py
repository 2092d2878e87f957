"""The way back: which version a process was updated from, and what stands in the way of returning to it.

Going back is an update like any other, with the older version as the new one. What an update left behind,
because the newer version had no place for it, is not there any more: the older version would run on made-up
values, so that this is refused by name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instar.errors import HostError, InternalError, RefusedError
from instar.handlers.session import Handlers
from instar.metadata.model import TypeFlag
from instar.metadata.pieces import align_pieces
from instar.metadata.version import Version
from instar.pairing.layout import TAGGED
from instar.pairing.plan import PairingPlan, plan_pairing, variable_name
from instar.pairing.problems import Problem
from instar.pairing.symbols import is_constant
from instar.update.attempt import read_steps
from instar.update.confined import compute
from instar.update.journal import journal_path
from instar.update.kept_versions import find_handlers_kept, find_kept
from instar.update.lineage import Step, find_chain, identify
from instar.update.outcome import VersionId
from instar.update.preflight import load_running, require_reach
from instar.update.reading import load_confined

if TYPE_CHECKING:
    from instar.pairing.mapping import TypePairing

LOST = "data-left-behind"


@dataclass(frozen=True)
class WayBack:
    """Where a rollback leads.

    Attributes:
        path: The program to run.
        version: What it was when the process was updated away from it.
        steps: How many updates are taken back.
        handlers: Digests of the handler files that these updates used, the last update's first.
    """

    path: Path
    version: VersionId
    steps: int
    handlers: tuple[str, ...]


def find_way_back(pid: int, steps: int) -> WayBack:
    """The version ``steps`` updates before.

    Raises:
        HostError: There is no such process, or it is out of reach, or the journal may not be read.
        RefusedError: "no-kept-version".
    """
    return _way(_find_ways(pid, steps))


def find_single_ways(pid: int, steps: int) -> list[WayBack]:
    """The same way in steps of one update each, the first to be made first; raises as ``find_way_back``."""
    ways = _find_ways(pid, steps)
    return [_way([way]) for way in reversed(ways)]


def _find_ways(pid: int, steps: int) -> list[Step]:
    require_reach(pid)
    process = identify(pid)
    if process is None:
        raise HostError("no-such-process", f"there is no process {pid}", "look with `instar status`")
    try:
        ways = find_chain(process, read_steps()).ways
    except OSError as error:
        raise HostError(
            "journal-unreadable",
            f"{journal_path()}: {os.strerror(error.errno or 0)}",
            "run instar as the user that made the updates",
        ) from error
    if len(ways) < steps:
        known = f"{len(ways)} update{'' if len(ways) == 1 else 's'} of process {pid} can be taken back"
        raise RefusedError(
            "no-kept-version",
            f"{known if ways else f'no update of process {pid} is in {journal_path()}'}, not {steps}",
            "see `instar status`; run instar as the user that made the updates",
        )
    return list(ways[-steps:])


def _way(ways: list[Step]) -> WayBack:
    target = ways[0].old_version
    used = tuple(way.handlers for way in reversed(ways) if way.handlers)
    return WayBack(find_kept(target.build_id).path, target, len(ways), used)


def handlers_for(way: WayBack) -> Path | None:
    """The handler file whose backward halves lead back; None where the updates used none.

    Raises:
        RefusedError: "no-kept-version".
        InternalError: Several updates are taken back at once, and one of them used handlers.
    """
    if not way.handlers:
        return None
    if way.steps > 1:
        raise InternalError("handlers know their own step only")
    return find_handlers_kept(way.handlers[0])


def goes_singly(pid: int, steps: int) -> bool:
    """Whether updates must be taken back one after the other: one of them used handlers."""
    return steps > 1 and bool(find_way_back(pid, steps).handlers)


def require_steps(pid: int, steps: int, allow: frozenset[str]) -> None:
    """Refuse, before the first of several steps is made, what can be known to end a later one.

    Raises:
        RefusedError: What the update would say, or "data-left-behind", or "no-kept-version".
    """
    old = load_running(pid)
    for way in find_single_ways(pid, steps):
        new = load_confined(way.path)
        lost, problems = _look(old, new, way, allow, handlers_for(way))
        _refuse(*([] if LOST in allow else lost), *problems)
        old = new


def require_nothing_lost(pid: int, way: WayBack, allow: frozenset[str], handlers: Path | None) -> None:
    """Refuse a return to what is not there any more; raises RefusedError with all names."""
    if LOST not in allow:
        lost, _ = _look(load_running(pid), load_confined(way.path), way, allow, handlers)
        _refuse(*lost)


def _look(
    old: Version, new: Version, way: WayBack, allow: frozenset[str], handlers: Path | None
) -> tuple[list[Problem], list[Problem]]:
    """What is lost, and what is not settled about variables; in a child without rights."""
    old, new = align_pieces(old, new)

    def look() -> tuple[list[Problem], list[Problem]]:
        settled = Handlers.find(handlers, way.path, old, new, backwards=True).settled
        plan = plan_pairing(old, new, allow=allow, settled=settled)
        return find_lost(plan), list(plan.variable_problems)

    return compute(look, tuple[list[Problem], list[Problem]])


def _refuse(*problems: Problem) -> None:
    if problems:
        first, *rest = problems
        details = tuple(f"{problem.cause} [{problem.code}]" for problem in rest)
        raise RefusedError(first.code, first.cause, first.remedy, details=details)


def find_lost(plan: PairingPlan) -> list[Problem]:
    """What the older version has and the newer one has no place for; ``plan`` leads from newer to older."""
    types = plan.types
    found: dict[str, Problem] = {}
    for row in range(len(types.old)):
        for path in _members(types, row):
            found.setdefault(path, _problem(path, f"`{path}` is not in the present version"))
    for row, back in enumerate(plan.symbols.old_variables.tolist()):
        if back < 0 and not is_constant(plan.new, row) and row not in types.settled.new_variables:
            name = variable_name(plan.new, row)
            text = f"the variable `{name}` is not in the present version"
            found.setdefault(f"variable {name}", _problem(f"variable {name}", text))
    return list(found.values())


def _members(types: TypePairing, row: int) -> list[str]:
    """Members that only the older version's counterpart of a type has."""
    if types.old.kind(row) not in TAGGED or types.old.flags[row] & TypeFlag.INCOMPLETE:
        return []
    new_row = types.identity.counterpart(row)
    if new_row is None:
        return []
    owned = types.settled.between(row, new_row)
    if owned.whole:
        return []  # a handler's backward half makes all of it
    added = [one.path for one in types.compiler.fragment(row, new_row).changes if one.kind == "added"]
    return [f"{types.new_label(new_row)}{path}" for path in added if path.removeprefix(".") not in owned.new]


def _problem(path: str, cause: str) -> Problem:
    return Problem(
        LOST,
        path,
        f"{cause}: what it held was left behind by the update, the older version would find a start value",
        f"give the handler that drops it a backward half, or accept start values with --allow {LOST}",
    )
