"""The bytes that a transfer writes: blocks that move, and the future's own segments as they are to become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from instar.process.memory import Memory
from instar.state.columns import Fate, ObjectKind
from instar.state.image import Image
from instar.state.kernel import Span, State
from instar.transfer.plan import Write
from instar.transfer.prepared import Prepared
from instar.transfer.startup_blocks import FutureHeap
from instar.transfer.statics import read_only

Array = np.ndarray[Any, np.dtype[Any]]


class Output:
    """One buffer: first the arena, then the future's segments, then what else was given room.

    Args:
        memory: Of the past: has the room from which whoever writes the future reads.

    Attributes:
        buffer: u8.
        bases: Spans of the future and where they begin in the buffer.
    """

    def __init__(self, state: State, prepared: Prepared, future: Image, memory: Memory) -> None:
        self.state, self.prepared, self.future = state, prepared, future
        self._memory = memory
        self.buffer: Array = np.zeros(0, dtype=np.uint8)
        self.bases: list[tuple[Span, int]] = []

    def lay_out(self, at: int) -> int:
        """Give the future's segments room.

        Args:
            at: Bytes of the arena.

        Returns:
            Where more may begin.
        """
        objects = self.state.objects
        objects["out"][objects["kind"] != ObjectKind.HEAP] = 0  # no claims any more
        at = (at + 63) // 64 * 64
        for span in [*self.future.statics, *([self.future.tls] if self.future.tls else [])]:
            self.bases.append((span, at))
            at += (len(span.data) + 63) // 64 * 64
        return at

    def make(self, size: int, counterparts: Mapping[int, tuple[int, int]]) -> None:
        """Make the buffer, as the future's start-up left it, to be written over.

        Args:
            size: Bytes.
            counterparts: Blocks of the future by the rows that they stand for.
        """
        objects = self.state.objects
        self.buffer = self._memory.room(size)
        self.buffer[:] = 0
        self._fill_from_startup(counterparts)
        for span, base in self.bases:
            self.buffer[base : base + len(span.data)] = span.data
            inside = (objects["fate"] == Fate.MOVE) & (objects["kind"] != ObjectKind.HEAP)
            inside &= (objects["new_address"] >= span.start) & (objects["new_address"] < span.end)
            objects["out"][inside] = objects["new_address"][inside] - np.uint64(span.start) + np.uint64(base)

    def _fill_from_startup(self, counterparts: Mapping[int, tuple[int, int]]) -> None:
        """Blocks that move begin as what the future's start-up made of them, zero where it made none."""
        objects, heap = self.state.objects, FutureHeap(self.future.heap)
        for row, (address, size) in counterparts.items():
            entry = objects[row]
            if entry["fate"] == Fate.MOVE and entry["mapping"] >= 0:
                size = min(size, int(entry["out_size"]))
                data = heap.bytes_at(address, size)
                if data is not None:
                    self.buffer[int(entry["out"]) : int(entry["out"]) + size] = data

    def apply_moved(self, moved: Array) -> None:
        """Rewrite words in the output: of objects copied as they are, and assumed pointers elsewhere."""
        objects = self.state.objects
        linear = moved[objects["mapping"][moved["object"]] < 0]
        targets = objects["out"][linear["object"]] + linear["offset"]
        within = linear["offset"] + 8 <= objects["out_size"][linear["object"]]
        _put_words(self.buffer, targets[within], linear["new_value"][within])
        mapped = moved[(objects["mapping"][moved["object"]] >= 0) & (moved["source"] == 1)]
        for word in mapped:
            self._patch_mapped(word)

    def _patch_mapped(self, word: Any) -> None:
        """An assumed pointer in a member that is no pointer, of an object that is converted."""
        entry = self.state.objects[int(word["object"])]
        mapping = self.prepared.pool.compiled[int(entry["mapping"])]
        element, offset = divmod(int(word["offset"]), mapping.old_size)
        if element >= int(entry["count"]):  # behind the objects
            _put_words(
                self.buffer,
                np.array(
                    [
                        int(entry["out"])
                        + int(entry["count"]) * mapping.new_size
                        + int(word["offset"])
                        - int(entry["count"]) * mapping.old_size
                    ]
                ),
                np.array([int(word["new_value"])], dtype=np.uint64),
            )
            return
        offsets = self.prepared.pool.pairing.offset_map(mapping.old_type, mapping.new_type)
        at = int(offsets[offset]) if offset < len(offsets) else -1
        if at >= 0:
            start = int(entry["out"]) + element * mapping.new_size + at
            self.buffer[start : start + 8] = np.frombuffer(
                int(word["new_value"]).to_bytes(8, "little"), dtype=np.uint8
            )

    def put(self, write: Write) -> None:
        """Have the segments hold what is written into them besides."""
        for span, base in self.bases:
            at = write.address - span.start
            if 0 <= at <= len(span.data) - len(write.data):
                self.buffer[base + at : base + at + len(write.data)] = np.frombuffer(write.data, np.uint8)

    def writable(self) -> list[tuple[Span, int]]:
        """The parts of the future's segments that it may write itself (RELRO left out)."""
        result = []
        protected = read_only(self.future)
        for span, base in self.bases:
            start = max([span.start, *(high for low, high in protected if low <= span.start < high)])
            if start < span.end:
                data = span.data[start - span.start :]
                result.append((Span(start, data, span.objects, span.origins), base + start - span.start))
        return result


def _put_words(buffer: Array, offsets: Array, values: Array) -> None:
    """Store u64 values at byte offsets, aligned or not."""
    raw = np.ascontiguousarray(values, dtype=np.uint64).view(np.uint8).reshape(-1, 8)
    buffer[offsets.astype(np.int64)[:, None] + np.arange(8)] = raw
