"""Objects of another kind in the new version: a local becomes a static, a static goes to the heap, and back.

They are given their new place before anything is scanned, so that every pointer to them follows.
"""

from __future__ import annotations

from collections.abc import Iterator

from instar.errors import RefusedError
from instar.handlers.binding import Binding, KindPair
from instar.handlers.memory import Blocks
from instar.state.columns import Fate, FixedKind, ObjectKind
from instar.transfer.fates import decide_static
from instar.transfer.places import address_of
from instar.transfer.planner import Planner
from instar.transfer.startup_blocks import FutureHeap
from instar.transfer.targets import NOTHING, Target


class Placing:
    """The kind pairs of one plan.

    Args:
        binding: Whose ``kind_pairs``.
        blocks: Where new heap blocks are allocated.

    Attributes:
        blocks: As given.
        pinned: Object rows that go to a place of their own.
        pointers: Address of a pointer variable of the future -> block that it is to point at.
    """

    def __init__(self, binding: Binding, blocks: Blocks) -> None:
        self._binding, self.blocks = binding, blocks
        self.pinned: list[int] = []
        self.pointers: dict[int, int] = {}

    def targets(self, planner: Planner) -> Iterator[Target]:
        """Place what is a local or static now; yields where pointers to it lead."""
        for pair in self._binding.kind_pairs:
            if pair.old.kind == "local":
                yield from self._local(planner, pair)
            elif pair.old.kind == "variable":
                yield from self._to_heap(planner, pair)

    def pins(self, planner: Planner) -> list[int]:
        """Place heap blocks that are statics now; all rows with a place of their own."""
        for pair in self._binding.kind_pairs:
            if pair.old.kind == "heap":
                self._to_static(planner, pair)
        return list(self.pinned)

    # Local to static ----------------------------------------------------------------------------------------

    def _local(self, planner: Planner, pair: KindPair) -> Iterator[Target]:
        name = pair.old.text.replace(".", ":")
        rows = [row for row, known in planner.locals.names.items() if known == name]
        old_type = next(
            (
                local.type
                for frame in planner.pairs
                for local in frame.old.locals
                if f"{frame.old.name}:{local.key[0]}" == name
            ),
            None,
        )
        if len(rows) != 1 or old_type is None:
            cause = f"{pair.line}: `{pair.old.text}` has no proven place where the old version waits"
            raise RefusedError(
                "handler-local", cause, "keep the local, or build the old version with -O0 or -Og"
            )
        if any(carried.row == rows[0] for carried in planner.locals.carried):
            cause = f"{pair.line}: the new version has a local `{pair.old.text}` as well"
            raise RefusedError("handler-mismatch", cause, "leave out the pair, or rename that local")
        new_type = int(planner.new.variables["type"][pair.new.row])
        address = address_of(planner.future, pair.new.row)
        self._decide(planner, rows[0], old_type, new_type, address)
        yield self._target(planner, rows[0])

    # Static to heap -----------------------------------------------------------------------------------------

    def _to_heap(self, planner: Planner, pair: KindPair) -> Iterator[Target]:
        row = self._static_row(planner, pair)
        pointee = self._pointee(self._binding.new.version.variables["type"][pair.new.row], pair, new=True)
        pointer = address_of(planner.future, pair.new.row)
        size = self._binding.new.size(pointee)
        own = FutureHeap(planner.future.heap).block_at(_word(planner, pointer))
        if own is not None and own[1] >= size:
            address = own[0]  # its start-up made one already
        else:
            address = self.blocks.allocate(size)
            self.pointers[pointer] = address
        old_type = int(planner.old.variables["type"][pair.old.row])
        self._decide(planner, row, old_type, pointee, address)
        self.pinned.append(row)
        yield self._target(planner, row)

    def _static_row(self, planner: Planner, pair: KindPair) -> int:
        address = address_of(planner.past, pair.old.row)
        row = planner.state.find(address)
        if row is None or int(planner.state.objects["address"][row]) != address:
            cause = f"{pair.line}: `{pair.old.text}` is no variable in writable memory"
            raise RefusedError("handler-mismatch", cause, "leave out the pair")
        return row

    # Heap to static -----------------------------------------------------------------------------------------

    def _to_static(self, planner: Planner, pair: KindPair) -> None:
        pointee = self._pointee(self._binding.old.version.variables["type"][pair.old.row], pair, new=False)
        word = planner.state.word(address_of(planner.past, pair.old.row)) or 0
        if not word:
            return
        row = planner.state.find(word)
        objects = planner.state.objects
        if row is None or int(objects["address"][row]) != word or objects["kind"][row] != ObjectKind.HEAP:
            cause = f"{pair.line}: `{pair.old.text}` is no whole block of the heap"
            raise RefusedError("handler-mismatch", cause, "write a transform for the variable")
        new_type = int(planner.new.variables["type"][pair.new.row])
        self._decide(planner, row, pointee, new_type, address_of(planner.future, pair.new.row))
        self.pinned.append(row)

    # Both ---------------------------------------------------------------------------------------------------

    def _pointee(self, variable_type: int, pair: KindPair, *, new: bool) -> int:
        types = self._binding.new if new else self._binding.old
        row = types.strip(int(variable_type))
        if types.kind(row).name != "POINTER" or not types.size(types.target(row)):
            name = pair.new if new else pair.old
            cause = (
                f"{pair.line}: `{name.text}`: the variable is a {types.label(row)}, no pointer to an object"
            )
            raise RefusedError("handler-mismatch", cause, "name a pointer variable after the *")
        return types.target(row)

    def _decide(self, planner: Planner, row: int, old_type: int, new_type: int, address: int) -> None:
        shapes = planner.prepared.shapes
        types, fates = planner.types, planner.fates
        decide_static(planner.state, planner.new, types, fates, row, old_type, new_type, shapes)
        planner.state.objects["new_address"][row] = address

    def _target(self, planner: Planner, row: int) -> Target:
        entry = planner.state.objects[row]
        assert entry["fate"] == Fate.MOVE
        start = int(entry["address"])
        return Target(
            start,
            start + int(entry["size"]),
            int(entry["new_address"]),
            FixedKind.STATIC,
            NOTHING,
            int(entry["type"]),
            int(entry["count"]),
            int(entry["mapping"]),
        )


def _word(planner: Planner, address: int) -> int:
    """A word of the future as its start-up left it."""
    return int.from_bytes(planner.future.subject.memory.read(address, 8), "little")
