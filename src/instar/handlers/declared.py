"""Whether what the program declares of itself (``instar.h``), which is right by definition, was done."""

from __future__ import annotations

from typing import Any

from instar.handlers.binding import TypeTask
from instar.handlers.running import member_in_use
from instar.handlers.sameness import LeadsSame, is_same
from instar.handlers.views import StructView
from instar.pairing.settled import Settled


def is_as_declared(
    task: TypeTask, old: StructView, new: StructView, settled: Settled, leads_same: LeadsSame
) -> bool:
    """Whether a tagged pointer, or the member of a union that is in use, arrived."""
    assert task.old_member is not None and task.new_member is not None
    if task.handler.kind == "resolve_union":
        place = member_in_use(task, old, new, task.handler.function(old), settled)
        if place is None:
            return True
        (source, old_name), (target, new_name) = place
        return is_same(source[old_name], target[new_name], leads_same)
    if task.handler.kind == "resolve_pointer":
        return is_same(task.handler.function(old), new[task.new_member.name], leads_same)
    return is_tagged_alike(
        task.handler.function(old[task.old_member.name]), new[task.new_member.name], leads_same
    )


def is_tagged_alike(wanted: Any, found: Any, leads_same: LeadsSame) -> bool:
    """Whether a tagged pointer, or each of an array of them, arrived."""
    if not isinstance(wanted, list):
        return is_same(wanted, found, leads_same)
    values = list(found)
    return len(wanted) == len(values) and all(
        is_same(one, other, leads_same) for one, other in zip(wanted, values, strict=True)
    )
