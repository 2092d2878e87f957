"""A rehearsal with a core file in the place of the past: everything but descriptors.

The new version starts for itself, with the arguments and the environment that the core has, in a network of
its own where that is permitted: nothing is lent, and nobody can reach it. It is given the core's state, which
is then compared, and thrown away.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from instar.control.chains import chain_of, function_names
from instar.control.quiescence import QuiescentPoint
from instar.control.startup_past import PastFacts
from instar.errors import InstarError, RefusedError
from instar.handlers.session import Handlers
from instar.metadata.pieces import align_pieces
from instar.metadata.version import Version
from instar.pairing.plan import PairingPlan, plan_pairing
from instar.process.blocking import blocking_call
from instar.process.core import CoreFile
from instar.process.deadline import Deadline
from instar.process.descriptors import list_descriptors
from instar.process.maps import Mapping
from instar.process.numbering import DWARF_NAMES
from instar.process.surroundings import read_surroundings
from instar.state.arguments import ArgumentArea
from instar.state.capturer import Capturer
from instar.state.image import Image
from instar.transfer.plan import TransferPlan
from instar.transfer.prepared import Options
from instar.update import carry
from instar.update.calls import FutureProcess
from instar.update.clock import PhaseClock
from instar.update.details import collect_details, with_details
from instar.update.driver import Driver
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


class CoreCapturer(Capturer):
    """Copies the process in a core file."""

    def __init__(self, core: CoreFile, version: Version, table: object) -> None:
        self.core = core
        super().__init__(core, version, table)  # type: ignore[arg-type]

    def find_program(self) -> str:
        """See Capturer."""
        return self.core.program

    def maps(self) -> Sequence[Mapping]:
        """See Capturer."""
        return self.core.maps

    def arguments(self) -> ArgumentArea:
        """See Capturer."""
        found, memory = self.core.arguments(), self.core.memory
        words = {at: memory.read_cstring(at) for at in (*found.arguments, *found.environment)}
        environment = {words[at].split(b"=", 1)[0]: (at, len(words[at]) + 1) for at in found.environment}
        arguments = tuple((at, len(words[at]) + 1) for at in found.arguments)
        return ArgumentArea(arguments, environment, (found.argv_at, len(arguments) + 1))


def load_old(core: CoreFile, given: Path | None) -> Version:
    """The version that the core is of.

    Raises:
        RefusedError: "core-of-another": the program file is not the one that was dumped.
    """
    path = given or Path(core.program)
    version = load_confined(path)
    expected = core.build_id(core.program)
    if not expected or expected != version.elf.build_id:
        raise RefusedError(
            "core-of-another",
            f"{path} has build-id {version.elf.build_id[:12] or 'none'}, {core.path} is of "
            f"{core.program} with {expected[:12] or 'none'}",
            "give the program file that was running with --old FILE",
        )
    return version


def rehearse_core(
    core_path: Path, new_path: Path, old_path: Path | None, options: UpdateOptions, progress: Progress
) -> UpdateReport:
    """Try an update of the process in a core file; returns the report of what it comes to.

    Raises:
        InstarError: The files will not do.
    """
    return _CoreRehearsal(core_path, new_path, old_path, options, progress).run()


class _CoreRehearsal:
    def __init__(
        self,
        core_path: Path,
        new_path: Path,
        old_path: Path | None,
        options: UpdateOptions,
        progress: Progress,
    ) -> None:
        self.began = time.monotonic()
        self.options, self.clock = options, PhaseClock(progress)
        self.warnings = [_ONLY_STATE]
        self.core = CoreFile(core_path, old_path)
        self.old, self.new = align_pieces(load_old(self.core, old_path), validate_new(new_path))
        self.new_path = new_path
        self.deadline = Deadline(options.timeout)
        self.plan: TransferPlan | None = None
        self.pairing: PairingPlan | None = None
        self.validation: Validation | None = None
        self.planning: carry.Planning | None = None

    def run(self) -> UpdateReport:
        """All that can be done without the past."""
        try:
            self._try()
        except InstarError as error:
            return self._report(error)
        return self._report(None)

    def _try(self) -> None:
        with self.clock.phase("plan"):
            self.conditions = Conditions.find(self.options.config, self.new_path)
            self.conditions.require_names(self.old, self.new)
            self.handlers = Handlers.find(self.options.handlers, self.new_path, self.old, self.new)
            self.handlers.require_checked(self.options.allow, has_invariants=bool(self.conditions.invariants))
            self.pairing = pairing = plan_pairing(
                self.old, self.new, allow=self.options.allow, settled=self.handlers.settled
            )
            require_settled(pairing.variable_problems, self.options.allow)
            prepared = carry.prepare(self.old, self.new, pairing)
            prepared.handlers = self.handlers.for_plan
            prepared.invariants = self.conditions.holds
            frames = carry.FramePairing(self.old, self.new, pairing.code)
            self.planning = planning = carry.Planning(prepared, frames)
            capturer = CoreCapturer(self.core, self.old, prepared.tables[0])
            capturer.repairer = carry.load_repairs(self.options.tainted.repair, self.old, prepared)
            past = capturer.image(heap=True)
            point = self._point(past)
        if not _leave_network():
            self.warnings.append(_NO_NETWORK)
        arguments = self.options.argv or tuple(self._words(self.core.arguments().arguments))
        driver = Driver(self.new, replace(self.options, argv=arguments))
        with contextlib.ExitStack() as undo:
            undo.enter_context(_silent_input())
            undo.callback(driver.abort)
            with self.clock.phase("start"):
                deadline = self.deadline.within(self.options.start_timeout)
                driver.start(self.new_path, self._facts(), point, deadline)
            with self.clock.phase("transfer"):
                self._future = Capturer(driver.future.tracee, self.new, prepared.tables[1]).image(heap=True)
                self._transfer(driver, planning, past)

    def _transfer(self, driver: Driver, planning: carry.Planning, past: Image) -> None:
        driver.open_channel(_HIGHEST)
        streams = driver.pair_streams(cast(Guard, _Stand(self.core)))
        base = driver.arena_base(past.subject.maps)
        options = Options(self.options.strict, self.options.allow, base)
        self.handlers.quiesced(past)
        plan = planning.plan(past, self._future, streams, options)
        plan = self.plan = self.options.tainted.apply(plan)
        broken = planning.broken(self.conditions, "old version")
        require_settled([*plan.problems, *broken], self.options.allow)
        require_met(planning.unmet(self.conditions))
        driver.map(plan, past.subject.maps)
        driver.write(plan)
        driver.check(plan)
        with self.clock.phase("validate"):
            registers = driver.registers()
            named = {number: getattr(registers, name) for number, name in enumerate(DWARF_NAMES)}
            validation = self.validation = planning.validate(plan, named)
            validation.require()
            require_settled(validation.assumptions, self.options.allow)
            self._run_handlers(driver, past, plan)
            require_settled(planning.broken(self.conditions, "new version"), self.options.allow)

    def _run_handlers(self, driver: Driver, past: Image, plan: TransferPlan) -> None:
        """Handlers of events, on the new version as it would have begun."""
        if self.handlers.has("after_transfer", "before_commit"):
            image = self._future
            process = FutureProcess(driver.runtime, plan, image.subject.load_bias, self.deadline)
            self.handlers.transferred(past, image, process)
            self.handlers.committing(past, image, process)

    def _point(self, past: Image) -> QuiescentPoint:
        registers = self.core.registers()
        chain = chain_of(past.frames, self.core.program, function_names(self.old))
        number = registers.orig_rax
        call = blocking_call(number, registers.syscall_arguments()) if registers.in_syscall else None
        if call is None or not chain.whole:
            raise RefusedError(
                "core-not-waiting",
                f"in {self.core.path} the program does not wait for work: it is in {chain}",
                "dump it while it is idle: gcore PID",
            )
        return QuiescentPoint(chain.functions, number, call.name)

    def _facts(self) -> PastFacts:
        environment = tuple(self._words(self.core.arguments().environment))
        descriptors = {one.number: one for one in list_descriptors(os.getpid()) if one.number in _STANDARD}
        return PastFacts(os.getpid(), read_surroundings(os.getpid()), descriptors, environment)

    def _words(self, addresses: Sequence[int]) -> list[bytes]:
        return [self.core.memory.read_cstring(address) for address in addresses]

    def _report(self, error: InstarError | None) -> UpdateReport:
        figures = self.plan.figures if self.plan is not None else None
        report = UpdateReport(
            outcome="rehearsed" if error is None else "refused",
            old_pid=self.core.pid,
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
        return with_details(
            report,
            lambda: collect_details(
                self.pairing,
                self.planning.planner if self.planning is not None else None,
                compare_code=self.options.compare_code,
            ),
            None,
        )


class _Stand:
    """What the driver needs of a guard to pair streams."""

    def __init__(self, core: CoreFile) -> None:
        self.past = core
        self._maps = core.maps

    def maps(self) -> Sequence[Mapping]:
        return self._maps


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
