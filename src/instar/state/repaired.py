"""Memory of a process as repairs left it: what they wrote lies over what is read, not in the process."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from instar.process.memory import Bytes, Memory

if TYPE_CHECKING:
    from instar.state.capture import Subject
    from instar.state.image import Image

_PAGE = 4096


class Repair(NamedTuple):
    """One write of a repair: where, what was there, and what is there now."""

    address: int
    before: bytes
    after: bytes


class Overlay:
    """Bytes that are read in place of a process's own.

    Attributes:
        repairs: The writes that changed something, in their order.
    """

    def __init__(self) -> None:
        self.repairs: list[Repair] = []
        self._pages: dict[int, tuple[Bytes, npt.NDArray[np.bool_]]] = {}
        self._order: list[int] = []

    def __bool__(self) -> bool:
        return bool(self.repairs)

    def put(self, address: int, before: bytes, after: bytes) -> None:
        """Lay bytes over those of the process; ``before`` is what was read there until now."""
        if before == after:
            return
        self.repairs.append(Repair(address, before, after))
        done = 0
        while done < len(after):
            number, at = divmod(address + done, _PAGE)
            step = min(_PAGE - at, len(after) - done)
            if number not in self._pages:
                self._pages[number] = np.zeros(_PAGE, np.uint8), np.zeros(_PAGE, np.bool_)
                self._order.insert(bisect_left(self._order, number), number)
            data, mask = self._pages[number]
            data[at : at + step] = np.frombuffer(after[done : done + step], np.uint8)
            mask[at : at + step] = True
            done += step

    def lay_over(self, address: int, buffer: Bytes) -> None:
        """Put the bytes into a (writable) copy of the process's memory at an address."""
        end = address + len(buffer)
        first = bisect_left(self._order, address // _PAGE)
        for number in self._order[first:]:
            low, high = max(address, number * _PAGE), min(end, (number + 1) * _PAGE)
            if low >= high:
                break
            data, mask = (part[low - number * _PAGE : high - number * _PAGE] for part in self._pages[number])
            target = buffer[low - address : high - address]
            target[mask] = data[mask]


class RepairedMemory(Memory):
    """Reads of a process with an overlay; nothing is ever written.

    Args:
        memory: Of the process.
        overlay: What repairs wrote.
    """

    def __init__(self, memory: Memory, overlay: Overlay) -> None:
        super().__init__(memory.pid)
        self._memory, self._overlay = memory, overlay

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``."""
        data = self._memory.read(address, size)
        if not self._overlay:
            return data
        buffer = np.frombuffer(data, np.uint8).copy()
        self._overlay.lay_over(address, buffer)
        return buffer.tobytes()

    def read_into(self, address: int, buffer: Bytes) -> None:
        """Fill a contiguous u1 array from ``address``."""
        self._memory.read_into(address, buffer)
        self._overlay.lay_over(address, buffer)

    def read_spans(self, starts: npt.ArrayLike, sizes: npt.ArrayLike) -> Bytes:
        """The bytes of many spans, one after the other."""
        result = self._memory.read_spans(starts, sizes)
        at = 0
        for start, size in zip(np.asarray(starts).tolist(), np.asarray(sizes).tolist(), strict=True):
            self._overlay.lay_over(start, result[at : at + size])
            at += size
        return result

    def write(self, address: int, data: bytes | Bytes) -> None:
        """Never."""
        raise TypeError("a repaired memory is only read")

    def write_forced(self, address: int, data: bytes | Bytes) -> None:
        """Never."""
        raise TypeError("a repaired memory is only read")

    def write_spans(self, starts: npt.ArrayLike, sizes: npt.ArrayLike, data: Bytes) -> None:
        """Never."""
        raise TypeError("a repaired memory is only read")


class Repairer(Protocol):
    """What repairs the copy of a process before anybody judges it."""

    def repair_variables(self, subject: Subject) -> Overlay:
        """Repairs that start at variables; the heap may not even be readable. A new overlay."""

    def repair_objects(self, image: Image, overlay: Overlay) -> bool:
        """Repairs of every object of a type, into the overlay; whether they wrote anything."""
