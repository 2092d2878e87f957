"""Where every object of the past is in the future, and how its contents are compared. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instar.errors import InternalError
from instar.metadata.distinct import distinct
from instar.state.columns import Fate, ObjectFlag, ObjectKind, SlotKind, WordSource
from instar.state.kernel import Span, State
from instar.transfer.own import not_leaked
from instar.transfer.planner import Planner
from instar.transfer.startup_blocks import FutureHeap
from instar.validation.columns import COUNTERPART, EXTRA, EXTRA_SHIFT, CounterpartFlag
from instar.validation.inverse import InversePool

Array = np.ndarray[Any, np.dtype[Any]]

_ROWS = 1 << 16  # at a time
REGISTER_PLACE = 0xFFFF_9000_0000_0000
"""Where the comparison keeps locals that are registers of the future: addresses that no program can have."""


@dataclass(eq=False)
class Counterparts:
    """Rows for the kernel, and why what is not compared is not.

    Attributes:
        state: The past's.
        rows: ``COUNTERPART``, one per object of the past.
        exempt: Reason -> objects that are not compared.
        registers: DWARF number -> object row, of locals that are registers of the future.
        keep: Arrays that rows point into.
    """

    state: State
    rows: Array
    exempt: dict[str, int] = field(default_factory=dict)
    registers: dict[int, int] = field(default_factory=dict)
    keep: list[Array] = field(default_factory=list)
    _extras: list[tuple[int, int, int, int]] = field(default_factory=list)

    def places(self, rows: Array) -> Array:
        """Where objects (by row) are in the future, u8."""
        objects = self.state.objects
        places: Array = objects["new_address"][rows]
        stay = (objects["fate"][rows] == Fate.STAY) & (objects["kind"][rows] == ObjectKind.HEAP)
        places[stay] = objects["address"][rows[stay]]
        for at, extra in self._in_registers(rows):
            places[at] = extra[2]
        return places

    def _in_registers(self, rows: Array) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
        if self.registers:
            flags = self.rows["flags"][rows]
            for at in np.flatnonzero(flags & CounterpartFlag.REGISTER).tolist():
                yield at, self._extras[(int(flags[at]) >> EXTRA_SHIFT) - 1]

    def sizes(self, rows: Array) -> Array:
        """Bytes of objects (by row) in the future, u8."""
        objects = self.state.objects
        sizes: Array = objects["size"][rows]
        moved = objects["fate"][rows] == Fate.MOVE
        sizes[moved] = objects["out_size"][rows[moved]]
        for at, extra in self._in_registers(rows):
            sizes[at] = extra[3]
        return sizes

    def extras(self) -> Array:
        """``EXTRA`` rows."""
        return np.array(self._extras, dtype=EXTRA)

    def add_baseline(self, row: int, data: Array) -> None:
        """What the future's start-up left in an object."""
        data = np.ascontiguousarray(data)
        self.keep.append(data)
        index = int(self.rows["flags"][row]) >> EXTRA_SHIFT
        known = self._extras[index - 1] if index else (0, 0, 0, 0)
        self._add_extra(row, (data.ctypes.data, len(data), known[2], known[3]))

    def add_register(self, row: int, number: int, size: int) -> None:
        """A local is a register of the future; nothing points at it."""
        self.registers[number] = row
        entry = self.rows[row]
        entry["flags"] &= ~np.uint32(CounterpartFlag.PLACED)
        entry["flags"] |= np.uint32(CounterpartFlag.REGISTER)
        self._add_extra(row, (0, 0, REGISTER_PLACE + 64 * number, size))

    def _add_extra(self, row: int, extra: tuple[int, int, int, int]) -> None:
        if len(self._extras) >= (1 << 32 - EXTRA_SHIFT) - 1:
            raise InternalError(f"{len(self._extras)} objects with contents of the start-up's")
        self._extras.append(extra)
        flags = int(self.rows["flags"][row]) & ((1 << EXTRA_SHIFT) - 1)
        self.rows["flags"][row] = flags | len(self._extras) << EXTRA_SHIFT

    def compared(self) -> Array:
        """Object rows (i4) by their place in the future."""
        parts, last, ordered = [np.zeros(0, dtype=np.int32)], 0, True
        for at in range(0, len(self.rows), _ROWS):  # columns of all would be as large as their contents
            compared = (self.rows["flags"][at : at + _ROWS] & CounterpartFlag.COMPARED) != 0
            part = (at + np.flatnonzero(compared)).astype(np.int32)
            parts.append(part)
            if ordered and len(part):
                places = self.places(part)
                ordered = int(places[0]) >= last and not (places[1:] < places[:-1]).any()
                last = int(places[-1])
        rows: Array = np.concatenate(parts)
        return rows if ordered else rows[np.argsort(self.places(rows), kind="stable")]


