"""A rehearsal with a core file in the place of the past: everything but descriptors.

The new version starts for itself, with the arguments and the environment that the core has, in a network of
its own where that is permitted: nothing is lent, and nobody can reach it. It is given the core's state, which
is then compared, and thrown away. The core is read by the worker only, and by a child that is like it
(``update.core_past``): whoever made it may mean harm.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pwd
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import cast

from instar.control.quiescence import QuiescentPoint
from instar.control.startup_past import PastFacts
from instar.errors import HostError, InstarError, RefusedError
from instar.metadata.pieces import align_pieces
from instar.metadata.version import Version
from instar.pairing.problems import Problem
from instar.process.deadline import Deadline
from instar.process.descriptors import list_descriptors
from instar.process.maps import Mapping as MemoryMapping
from instar.process.memory import Memory
from instar.process.numbering import DWARF_NAMES
from instar.process.registers import Registers
from instar.process.surroundings import read_surroundings
from instar.transfer.plan import TransferPlan
from instar.update.apply import all_ranges
from instar.update.calls import FutureCalls
from instar.update.clock import PhaseClock
from instar.update.confined import compute
from instar.update.core_past import (
    CoreDesk,
    CoreFacts,
    CorePast,
    CoreWorker,
    PeekedMemory,
    Source,
    read_facts,
    require_sane,
)
from instar.update.desk import Assignment
from instar.update.details import Details, with_details
from instar.update.driver import Driver
from instar.update.exchange import GarbageError, WorkerLostError
from instar.update.filtering import require_met
from instar.update.guard import Guard
from instar.update.options import UpdateOptions
from instar.update.outcome import Failure, Leaked, UpdateReport, VersionId
from instar.update.preflight import validate_new
from instar.update.progress import Progress
from instar.update.reading import load_confined
from instar.update.settle import require_settled
from instar.validation.conditions import Conditions
from instar.validation.outcome import Validation

_STANDARD = (0, 1, 2)
_HIGHEST = 64  # descriptor numbers that the new version may use before ours begin
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_SET_FLAGS, _GET_FLAGS, _UP = 0x8914, 0x8913, 0x1  # SIOCSIFFLAGS, SIOCGIFFLAGS, IFF_UP
_NO_NETWORK = (
    "core: no network of its own is permitted here; the new version binds its addresses on this machine, "
    "which fails where they are in use"
)
_ONLY_STATE = "core: descriptors, streams, timers and signals are not in a core file and were not tried"


def find_facts(source: Source, seconds: float) -> CoreFacts:
    """What the tool must know of a core, read by a process without rights.

    Raises:
        HostError: "unreadable-file", "out-of-memory".
        RefusedError: What ``read_facts`` refuses; "reader-lost".
    """
    try:
        kept = tuple(source.opened.values())
        return require_sane(compute(lambda: read_facts(source), CoreFacts, kept, seconds=seconds))
    except (WorkerLostError, GarbageError) as error:
        how = error.how if isinstance(error, WorkerLostError) else f"says what is no answer: {error.what}"
        raise RefusedError(
            "reader-lost",
            f"the process that reads {source.path} {how}",
            "the core is damaged or made to do harm: make one with gcore (gdb): gcore PID",
        ) from error


def load_old(facts: CoreFacts, core: Path, given: Path | None) -> Version:
    """The version that the core is of.

    Raises:
        RefusedError: "core-of-another": the program file is not the one that was dumped.
    """
    path = given or Path(facts.program)
    version = load_confined(path)
    if not facts.build_id or facts.build_id != version.elf.build_id:
        raise RefusedError(
            "core-of-another",
            f"{path} has build-id {version.elf.build_id[:12] or 'none'}, {core} is of "
            f"{facts.program} with {facts.build_id[:12] or 'none'}",
            "give the program file that was running with --old FILE",
        )
    return version


@contextlib.contextmanager
def open_source(core: Path, program: Path | None, start_as: str | None = None) -> Iterator[Source]:
    """Open what is read by who may not open it.

    Args:
        core, program: Files.
        start_as: User as whom the new version starts.

    Raises:
        HostError: "unreadable-file".
        RefusedError: "core-of-other-user".
    """
    with ExitStack() as stack:
        opened = {}
        for path in (core, program):
            if path is None:
                continue
            try:
                opened[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError as error:
                raise HostError(
                    "unreadable-file", f"{path}: {error.strerror}", "give a file that you may read"
                ) from error
            stack.callback(os.close, opened[path])
        _require_owner(core, os.fstat(opened[core]).st_uid, start_as)
        yield Source(core, program, opened)


def _require_owner(core: Path, owner: int, start_as: str | None) -> None:
    """A core says with which arguments and variables (LD_PRELOAD) a program starts, as whoever starts it."""
    with contextlib.suppress(KeyError):
        if start_as is not None and pwd.getpwnam(start_as).pw_uid == owner:
            return
    if owner not in (os.geteuid(), 0):
        raise RefusedError(
            "core-of-other-user",
            f"{core} belongs to user {owner}, whose arguments and environment the new version would have "
            "with your rights",
            "copy it if you trust who made it (cp), or have the new version started as that user: "
            "--start-as USER",
        )


def rehearse_core(
    core_path: Path, new_path: Path, old_path: Path | None, options: UpdateOptions, progress: Progress
) -> UpdateReport:
    """Try an update of the process in a core file; returns the report of what it comes to.

    Raises:
        InstarError: The files will not do.
    """
    with open_source(core_path, old_path, options.start_as) as source:
        return _CoreRehearsal(source, new_path, options, progress).run()


class _CoreRehearsal:
    def __init__(self, source: Source, new_path: Path, options: UpdateOptions, progress: Progress) -> None:
        self.began = time.monotonic()
        self.options, self.clock, self.source = options, PhaseClock(progress), source
        self.warnings = [_ONLY_STATE]
        self.facts = find_facts(source, options.timeout)
        old = load_old(self.facts, source.path, source.program)
        self.old, self.new = align_pieces(old, validate_new(new_path))
        self.new_path = new_path
        self.deadline = Deadline(options.timeout)
        self.plan: TransferPlan | None = None
        self.validation: Validation | None = None

    def run(self) -> UpdateReport:
        """All that can be done without the past."""
        with ExitStack() as undo:
            try:
                self._try(undo)
            except InstarError as error:
                return self._report(error)
            return self._report(None)

    def _try(self, undo: ExitStack) -> None:
        with self.clock.phase("plan"):
            point = self._plan(undo)
        if not _leave_network():
            self.warnings.append(_NO_NETWORK)
        arguments = self.options.argv or self.facts.arguments
        driver = Driver(self.new, replace(self.options, argv=arguments))
        with ExitStack() as started:
            started.enter_context(_silent_input())
            started.callback(driver.abort)
            with self.clock.phase("start"):
                deadline = self.deadline.within(self.options.start_timeout)
                driver.start(self.new_path, self._facts(), point, deadline)
            with self.clock.phase("transfer"):
                plan = self._transfer(driver)
            with self.clock.phase("validate"):
                self._validate(driver, plan)

    def _plan(self, undo: ExitStack) -> QuiescentPoint:
        """Everything before the new version starts; the worker is there from here on."""
        self.conditions = Conditions.find(self.options.config, self.new_path)
        self.conditions.require_names(self.old, self.new)
        assignment = Assignment(0, self.old, self.new, self.new_path, self.options, self.conditions)
        source = self.source
        self.worker = CoreWorker(assignment, CorePast(), self.deadline, lambda given: CoreDesk(given, source))
        undo.callback(self.worker.close)
        self._refuse(self.worker.pair())
        self._handlers_follow = self.worker.prepare()
        self.worker.look_past(Registers())
        return self.worker.point()

    def _transfer(self, driver: Driver) -> TransferPlan:
        driver.open_channel(_HIGHEST)
        self.worker.look_future(driver.pid, driver.registers())
        streams = driver.pair_streams(cast(Guard, _Stand(self.facts, PeekedMemory(self.worker.peek))))
        self.worker.quiesced()
        plan = self.worker.plan(streams, driver.arena_base(self.facts.maps))
        plan = self.plan = self.options.tainted.apply(plan)
        broken = self.worker.broken("old version") if self.conditions.invariants else []
        self._refuse([*plan.problems, *broken])
        require_met(self.worker.unmet() if self.conditions.filters else [])
        _require_no_files(plan)
        driver.map(plan, ())
        driver.write(plan)
        driver.check(plan)
        return plan

    def _validate(self, driver: Driver, plan: TransferPlan) -> None:
        registers = driver.registers()
        named = {number: getattr(registers, name) for number, name in enumerate(DWARF_NAMES)}
        validation = self.validation = self.worker.validate(named)
        validation.require()
        self._refuse(validation.assumptions)
        if self._handlers_follow:
            self.worker.transferred(FutureCalls(driver.runtime, driver.program, self.deadline))
        self._refuse(self.worker.broken("new version") if self.conditions.invariants else [])

    def _refuse(self, problems: Sequence[Problem]) -> None:
        require_settled(problems, self.options.allow)

    def _facts(self) -> PastFacts:
        descriptors = {one.number: one for one in list_descriptors(os.getpid()) if one.number in _STANDARD}
        return PastFacts(os.getpid(), read_surroundings(os.getpid()), descriptors, self.facts.environment)

    def _report(self, error: InstarError | None) -> UpdateReport:
        figures = self.plan.figures if self.plan is not None else None
        report = UpdateReport(
            outcome="rehearsed" if error is None else "refused",
            old_pid=self.facts.pid,
            old=VersionId(str(self.old.path), self.old.build_id),
            new=VersionId(str(self.new.path), self.new.build_id),
            total_ms=(time.monotonic() - self.began) * 1000,
            phases=tuple(self.clock.phases),
            objects=figures.objects if figures else {},
            retyped=figures.retyped if figures else 0,
            pointers=figures.pointers if figures else 0,
            bytes=figures.bytes if figures else 0,
            leaked=Leaked(figures.leaked_blocks, figures.leaked_bytes) if figures else Leaked(),
            warnings=(
                *self.warnings,
                *(self.plan.warnings if self.plan else ()),
                *(self.validation.warnings if self.validation else ()),
            ),
            validation=self.validation,
            error=None if error is None else Failure.from_error(error),
            kind="rehearsal",
        )
        worker: CoreWorker | None = getattr(self, "worker", None)
        return with_details(report, Details if worker is None else worker.details, None)


class _Stand:
    """What the driver needs of a guard to pair streams."""

    def __init__(self, facts: CoreFacts, memory: Memory) -> None:
        self.past = self
        self.memory = memory
        self._facts = facts

    def maps(self) -> Sequence[MemoryMapping]:
        return self._facts.maps


def _require_no_files(plan: TransferPlan) -> None:
    """A core proves no file that a program has mapped itself: whatever it names would be opened."""
    for kept in all_ranges(plan):
        if kept.source is not None:
            raise RefusedError(
                "mapping-not-carried",
                f"the mapping {kept.source.path} at {kept.start:#x} cannot be carried: a core does not prove "
                "which file was mapped",
                "rehearse with the running process: instar update PID NEW --rehearse",
            )


@contextlib.contextmanager
def _silent_input() -> Iterator[None]:
    """Nothing ever comes from standard input, nor does it end: a new version that reads it waits."""
    read, write = os.pipe2(os.O_CLOEXEC)
    before = os.dup(0)
    os.dup2(read, 0)
    os.close(read)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(write)


def _leave_network() -> bool:
    """Go to a network of our own, where nothing is in use and nobody comes; False: it is not permitted."""
    libc = ctypes.CDLL(None, use_errno=True)
    users, groups = os.geteuid(), os.getegid()
    if libc.unshare(_NEW_NETWORK) != 0:
        if libc.unshare(_NEW_USER | _NEW_NETWORK) != 0:
            return False
        with contextlib.suppress(OSError):
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{users} {users} 1")
            Path("/proc/self/gid_map").write_text(f"{groups} {groups} 1")
    with contextlib.suppress(OSError):
        for family in ("ipv4", "ipv6"):
            Path(f"/proc/sys/net/{family}/ip_nonlocal_bind").write_text("1")
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack_from("H", fcntl.ioctl(asked, _GET_FLAGS, request), 16)[0]
        fcntl.ioctl(asked, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))
    return True
