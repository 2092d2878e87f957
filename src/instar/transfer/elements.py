"""Words of opaque data that are exactly the address of an element of a static array. Pure.

Pools and hash tables that nothing types hold pointers to the entries of static tables. Such a word is taken
for a pointer and follows the element, as the start of a variable does. What else it could be:

- an old pointer that nobody reads: it does no harm that it follows;
- a number: of the addresses of a program none is met by chance;
- the end of a text over an old pointer, of which the high bytes are left. Where a text runs on into the word,
  it is a pointer only if the new version's start-up has put the new address behind the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np

from instar.state.columns import FixedKind, KernelType
from instar.state.kernel import Span, State

Array = np.ndarray[Any, np.dtype[Any]]

_SMALLEST = 16
_RUN = 8


class Verdict(Enum):
    """What becomes of a word."""

    KEEP = "as the kernel said"
    PADDING = "no word at all"
    STALE = "left as it is, counted"
    MEMBER = "rewritten, listed as an assumed pointer"


class ElementWords:
    """Tells pointers to elements of static arrays.

    Args:
        state: The past's.
        fixed: ``FIXED`` rows of the plan; entries that were displaced are apart from their arrays.
        made: The future's heap as its start-up left it.
    """

    def __init__(self, state: State, fixed: Array, made: Sequence[Span]) -> None:
        self._state, self._fixed = state, fixed
        self._made = [span.data[: len(span.data) // 8 * 8].view(np.uint64) for span in made]

    def judge(self, address: int, offset: int, value: int) -> Verdict | None:
        """What becomes of a word of opaque data that leads inside something that moves; None: no opinion.

        Args:
            address: Of the block.
            offset: Of the word.
            value: Of the word.
        """
        before = self._state.bytes_at(address + offset - _RUN, _RUN) if offset >= _RUN else None
        runs_on = before is not None and _is_printable(value & 0xFF) and _is_printable(before[-1])
        new = self.place(value)
        if new is not None:
            return Verdict.MEMBER if not runs_on or self._is_made(before or b"", new) else Verdict.KEEP
        is_text = runs_on and all(map(_is_printable, before or b""))
        return Verdict.STALE if is_text and value % 8 and not self._may_be_tagged(value) else None

    def _may_be_tagged(self, value: int) -> bool:
        """Whether it leads to the start of a variable or of an element but for its low bits."""
        row = self._row(value)
        at_start = row is None or value - int(row["start"]) < 16
        return at_start or self.place(value - value % 8) is not None

    def place(self, value: int) -> int | None:
        """The new address of the element of a static array that starts at an address.

        Elements are structs of the same layout in both versions.
        """
        row = self._row(value)
        if row is None or row["count"] < 2 or row["flags"] or row["mapping"] >= 0 or row["type"] < 0:
            return None
        kind = self._state.table.types[int(row["type"])]
        offset, size = value - int(row["start"]), int(kind["size"])
        if kind["kind"] != KernelType.AGGREGATE or size < _SMALLEST or offset % size:
            return None
        return int(row["new_start"]) + offset

    def _row(self, value: int) -> Any | None:
        """The ``FIXED`` row of the variable that an address lies in."""
        index = int(np.searchsorted(self._fixed["start"], np.uint64(value), side="right")) - 1
        if index < 0:
            return None
        row = self._fixed[index]
        is_variable = row["kind"] in (FixedKind.STATIC, FixedKind.CONSTANT)
        return row if is_variable and value < int(row["end"]) else None

    def _is_made(self, before: bytes, value: int) -> bool:
        """Whether the future has a word behind these eight bytes."""
        wanted = np.uint64(int.from_bytes(before, "little"))
        for words in self._made:
            hits = np.flatnonzero(words[1:] == np.uint64(value))
            if (words[hits] == wanted).any():
                return True
        return False


def _is_printable(byte: int) -> bool:
    return 0x20 <= byte < 0x7F
