"""The guard: the only code that stops, reads, resumes or ends the past. It decides nothing.

The past is traced only while it is held; without EXITKILL, so that the kernel lets it go on when this process
dies. Nothing is written into it: at its quiescent point it stands as if it had been stopped while it waited,
and waits on when it is let go.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from instar.control.chains import FunctionNames, function_names
from instar.control.dispositions import read_handlers
from instar.control.gate import Ending
from instar.control.quiescence import QuiescentPoint, bring_to_point, observe_past, release
from instar.control.startup_past import PastFacts, read_past
from instar.control.timers import Timers, plan_timers, read_timers
from instar.errors import FaultError
from instar.metadata.version import Version
from instar.process.deadline import Deadline
from instar.process.maps import Mapping, read_maps
from instar.process.memory import Memory
from instar.process.parking import Parked
from instar.process.ptrace import SignalInfo
from instar.process.signals import Disposition
from instar.process.tracee import Tracee
from instar.state.capturer import Capturer
from instar.state.image import Image
from instar.state.mirror import Mirror
from instar.state.slots import TypeTable


class Guard:
    """Holds the past.

    Args:
        pid: The past.
        version: What it runs.
        table: Its types.
    """

    def __init__(self, pid: int, version: Version, table: TypeTable) -> None:
        self.pid = pid
        self._version, self._table = version, table
        self._names: FunctionNames = function_names(version)
        self._tracee: Tracee | None = None
        self._held: Parked | None = None
        self._capturer: Capturer | None = None
        self._mirror = Mirror()
        self.point: QuiescentPoint | None = None

    def observe(self, deadline: Deadline) -> QuiescentPoint:
        """Find the past's quiescent point; it goes on as if it had not been looked at."""
        self.point = observe_past(self.pid, self._names, deadline)
        return self.point

    def facts(self) -> PastFacts:
        """What the new version's start-up needs to know of the past."""
        return read_past(self.pid)

    def warm(self) -> None:
        """Copy the heap while the past serves, so that little is left to be read when it is held.

        What is torn, or gone meanwhile, does not matter: the first image brings the copy up to date.
        """
        heaps = [(m.start, m.end) for m in self.maps() if m.path == "[heap]"]
        with suppress(FaultError):
            self._mirror.warm(Memory(self.pid), heaps)

    def hold(self, deadline: Deadline) -> None:
        """Stop the past at its quiescent point."""
        assert self.point is not None
        tracee = Tracee.seize(self.pid)
        self._tracee = tracee
        try:
            self._held = bring_to_point(tracee, self._names, self.point, deadline)
        except BaseException:
            self.release()
            raise
        if self._capturer is None:
            self._capturer = Capturer(tracee, self._version, self._table, self._mirror)
        self._capturer.tracee, self._capturer.memory = tracee, tracee.memory

    def release(self) -> None:
        """Let the past go on as if nothing had happened; harmless when it is not held."""
        tracee, self._tracee = self._tracee, None
        if tracee is not None and tracee.end is None:
            release(tracee, self._held)

    @property
    def tracee(self) -> Tracee:
        """The held past."""
        assert self._tracee is not None
        return self._tracee

    def image(self) -> Image:
        """A copy of the held past."""
        assert self._capturer is not None
        return self._capturer.image(heap=True)

    def maps(self) -> list[Mapping]:
        """Its mappings."""
        return read_maps(self.pid)

    def is_alive(self) -> bool:
        """Whether it still exists."""
        return Path(f"/proc/{self.pid}").exists()

    def pending_signals(self) -> list[SignalInfo]:
        """Signals that reached it while it was held."""
        return self.tracee.pending_signals()

    def timers(self) -> Timers:
        """Its interval and POSIX timers with the time that is left."""
        return read_timers(self.tracee, plan_timers(self.pid))

    def handlers(self, numbers: tuple[int, ...]) -> dict[int, Disposition]:
        """Its dispositions of some signals."""
        return read_handlers(self.tracee, numbers)

    def ending(self) -> Ending:
        """What makes the held past end itself."""
        return Ending(self.tracee)

    def forget(self) -> None:
        """The past has ended."""
        self._tracee = None
