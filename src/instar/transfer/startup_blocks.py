"""Pairs the heap blocks that both versions made during start-up, by walking paired pointers in parallel.

A member that only the new version has takes the value that its start-up gave it, and a block whose address
the new version's own frame words hold must take the state where it is. Pure: reads copies of both processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from instar.pairing.moves import MoveOp
from instar.state.columns import Fate, ObjectFlag, ObjectKind
from instar.state.kernel import Span, State
from instar.transfer.mappings import MappingPool

Array = np.ndarray[Any, np.dtype[Any]]

_LIMIT = 200_000
_MOVE_FIELDS = ("old_offset", "new_offset", "count", "old_stride", "new_stride")


@dataclass(frozen=True)
class FutureHeap:
    """The blocks that the future's start-up made: copied ranges and live blocks."""

    spans: Sequence[Span]

    def block_at(self, address: int) -> tuple[int, int] | None:
        """(address, usable size) of the live block that starts there."""
        for span in self.spans:
            if span.start <= address < span.end:
                rows = span.objects if span.blocks is None else span.blocks
                index = int(np.searchsorted(rows["address"], address))
                if index < len(rows) and int(rows["address"][index]) == address:
                    return address, int(rows["size"][index])
        return None

    def bytes_at(self, address: int, size: int) -> Array | None:
        """Copied bytes of a block."""
        for span in self.spans:
            if span.start <= address and address + size <= span.end:
                return span.data[address - span.start : address - span.start + size]
        return None


class PointerMove(NamedTuple):
    """Pointers of a type that both versions have: where they lie in one object."""

    old_offset: int
    new_offset: int
    length: int
    old_stride: int
    new_stride: int


class BlockPairing:
    """Old heap rows -> the future's counterpart block.

    Args:
        state: The past's, typed, fates of statics decided.
        pool: Mappings.
        future: Spans of the future's segments, thread-locals and frames.
        heap: The future's blocks.
    """

    def __init__(self, state: State, pool: MappingPool, future: Iterable[Span], heap: FutureHeap) -> None:
        self._state, self._pool, self._heap = state, pool, heap
        self._future = list(future)
        self._moves: dict[tuple[int, int], list[PointerMove]] = {}
        self.pairs: dict[int, tuple[int, int]] = {}
        self._taken: set[int] = set()

    def walk(
        self, roots: Iterable[tuple[int, int, int, int]], held: Iterable[tuple[int, int]] = ()
    ) -> dict[int, tuple[int, int]]:
        """Walk from paired roots (object row, new address, old type, new type).

        Args:
            roots: What lies in the memory of both.
            held: Pointers of both that lie in registers: the past's word and the future's.

        Returns:
            Old row -> (address, usable size) of the block that the future's start-up made for it.
        """
        pending = deque(roots)
        pending.extend(pair for words in held if (pair := self._pair(*words)) is not None)
        while pending and len(self.pairs) < _LIMIT:
            pending.extend(self._follow(*pending.popleft()))
        return self.pairs

    def _follow(
        self, row: int, new_address: int, old_type: int, new_type: int
    ) -> list[tuple[int, int, int, int]]:
        found = []
        old_base = int(self._state.objects["address"][row])
        old, new = self._state.span_of(old_base), self._span_of(new_address)
        if old is None or new is None:
            return []
        for move in self._pointer_moves(old_type, new_type):
            count = move.length
            old_words = _strided(old, old_base + move.old_offset, count, move.old_stride)
            new_words = _strided(new, new_address + move.new_offset, count, move.new_stride)
            if old_words is None or new_words is None:
                continue
            for index in np.flatnonzero((old_words != 0) & (new_words != 0)).tolist():
                pair = self._pair(int(old_words[index]), int(new_words[index]))
                if pair is not None:
                    found.append(pair)
        return found

    def _pair(self, old_word: int, new_word: int) -> tuple[int, int, int, int] | None:
        target = self._state.find(old_word)
        block = self._heap.block_at(new_word)
        if target is None or block is None or target in self.pairs or new_word in self._taken:
            return None
        entry = self._state.objects[target]
        if entry["kind"] != ObjectKind.HEAP or int(entry["address"]) != old_word:
            return None
        if entry["flags"] & ObjectFlag.LIBRARY:
            return None
        self.pairs[target] = block
        self._taken.add(new_word)
        old_type = int(entry["type"])
        new_type = self._pool.pairing.counterpart(old_type) if old_type >= 0 else None
        return None if new_type is None or entry["count"] != 1 else (target, new_word, old_type, new_type)

    def _pointer_moves(self, old_type: int, new_type: int) -> list[PointerMove]:
        key = old_type, new_type
        if key not in self._moves:
            mapping = self._pool.pairing.compile(old_type, new_type)
            self._moves[key] = [
                PointerMove(*(int(move[name]) for name in _MOVE_FIELDS))
                for move in mapping.moves[mapping.moves["op"] == MoveOp.POINTER]
            ]
        return self._moves[key]

    def _span_of(self, address: int) -> Span | None:
        for span in (*self._future, *self._heap.spans):
            if span.start <= address < span.end:
                return span
        return None


def _strided(span: Span, address: int, count: int, stride: int) -> Array | None:
    """The words at an address and at every stride behind it, None when they do not all lie in the span."""
    at = address - span.start
    if count < 1 or at < 0 or at + (count - 1) * stride + 8 > len(span.data):
        return None
    return np.ndarray((count,), np.uint64, span.data, at, (stride,))


def pin(state: State, row: int, block: tuple[int, int], needed: int) -> bool:
    """Have an unchanged block's state go into the future's own block, if it fits; whether it did."""
    address, size = block
    if needed > size:
        return False
    state.objects["fate"][row] = Fate.MOVE
    state.objects["new_address"][row] = address
    state.objects["out_size"][row] = needed
    return True
