"""What the report of an update tells beside its outcome: collected when it is over, never in the pause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from instar.control.descriptors import DescriptorPlan, Planned
from instar.pairing.plan import PairingPlan
from instar.process.descriptors import Descriptor
from instar.process.sockets import SocketDetails
from instar.transfer.census import TypeFigures, count_types, pointer_classes
from instar.transfer.planner import Planner
from instar.update.changes import VersionChanges, compare_versions
from instar.update.outcome import NamedDescriptor, UpdateReport

MOST_DESCRIPTORS = 200
CONNECTION = "connection"


@dataclass(frozen=True)
class Details:
    """Figures by type and by class, and the differences of the versions; see ``UpdateReport``."""

    types: tuple[TypeFigures, ...] = ()
    pointer_classes: Mapping[str, int] = field(default_factory=dict)
    changes: VersionChanges | None = None


def collect_details(pairing: PairingPlan | None, planner: Planner | None, *, compare_code: bool) -> Details:
    """The details of an update.

    Args:
        pairing, planner: As far as it came to them.
        compare_code: Compare the code of functions as well.
    """
    types = count_types(planner) if planner is not None else ()
    classes = pointer_classes(planner) if planner is not None else {}
    if pairing is None:
        return Details(types, classes)
    return Details(types, classes, compare_versions(pairing, types, compare_code=compare_code))


def with_details(
    report: UpdateReport, collect: Callable[[], Details], descriptors: DescriptorPlan | None
) -> UpdateReport:
    """The report with its details.

    Whatever goes wrong here becomes a warning: the outcome is what it is.
    """
    try:
        if descriptors is not None:
            report = _with_descriptors(report, descriptors.entries)
        found = collect()
    except Exception as error:  # the update is over: nothing here may make it look otherwise
        return report.with_warning(f"report-incomplete: {type(error).__name__}: {error}")
    return replace(report, types=found.types, pointer_classes=found.pointer_classes, changes=found.changes)


def _with_descriptors(report: UpdateReport, entries: Iterable[Planned]) -> UpdateReport:
    found = [entry.descriptor for entry in entries]
    kinds = Counter(descriptor_kind(one) for one in found)
    # Who is connected is the clients' business: a report is shown around.
    named = [one for one in found if descriptor_kind(one) != CONNECTION][:MOST_DESCRIPTORS]
    return replace(
        report,
        descriptor_kinds=dict(kinds.most_common()),
        named_descriptors=tuple(
            NamedDescriptor(one.number, descriptor_kind(one), describe_descriptor(one)) for one in named
        ),
    )


def descriptor_kind(descriptor: Descriptor) -> str:
    """Like ``Descriptor.kind``, sockets by what they do."""
    details = descriptor.socket
    if descriptor.kind != "socket" or details is None:
        return descriptor.kind
    return "listener" if details.listening else CONNECTION if details.raw_peer else "socket"


def describe_descriptor(descriptor: Descriptor) -> str:
    """Where it leads: a path, an address, or what the kernel calls it."""
    if descriptor.socket is not None and descriptor.socket.local is not None:
        return _address(descriptor.socket) or descriptor.target
    return descriptor.target


def _address(details: SocketDetails) -> str:
    local = details.local
    if isinstance(local, bytes):
        return local.decode(errors="replace").replace("\0", "@", 1)
    if isinstance(local, tuple) and len(local) >= 2:
        host, port = str(local[0]), local[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(local or "")
