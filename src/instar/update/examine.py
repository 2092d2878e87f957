"""Looks at the state of a live process without changing it: what `inspect` and `check` show.

The process is stopped only while it is copied. What is in it is looked at by a worker without rights
(``update.look``): it may be anybody's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

from instar.errors import RefusedError
from instar.metadata.version import Version
from instar.process.deadline import Deadline
from instar.process.failures import explain_absence
from instar.process.held import Standing, find_held
from instar.process.memory import Memory
from instar.process.registers import Registers
from instar.process.status import executable
from instar.process.tracee import Tracee
from instar.state.capturer import Capturer
from instar.state.image import Image
from instar.state.slots import build_type_table
from instar.update.desk import Assignment
from instar.update.exchange import GarbageError, WorkerLostError
from instar.update.look import LookDesk, Seen, Shown
from instar.update.options import UpdateOptions
from instar.update.reading import load_confined
from instar.update.room import make_shared
from instar.update.worker import Worker
from instar.validation.conditions import Conditions

T = TypeVar("T")

_STOP_S = 5.0
_LONGEST_S = 600.0


@contextmanager
def stopped(pid: int) -> Iterator[Standing]:
    """The process stands still inside; afterwards it goes on as if nothing had been.

    One that a rehearsal holds stands already, and stays so.
    """
    held = find_held(pid)
    if held is not None:
        yield held
        return
    tracee = Tracee.seize(pid)
    try:
        stop = tracee.interrupt(Deadline(_STOP_S))
        if stop.ended:
            raise tracee.died(stop)
        tracee.rewind_syscall()
        yield tracee
    finally:
        if tracee.end is None:
            tracee.detach()


def _load(pid: int) -> Version:
    absence = explain_absence(pid)
    if absence is not None and absence.code != "already-traced":  # a rehearsal may hold it
        raise absence
    return load_confined(executable(pid))


def copy_process(pid: int) -> tuple[Version, Image]:
    """Stop, copy, let go, without a worker: for who has a process of their own."""
    version = _load(pid)
    table = build_type_table(version)
    with stopped(pid) as tracee:
        image = Capturer(tracee, version, table).image(heap=True)
    return version, image


class _Target:
    """What the worker may ask for."""

    def __init__(self, pid: int) -> None:
        self.pid, self.memory, self.shared = pid, Memory(pid), make_shared()


class _Looker(Worker):
    """A worker that looks at one process."""

    def show(self, registers: Registers, expression: str, depth: int) -> Shown:
        """See ``LookDesk``."""
        return self._call("show", registers, expression, depth).value(0, Shown)  # type: ignore[no-any-return]

    def seen(self) -> Seen:
        """See ``LookDesk``."""
        return self._call("seen").value(0, Seen)  # type: ignore[no-any-return]


@contextmanager
def _looker(pid: int) -> Iterator[_Looker]:
    """One for a process; what becomes of it is told by name.

    Raises:
        RefusedError: "reader-lost": it was ended, does not come to an end, or says what is no answer.
    """
    version = _load(pid)
    assignment = Assignment(pid, version, version, version.path, UpdateOptions(), Conditions())
    try:
        with closing(_Looker(assignment, _Target(pid), Deadline(_LONGEST_S), LookDesk)) as worker:
            yield worker
    except (WorkerLostError, GarbageError) as error:
        how = error.how if isinstance(error, WorkerLostError) else f"says what is no answer: {error.what}"
        raise RefusedError(
            "reader-lost",
            f"the process that looks at the state of {pid} {how}",
            "look at the memory that is left; if there is enough, report it",
        ) from error


def examine(pid: int) -> Seen:
    """Copy a process and classify everything in it."""
    with _looker(pid) as worker:
        with stopped(pid) as tracee:
            worker.look_past(tracee.registers())
        return worker.seen()


def evaluate_live(pid: int, expression: str, depth: int) -> Shown:
    """The value that an expression names, and its contents, read in one short stop."""
    with _looker(pid) as worker, stopped(pid) as tracee:
        return worker.show(tracee.registers(), expression, depth)
