"""The future as handlers of events see it, once the state was written: its memory, its functions.

Belongs to the driver. What a handler does here it does to the future alone, which dies if anything is wrong.
"""

from __future__ import annotations

import numpy as np

from instar.control.runtime import Runtime
from instar.errors import FaultError, InstarError
from instar.ext.values import HandlerError, PointerError
from instar.process.deadline import Deadline
from instar.process.tracee import Tracee
from instar.state.columns import Status
from instar.transfer.plan import TransferPlan

_CALL_S = 5.0
_ARGUMENTS = 6
_KEPT = (Status.NULL, Status.SMALL, Status.STAY)


class _Memory:
    """Reads and writes the future."""

    def __init__(self, tracee: Tracee) -> None:
        self._tracee = tracee

    def read(self, address: int, size: int) -> bytes:
        """Bytes; raises PointerError."""
        try:
            return self._tracee.memory.read(address, size)
        except (FaultError, OverflowError) as error:
            raise PointerError(f"{address:#x} leads nowhere in the future") from error

    def write(self, address: int, data: bytes) -> None:
        """Store; raises PointerError."""
        try:
            self._tracee.memory.write(address, data)
        except (FaultError, OverflowError) as error:
            raise PointerError(f"{address:#x} cannot be written in the future") from error


class FutureProcess:
    """The future between transfer and commit.

    Args:
        runtime: Of the future.
        plan: The transfer that was written.
        load_bias: Of its program.
        deadline: Of the update.
    """

    def __init__(self, runtime: Runtime, plan: TransferPlan, load_bias: int, deadline: Deadline) -> None:
        self._runtime, self._plan = runtime, plan
        self._bias, self._deadline = load_bias, deadline
        self.memory = _Memory(runtime.tracee)

    def allocate(self, size: int) -> int:
        """A zeroed block of the future's own allocator."""
        address = int(self._runtime.allocate(np.array([max(size, 1)], np.uint64))[0])
        self.memory.write(address, bytes(max(size, 1)))
        return address

    def call(self, address: int, arguments: tuple[int, ...]) -> int:
        """Call a function; raises HandlerError when it crashes or does not return in time."""
        if len(arguments) > _ARGUMENTS:
            raise HandlerError(f"call takes up to {_ARGUMENTS} arguments")
        try:
            return self._runtime.tracee.call(address, *arguments, deadline=self._deadline.within(_CALL_S))
        except InstarError as error:
            raise HandlerError(f"the function did not return: {error.cause}") from error

    def function_address(self, link_address: int) -> int:
        """Where a function of the program file is."""
        return link_address + self._bias

    def translate(self, address: int, old_pointee: int, new_pointee: int, path: str) -> int:
        """Where an address of the past leads; by what it points at, whatever the types say."""
        statuses, values = self._plan.translate(np.array([address], np.uint64))
        status = Status(int(statuses[0]))
        if status in (Status.MOVED, Status.LIBRARY):
            return int(values[0])
        if status not in _KEPT:
            raise PointerError(f"{path}: {address:#x} of the past has no counterpart ({status.name.lower()})")
        return address
