"""Blocks that both starts made and whose address words of the future's own frames hold, undescribed.

No copy hidden in such a word may be left behind: the state goes into the future's block. Where it has grown
out of that, it stays with its own block, and the words that are exactly the start of the future's lead there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from instar.process.numbering import CALLEE_SAVED
from instar.state.columns import Fate
from instar.state.kernel import State
from instar.transfer.stack import FramePair
from instar.transfer.startup_blocks import pin

Read = Callable[[int, int], bytes]


class HeldBlocks:
    """Decides for the blocks that the future's frames hold.

    Args:
        state: The past's; fates of the heap decided.
        pairs: Frames of both.
        read: The future's memory.
    """

    def __init__(self, state: State, pairs: Sequence[FramePair], read: Read) -> None:
        self._state, self._read = state, read
        self._pairs = [pair for pair in pairs if not pair.whole]
        self._outgrown: dict[int, int] = {}
        self._frames: dict[int, bytes] = {}

    def pin(self, counterparts: Mapping[int, tuple[int, int]]) -> list[int]:
        """Have the state of held blocks go into the future's; returns the rows that do.

        Args:
            counterparts: Old row -> (address, usable size) of the future's block.
        """
        objects, pinned = self._state.objects, []
        held = self._words()
        for row, block in counterparts.items():
            if block[0] not in held or objects["fate"][row] == Fate.REPLACE:
                continue
            moves = objects["fate"][row] == Fate.MOVE
            if pin(self._state, row, block, int(objects["out_size" if moves else "size"][row])):
                pinned.append(row)
            else:
                self._outgrown[block[0]] = row
        return pinned

    def _words(self) -> set[int]:
        """Words and registers of the future's frames that keep their own contents."""
        words: set[int] = set()
        for pair in self._pairs:
            words.update(self._frame(pair).tolist())
            words.update(pair.new.frame.registers.values())
        for pair in self._pairs:
            for _, local in pair.shared_locals():
                if local.address is not None and local.size == 8:
                    words.discard(int.from_bytes(self._read(local.address, 8), "little"))
        return words

    def _frame(self, pair: FramePair) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        """Its words as the start-up left them: corrections are asked for again when they were written."""
        low = pair.new.low
        if low not in self._frames:
            self._frames[low] = self._read(low, (pair.new.high - low) // 8 * 8)
        return np.frombuffer(self._frames[low], dtype=np.uint64)

    # Outgrown -----------------------------------------------------------------------------------------------

    def corrections(self) -> tuple[list[tuple[int, bytes]], dict[int, int]]:
        """Words of the future that lead to where outgrown blocks are: (address, bytes), register -> value.

        Only once all blocks have their places.
        """
        writes, registers = [], {}
        for place, register, word in self._found():
            value = self._new_address(self._outgrown[word])
            if register is None:
                writes.append((place, value.to_bytes(8, "little")))
            else:
                registers[register] = value
        return writes, registers

    def _new_address(self, row: int) -> int:
        entry = self._state.objects[row]
        return int(entry["new_address" if entry["fate"] == Fate.MOVE else "address"])

    def _found(self) -> Iterator[tuple[int, int | None, int]]:
        """(address, register if it is still in the CPU, word) of all that hold an outgrown block."""
        for pair in self._pairs if self._outgrown else ():
            for index, word in enumerate(self._frame(pair).tolist()):
                if word in self._outgrown:
                    yield pair.new.low + 8 * index, None, word
            for register, word in pair.new.frame.registers.items():
                if word in self._outgrown and register in CALLEE_SAVED:
                    saved = pair.new.frame.saved_at.get(register)
                    yield saved or 0, None if saved is not None else register, word

    def followed(self) -> list[int]:
        """Rows of the outgrown blocks for which there are corrections."""
        return list(dict.fromkeys(self._outgrown[word] for _, _, word in self._found()))
