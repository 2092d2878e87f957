"""Where a pointer of the past leads in the future, for handlers that store one."""

from __future__ import annotations

import numpy as np

from instar.ext.values import PointerError, TypeMismatchError
from instar.handlers.binding import Binding
from instar.handlers.store import Translate
from instar.handlers.types import VOID
from instar.metadata.model import TypeKind
from instar.state.columns import Status
from instar.transfer.planner import Planner

_KEPT = (Status.NULL, Status.SMALL, Status.STAY)
_MOVED = (Status.MOVED, Status.LIBRARY)
_WHY = {
    Status.DANGLING: "points at freed memory",
    Status.WILD: "points at nothing",
    Status.UNPAIRED: "points at something that the new version does not have",
    Status.INSIDE: "points into the middle of something that changes",
    Status.DROPPED: "points at a member that the new version does not have",
    Status.UNRESOLVED: "points at a constant that was not found in the new version",
    Status.AMBIGUOUS: "could mean several things",
}


def translator(planner: Planner, binding: Binding) -> Translate:
    """Translate by what is pointed at, and check that it has the type of the pointer."""
    pairing = planner.prepared.pool.pairing
    old, new = binding.old, binding.new

    def translate(address: int, old_pointee: int, new_pointee: int, path: str) -> int:
        if VOID not in (old_pointee, new_pointee) and not new.is_character(new_pointee):
            other = pairing.counterpart(old_pointee)
            tagged = old.kind(old_pointee) in (TypeKind.STRUCT, TypeKind.UNION)
            if tagged and (other is None or new.strip(other) != new_pointee):
                labels = new.label(new_pointee), old.label(old_pointee)
                raise TypeMismatchError(f"{path} points at {labels[0]}, not at what became of {labels[1]}")
        statuses, values = planner.translate(np.array([address], np.uint64))
        status = Status(int(statuses[0]))
        if status in _KEPT:
            return address
        if status in _MOVED:
            return int(values[0])
        raise PointerError(f"{path}: {address:#x} of the past {_WHY.get(status, 'leads nowhere')}")

    return translate
