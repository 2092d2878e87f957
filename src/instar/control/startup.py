"""Starting the new version beside the old one, until it stands where the old one waits for work.

The old version serves meanwhile and sees nothing: what it owns is lent, what would hurt it is held back until
``Future.commit_held``, and ``Future.abort`` leaves nothing behind. docs/internals/startup.md has the rules.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from instar.control.chains import Chain, FunctionNames
from instar.control.confinement import require_confined
from instar.control.defined import require_defined
from instar.control.deputy import Deputy
from instar.control.held import Held, Outcome
from instar.control.quiescence import QuiescentPoint
from instar.control.service_manager import hold_announcement
from instar.control.startup_launch import Start, launch_future, recover_arguments, recover_environment
from instar.control.startup_numbers import likeness, pair_numbers
from instar.control.startup_past import PastFacts
from instar.control.startup_trace import StartupTrace, kill_all
from instar.control.startup_world import Registration, World
from instar.process.deadline import Deadline
from instar.process.descriptors import list_descriptors
from instar.process.registers import Registers
from instar.process.status import read_status
from instar.process.surroundings import differences, read_surroundings
from instar.process.tracee import Tracee


@dataclass(frozen=True, slots=True)
class StartSpec:
    """What to start.

    Attributes:
        executable: The new version's file.
        names: Of the functions of that file (``chains.function_names``).
        arguments: The argument vector; None: the one the past was started with.
        start_as: User to start it as; None: as whom the past runs now.
        allow: Codes of refusals that are waived.
    """

    executable: Path
    names: FunctionNames
    arguments: tuple[bytes, ...] | None = None
    start_as: str | None = None
    allow: frozenset[str] = frozenset()


class Future:
    """The new version, parked.

    The thread stands at a stop with its registers set so that it makes the blocking call when it is let go.

    Attributes:
        tracee: Its thread.
        pid: Its process.
        chain: Where it stands; ``point`` the same as a quiescent point.
        registers: Of the parked thread.
        descriptor_pairs: Past number -> future number of the same thing, where both have it.
        warnings: For the user.
    """

    def __init__(
        self, tracee: Tracee, chain: Chain, point: QuiescentPoint, world: World, warnings: list[str]
    ) -> None:
        self.tracee = tracee
        self.pid = tracee.pid
        self.chain = chain
        self.point = point
        self.registers: Registers = tracee.registers()
        self.warnings = warnings
        self._world = world
        self.descriptor_pairs = _pair(world.past, tracee.pid)
        self._deputy = self._appoint() if world.held.actions else None

    def _appoint(self) -> Deputy:
        """Who does what is held, whatever becomes of this process."""
        world = self._world
        kept = world.directories.descriptors
        return Deputy(
            world.held, kept, world.past.pid, self.pid, lambda: world.held.drop_replaced(self._identity)
        )

    @property
    def output(self) -> bytes:
        """The last it wrote to standard output and error (held back)."""
        return self._world.output

    @property
    def held(self) -> tuple[Held, ...]:
        """What will be done at commit, in order."""
        return self._world.held.actions

    @property
    def plan(self) -> tuple[str, ...]:
        """The same for people."""
        return tuple(held.describe() for held in self.held)

    @property
    def registrations(self) -> tuple[Registration, ...]:
        """epoll registrations of lent descriptors and of listeners that do not listen yet.

        Those without a ``past`` number are nobody else's: they must be made before it goes on.
        """
        return tuple(self._world.registered.values())

    def commit_held(self, journal: Callable[[Outcome], None] | None = None) -> list[Outcome]:
        """Do what was held back, and close; returns what failed. See ``do_held``."""
        try:
            return self.do_held(journal)
        finally:
            self.close()

    def do_held(self, journal: Callable[[Outcome], None] | None = None) -> list[Outcome]:
        """Do what was held back; returns what failed.

        To be called when the past is beyond recall and before the future goes on (its new listeners begin to
        listen here). The future need not be traced.
        """
        try:
            return self._deputy.commit(journal) if self._deputy is not None else []
        finally:
            self._world.keep()

    def close(self) -> None:
        """After the commit, when the future serves: give back what its start needed."""
        if self._deputy is not None:
            self._deputy.dismiss()
        self._world.close()

    def _identity(self, number: int) -> tuple[int, int] | None:
        """Device and inode of one of its descriptors now."""
        try:
            facts = Path(f"/proc/{self.pid}/fd/{number}").stat()
        except OSError:
            return None
        return facts.st_dev, facts.st_ino

    def abort(self) -> list[str]:
        """End it and remove what it created; returns what could not be removed."""
        with contextlib.suppress(Exception):  # what it created is removed all the same
            self.tracee.kill()
        if self._deputy is not None:
            self._deputy.dismiss()
        left = self._world.undo()
        self._world.close()
        return left


def start_future(spec: StartSpec, past: PastFacts, point: QuiescentPoint, deadline: Deadline) -> Future:
    """Start the new version and bring it to the point; the past is not touched.

    Args:
        spec: What to start.
        past: ``startup_past.read_past``.
        point: Where the past waits (``quiescence.observe_past``).
        deadline: ``--start-timeout``.

    Raises:
        RefusedError: arguments-lost, environment-lost, launch-failed, new-version-unreachable, pid-namespace,
            startup-failed, startup-crashed, startup-timeout, startup-forbidden, startup-connect,
            different-point, multi-threaded, has-children, undefined-symbol. Everything it had started or made
            is gone then.
    """
    arguments = spec.arguments if spec.arguments is not None else recover_arguments(past.pid)
    environment = past.environment if past.environment is not None else recover_environment(past.pid)
    start = Start(spec.executable, arguments, environment, spec.start_as)
    world = World(past)
    trace: StartupTrace | None = None
    root: Tracee | None = None
    try:
        root = launch_future(start, past, world.standard, world.reopened, deadline)
        other = differences(past.surroundings, read_surroundings(root.pid), credentials=spec.start_as is None)
        likenesses = {number: likeness(d, d.socket) for number, d in past.descriptors.items()}
        trace = StartupTrace(world, root, spec.names, point, spec.allow, likenesses)
        trace.run(deadline)
        assert trace.parked is not None and trace.chain is not None
        trace.warnings.extend(require_confined(past.pid, trace.parked.tracee.pid, spec.allow))
        trace.warnings.extend(require_defined(past.pid, trace.parked.tracee.pid, spec.allow))
        if other:
            trace.warnings.append(
                f"surroundings: the new version was started with another {', '.join(other)}"
            )
        trace.warnings.extend(hold_announcement(world.held, environment, past.pid, trace.parked.tracee.pid))
        trace.warnings.extend(_more_capabilities(past.pid, trace.parked.tracee.pid))
        reached = point.at(trace.chain.functions, trace.syscall)
        return Future(trace.parked.tracee, trace.chain, reached, world, trace.warnings)
    except BaseException:
        tracees = [member.tracee for member in trace.members.values()] if trace is not None else [root]
        kill_all(tracee for tracee in tracees if tracee is not None)
        world.undo()
        world.close()
        raise


def _more_capabilities(past: int, future: int) -> list[str]:
    """The new version may do what the old one may not: a root whose rights were taken by its securebits."""
    old, new = (read_status(pid).capabilities["effective"] for pid in (past, future))
    if not new & ~old:
        return []
    return [f"more-capabilities: the new version has {new:#x}, the old one {old:#x}; let it drop them"]


def _pair(past: PastFacts, pid: int) -> dict[int, int]:
    old = {number: (likeness(d, d.socket), (d.device, d.inode)) for number, d in past.descriptors.items()}
    new = {d.number: (likeness(d, d.socket), (d.device, d.inode)) for d in list_descriptors(pid)}
    return pair_numbers(old, new)
