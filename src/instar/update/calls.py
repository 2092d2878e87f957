"""The future as handlers of events see it, once the state was written: its memory, its functions.

What a handler does here it does to the future alone, which dies if anything is wrong. The handlers run in the
worker (``RemoteFuture``); the driver does what they ask (``FutureCalls``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from instar.control.runtime import Runtime
from instar.errors import FaultError, InstarError, RefusedError
from instar.ext.values import HandlerError, PointerError
from instar.process.deadline import Deadline
from instar.process.maps import read_maps
from instar.process.memory import Memory
from instar.state.columns import Status
from instar.update.overreach import require_own

if TYPE_CHECKING:
    from instar.update.desk import Desk
    from instar.update.errand import Line

Array = np.ndarray[Any, np.dtype[Any]]
Translate = Callable[[Array], tuple[Array, Array]]  # words of the past -> statuses, words of the future

_CALL_S = 5.0
_ARGUMENTS = 6
_MOST = 1 << 30
_KEPT = (Status.NULL, Status.SMALL, Status.STAY)


def _counterpart(translate: Translate, address: int, path: str) -> int:
    """Where one address of the past leads; raises PointerError when nowhere."""
    statuses, values = translate(np.array([address], np.uint64))
    status = Status(int(statuses[0]))
    if status in (Status.MOVED, Status.LIBRARY):
        return int(values[0])
    if status not in _KEPT:
        raise PointerError(f"{path}: {address:#x} of the past has no counterpart ({status.name.lower()})")
    return address


class FutureCalls:
    """The driver's side: does what is asked, where it may be done.

    Args:
        runtime: Of the future.
        program: Path of its program file as mapped.
        deadline: Of the update.
    """

    def __init__(self, runtime: Runtime, program: str, deadline: Deadline) -> None:
        self._runtime, self._program, self._deadline = runtime, program, deadline

    def allocate(self, size: int) -> int:
        """A zeroed block of the future's own allocator."""
        if not 0 <= size <= _MOST:
            raise RefusedError("worker-overreach", f"a handler asks for {size} bytes", "ask for less")
        address = int(self._runtime.allocate(np.array([max(size, 1)], np.uint64))[0])
        self._runtime.tracee.memory.write(address, bytes(max(size, 1)))
        return address

    def call(self, address: int, arguments: tuple[int, ...]) -> int:
        """Call a function; raises InstarError when it crashes or does not return in time."""
        words = [argument & (1 << 64) - 1 for argument in arguments[:_ARGUMENTS]]
        deadline = self._deadline.within(_CALL_S)
        return self._runtime.tracee.call(address & (1 << 64) - 1, *words, deadline=deadline)

    def store(self, address: int, data: bytes) -> None:
        """Write; raises RefusedError "worker-overreach" outside of the program's own memory, FaultError."""
        require_own(address, len(data), read_maps(self._runtime.tracee.pid), self._program)
        self._runtime.tracee.memory.write(address, data)


class _RemoteMemory:
    """Reads and writes the future."""

    def __init__(self, pid: int, line: Line) -> None:
        self._memory, self._line = Memory(pid), line

    def read(self, address: int, size: int) -> bytes:
        """Bytes; raises PointerError."""
        try:
            return self._memory.read(address, size)
        except (FaultError, OverflowError) as error:
            raise PointerError(f"{address:#x} leads nowhere in the future") from error

    def write(self, address: int, data: bytes) -> None:
        """Store; raises PointerError."""
        try:
            self._line.ask("store", int(address), bytes(data))
        except (InstarError, OverflowError) as error:
            raise PointerError(f"{address:#x} cannot be written in the future") from error


class RemoteFuture:
    """The future between transfer and commit, as the worker reaches it.

    Args:
        pid: Its process.
        desk: Has its copy, and the plan that was written.
        line: Whom to ask.
    """

    def __init__(self, pid: int, desk: Desk, line: Line) -> None:
        self._desk, self._line = desk, line
        self.memory = _RemoteMemory(pid, line)

    def allocate(self, size: int) -> int:
        """A zeroed block of the future's own allocator."""
        return int(self._line.ask("allocate", int(size)).value(0, int))

    def call(self, address: int, arguments: tuple[int, ...]) -> int:
        """Call a function; raises HandlerError when it crashes or does not return in time."""
        if len(arguments) > _ARGUMENTS:
            raise HandlerError(f"call takes up to {_ARGUMENTS} arguments")
        try:
            return int(self._line.ask("call", int(address), [int(one) for one in arguments]).value(0, int))
        except InstarError as error:
            raise HandlerError(f"the function did not return: {error.cause}") from error

    def function_address(self, link_address: int) -> int:
        """Where a function of the program file is."""
        return link_address + self._desk.future.subject.load_bias

    def translate(self, address: int, old_pointee: int, new_pointee: int, path: str) -> int:
        """Where an address of the past leads; by what it points at, whatever the types say."""
        return _counterpart(self._desk.translate, address, path)
