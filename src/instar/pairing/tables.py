"""Constant tables: which entries of an array are the same in the new file as in the old one. Pure.

An array that nobody changes while the program runs keeps what the new version's file gives it. A pointer to
one of its elements is carried by index, which is right only while the entry there is the same. Where an entry
was put in, taken out or moved, the pointers to all that were displaced would lead to other entries.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from instar.metadata.elf import RelocationKind
from instar.pairing.moves import MoveOp
from instar.pairing.strings import ContentPairing, Initializers
from instar.pairing.symbols import SymbolPairing

if TYPE_CHECKING:
    from instar.metadata.version import Version
    from instar.pairing.mapping import TypePairing

Kept = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

_NULL, _OTHER = -1, -2


class TablePairing:
    """Compares the elements of arrays as the two files have them.

    Args:
        old, new: Both versions.
        types, symbols, content: Their pairing.
    """

    def __init__(
        self, old: Version, new: Version, types: TypePairing, symbols: SymbolPairing, content: ContentPairing
    ) -> None:
        self._old, self._new = old, new
        self._types, self._symbols, self._content = types, symbols, content
        self._meanings: dict[tuple[bool, int], int] = {}
        self._numbers: dict[Hashable, int] = {}
        self._memo: dict[tuple[int, ...], Kept | None] = {}

    def displaced(
        self, addresses: tuple[int, int], elements: tuple[int, int], counts: tuple[int, int]
    ) -> Kept | None:
        """Per element of the old array: may a pointer to it be carried by index?

        Args:
            addresses: Of the array in the old and in the new file.
            elements: Type rows of one element.
            counts: How many.

        Returns:
            None when it may for all. An entry that differs where no other was displaced was edited.
        """
        key = (*addresses, *elements, *counts)
        if key not in self._memo:
            self._memo[key] = self._compare(addresses, elements, counts)
        return self._memo[key]

    def _compare(
        self, addresses: tuple[int, int], elements: tuple[int, int], counts: tuple[int, int]
    ) -> Kept | None:
        old, new = self._entries(addresses, elements, counts)
        if old == new[: len(old)]:
            return None
        kept = np.zeros(len(old), np.bool_)
        kept[: len(new)] = [mine == theirs for mine, theirs in zip(old, new, strict=False)]
        elsewhere = set(new)
        was_displaced = any(not same and entry in elsewhere for same, entry in zip(kept, old, strict=True))
        return kept if was_displaced or len(old) != len(new) else None

    def _entries(
        self, addresses: tuple[int, int], elements: tuple[int, int], counts: tuple[int, int]
    ) -> tuple[list[bytes], list[bytes]]:
        """What each element of both arrays says, in the members that both versions have."""
        moves = self._types.compile(*elements).moves
        columns: tuple[list[Bytes], list[Bytes]] = ([], [])
        for move in moves:
            for side, column in enumerate(columns):
                column += self._column(side, addresses[side], elements[side], counts[side], move)
        return _joined(columns[0], counts[0]), _joined(columns[1], counts[1])

    def _column(self, side: int, address: int, element: int, count: int, move: Any) -> list[Bytes]:
        """One member of all elements: its bytes, or a number for what it points at."""
        version = (self._old, self._new)[side]
        size = version.size_of(element)
        name = ("old", "new")[side]
        at, stride = int(move[f"{name}_offset"]), int(move[f"{name}_stride"])
        if move["op"] == MoveOp.POINTER:
            starts = address + at + np.arange(count)[:, None] * size
            slots = starts + np.arange(int(move["count"])) * stride
            meanings = [self._meaning(side, slot) for slot in slots.reshape(-1).tolist()]
            return [np.array(meanings, np.int64).reshape(count, -1).view(np.uint8)]
        if move["op"] not in (MoveOp.COPY, MoveOp.INTEGER):
            return []
        data = np.frombuffer(version.elf.read(address, count * size), np.uint8).reshape(count, size)
        width = min(int(move["old_size"]), int(move["new_size"]))
        places = [at + index * stride for index in range(int(move["count"]))]
        return [data[:, place : place + width] for place in places]

    # Pointers -----------------------------------------------------------------------------------------------

    def _meaning(self, side: int, slot: int) -> int:
        """A number for what an initialised pointer leads to, the same for counterparts of both versions."""
        initializers = (self._content.old_initializers, self._content.new_initializers)[side]
        target = initializers.target(slot)
        if target is None:
            return self._imported(initializers, (self._old, self._new)[side], slot)
        key = bool(side), target
        if key not in self._meanings:
            self._meanings[key] = self._number(self._describe(side, target))
        return self._meanings[key]

    def _imported(self, initializers: Initializers, version: Version, slot: int) -> int:
        row = initializers.relocation(slot)
        if row is None or row["kind"] != RelocationKind.SYMBOLIC or row["symbol"] < 0:
            return _NULL
        name = version.elf.text(int(version.elf.symbols[int(row["symbol"])]["name"]))
        return self._number(("import", name, int(row["addend"])))

    def _describe(self, side: int, target: int) -> Hashable:
        version = (self._old, self._new)[side]
        variable, function = version.variable_at(target), version.function_at(target)
        if variable is not None:
            offset = target - int(version.variables["address"][variable])
            other = variable if side else self._symbols.variable(variable)
            return ("variable", other, offset) if other is not None else ("gone", target)
        if function is not None:
            other = function if side else self._symbols.function(function)
            return ("function", other) if other is not None else ("gone", target)
        text = (self._content.old_constants, self._content.new_constants)[side].text_at(target)
        return ("text", text) if text is not None else None

    def _number(self, meaning: Hashable) -> int:
        """What has no name and no text counts as the same: nothing is known of it."""
        return _OTHER if meaning is None else self._numbers.setdefault(meaning, len(self._numbers))


def _joined(columns: list[Bytes], count: int) -> list[bytes]:
    """Each row of all columns."""
    if not columns:
        return [b""] * count
    return [row.tobytes() for row in np.concatenate(columns, axis=1)]
