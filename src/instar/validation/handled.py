"""Parts of the state whose owner is not the rules: what handlers wrote, and places to jump back to. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from instar.metadata.distinct import distinct
from instar.state.image import Image
from instar.transfer.planner import Planner
from instar.validation.comparison import Comparison

Array = np.ndarray[Any, np.dtype[Any]]

_GUARD = 0x30  # of the thread pointer: libc's secret
_TURNS = 17
_MASK = (1 << 64) - 1


class HandledBytes:
    """The bytes of the future that handlers made other than the rules had.

    Attributes:
        places: Their addresses in the future, ascending.
    """

    def __init__(self, planner: Planner) -> None:
        parts = [np.zeros(0, dtype=np.uint64)]
        if planner.unhandled is not None:
            output, patches = planner.unhandled
            changed = np.flatnonzero(planner.output.buffer != output).astype(np.uint64)
            parts += _addresses(planner, changed)
            new = _new_patches(planner.patches, patches)
            parts.append((new["address"][:, None] + np.arange(8, dtype=np.uint64)).reshape(-1))
        self.places: Array = distinct(np.concatenate(parts))

    def covers(self, places: Array) -> bool:
        """Whether any of some addresses of the future was written by a handler."""
        return bool(len(self.places)) and bool(np.isin(places.astype(np.uint64), self.places).any())


def _new_patches(patches: Array, before: Array) -> Array:
    """The ``PATCH`` rows, by address, that were not there before."""
    if not len(before):
        return patches
    at = np.minimum(np.searchsorted(before["address"], patches["address"]), len(before) - 1)
    known = (before["address"][at] == patches["address"]) & (before["value"][at] == patches["value"])
    found: Array = patches[~known]
    return found


def _addresses(planner: Planner, offsets: Array) -> list[Array]:
    """Addresses of bytes of the plan's output."""
    found = [offsets[offsets < planner.fates.arena_size] + np.uint64(planner.arena_base)]
    for span, base in planner.output.bases:
        inside = (offsets >= base) & (offsets < base + len(span.data))
        found.append(offsets[inside] - np.uint64(base) + np.uint64(span.start))
    objects = planner.state.objects
    for row in [*planner.pinned, *(local.row for local in planner.locals.carried)]:
        start, size = int(objects["out"][row]), int(objects["out_size"][row])
        inside = (offsets >= start) & (offsets < start + size)
        found.append(offsets[inside] - np.uint64(start) + objects["new_address"][row])
    return found


class JumpCheck:
    """Compares words of a ``jmp_buf``, which libc keeps mangled with a secret of the process."""

    def __init__(self, planner: Planner, comparison: Comparison) -> None:
        self._planner, self._comparison = planner, comparison
        self._places = planner.jumps.places

    def is_same(self, row: int, offset: int, past: int, future: int) -> bool:
        """Whether a word of a saved place leads to the same, or is what the future itself saved there."""
        if (row, offset) not in self._places:
            return False
        plain = [_demangled(past, self._planner.past), _demangled(future, self._planner.future)]
        words = np.array([[past, *plain[:1]], [future, *plain[1:]]], dtype=np.uint64)
        return bool(self._comparison.same_words(words[0], words[1]).any()) or self._is_own(future)

    def _is_own(self, word: int) -> bool:
        """Whether the new version's start-up left the word in its data."""
        value = np.frombuffer(word.to_bytes(8, "little"), np.uint64)[0]
        spans = [
            *self._planner.future.statics,
            *([self._planner.future.tls] if self._planner.future.tls else []),
        ]
        own = any((span.data[: len(span.data) // 8 * 8].view(np.uint64) == value).any() for span in spans)
        frames = self._planner.future.program_frames
        return own or any(word in frame.frame.registers.values() for frame in frames)


def _demangled(word: int, image: Image) -> int:
    pointer = image.subject.thread_pointer
    if pointer is None:
        return word
    secret = int.from_bytes(image.subject.memory.read(pointer + _GUARD, 8), "little")
    return ((word >> _TURNS | word << (64 - _TURNS)) & _MASK) ^ secret
