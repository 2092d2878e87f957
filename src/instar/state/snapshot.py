"""The memory of a process with its stack as it was when it stood still: what runs on changes it at once."""

from __future__ import annotations

from collections.abc import Sequence

from instar.process.maps import Mapping, find_mapping
from instar.process.memory import Memory

_BELOW = 256  # bytes under the stack pointer: the red zone and more
_MOST = 1 << 20


class Snapshot(Memory):
    """Reads of the stack come from a copy, all others from the process as it is.

    Args:
        memory: Of the process, which stands still while this is made.
        maps: Its mappings.
        pointer: Its stack pointer.
    """

    def __init__(self, memory: Memory, maps: Sequence[Mapping], pointer: int) -> None:
        super().__init__(memory.pid)
        stack = find_mapping(maps, pointer)
        self._start, self._stack = 0, b""
        if stack is not None:
            self._start = max(stack.start, pointer - _BELOW)
            self._stack = memory.read(self._start, min(stack.end - self._start, _MOST))

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``."""
        at = address - self._start
        if at >= 0 and at + size <= len(self._stack):
            return self._stack[at : at + size]
        return super().read(address, size)
