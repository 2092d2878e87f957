"""Plans a transfer: types the past's state, decides fates, translates and converts, in the tool's memory.

The order: lay out objects, type them, decide what moves, scan every word (strings that turn up are resolved
and the scan repeated), convert, apply rewrites, collect what is to be written. Pure: reads copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Mapping as MappingOf
from typing import Any

import numpy as np

from instar.pairing.mapping import Relation
from instar.pairing.problems import Problem
from instar.state.capture import known_ranges
from instar.state.columns import Fate, KernelType, ObjectFlag, ObjectKind, Status
from instar.state.image import Image
from instar.state.kernel import State
from instar.state.paths import object_path
from instar.state.typing import type_state
from instar.transfer.annotated import without_annotated
from instar.transfer.call import plan_call
from instar.transfer.elements import ElementWords
from instar.transfer.engine import Engine, Scan
from instar.transfer.entries import changed_tables, numbered_problems, split_tables
from instar.transfer.environment import changed_environment, encode, is_vector_kept, write_environment
from instar.transfer.fates import Fates, TypeFates, decide_heap
from instar.transfer.findings import Judge
from instar.transfer.held_blocks import HeldBlocks
from instar.transfer.jumps import JumpCarrier
from instar.transfer.kept import arena_range, kept_ranges, sort_patches
from instar.transfer.leaks import find_leaks, keep_many, leak_warning, refuse_hidden
from instar.transfer.libc_state import libc_state_warning
from instar.transfer.library_blocks import library_rows, library_words, mark_library_blocks, stream_rows
from instar.transfer.locals import LocalCarrier
from instar.transfer.output import Output
from instar.transfer.own import (
    end_targets,
    reach_pieces,
    refuse_changed,
    refuse_closed,
    refuse_inside,
    refuse_rewritten,
    refused_mapping,
)
from instar.transfer.packed import packed_offsets, words_at
from instar.transfer.places import constant_targets, interposed_targets, other_fillers
from instar.transfer.plan import Figures, KeptRange, TransferPlan, Write
from instar.transfer.pools import refuse_pooled
from instar.transfer.prepared import NO_CHANGES, Options, Prepared
from instar.transfer.reading import check_reading
from instar.transfer.stack import FramePair, frame_spans, plan_stack, stack_spans, whole_targets
from instar.transfer.startup_blocks import BlockPairing, FutureHeap
from instar.transfer.statics import Statics
from instar.transfer.targets import (
    TargetTable,
    argument_targets,
    function_targets,
    image_fillers,
    library_targets,
    symbol_targets,
)
from instar.transfer.unexplained import Settled, Settler
from instar.transfer.wild import NoPointers

Array = np.ndarray[Any, np.dtype[Any]]

_RELAXED_ROUNDS = 8
KIND_NAMES = {
    ObjectKind.HEAP: "heap",
    ObjectKind.STATIC: "static",
    ObjectKind.TLS: "thread-local",
    ObjectKind.LOCAL: "local",
    ObjectKind.UNNAMED: "unnamed",
}


class Planner:
    """One transfer being planned."""

    def __init__(
        self,
        prepared: Prepared,
        past: Image,
        future: Image,
        pairs: Sequence[FramePair],
        streams: MappingOf[int, int],
        options: Options,
    ) -> None:
        self.prepared, self.past, self.future, self.pairs = prepared, past, future, pairs
        self.streams, self.options = streams, options
        self.fates = Fates()
        self.types = TypeFates(prepared.pool)
        self.old, self.new = past.subject.version, future.subject.version
        self.changed_rows: Array = np.zeros(0, dtype=np.int64)  # since the last plan
        self.changed_pages: Array = np.zeros(0, dtype=np.uint64)  # their addresses, since this plan was made
        self.touched_pages: Array = np.zeros(0, dtype=np.uint64)  # those since the last plan, found apart
        self.handled = NO_CHANGES
        self.unhandled: tuple[Array, Array] | None = None  # output and patches before handlers ran
        self.state = self._state()
        self.statics = Statics(self.state, prepared, self.types, self.fates, past, future)
        self.output = Output(self.state, prepared, future, past.subject.memory)

    def _state(self) -> State:
        spans = [*self.past.statics, *self.past.heap]
        if self.past.tls is not None:
            spans.append(self.past.tls)
        spans.extend(stack_spans(self.pairs, self.past.subject.memory.read, self.old))
        state = State(self.prepared.tables[0], spans)
        state.verdicts = self.prepared.verdicts
        for address in self.streams:
            row = state.find(address)
            if row is not None and state.objects["address"][row] == address:
                state.objects["flags"][row] |= ObjectFlag.LIBRARY
        return state

    # Targets ------------------------------------------------------------------------------------------------

    def targets(self) -> TargetTable:
        """Everything with a fixed place in both: statics first, so that they win over symbols."""
        table = TargetTable()
        for span in [*self.past.statics, *([self.past.tls] if self.past.tls else [])]:
            table.extend(self.statics.targets(span))
        table.extend(constant_targets(self.prepared, self.types, self.past, self.future))
        table.extend(interposed_targets(self.past, self.future))
        table.extend(
            function_targets(self.past.subject, self.future.subject, self.prepared.symbols.functions)
        )
        table.extend(symbol_targets(self.past.subject, self.future.subject))
        programs = self.past.program, self.future.program
        self.images = {m.path for m in self.past.subject.maps if m.executable}
        self.libraries = library_targets(self.past.subject, self.future.subject, programs)
        arguments = self.past.arguments, self.future.arguments
        kept = is_vector_kept(self.past, self.future)
        table.extend(argument_targets(*arguments, environment_kept=kept))
        table.extend(whole_targets(self.pairs))
        self.locals = LocalCarrier(self.state, self.pairs, self._is_same_number)
        table.extend(self.locals.place(self.statics.decide))
        if self.prepared.handlers is not None:
            table = TargetTable([*self.prepared.handlers.place(self), *table.rows])
        return table

    def fixed(self, table: TargetTable) -> Array:
        """The column for the kernel: with resolved strings, and fillers for all that is left."""
        table = TargetTable([*table.rows])
        rows = self.prepared.strings.targets(
            self.past.subject.load_bias,
            self.future.subject.load_bias,
            self.arena_base + self.fates.arena_size,
        )
        named = table.build()
        for target in rows:
            index = int(np.searchsorted(named["start"], target.start, side="right")) - 1
            if index < 0 or int(named["end"][index]) <= target.start:
                table.add(target)
        fillers = image_fillers(self.past.subject, (self.past.program, self.future.program))
        return table.build(self.libraries, fillers, other_fillers(self.past, self.pairs))

    # The plan -----------------------------------------------------------------------------------------------

    def plan(self) -> TransferPlan:
        """Run all steps."""
        self.arena_base = self.options.arena_base
        table = self._decide()
        self._lay_out()
        settled = self._settle(table)
        judge = self._judge(settled)
        self._apply(settled.scan)
        if self.prepared.handlers is not None:
            self.unhandled = self.output.buffer.copy(), self.patches
            self.handled = self.prepared.handlers.convert(self, judge)
        return self._collect(judge, settled.scan)

    def _decide(self) -> TargetTable:
        """Types and fates of all objects; what is at a fixed place in both."""
        self.statics.mark_unnamed()
        type_state(self.state, self.old, known_ranges(self.past.subject.maps))
        reach_pieces(self.state)
        self._refuse_hanging()
        table = self.targets()
        self.statics.place_unnamed(table)
        self.statics.keep_untouched()
        tables = changed_tables(self.state, self.prepared, self.past, self.future)
        self.numbered = [*numbered_problems(tables)]
        table = TargetTable(split_tables(table.rows, tables))
        self.leaks = find_leaks(self.state, self.library_owned)
        self.kept_leaks = keep_many(self.state, self.leaks)
        if self.kept_leaks:
            self.fates.problems.extend(refuse_hidden(self.state, self.types, self.leaks))
        decide_heap(self.state, self.types, self.fates, self.streams)
        refuse_pooled(self.state, self.types, self.old, self.fates)
        self.fates.problems.extend(refuse_inside(self.state, self.types))
        self.fates.problems.extend(refuse_changed(self.state, self.old))
        self.fates.problems.extend(refuse_closed(self.state, self.past.subject.maps))
        self._pair_blocks()
        table.extend(end_targets(self.state))
        objects = self.state.objects
        moved = (objects["kind"] == ObjectKind.HEAP) & (objects["fate"] == Fate.MOVE)
        moved[self.pinned] = False
        objects["new_address"][moved] += np.uint64(self.arena_base)
        return table

    def _settle(self, table: TargetTable) -> Settled:
        """Convert, and find a place for every word."""
        scan = without_annotated(self.state, self.old, self._scan(table))
        elements = ElementWords(self.state, self.engine.fixed, self.future.heap)
        strict = self.options.strict
        settler = Settler(self.state, self.old, self.prepared.pool, strict=strict, elements=elements)
        settled = settler.settle(scan)
        carrier = JumpCarrier(self.state, self.past, self.future, self.pairs, self.translate, self._in_future)
        self.jumps = carrier.carry()
        self.fates.problems.extend(self.jumps.problems)
        settled = settled.replaced(self.jumps.words, self.jumps.places)
        self.scanned = settled.scan
        return settled

    def _judge(self, settled: Settled) -> Judge:
        """What must be said of it, and what refuses it."""
        scan, findings = settled.scan, settled.scan.findings
        if self.prepared.handlers is not None:
            findings = self.prepared.handlers.findings(self, findings)
        known = known_ranges(self.past.subject.maps)
        judge = Judge(
            self.state,
            self.old,
            self.past.subject.load_bias,
            self.names,
            self.describe,
            self.options.allow,
            self.options.strict,
            self._uncarried,
            NoPointers(known, [(span.start, span.end) for span in self.past.heap]).is_none,
        )
        self.fates.problems.extend(refuse_rewritten(self.state, scan.words))
        judge.fates(self.fates.problems)
        judge.doubtful(self.fates.doubtful)
        judge.words(findings)
        judge.stale(settled.stale)
        judge.named([*self.locals.problems, *self.numbered])
        judge.result.warnings += [text] if (text := libc_state_warning(self.old)) else []
        if self.kept_leaks:
            judge.result.warnings.append(leak_warning(self.state, self.leaks))
        judge.assumed_arrays(self.fates.assumed_arrays)
        judge.faults(scan.faults, self.prepared.pool)
        judge.outgrown(self.held.followed())
        return judge

    def _is_same_number(self, old_type: int, new_type: int) -> bool:
        """Whether a value of one type is one of the other, byte by byte, and no pointer."""
        kind = self.prepared.shapes[0].of(old_type)[0]
        is_scalar = kind >= 0 and bool(self.prepared.tables[0].types[kind]["kind"] <= KernelType.SCALAR)
        pairing = self.prepared.pool.pairing
        return is_scalar and pairing.relation(old_type, new_type) is Relation.IDENTICAL

    def _refuse_hanging(self) -> None:
        """State that only the words of a changed function's frame hold cannot be carried."""
        objects = self.state.objects
        words = library_words(self.past.subject, self.past.program, self.past.heap)
        self.stream_rows = stream_rows(self.state)
        self.library_rows = library_rows(self.state, words, self.stream_rows)
        self.library_owned = mark_library_blocks(self.state, words)
        before = (objects["flags"] & ObjectFlag.REACHED) != 0
        frame = (objects["kind"] == ObjectKind.FRAME) & ((objects["flags"] & ObjectFlag.ROOT) == 0)
        objects["flags"][frame] |= np.uint32(ObjectFlag.ROOT)
        self.state.reach()
        found = (
            ((objects["flags"] & ObjectFlag.REACHED) != 0) & ~before & (objects["kind"] == ObjectKind.HEAP)
        )
        for row in np.flatnonzero(found)[:4]:
            cause = f"a block of {int(objects['size'][row])} bytes hangs on a local without a proven place"
            remedy = "keep the function as it is, or keep the pointer in a static variable"
            self.fates.problems.append((int(row), Problem("state-in-local", "", cause, remedy)))
        objects["flags"][self.library_owned] &= ~np.uint32(ObjectFlag.REACHED)

    def _pair_blocks(self) -> None:
        """Find the future's counterparts of start-up blocks; pin those that its frame words hold."""
        heap = FutureHeap(self.future.heap)
        future_spans = [*self.future.statics, *([self.future.tls] if self.future.tls else [])]
        future_spans += frame_spans(self.pairs, self.future.subject.memory.read)
        walk = BlockPairing(self.state, self.prepared.pool, future_spans, heap)
        self.counterparts = walk.walk(self._roots(), self._held_words())
        self.pinned = self.prepared.handlers.pins(self) if self.prepared.handlers is not None else []
        self.held = HeldBlocks(self.state, self.pairs, self.future.subject.memory.read)
        self.pinned += self.held.pin(self.counterparts)

    @property
    def names(self) -> dict[int, str]:
        """Of objects that debug information has none for, by row: unnamed statics, locals."""
        return {**self.statics.symbol_names, **self.locals.names}

    def _roots(self) -> Iterator[tuple[int, int, int, int]]:
        """Paired static and thread-local variables, whether they are transferred or not, and locals."""
        yield from self.statics.roots()
        for local in self.locals.shared():
            if local.value is None:
                yield local.row, local.address, local.old_type, local.new_type

    def _held_words(self) -> Iterator[tuple[int, int]]:
        """Locals that the future has in a register, what both versions have there."""
        for local in self.locals.shared():
            data = self.state.bytes_at(int(self.state.objects["address"][local.row]), 8)
            if local.value is not None and data is not None:
                yield int.from_bytes(data, "little"), local.value

    def _lay_out(self) -> None:
        """Make the output, with room for everything that is not where it was."""
        objects = self.state.objects
        at = self.locals.lay_out(self.output.lay_out(self.fates.arena_size))
        for row in self.pinned:
            objects["out"][row] = at
            at += (int(objects["out_size"][row]) + 63) // 64 * 64
        self.output.make(at, self.counterparts)
        self.locals.fill(self.output.buffer, self.future.subject.memory.read)

    def _scan(self, table: TargetTable) -> Scan:
        known = np.zeros((0, 2), dtype=np.uint64)
        columns = self.prepared.pool.columns()
        for _ in range(_RELAXED_ROUNDS):
            self.engine = Engine(self.state, self.fixed(table), columns, known)
            scan = self.engine.run(self.output.buffer)
            unresolved = scan.findings[scan.findings["status"] == Status.UNRESOLVED]
            values = {int(v) - self.past.subject.load_bias for v in unresolved["value"]}
            values |= self._constants_in_frames()
            if not self.prepared.strings.resolve(values):
                break
        return scan

    def _constants_in_frames(self) -> set[int]:
        """Strings that only words and registers of whole frames point at."""
        spans = [span for span in self.state.spans if (span.objects["kind"] == ObjectKind.FRAME).any()]
        if not spans:
            return set()
        held = [span.data[: len(span.data) // 8 * 8].view(np.uint64) for span in spans]
        for pair in self.pairs:
            places = packed_offsets(pair.old, self.state.table) if pair.whole else []
            data = self.state.bytes_at(pair.old.low, pair.old.high - pair.old.low) if places else None
            held += [] if data is None else [words_at(data, places)]
        words = np.concatenate(held)
        statuses, _ = self.engine.translate(words, exact=False)
        return {int(v) - self.past.subject.load_bias for v in words[statuses == Status.UNRESOLVED]}

    def _in_future(self, row: int, offset: int, size: int) -> bytes | None:
        """What the future has now in the place of a part of a static or thread-local variable."""
        entry = self.state.objects[row]
        if entry["kind"] not in (ObjectKind.STATIC, ObjectKind.TLS) or entry["fate"] != Fate.MOVE:
            return None
        at = offset
        if entry["mapping"] >= 0:
            mapping = self.prepared.pool.compiled[int(entry["mapping"])]
            element, inner = divmod(offset, mapping.old_size)
            offsets = self.prepared.pool.pairing.offset_map(mapping.old_type, mapping.new_type)
            at = element * mapping.new_size + int(offsets[inner])
            if offsets[inner] < 0:
                return None
        return self.future.subject.memory.read(int(entry["new_address"]) + at, size)

    def _uncarried(self, address: int) -> str | None:
        return refused_mapping(self.past.subject.maps, address, self.images, self.past.heap)

    def describe(self, address: int) -> str:
        """What is at an address of the past."""
        version, link = self.old, address - self.past.subject.load_bias
        function = version.function_at(link)
        if function is not None:
            return f"function {version.text(int(version.functions['name'][function]))}"
        variable = version.variable_at(link)
        if variable is not None:
            return f"variable {version.text(int(version.variables['name'][variable]))}"
        row = self.state.find(address)
        if row is not None:
            entry = self.state.objects[row]
            kind = self.old.type_name(int(entry["type"])) if entry["type"] >= 0 else "block"
            path = object_path(self.state, self.old, row, self.locals.names)
            return f"{address - int(entry['address'])} bytes into {kind} {path}"
        for mapping in self.past.subject.maps:
            if address in mapping:
                return mapping.path or "anonymous memory"
        return "nothing"

    def _apply(self, scan: Scan) -> None:
        """Rewrite the words of objects that were not converted slot by slot."""
        words, objects = scan.words, self.state.objects
        fates = objects["fate"][words["object"]]
        stay = words[fates == Fate.STAY]
        self.patches = sort_patches(objects["address"][stay["object"]] + stay["offset"], stay["new_value"])
        self.output.apply_moved(words[fates == Fate.MOVE])

    def _collect(self, judge: Judge, scan: Scan) -> TransferPlan:
        self._carry_environment()
        arena = arena_range(
            self.state,
            self.arena_base,
            self.fates.arena_size,
            self.output.buffer,
            len(self.prepared.strings.carried()),
            self.pinned,
            self.past.subject.memory,
        )
        self.judged, self.figures = judge.result, self._count(scan)
        return self.assemble(
            kept_ranges(self.state, self.past.heap, self.patches, self.past.subject.memory), arena
        )

    def _carry_environment(self) -> None:
        """A changed environment goes behind the arena's blocks, where nobody frees it."""
        self.environment, self.environ = changed_environment(self.past), None
        base = self.arena_base + self.fates.arena_size
        address = base + self.prepared.strings.next_offset
        data = encode(self.environment, self.future, address) if self.environment else None
        if data is not None:
            self.prepared.strings.carry(data)
            self.environ = write_environment(self.future, address)
            if self.environ is not None:
                self.output.put(self.environ)

    def assemble(self, kept: tuple[KeptRange, ...], arena: KeptRange | None) -> TransferPlan:
        """The plan, with what the future has already (segments, stack, registers) as it is to become."""
        writes = [
            Write(span.start, self.output.buffer[base : base + len(span.data)])
            for span, base in self.output.writable()
        ]
        local_writes, registers = self.locals.writes(self.output.buffer)
        writes += local_writes
        objects = self.state.objects
        for row in self.pinned:
            start, size = int(objects["out"][row]), int(objects["out_size"][row])
            writes.append(Write(int(objects["new_address"][row]), self.output.buffer[start : start + size]))
        stack = plan_stack(
            self.pairs,
            self._outer_saved(),
            self.past.subject.memory.read,
            self.future.subject.memory.read,
            lambda values: self.engine.translate(values, exact=False),
            (self.past.canary, self.future.canary),
            self.state.table,
        )
        held_writes, held_registers = self.held.corrections()
        writes += [Write(address, data) for address, data in (*held_writes, *stack.writes)]
        whole = not self.pairs or self.pairs[0].whole
        call = plan_call(self.past, self.future, self.translate, whole=whole)
        writes += [Write(address, data) for address, data in call.writes]
        carried = self.prepared.strings.carried()
        writes += [Write(self.arena_base + self.fates.arena_size, carried)] if carried else []
        writes += [self.environ] if self.environ is not None else []
        unread = check_reading(self.past, self.future, self.translate)
        writes += self.handled.writes
        return TransferPlan(
            (*kept, *self.handled.ranges),
            arena,
            tuple(writes),
            {**held_registers, **stack.registers, **registers, **call.registers},
            (*self.judged.problems, *call.problems, *unread, *self.handled.problems),
            (*self.judged.warnings, *self._stack_warnings(stack.unsettled)),
            self.figures,
            self.translate,
        )

    def _count(self, scan: Scan) -> Figures:
        objects = self.state.objects
        live = (objects["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT)) != 0
        heap = objects["kind"] == ObjectKind.HEAP
        leaked = self.leaks
        return Figures(
            objects={
                name: int((live & (objects["kind"] == kind)).sum()) for kind, name in KIND_NAMES.items()
            },
            retyped=int((heap & live & (objects["fate"] == Fate.MOVE)).sum()),
            pointers=sum(scan.statuses.values()),
            bytes=int(objects["size"].sum(where=live & (objects["kind"] != ObjectKind.FRAME))),
            leaked_blocks=int(leaked.sum()),
            leaked_bytes=int(objects["size"].sum(where=leaked)),
        )

    def _stack_warnings(self, words: Sequence[str]) -> list[str]:
        """One line for all locals whose value is not carried, one for all words."""
        warnings = []
        if self.locals.unsettled:
            warnings.append(
                f"local-not-carried: {', '.join(self.locals.unsettled)}: no proven place in both versions"
            )
        if words:
            warnings.append(f"frame-word: {len(words)} not carried: {'; '.join(words[:4])}")
        return warnings

    def translate(self, values: Array) -> tuple[Array, Array]:
        """(statuses, new values) of cookies and the like, after the plan was made."""
        return self.engine.translate(values, exact=False)

    def _outer_saved(self) -> list[tuple[dict[int, int], dict[int, int]]]:
        """Per pair where the next outer frame's registers are saved, past and future."""
        result = []
        for pair in self.pairs:
            saved = []
            for image, frame in ((self.past, pair.old.frame), (self.future, pair.new.frame)):
                outer = image.frames[frame.index + 1] if frame.index + 1 < len(image.frames) else None
                saved.append(outer.saved_at if outer is not None else {})
            result.append((saved[0], saved[1]))
        return result
