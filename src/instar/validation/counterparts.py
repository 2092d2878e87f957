"""Where every object of the past is in the future, and how its contents are compared. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instar.metadata.distinct import distinct
from instar.state.columns import Fate, ObjectFlag, ObjectKind, SlotKind, WordSource
from instar.state.kernel import Span
from instar.transfer.own import not_leaked
from instar.transfer.planner import Planner
from instar.transfer.startup_blocks import FutureHeap
from instar.validation.columns import COUNTERPART, CounterpartFlag
from instar.validation.inverse import InversePool

Array = np.ndarray[Any, np.dtype[Any]]

REGISTER_PLACE = 0xFFFF_9000_0000_0000
"""Where the comparison keeps locals that are registers of the future: addresses that no program can have."""


@dataclass(eq=False)
class Counterparts:
    """Rows for the kernel, and why what is not compared is not.

    Attributes:
        rows: ``COUNTERPART``, one per object of the past.
        exempt: Reason -> objects that are not compared.
        registers: DWARF number -> object row, of locals that are registers of the future.
        keep: Arrays that rows point into.
    """

    rows: Array
    exempt: dict[str, int] = field(default_factory=dict)
    registers: dict[int, int] = field(default_factory=dict)
    keep: list[Array] = field(default_factory=list)

    def compared(self) -> Array:
        """Object rows by their place in the future."""
        rows = np.flatnonzero(self.rows["flags"] & CounterpartFlag.COMPARED)
        future = self.rows["future"][rows]
        if (future[1:] < future[:-1]).any():
            rows = rows[np.argsort(future, kind="stable")]
        return np.ascontiguousarray(rows, dtype=np.int64)


def find_counterparts(planner: Planner, inverse: InversePool) -> Counterparts:
    """Of a planner that has planned."""
    objects = planner.state.objects
    rows = np.zeros(len(objects), dtype=COUNTERPART)
    rows["mapping"] = -1
    found = Counterparts(rows)
    live = (objects["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT)) != 0
    library = (objects["flags"] & ObjectFlag.LIBRARY) != 0
    heap, frame = objects["kind"] == ObjectKind.HEAP, objects["kind"] == ObjectKind.FRAME
    local = objects["kind"] == ObjectKind.LOCAL
    stay = live & heap & ~library & (objects["fate"] == Fate.STAY)
    moved = (live | ~heap) & ~library & ~frame & (objects["fate"] == Fate.MOVE)
    replaced = (live | ~heap) & ~frame & ~local & (objects["fate"] == Fate.REPLACE)
    replaced &= objects["new_address"] != 0
    rows["future"] = np.where(stay, objects["address"], objects["new_address"])
    rows["future_size"] = np.where(moved, objects["out_size"], objects["size"])
    rows["flags"][stay | moved] = CounterpartFlag.PLACED | CounterpartFlag.COMPARED
    rows["flags"][replaced] = CounterpartFlag.PLACED
    rows["flags"][_listed(planner)] |= np.uint32(CounterpartFlag.LISTED)
    left = heap & ~live & ~library & ~planner.library_owned & ~not_leaked(planner.state)
    rows["flags"][left] |= np.uint32(CounterpartFlag.LEFT)
    _place_locals(planner, found)
    _bind_mappings(planner, inverse, found)
    _bind_words(planner, found)
    found.exempt = {
        "untouched": int((replaced & ~heap).sum()),
        "stream": int((live & heap & library).sum()),
        "leaked": int((heap & ~live).sum()),
        "gone": int((live & (objects["fate"] == Fate.DROP)).sum()),
    }
    return found


def _listed(planner: Planner) -> Array:
    """Objects whose type has slots in unions or at odd offsets, which no bitmap tells apart."""
    table, objects = planner.state.table, planner.state.objects
    odd = (table.slots["kind"] == SlotKind.UNION) | (table.slots["offset"] % 8 != 0)
    odd |= table.slots["stride"] % 8 != 0
    before = np.concatenate([[0], np.cumsum(odd)])
    first = table.types["first_slot"].astype(np.int64)
    listed = before[np.minimum(first + table.types["slot_count"], len(odd))] > before[first]
    result: Array = (objects["type"] >= 0) & listed[objects["type"]]
    return result


def _place_locals(planner: Planner, found: Counterparts) -> None:
    for local in planner.locals.carried:
        if local.register is not None:
            entry = found.rows[local.row]
            entry["future"], entry["future_size"] = REGISTER_PLACE + 64 * local.register, max(local.size, 1)
            entry["flags"] &= ~np.uint32(CounterpartFlag.PLACED)  # nothing points at a register
            found.registers[local.register] = local.row


def _bind_mappings(planner: Planner, inverse: InversePool, found: Counterparts) -> None:
    """Inverse mappings of what changes its layout, and what its start-up left in it."""
    objects, rows = planner.state.objects, found.rows
    mapped = (rows["flags"] != 0) & (objects["fate"] == Fate.MOVE) & (objects["mapping"] >= 0)
    for mapping in np.unique(objects["mapping"][mapped]).tolist():
        forward = planner.prepared.pool.compiled[mapping]
        same = mapped & (objects["mapping"] == mapping)
        row = inverse.row(forward.old_type, forward.new_type)
        rows["mapping"][same] = row
    _bind_handled(planner, inverse, found)
    _bind_baselines(planner, found, np.flatnonzero(mapped))


def _bind_handled(planner: Planner, inverse: InversePool, found: Counterparts) -> None:
    """What keeps its layout goes through a mapping too, where handlers have taken on a part of it."""
    pairing, objects, rows = planner.prepared.pool.pairing, planner.state.objects, found.rows
    settled = pairing.settled
    if not (settled.types or settled.seen or settled.members):
        return
    plain = (rows["flags"] & CounterpartFlag.COMPARED != 0) & (rows["mapping"] < 0) & (objects["type"] >= 0)
    for kind in np.unique(objects["type"][plain]).tolist():
        other = pairing.counterpart(kind)
        if other is not None and inverse.is_handled(kind, other):
            rows["mapping"][plain & (objects["type"] == kind)] = inverse.row(kind, other)


def _bind_baselines(planner: Planner, found: Counterparts, mapped: Array) -> None:
    heap = FutureHeap(planner.future.heap)
    for row, (address, size) in planner.counterparts.items():
        size = min(size, int(planner.state.objects["out_size"][row]))
        data = heap.bytes_at(address, size) if found.rows["mapping"][row] >= 0 else None
        if data is not None:
            _bind_baseline(found, row, data)
    spans = [*planner.future.statics, *([planner.future.tls] if planner.future.tls else [])]
    places = found.rows["future"]
    outside = mapped[planner.state.objects["kind"][mapped] != ObjectKind.HEAP]
    for row in outside.tolist():
        span = _span_at(spans, int(places[row]))
        if span is not None:
            at = int(places[row]) - span.start
            _bind_baseline(found, row, span.data[at : at + int(found.rows["future_size"][row])])
        elif planner.state.objects["kind"][row] == ObjectKind.LOCAL and places[row] < REGISTER_PLACE:
            # What was in it besides the members that are carried is not known any more: not compared.
            size = int(found.rows["future_size"][row])
            now = planner.future.subject.memory.read(int(places[row]), size)
            _bind_baseline(found, row, np.frombuffer(now, dtype=np.uint8))


def _bind_baseline(found: Counterparts, row: int, data: Array) -> None:
    data = np.ascontiguousarray(data)
    found.keep.append(data)
    found.rows["baseline"][row], found.rows["baseline_size"][row] = data.ctypes.data, len(data)


def _span_at(spans: list[Span], address: int) -> Span | None:
    return next((span for span in spans if span.start <= address < span.end), None)


def _bind_words(planner: Planner, found: Counterparts) -> None:
    """Objects with words of unknown meaning that the plan rewrites."""
    rows = distinct(assumed_words(planner)["object"])
    found.rows["flags"][rows] |= np.uint32(CounterpartFlag.WORDS)


def assumed_words(planner: Planner) -> Array:
    """``WORD`` rows that are no pointer slots and lead elsewhere in the future, by object."""
    words = planner.scanned.words
    assumed = words[np.isin(words["source"], (WordSource.UNEXPLAINED, WordSource.UNION))]
    return np.ascontiguousarray(assumed[np.argsort(assumed["object"], kind="stable")])


def overlaps(planner: Planner, found: Counterparts) -> Array:
    """Pairs (n, 2) of object rows whose counterparts share memory."""
    kinds = planner.state.objects["kind"]
    rows = found.compared()
    rows = rows[kinds[rows] != ObjectKind.LOCAL]
    start = found.rows["future"][rows]
    end = start + found.rows["future_size"][rows]
    clash = np.flatnonzero(end[:-1] > start[1:])
    return np.stack([rows[clash], rows[clash + 1]], axis=1)
