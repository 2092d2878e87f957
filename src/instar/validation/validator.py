"""Transfers the future's state back and compares it with the past (docs/internals/validation.md).

Pure: works on the planner's copies and on what ``read`` gives of the future's memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from instar.metadata.distinct import distinct
from instar.metadata.version import Version
from instar.state.columns import Fate, ObjectKind, SlotKind
from instar.state.kernel import Span
from instar.state.paths import word_path
from instar.transfer.plan import KeptRange, TransferPlan, without_blocks
from instar.transfer.planner import Planner
from instar.validation.arguments import changed_arguments
from instar.validation.assumptions import Assumptions
from instar.validation.blocks import copied_streams, missing_blocks, unconverted
from instar.validation.columns import Count, CounterpartFlag
from instar.validation.comparison import Compared, Comparison, ReadInto, first_unlike, join_compared
from instar.validation.counterparts import (
    REGISTER_PLACE,
    assumed_words,
    find_counterparts,
    overlaps,
)
from instar.validation.differences import DifferenceJudge, merge_exempt
from instar.validation.fixed import FixedCheck
from instar.validation.frames import FrameCheck, check_frames
from instar.validation.handled import HandledBytes
from instar.validation.inverse import InversePool
from instar.validation.layouts import Layouts
from instar.validation.outcome import Validation
from instar.validation.remaining import PAGE, Unwritten, all_written, remaining_spans
from instar.validation.untouched import UntouchedCheck
from instar.validation.variables import misdecided

Array = np.ndarray[Any, np.dtype[Any]]

_PIECE = 1 << 20
_THREADS = 2
_WORTH_THREADS = 16 << 20  # bytes to compare


class Validator:
    """Validates the transfers of one planner: all of it first, then what changed, and that the rest did not.

    Args:
        planner: Has planned; its plan has been carried out.
        read_past: The past's memory: constants only.
        read_into: Fills an array from the future's memory.
    """

    def __init__(self, planner: Planner, read_past: Callable[[int, int], bytes], read_into: ReadInto) -> None:
        self.planner = planner
        self._read_into = read_into
        self._inverse = InversePool(planner.prepared.pool.pairing)
        self._counterparts = find_counterparts(planner, self._inverse)
        self._fixed = FixedCheck(planner, read_past, self._read)
        self._read_past = read_past
        self._comparison = self._bind()
        self._handled = HandledBytes(planner)
        self._untouched = UntouchedCheck(planner, self._counterparts)
        self._assumptions = Assumptions(planner, self._word_path)
        self._kept: tuple[KeptRange, ...] | None = None
        self._changed_pages: Array = np.zeros(0, dtype=np.uint64)  # of the past, since all was compared
        self._whole: Validation | None = None
        self._untold: list[int] | None = None

    def check_tables(self, plan: TransferPlan) -> None:
        """Look at the plan's tables of blocks, which need not be kept for ``check`` then."""
        rows = missing_blocks(self.planner, self._counterparts, plan, self._comparison)
        self._untold = rows[:8].tolist()

    def check(
        self, plan: TransferPlan, registers: Mapping[int, int], unwritten: Unwritten = all_written
    ) -> Validation:
        """Compare after a plan was carried out.

        Args:
            plan: The one.
            registers: DWARF number -> value, of the future's thread.
            unwritten: What of the future was not written since just before the first check.
        """
        started = time.perf_counter()
        judge = DifferenceJudge(
            self.planner, self._counterparts, self._inverse, self._comparison, self._handled
        )
        again = plan.refreshed and self._kept is not None
        if again:
            pages = (self._changed_pages, self.planner.changed_pages, self.planner.touched_pages)
            self._changed_pages = distinct(np.concatenate(pages))
            self._compare_unchanged(judge, unwritten)
            rows = self._fresh_rows()
        else:
            self._check_places(judge)
            self._check_blocks(judge, plan)
            self._check_segments(judge)
            self._check_environ(judge)
            self._kept, rows = without_blocks(plan).kept, self._counterparts.compared()
        compared = self._compare(rows, registers)
        judge.judge(compared.differences)
        self._assumptions.judge(compared.leads)
        for untouched, who in self._untouched.wrong():
            judge.add(self._path(untouched), f"keeps what the new program has, but {who} has changed it")
        for reason, row in self._fixed.wrong():
            judge.add(f"what lies at {int(row['start']):#x}", reason)
        frames = check_frames(
            self.planner,
            self._comparison,
            self._read,
            registers,
            lambda address: self._handled.covers(np.array([address])),
        )
        for where, past, future in frames.wrong:
            judge.add(where, f"= {past:#x} ({self.planner.describe(past)}) comes back as {future:#x}")
        for number, value in plan.registers.items():
            if registers.get(number) != value:
                judge.add(
                    f"register {number}", f"{value:#x} is {registers.get(number, 0):#x} in the new version"
                )
        outcome = self._take_back(self._outcome(compared, frames, judge))
        if not again or self._whole is None:
            self._whole = outcome
        else:
            outcome = replace(
                self._whole,
                again=outcome.objects,
                words=outcome.words,
                problems=outcome.problems,
                assumptions=outcome.assumptions,
                warnings=outcome.warnings,
            )
        return replace(outcome, ms=1000 * (time.perf_counter() - started))

    def alike(self, past: Array, future: Array) -> Array:
        """Per word that the kernel keeps: whether both lead to the same, or are the same number."""
        return self._comparison.same_words(past, future)

    def _take_back(self, outcome: Validation) -> Validation:
        """Run the backward halves and the checks of handlers."""
        handlers, allow = self.planner.prepared.handlers, self.planner.options.allow
        if handlers is None:
            return outcome
        found = handlers.reverse(self.planner, self._comparison.same_words, self._handled.places)
        problems = (*found.problems, *found.unchecked)
        passed = [f"{problem.code}: {problem.cause}" for problem in problems if problem.code in allow]
        return replace(
            outcome,
            problems=(*outcome.problems, *(p for p in problems if p.code not in allow)),
            warnings=(*outcome.warnings, *passed),
            taken_back=found.compared,
            checked=found.checked,
            unchecked=tuple(problem.cause for problem in found.unchecked),
        )

    # What is compared ---------------------------------------------------------------------------------------

    def _bind(self) -> Comparison:
        fixed = self.planner.engine.fixed
        mappings = np.full(len(fixed), -1, dtype=np.int32)
        compiled = self.planner.prepared.pool.compiled
        for index in np.flatnonzero(fixed["mapping"] >= 0).tolist():
            forward = compiled[int(fixed["mapping"][index])]
            mappings[index] = self._inverse.row(forward.old_type, forward.new_type)
        words = assumed_words(self.planner)
        return Comparison(
            self.planner.state,
            fixed,
            mappings,
            self._counterparts,
            self._inverse,
            _pointees(self.planner),
            words,
            _image(self.planner),
        )

    def _compare(self, rows: Array, registers: Mapping[int, int]) -> Compared:
        """Objects in memory, then those in registers."""
        memory = len(rows)  # registers have the highest places
        while memory and self._counterparts.places(rows[memory - 1 : memory])[0] >= REGISTER_PLACE:
            memory -= 1

        def read_register(address: int, buffer: Array) -> None:
            buffer[:] = 0
            for number in self._counterparts.registers:
                at = REGISTER_PLACE + 64 * number - address
                if 0 <= at < len(buffer):
                    value = registers.get(number, 0).to_bytes(8, "little")[: len(buffer) - at]
                    buffer[at : at + len(value)] = np.frombuffer(value, np.uint8)

        return join_compared(
            [
                self._comparison.compare(rows[:memory], self._read_into),
                self._comparison.compare(rows[memory:], read_register),
            ]
        )

    def _fresh_rows(self) -> Array:
        """Objects in pages of the past that changed, and those that no range or segment covers."""
        apart = [local.row for local in self.planner.locals.carried] + self.planner.pinned
        touched = self.planner.state.rows_in(self.planner.touched_pages, PAGE)
        parts = [self.planner.changed_rows, np.array(apart, dtype=np.int64), touched]
        rows = distinct(np.concatenate(parts))
        rows = rows[(self._counterparts.rows["flags"][rows] & CounterpartFlag.COMPARED) != 0]
        order = np.argsort(self._counterparts.places(rows), kind="stable")
        return np.ascontiguousarray(rows[order], dtype=np.int64)

    def _check_places(self, judge: DifferenceJudge) -> None:
        """No two objects share memory in the future."""
        for one, other in overlaps(self.planner, self._counterparts)[:8].tolist():
            judge.add(
                self._path(one), f"its counterpart lies over that of {self._path(other)} in the new version"
            )

    def _check_blocks(self, judge: DifferenceJudge, plan: TransferPlan) -> None:
        """The future can free what it inherits, and nothing stays that had to be converted."""
        layouts = Layouts(self.planner.prepared.pool.pairing)
        for row in unconverted(self.planner, self._counterparts, layouts)[:8].tolist():
            judge.add(self._path(row), "it was never converted, although its type has another layout")
        for row in copied_streams(self.planner)[:8].tolist():
            judge.add(self._path(row), "it is a stream, and not replaced by that of the new version")
        for row, reason in islice(misdecided(self.planner, layouts), 8):
            judge.add(self._path(row), reason)
        if self._untold is None:
            self.check_tables(plan)
        for row in self._untold or ():
            judge.add(self._path(row), "the new version's runtime is not told of this block")

    def _word_path(self, row: int, offset: int) -> str:
        return word_path(self.planner.state, self.planner.old, row, offset, self.planner.names)

    def _path(self, row: int) -> str:
        return self.planner.describe(int(self.planner.state.objects["address"][row]))

    # What must not have changed -----------------------------------------------------------------------------

    def _compare_unchanged(self, judge: DifferenceJudge, unwritten: Unwritten) -> None:
        """Kept ranges, arena and segments hold what was validated, and what was written since.

        Pages that nobody has written in the future hold what was validated. Where the past has changed they
        are compared nevertheless: something should have been written there.
        """
        pieces: list[tuple[int, int, Array, int, Array]] = []
        for kept in self._kept or ():
            if kept.source is None or not kept.source.shared:
                same = unwritten(kept.start, kept.start + kept.size)
                for start, size in remaining_spans(kept.pages, same, self._changed_pages).tolist():
                    pieces.extend(_pieces(start, size, kept.data, kept.data_start, kept.patches))
        pieces.extend(self._arena_pieces(self.planner.fates.arena_size, unwritten))
        none = np.zeros(0, dtype="u8")
        for span, base in self.planner.output.bases:
            data = self.planner.output.buffer[base : base + len(span.data)]
            pieces.extend(_pieces(span.start, len(data), data, span.start, none))
        for address in sorted(self._unlike_in_all(pieces))[:8]:
            judge.add(f"the new version's byte at {address:#x}", "changed since it was validated")

    def _arena_pieces(self, size: int, unwritten: Unwritten) -> list[tuple[int, int, Array, int, Array]]:
        base, none = self.planner.arena_base, np.zeros(0, dtype="u8")
        whole = np.array([[base, size]] if size else np.zeros((0, 2)), dtype=np.uint64)
        found = []
        for start, length in remaining_spans(whole, unwritten(base, base + size), none).tolist():
            found.extend(_pieces(start, length, self.planner.output.buffer, base, none))
        carried = np.frombuffer(self.planner.prepared.strings.carried(), dtype=np.uint8)
        if len(carried) and self._counterparts is not None:
            found.extend(_pieces(base + size, len(carried), carried, base + size, none))
        return found

    def _unlike_in_all(self, pieces: list[tuple[int, int, Array, int, Array]]) -> list[int]:
        """On both processors, unless starting threads takes longer than that."""
        if sum(size for _, size, *_ in pieces) < _WORTH_THREADS:
            return self._unlike(pieces)
        with ThreadPoolExecutor(_THREADS) as pool:
            parts = pool.map(lambda n: self._unlike(pieces[n::_THREADS]), range(_THREADS))
            return [place for part in parts for place in part]

    def _unlike(self, pieces: list[tuple[int, int, Array, int, Array]]) -> list[int]:
        buffer = np.empty(_PIECE, dtype=np.uint8)
        found = []
        for start, size, data, data_start, patches in pieces:
            future = buffer[:size]
            self._read_into(start, future)
            at = start - data_start
            unlike = first_unlike(future, data[at : at + size], start, patches)
            if unlike is not None:
                found.append(start + unlike)
        return found

    def _check_segments(self, judge: DifferenceJudge) -> None:
        """Nothing but the counterparts of carried objects was written in the future's segments."""
        objects = self.planner.state.objects
        moved = np.flatnonzero((objects["kind"] != ObjectKind.HEAP) & (objects["fate"] == Fate.MOVE))
        places, sizes = self._counterparts.places(moved), self._counterparts.sizes(moved).astype(np.int64)
        for span, _ in self.planner.output.bases:
            now = np.empty(len(span.data), dtype=np.uint8)
            self._read_into(span.start, now)
            inside = (places >= span.start) & (places < span.end)
            low = (places[inside] - np.uint64(span.start)).astype(np.int64)
            high = low + sizes[inside]
            low, high = self._with_environ(span, *self._with_handled(span, low, high))
            old, new = memoryview(span.data.data), memoryview(now.data)
            for start, end in _gaps(low, high, len(now)):
                if old[start:end] != new[start:end]:
                    at = next(k for k in range(start, end) if old[k] != new[k])
                    judge.add(
                        f"the new version's data at {span.start + at:#x} ({self._new_name(span.start + at)})",
                        f"nothing was to be written there, but {old[at]:#x} became {new[at]:#x}",
                    )

    def _with_handled(self, span: Span, low: Array, high: Array) -> tuple[Array, Array]:
        """Intervals of a segment, and the bytes that handlers wrote."""
        own = self._handled.places
        own = own[(own >= span.start) & (own < span.end)].astype(np.int64) - span.start
        return np.concatenate([low, own]), np.concatenate([high, own + 1])

    def _with_environ(self, span: Span, low: Array, high: Array) -> tuple[Array, Array]:
        """The program's own ``environ``, which leads to the changed environment."""
        write = self.planner.environ
        if write is None or not span.start <= write.address < span.end:
            return low, high
        at = write.address - span.start
        return np.append(low, at), np.append(high, at + 8)

    def _check_environ(self, judge: DifferenceJudge) -> None:
        write = self.planner.environ
        if write is not None and self._read(write.address, 8) != bytes(write.data):
            judge.add("environ", "it does not lead to the changed environment")

    def _new_name(self, address: int) -> str:
        version: Version = self.planner.new
        row = version.variable_at(address - self.planner.future.subject.load_bias)
        return version.text(int(version.variables["name"][row])) if row is not None else "no variable"

    # Report -------------------------------------------------------------------------------------------------

    def _read(self, address: int, size: int) -> bytes:
        buffer = np.empty(size, dtype=np.uint8)
        self._read_into(address, buffer)
        return buffer.tobytes()

    def _outcome(self, compared: Compared, frames: FrameCheck, judge: DifferenceJudge) -> Validation:
        if compared.count > len(compared.differences):
            judge.add("the state", f"{compared.count} words differ, too many to tell them apart")
        counts, allow = compared.counts, self.planner.options.allow
        texts = changed_arguments(self.planner, self._read_past, self._read, self._word_path)
        exempt = merge_exempt(
            judge.exempt.items(),
            self._counterparts.exempt.items(),
            self._inexact,
            {
                "literal-pointer": counts[Count.LITERAL],
                "assumed-word": counts[Count.ASSUMED],
                "own-frame-word": frames.own,
                "unsettled-frame-word": frames.unsettled,
                "nameless-target": self._fixed.exempt,
            }.items(),
        )
        return Validation(
            objects=counts[Count.OBJECTS],
            reversed=counts[Count.REVERSED],
            slots=counts[Count.SLOTS],
            bytes=counts[Count.BYTES],
            words=frames.words,
            targets=len(self.planner.engine.fixed),
            exempt=exempt,
            problems=tuple(judge.problems),
            assumptions=(*self._assumptions.problems, *(p for p in texts if p.code not in allow)),
            warnings=(
                *self._assumptions.warnings,
                *(f"{p.code}: {p.cause}" for p in texts if p.code in allow),
            ),
        )

    @cached_property
    def _inexact(self) -> list[tuple[str, int]]:
        """Bytes of dropped and of handled members, over all objects."""
        objects, rows = self.planner.state.objects, self._counterparts.rows["mapping"]
        found = []
        for row in np.unique(rows[rows >= 0]).tolist():
            facts = self._inverse.facts[row]
            elements = int(objects["count"][rows == row].sum())
            found += [("dropped-byte", elements * facts.dropped // 8)]
            found += [("handled-byte", elements * facts.handled // 8)]
        return found


def _pieces(
    start: int, size: int, data: Array, data_start: int, patches: Array
) -> list[tuple[int, int, Array, int, Array]]:
    """Cut a range, with the patches that touch each piece."""
    found = []
    for at in range(start, start + size, _PIECE):
        length = min(_PIECE, start + size - at)
        if len(patches):
            bounds = np.array([max(at - 7, 0), at + length], np.uint64)
            first, last = np.searchsorted(patches["address"], bounds)
            found.append((at, length, data, data_start, patches[first:last]))
        else:
            found.append((at, length, data, data_start, patches))
    return found


def _gaps(low: Array, high: Array, size: int) -> list[tuple[int, int]]:
    """What of ``size`` bytes no interval covers."""
    order = np.argsort(low, kind="stable")
    starts = np.append(low[order], size)
    ends = np.concatenate([[0], np.maximum.accumulate(high[order])]) if len(low) else np.zeros(1, np.int64)
    open_ = np.flatnonzero(starts > ends)
    return list(zip(ends[open_].tolist(), starts[open_].tolist(), strict=True))


def _image(planner: Planner) -> tuple[int, int]:
    """First address of the past's program and the one behind it."""
    maps = [m for m in planner.past.subject.maps if m.file == planner.past.program]
    return min((m.start for m in maps), default=0), max((m.end for m in maps), default=0)


def _pointees(planner: Planner) -> Array:
    """Per type of the past, where a pointer slot leads to one: its counterpart's row."""
    pairing, table = planner.prepared.pool.pairing, planner.state.table
    found = np.full(len(table.types), -1, dtype=np.int32)
    pointers = table.slots[table.slots["kind"] == SlotKind.POINTER]
    for row in np.unique(pointers["pointee"]).tolist():
        other = pairing.counterpart(row) if row >= 0 else None
        if other is not None:
            found[row] = planner.new.strip(other)
    return found
