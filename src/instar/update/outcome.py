"""What an update came to: the value that is printed, written to the journal and given out as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from instar.errors import InstarError
from instar.validation.outcome import Validation

if TYPE_CHECKING:  # reading the journal loads no NumPy
    from instar.transfer.census import TypeFigures
    from instar.update.changes import VersionChanges

REPORT_SCHEMA = 1

Outcome = Literal["updated", "rehearsed", "refused", "rolled-back", "damaged"]
Kind = Literal["update", "rehearsal", "rollback"]
_OUTCOMES: Mapping[str, Outcome] = {
    "untouched": "refused",
    "rolled-back": "rolled-back",
    "damaged": "damaged",
}
_DIGITS = 3  # of a figure in ms: microseconds


@dataclass(frozen=True)
class PhaseTime:
    """How long a phase took, and when it began after the start of the update (milliseconds)."""

    name: str
    ms: float
    at_ms: float = 0.0


@dataclass(frozen=True)
class Leaked:
    """Blocks that nothing reached; they were left behind."""

    blocks: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class VersionId:
    """Which program file."""

    path: str
    build_id: str


@dataclass(frozen=True)
class NamedDescriptor:
    """A descriptor that was carried; ``what`` is a path, a local address, or what the kernel calls it."""

    number: int
    kind: str
    what: str


@dataclass(frozen=True)
class Failure:
    """Why an update was not made (the same words as of InstarError)."""

    code: str
    cause: str
    remedy: str
    details: tuple[str, ...] = ()

    @classmethod
    def from_error(cls, error: InstarError) -> Failure:
        """The words of an error."""
        return cls(error.code, error.cause, error.remedy, error.details)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "code": self.code,
            "cause": self.cause,
            "remedy": self.remedy,
            "details": list(self.details),
        }


@dataclass(frozen=True)
class UpdateReport:
    """One update; field names are the keys of ``instar update --json`` (docs/update.schema.json).

    Attributes:
        new_pid: The process that serves now; None unless ``outcome`` is "updated".
        old: The version the process ran; None when it could not even be found out. ``new`` likewise.
        pause_ms: How long neither version served; 0 when the old one was never stopped.
        phases: Those that were begun, in order.
        objects: Kind of object -> how many were carried.
        retyped: Objects whose type has another layout in the new version.
        pointers: Pointers that were looked at.
        bytes: Of state carried.
        descriptors: Carried; ``connections`` are the connected sockets among them.
        error: None exactly when ``outcome`` is "updated" or "rehearsed".
        kind: What was asked for.
        validation: What the transfer back and the comparison came to; None where it did not come to that.
        pause_at_ms: When the pause began, after the start; None when the old version was never stopped.
        types: The carried objects by type, the largest first.
        pointer_classes: Of ``pointers``, by where they lead.
        descriptor_kinds: Of ``descriptors``, by what they are.
        named_descriptors: The first of them by number, connections left out.
        changes: What differs between the versions; None where it did not come to a comparison.
    """

    outcome: Outcome
    old_pid: int
    new_pid: int | None = None
    old: VersionId | None = None
    new: VersionId | None = None
    pause_ms: float = 0.0
    total_ms: float = 0.0
    phases: tuple[PhaseTime, ...] = ()
    objects: Mapping[str, int] = field(default_factory=dict)
    retyped: int = 0
    pointers: int = 0
    bytes: int = 0
    leaked: Leaked = Leaked()
    descriptors: int = 0
    connections: int = 0
    warnings: tuple[str, ...] = ()
    error: Failure | None = None
    kind: Kind = "update"
    validation: Validation | None = None
    pause_at_ms: float | None = None
    types: tuple[TypeFigures, ...] = ()
    pointer_classes: Mapping[str, int] = field(default_factory=dict)
    descriptor_kinds: Mapping[str, int] = field(default_factory=dict)
    named_descriptors: tuple[NamedDescriptor, ...] = ()
    changes: VersionChanges | None = None

    @classmethod
    def from_error(cls, pid: int, error: InstarError) -> UpdateReport:
        """The report of an update that an error ended before anything else was known."""
        return cls(_OUTCOMES[error.target], pid, error=Failure.from_error(error))

    def with_warning(self, text: str) -> UpdateReport:
        """The same with one more warning."""
        return replace(self, warnings=(*self.warnings, text))

    def as_kind(self, kind: Kind) -> UpdateReport:
        """The same, asked for as something else than an update."""
        return replace(self, kind=kind)

    def to_json(self) -> dict[str, Any]:
        """Plain data in the order of the fields, ``schema`` first (NumPy's integers become Python's)."""
        return {
            "schema": REPORT_SCHEMA,
            "outcome": self.outcome,
            "old_pid": self.old_pid,
            "new_pid": self.new_pid,
            "old": asdict(self.old) if self.old else None,
            "new": asdict(self.new) if self.new else None,
            "pause_ms": round(self.pause_ms, _DIGITS),
            "total_ms": round(self.total_ms, _DIGITS),
            "phases": [
                {"name": phase.name, "ms": round(phase.ms, _DIGITS), "at_ms": round(phase.at_ms, _DIGITS)}
                for phase in self.phases
            ],
            "objects": {kind: int(count) for kind, count in self.objects.items()},
            "retyped": int(self.retyped),
            "pointers": int(self.pointers),
            "bytes": int(self.bytes),
            "leaked": {"blocks": int(self.leaked.blocks), "bytes": int(self.leaked.bytes)},
            "descriptors": int(self.descriptors),
            "connections": int(self.connections),
            "warnings": list(self.warnings),
            "error": self.error.to_json() if self.error else None,
            "kind": self.kind,
            "validation": self.validation.to_json() if self.validation else None,
            "pause_at_ms": None if self.pause_at_ms is None else round(self.pause_at_ms, _DIGITS),
            "types": [asdict(one) for one in self.types],
            "pointer_classes": {name: int(count) for name, count in self.pointer_classes.items()},
            "descriptor_kinds": {name: int(count) for name, count in self.descriptor_kinds.items()},
            "named_descriptors": [asdict(one) for one in self.named_descriptors],
            "changes": self.changes.to_json() if self.changes else None,
        }
