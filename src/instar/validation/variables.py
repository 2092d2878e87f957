"""Whether every variable that both versions have is carried: to its place, by the mapping of its types. Pure.

Comparison follows what was decided: a variable that was dropped, kept, or copied byte by byte although its
type has another layout comes back as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from instar.metadata.model import TypeKind
from instar.pairing.mapping import Relation
from instar.state.columns import Fate, ObjectFlag, ObjectKind
from instar.transfer.places import address_of
from instar.transfer.planner import Planner
from instar.validation.layouts import Layouts


def misdecided(planner: Planner, layouts: Layouts) -> Iterator[tuple[int, str]]:
    """(object row, what is wrong) of static and thread-local variables."""
    objects, settled = planner.state.objects, planner.prepared.pool.pairing.settled
    variables = planner.prepared.symbols.variables
    for row in np.flatnonzero(np.isin(objects["kind"], [ObjectKind.STATIC, ObjectKind.TLS])).tolist():
        variable = planner.state.origin(row)
        if variable < 0 or variable in settled.to_heap or objects["flags"][row] & ObjectFlag.LIBRARY:
            continue
        reason = _reason(planner, layouts, row, variable, int(variables[variable]))
        if reason:
            yield row, reason


def _reason(planner: Planner, layouts: Layouts, row: int, variable: int, other: int) -> str:
    entry = planner.state.objects[row]
    fate = Fate(int(entry["fate"]))
    if fate is Fate.STAY:
        return "nobody decided what becomes of it"
    if other < 0:
        return ""  # it is refused, dropped, or a handler has it
    if fate is Fate.DROP:
        return "it is dropped, although the new version has it"
    if int(entry["new_address"]) != address_of(planner.future, other):
        return "it is carried to another place than where the new version has it"
    if fate is Fate.REPLACE:
        return ""  # see ``validation.untouched``
    mapped = _is_mapped(planner, layouts, row, variable, other)
    return "" if mapped else "it was never converted to its new type"


def _is_mapped(planner: Planner, layouts: Layouts, row: int, variable: int, other: int) -> bool:
    """Whether a mapping of its types converts it, if those have different layouts."""
    pool, entry = planner.prepared.pool, planner.state.objects[row]
    types = int(planner.old.variables["type"][variable]), int(planner.new.variables["type"][other])
    mapping = int(entry["mapping"])
    if pool.pairing.problems_of(*types):
        return True
    if mapping < 0:
        return pool.pairing.relation(*types) is Relation.IDENTICAL and layouts.stays(*types)
    found = pool.compiled[mapping].old_type, pool.compiled[mapping].new_type
    versions = planner.old, planner.new
    wanted = zip(versions, types, found, strict=True)
    return all(version.strip(at) in _elements(version, kind) for version, kind, at in wanted)


def _elements(version: Any, kind: int) -> set[int]:
    """A type without typedefs, and what it is an array of."""
    found = {version.strip(kind)}
    current = version.strip(kind)
    while current >= 0 and version.types[current]["kind"] == TypeKind.ARRAY:
        current = version.strip(int(version.types[current]["target"]))
        found.add(current)
    return found
