"""What the worker does: pairs the versions, copies the two processes, plans, compares, runs the handlers.

It stands in a process of its own (``update.worker``) and reaches the two only through whoever it is told to
ask. Everything that it is given and hands back is plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from instar.errors import FaultError, InternalError
from instar.handlers.session import Handlers, LiveFuture
from instar.metadata.version import Version
from instar.pairing.plan import plan_pairing
from instar.pairing.problems import Problem
from instar.process.maps import read_maps
from instar.process.memory import Memory
from instar.process.registers import Registers
from instar.state.capturer import Capturer
from instar.state.image import Image
from instar.state.mirror import Mirror
from instar.state.repaired import RepairedMemory
from instar.state.snapshot import Snapshot
from instar.transfer.plan import TransferPlan, without_blocks
from instar.transfer.prepared import Options, Prepared
from instar.update import carry
from instar.update.changes import warm_changes
from instar.update.details import Details, collect_details
from instar.update.options import UpdateOptions
from instar.validation.conditions import Conditions
from instar.validation.outcome import Validation
from instar.validation.remaining import Unwritten, all_written

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Assignment:
    """What is to be done.

    Attributes:
        pid: The past.
        old, new: Both versions, aligned.
        new_path: As the user named it.
        options: Of the update.
        conditions: Invariants and filters.
    """

    pid: int
    old: Version
    new: Version
    new_path: Path
    options: UpdateOptions
    conditions: Conditions


class Stand:
    """A process that stands still, with the registers that its tracer told."""

    def __init__(self, pid: int, registers: Registers) -> None:
        self.pid, self.memory, self._registers = pid, Memory(pid), registers

    def registers(self) -> Registers:
        """As told."""
        return self._registers

    def stands(self, registers: Registers) -> None:
        """It stands anew."""
        self._registers = registers


class Desk:
    """The work on one update, in the order of its methods.

    Attributes:
        keep: Descriptors that it needs.
    """

    keep: tuple[int, ...] = ()

    def __init__(self, assignment: Assignment) -> None:
        self._given, self.pid = assignment, assignment.pid
        self._mirror = Mirror()
        self._pasts: tuple[Stand, Capturer] | None = None
        self._past: Image | None = None
        self._plan: TransferPlan | None = None
        self._future: Image | None = None
        self._connect: Callable[[], LiveFuture] | None = None
        self._prepared: Prepared | None = None

    # Before either process is looked at ---------------------------------------------------------------------

    def pair(self) -> list[Problem]:
        """Load the handlers, pair the versions; returns what is wrong about variables.

        Raises:
            RefusedError: From the handler file.
        """
        given = self._given
        self.load_handlers()
        self._handlers.require_checked(given.options.allow, has_invariants=bool(given.conditions.invariants))
        self.pairing = plan_pairing(
            given.old, given.new, allow=given.options.allow, settled=self._handlers.settled
        )
        if not self.pairing.variable_problems:
            return []
        renames = [p for p in self.pairing.problems if p.code == "likely-rename"]  # explains the others
        return list(dict.fromkeys([*renames, *self.pairing.variable_problems]))

    def load_handlers(self) -> None:
        """Run the handler file; raises RefusedError."""
        given, options = self._given, self._given.options
        self._handlers = Handlers.find(
            options.handlers, given.new_path, given.old, given.new, backwards=options.backwards
        )

    def prepare(self) -> bool:
        """Whatever needs no process; returns whether handlers run once the state was written."""
        given = self._given
        self._prepared = carry.prepare(given.old, given.new, self.pairing)
        self._prepared.handlers = self._handlers.for_plan
        self._prepared.invariants = given.conditions.holds
        self._repairer = carry.load_repairs(given.options.tainted.repair, given.old, self._prepared)
        frames = carry.FramePairing(given.old, given.new, self.pairing.code)
        self.planning = carry.Planning(self._prepared, frames)
        return self._handlers.has("after_transfer", "before_commit")

    @property
    def prepared(self) -> Prepared:
        """What needs no process."""
        if self._prepared is None:
            raise InternalError("nothing was prepared")
        return self._prepared

    # Copies -------------------------------------------------------------------------------------------------

    def warm(self) -> None:
        """Copy the past's heap while it serves; what is torn, or gone meanwhile, does not matter."""
        heaps = [(m.start, m.end) for m in read_maps(self._given.pid) if m.path == "[heap]"]
        with suppress(FaultError):
            self._mirror.warm(Memory(self._given.pid), heaps)
        if self._given.options.compare_code:
            warm_changes(self.pairing)  # not between the commit and its line in the journal

    def look_future(self, pid: int, registers: Registers) -> None:
        """Copy the parked future as its start-up left it."""
        capturer = Capturer(Stand(pid, registers), self._given.new, self.prepared.tables[1])
        self._future = capturer.image(heap=True)

    def look_past(self, registers: Registers) -> None:
        """Copy the held past."""
        if self._pasts is None:
            stand = Stand(self._given.pid, registers)
            table = self.prepared.tables[0]
            self._pasts = stand, Capturer(stand, self._given.old, table, self._mirror)
            self._pasts[1].repairer = self._repairer
        stand, capturer = self._pasts
        stand.stands(registers)
        image = capturer.image(heap=True)
        memory: Memory = Snapshot(stand.memory, image.subject.maps, registers.rsp)
        if image.overlay is not None:
            memory = RepairedMemory(memory, image.overlay)
        image.subject = replace(image.subject, memory=memory)
        self._past = image

    @property
    def past(self) -> Image:
        """The last copy."""
        if self._past is None:
            raise InternalError("the past was not looked at")
        return self._past

    @property
    def future(self) -> Image:
        """Its copy."""
        if self._future is None:
            raise InternalError("the future was not looked at")
        return self._future

    # Plans and checks ---------------------------------------------------------------------------------------

    def plan(self, streams: Mapping[int, int], arena_base: int) -> TransferPlan:
        """See ``carry.Planning``."""
        given = self._given.options
        options = Options(given.strict, given.allow, arena_base)
        self._plan = None  # its columns are as large as the state
        self._plan = self.planning.plan(self.past, self.future, dict(streams), options)
        return self._plan

    @property
    def planned(self) -> TransferPlan:
        """The last plan."""
        if self._plan is None:
            raise InternalError("nothing was planned")
        return self._plan

    def translate(self, words: Array) -> tuple[Array, Array]:
        """Where words of the past lead: statuses and values."""
        statuses, values = self.planned.translate(words)
        return np.ascontiguousarray(statuses), np.ascontiguousarray(values)

    def alike(self, past: Array, future: Array) -> Array:
        """Per word of the past and the future: 1 when both lead to the same, or are the same number."""
        same: Array = self.planning.alike(past, future).astype(np.uint8)
        return same

    def validate(self, registers: Mapping[int, int], unwritten: Unwritten = all_written) -> Validation:
        """See ``carry.Planning``."""
        if not self.planned.refreshed:
            self.planning.check_tables(self.planned)
            self._plan = without_blocks(self.planned)
        found = self.planning.validate(self.planned, registers, unwritten)
        if not self.planned.refreshed:
            self._prepare_next()
        return found

    def _prepare_next(self) -> None:
        """For the copy that is made in the pause."""
        self._mirror.prepare(Memory(self.pid))

    def unmet(self) -> list[str]:
        """Filters that the held past does not meet."""
        return self.planning.unmet(self._given.conditions)

    def broken(self, when: Literal["old version", "new version"]) -> list[Problem]:
        """Invariants that are broken."""
        return self.planning.broken(self._given.conditions, when)

    # Handlers of events -------------------------------------------------------------------------------------

    def quiesced(self) -> None:
        """The past stands still."""
        self._handlers.quiesced(self.past)

    def serve_future(self, connect: Callable[[], LiveFuture]) -> None:
        """How handlers of events reach the future."""
        self._connect = connect

    def transferred(self) -> None:
        """The state is in the future: runs the handlers of events, which may change it."""
        if self._connect is None:
            raise InternalError("the future is out of reach")
        process = self._connect()
        self._handlers.transferred(self.past, self.future, process)
        self._handlers.committing(self.past, self.future, process)

    def rolled_back(self) -> str | None:
        """Returns what went wrong, for a warning."""
        return self._handlers.rolled_back()

    # Report -------------------------------------------------------------------------------------------------

    def details(self) -> Details:
        """For the report; never in the pause."""
        planning: carry.Planning | None = getattr(self, "planning", None)
        return collect_details(
            getattr(self, "pairing", None),
            planning.planner if planning is not None else None,
            compare_code=self._given.options.compare_code,
        )