def find_counterparts(planner: Planner, inverse: InversePool) -> Counterparts:
    """Of a planner that has planned."""
    rows = np.zeros(len(planner.state.objects), dtype=COUNTERPART)
    rows["mapping"] = -1
    found = Counterparts(planner.state, rows)
    exempt: Counter[str] = Counter(untouched=0, stream=0, leaked=0, gone=0)
    owned = planner.library_owned | not_leaked(planner.state)
    for at in range(0, len(rows), _ROWS):
        part = slice(at, at + _ROWS)
        rows["flags"][part] = _flags(planner.state.objects[part], owned[part], exempt)
    rows["flags"][_listed(planner)] |= np.uint32(CounterpartFlag.LISTED)
    _place_locals(planner, found)
    _bind_mappings(planner, inverse, found)
    _bind_words(planner, found)
    found.exempt = dict(exempt)
    return found


def _flags(objects: Array, owned: Array, exempt: Counter[str]) -> Array:
    """Of some objects; counts those that are not compared.

    Args:
        objects: ``OBJECT`` rows.
        owned: Which of them are memory of libraries and the loader.
        exempt: Reason -> objects, added to.
    """
    live = (objects["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT)) != 0
    library = (objects["flags"] & ObjectFlag.LIBRARY) != 0
    heap, frame = objects["kind"] == ObjectKind.HEAP, objects["kind"] == ObjectKind.FRAME
    local = objects["kind"] == ObjectKind.LOCAL
    stay = live & heap & ~library & (objects["fate"] == Fate.STAY)
    moved = (live | ~heap) & ~library & ~frame & (objects["fate"] == Fate.MOVE)
    replaced = (live | ~heap) & ~frame & ~local & (objects["fate"] == Fate.REPLACE)
    replaced &= objects["new_address"] != 0
    flags = np.zeros(len(objects), dtype=np.uint32)
    flags[stay | moved] = CounterpartFlag.PLACED | CounterpartFlag.COMPARED
    flags[replaced] = CounterpartFlag.PLACED
    flags[heap & ~live & ~library & ~owned] |= np.uint32(CounterpartFlag.LEFT)
    exempt["untouched"] += int((replaced & ~heap).sum())
    exempt["stream"] += int((live & heap & library).sum())
    exempt["leaked"] += int((heap & ~live).sum())
    exempt["gone"] += int((live & (objects["fate"] == Fate.DROP)).sum())
    return flags


def _listed(planner: Planner) -> Array:
    """Objects whose type has slots in unions or at odd offsets, which no bitmap tells apart."""
    table, objects = planner.state.table, planner.state.objects
    odd = (table.slots["kind"] == SlotKind.UNION) | (table.slots["offset"] % 8 != 0)
    odd |= table.slots["stride"] % 8 != 0
    before = np.concatenate([[0], np.cumsum(odd)])
    first = table.types["first_slot"].astype(np.int64)
    listed = before[np.minimum(first + table.types["slot_count"], len(odd))] > before[first]
    result = np.zeros(len(objects), dtype=bool)
    for at in range(0, len(objects) if listed.any() else 0, _ROWS):
        types = objects["type"][at : at + _ROWS]
        result[at : at + _ROWS] = (types >= 0) & listed[types]
    return result


def _place_locals(planner: Planner, found: Counterparts) -> None:
    for local in planner.locals.carried:
        if local.register is not None:
            found.add_register(local.row, local.register, max(local.size, 1))


def _bind_mappings(planner: Planner, inverse: InversePool, found: Counterparts) -> None:
    """Inverse mappings of what changes its layout, and what its start-up left in it."""
    objects, rows = planner.state.objects, found.rows
    mapped = (rows["flags"] != 0) & (objects["fate"] == Fate.MOVE) & (objects["mapping"] >= 0)
    for mapping in distinct_of(objects["mapping"], mapped):
        forward = planner.prepared.pool.compiled[mapping]
        same = mapped & (objects["mapping"] == mapping)
        row = inverse.row(forward.old_type, forward.new_type)
        rows["mapping"][same] = row
    _bind_handled(planner, inverse, found)
    _bind_baselines(planner, found, np.flatnonzero(mapped & (objects["kind"] != ObjectKind.HEAP)))


def _bind_handled(planner: Planner, inverse: InversePool, found: Counterparts) -> None:
    """What keeps its layout goes through a mapping too, where handlers have taken on a part of it."""
    pairing, objects, rows = planner.prepared.pool.pairing, planner.state.objects, found.rows
    settled = pairing.settled
    if not (settled.types or settled.seen or settled.members):
        return
    plain = (rows["flags"] & CounterpartFlag.COMPARED != 0) & (rows["mapping"] < 0) & (objects["type"] >= 0)
    for kind in distinct_of(objects["type"], plain):
        other = pairing.counterpart(kind)
        if other is not None and inverse.is_handled(kind, other):
            rows["mapping"][plain & (objects["type"] == kind)] = inverse.row(kind, other)


def distinct_of(column: Array, chosen: Array) -> list[int]:
    """The values of the chosen rows, ascending, each once."""
    values: set[int] = set()
    for at in range(0, len(column), _ROWS):
        values.update(distinct(column[at : at + _ROWS][chosen[at : at + _ROWS]]).tolist())
    return sorted(values)


def _bind_baselines(planner: Planner, found: Counterparts, outside: Array) -> None:
    heap = FutureHeap(planner.future.heap)
    for row, (address, size) in planner.counterparts.items():
        size = min(size, int(planner.state.objects["out_size"][row]))
        data = heap.bytes_at(address, size) if found.rows["mapping"][row] >= 0 else None
        if data is not None:
            found.add_baseline(row, data)
    spans = [*planner.future.statics, *([planner.future.tls] if planner.future.tls else [])]
    for row, place in zip(outside.tolist(), found.places(outside).tolist(), strict=True):
        span = _span_at(spans, place)
        if span is not None:
            at = place - span.start
            found.add_baseline(row, span.data[at : at + int(found.sizes(np.array([row]))[0])])
        elif planner.state.objects["kind"][row] == ObjectKind.LOCAL and place < REGISTER_PLACE:
            # What was in it besides the members that are carried is not known any more: not compared.
            size = int(found.sizes(np.array([row]))[0])
            now = planner.future.subject.memory.read(place, size)
            found.add_baseline(row, np.frombuffer(now, dtype=np.uint8))


def _span_at(spans: list[Span], address: int) -> Span | None:
    return next((span for span in spans if span.start <= address < span.end), None)


def _bind_words(planner: Planner, found: Counterparts) -> None:
    """Objects with words of unknown meaning that the plan rewrites."""
    rows = distinct(assumed_words(planner)["object"])
    found.rows["flags"][rows] |= np.uint32(CounterpartFlag.WORDS)


def assumed_words(planner: Planner) -> Array:
    """``WORD`` rows that are no pointer slots and lead elsewhere in the future, by object."""
    words = planner.scanned.words
    source = words["source"]  # np.isin would take some 16 bytes for each
    assumed = words[(source == WordSource.UNEXPLAINED) | (source == WordSource.UNION)]
    return np.ascontiguousarray(assumed[np.argsort(assumed["object"], kind="stable")])


def overlaps(planner: Planner, found: Counterparts) -> Array:
    """Pairs (n, 2) of object rows whose counterparts share memory."""
    kinds = planner.state.objects["kind"]
    rows = found.compared()
    rows = rows[kinds[rows] != ObjectKind.LOCAL]
    clashes = [np.zeros(0, np.int64)]
    for at in range(0, len(rows), _ROWS):
        some = rows[at : at + _ROWS + 1]
        start = found.places(some)
        end = start + found.sizes(some)
        clashes.append(at + np.flatnonzero(end[:-1] > start[1:]))
    clash = np.concatenate(clashes)
    return np.stack([rows[clash], rows[clash + 1]], axis=1)
