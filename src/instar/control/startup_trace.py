"""The start-up of the new version, call by call: every process of it, until one has come to the point."""

from __future__ import annotations

import contextlib
import os
import resource
import signal as signals
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from instar.control.chains import Chain, FunctionNames, describe_frames, read_chain, show_chain
from instar.control.lending import move_descriptor, put_descriptor, scratch_address
from instar.control.quiescence import QuiescentPoint, hold_before_call
from instar.control.startup_answers import (
    NOTHING,
    Alter,
    Answer,
    Call,
    Fake,
    Lend,
    Note,
    Refuse,
    Run,
    deny,
)
from instar.control.startup_numbers import Likeness, choose_number, likeness
from instar.control.startup_rules import decide
from instar.control.startup_waiting import inspect_wait
from instar.control.startup_world import View, World
from instar.errors import FaultError, InstarError, RefusedError
from instar.process import ptrace
from instar.process.blocking import describe_call
from instar.process.deadline import Deadline, DeadlineError
from instar.process.descriptors import duplicate, read_descriptor
from instar.process.failures import signal_name
from instar.process.registers import SYSCALL_ARGUMENTS
from instar.process.surroundings import parse_limits
from instar.process.syscalls import syscall_name
from instar.process.tracee import Stop, Tracee, wait_any

_SLICE_S = 0.1
_PATIENCE_S = 3.0  # all processes asleep without end, away from the point
_TAIL_LINES = 12
_FATAL = (
    signals.SIGSEGV,
    signals.SIGBUS,
    signals.SIGILL,
    signals.SIGFPE,
    signals.SIGABRT,
    signals.SIGSYS,
    signals.SIGTRAP,
)
_EAGAIN, _EPERM = 11, 1
_MANY = 1 << 20
_SCRATCH = 4096 - 512


@dataclass(slots=True)
class Member:
    """One traced process (or thread) of the start.

    Attributes:
        executed: It runs another program by now.
        saved: Argument registers to put back when the call in flight returns.
        asleep: The chain and call in which it was let go to sleep without a timeout, None else.
    """

    tracee: Tracee
    view: View
    parent: int
    executed: bool = False
    note: Note = NOTHING
    saved: dict[str, int] = field(default_factory=dict)
    after: Callable[[int], None] | None = None
    asleep: tuple[Chain, str] | None = None


class StartupTrace:
    """Drives the start; ``run`` returns when one process is parked at the point and no other is left.

    Attributes:
        parked: The process at the point.
        chain: Its chain there, and the number of the call.
        rests: Chains at which it was seen to wait, that were not the point.
    """

    def __init__(
        self,
        world: World,
        root: Tracee,
        names: FunctionNames,
        point: QuiescentPoint,
        allowed: frozenset[str],
        past_likeness: dict[int, Likeness | None],
    ) -> None:
        self.world = world
        self.names = names
        self.point = point
        self.allowed = allowed
        self.past_likeness = past_likeness
        self.members: dict[int, Member] = {}
        self.parked: Member | None = None
        self.chain: Chain | None = None
        self.syscall = -1
        self.rests: list[tuple[str, ...]] = []
        self.warnings: list[str] = []
        self._ends: list[tuple[int, Stop]] = []
        self._crash: tuple[str, ...] = ()
        program = Path(f"/proc/{root.pid}/exe").stat()
        self._program = (program.st_dev, program.st_ino)
        self._add(root, 0)

    # ------------------------------------------------------------------------------------ the loop

    def run(self, deadline: Deadline) -> None:
        """Until the point is reached; raises RefusedError."""
        for member in self.members.values():
            member.tracee.resume("syscall")
        quiet = Deadline(_PATIENCE_S)
        while not self._finished():
            running = [m.tracee for m in self.members.values() if m is not self.parked]
            try:
                tracee, stop = wait_any(running, deadline.within(_SLICE_S))
            except DeadlineError:
                if deadline.expired:
                    raise self._late(deadline) from None
                if quiet.expired and all(m.asleep for m in self.members.values() if m is not self.parked):
                    raise self._elsewhere() from None
                continue
            quiet = Deadline(_PATIENCE_S)
            if deadline.expired:
                raise self._late(deadline)
            self._step(self.members[tracee.pid], stop)

    def _finished(self) -> bool:
        if self.parked is not None:
            return len(self.members) == 1
        if not self.members:
            raise self._failed()
        return False

    def _step(self, member: Member, stop: Stop) -> None:
        member.asleep = None
        if stop.ended:
            self._remove(member, stop)
        elif stop.entry and stop.syscall is not None:
            self._enter(member, stop)
        elif stop.exit:
            self._leave(member, stop)
        elif stop.kind == "signal":
            self._signal(member, stop)
        else:
            self._event(member, stop)

    def _add(self, tracee: Tracee, parent: int) -> Member:
        member = Member(tracee, View(self.world, tracee.pid), parent)
        self.members[tracee.pid] = member
        self.world.adopt(tracee.pid)
        return member

    def _remove(self, member: Member, stop: Stop) -> None:
        del self.members[member.tracee.pid]
        self.world.family.discard(member.tracee.pid)
        self._ends.append((member.tracee.pid, stop))

    def _event(self, member: Member, stop: Stop) -> None:
        if stop.event in (ptrace.EVENT_FORK, ptrace.EVENT_VFORK, ptrace.EVENT_CLONE):
            child = self._add(Tracee.adopt(stop.message, member.tracee.options), member.tracee.pid)
            child.executed = member.executed
        elif stop.event == ptrace.EVENT_EXEC:
            member.executed = not self._runs_new_version(member)
        member.tracee.resume("syscall")

    def _runs_new_version(self, member: Member) -> bool:
        """Whether it has executed the same file again."""
        try:
            facts = Path(f"/proc/{member.tracee.pid}/exe").stat()
        except OSError:
            return False
        return (facts.st_dev, facts.st_ino) == self._program

    def _signal(self, member: Member, stop: Stop) -> None:
        status = member.view.status
        caught = status.signals_caught >> (stop.signal - 1) & 1
        if stop.signal in _FATAL and not caught:
            self._crash = self._stack(member)
        member.tracee.resume("syscall", stop.signal)

    # ------------------------------------------------------------------------------------ a call begins

    def _enter(self, member: Member, stop: Stop) -> None:
        assert stop.syscall is not None
        number = stop.syscall.number
        call = Call(member.tracee.pid, number, syscall_name(number), stop.syscall.arguments)
        try:
            self._judge(member, call)
        except FaultError:
            self._perform(member, call, Run())  # a bad address: the kernel says so

    def _judge(self, member: Member, call: Call) -> None:
        wait = inspect_wait(call, member.view)
        if wait.outcome != "returns" and self._rest(member, call, wait.outcome, wait.endless):
            return
        if wait.outcome == "silent":
            self._perform(member, call, deny(_EAGAIN))
        elif wait.alter is not None:
            self._perform(member, call, wait.alter)
        else:
            self._perform(member, call, decide(call, member.view))

    def _rest(self, member: Member, call: Call, outcome: str, endless: bool) -> bool:
        """A call that would sleep: park there if it is the point. Whether it is parked."""
        if member.executed:
            return False
        chain = read_chain(member.tracee, self.names)
        if self.parked is None and chain.whole and self.point.accepts(chain.functions):
            self._park(member, call, chain)
            return True
        self.rests.append(chain.functions)
        if outcome == "waits" and endless:
            text = describe_call(call.number, call.arguments, member.tracee.memory)
            member.asleep = (chain, text)
        return False

    def _park(self, member: Member, call: Call, chain: Chain) -> None:
        """Leave it just before the call, which it makes when it is let go."""
        hold_before_call(member.tracee)
        self.parked, self.chain, self.syscall = member, chain, call.number

    def _perform(self, member: Member, call: Call, answer: Answer) -> None:
        match answer:
            case Run():
                member.note = answer.note
                self.world.remember(answer.output)
                member.tracee.resume("syscall")
            case Fake():
                self._fake(member, answer)
            case Lend():
                self._lend(member, answer)
            case Alter():
                self._alter(member, call, answer)
            case Refuse():
                self._refuse(member, answer)

    def _refuse(self, member: Member, answer: Refuse) -> None:
        if answer.code not in self.allowed:
            chain = read_chain(member.tracee, self.names)
            raise RefusedError(
                answer.code,
                answer.cause,
                answer.remedy,
                details=(f"in {show_chain(chain.functions)}", *self._tail()),
            )
        self.warnings.append(f"allowed: {answer.cause}")
        member.tracee.resume("syscall")

    def _fake(self, member: Member, answer: Fake) -> None:
        tracee = member.tracee
        for address, data in answer.stores:
            tracee.memory.write(address, data)
        self.world.hold(tracee.pid, answer.held)
        self.world.hide(answer.hides)
        self.world.show(answer.shows)
        if answer.register is not None:
            handle = member.view.handle(answer.register[2])
            past = handle.past[0] if handle is not None and handle.past else None
            self.world.register(*answer.register, past)
        tracee.suppress_syscall(answer.result)
        tracee.resume("syscall")

    def _lend(self, member: Member, answer: Lend) -> None:
        tracee = member.tracee
        tracee.suppress_syscall(0)
        present = read_descriptor(tracee.pid, answer.number)
        descriptor = duplicate(self.world.past.pid, answer.past)
        try:
            put_descriptor(tracee, answer.number, descriptor, cloexec=present is not None and present.cloexec)
        finally:
            os.close(descriptor)
        if present is not None:  # what was set on the socket that is gone now belongs to this one
            options = self.world.options.pop((present.device, present.inode), [])
            self.world.hold(tracee.pid, [replace(option, number=answer.number) for option in options])
        self.world.show(answer.shows)
        tracee.resume("syscall")

    def _alter(self, member: Member, call: Call, answer: Alter) -> None:
        tracee = member.tracee
        registers = tracee.registers()
        changes = {SYSCALL_ARGUMENTS[index]: value for index, value in answer.arguments.items()}
        stores = answer.note.stores
        if answer.paths:
            base = scratch_address(tracee) - _SCRATCH
            blob = b""
            for index, path in answer.paths.items():
                changes[SYSCALL_ARGUMENTS[index]] = base + len(blob)
                blob += path + b"\0"
            stores = (*stores, (base, tracee.memory.read(base, len(blob))))
            tracee.memory.write(base, blob)
        for address, data in answer.stores:
            tracee.memory.write(address, data)
        member.saved = {name: getattr(registers, name) for name in changes}
        if answer.number >= 0:
            changes["orig_rax"] = answer.number
        if changes:
            tracee.set_registers(registers.copy(**changes))
        member.note = replace(answer.note, stores=stores)
        pid = tracee.pid
        member.after = lambda result: self.world.hold(pid, answer.held) if result >= 0 else None
        tracee.resume("syscall")

    # ------------------------------------------------------------------------------------ a call ends

    def _leave(self, member: Member, stop: Stop) -> None:
        tracee, note, after = member.tracee, member.note, member.after
        result = stop.syscall.result if stop.syscall is not None and stop.syscall.result is not None else 0
        if member.saved:
            tracee.set_registers(tracee.registers().copy(**member.saved))
        member.note, member.saved, member.after = NOTHING, {}, None
        for address, data in note.stores:
            tracee.memory.write(address, data)
        if after is not None:
            after(result)
        if note is not NOTHING:
            self._settle(member, note, result)
        tracee.resume("syscall")

    def _settle(self, member: Member, note: Note, result: int) -> None:
        tracee, world = member.tracee, self.world
        if note.settles is not None and result == -_EPERM and os.getsid(tracee.pid) == tracee.pid:
            tracee.set_registers(tracee.registers().copy(rax=note.settles))
            return
        if result < 0:
            return
        if note.created is not None and note.removed is not None:
            world.note_renamed(note.removed, note.created)
        elif note.removed is not None:
            world.note_removed(note.removed)
        elif note.created is not None:
            world.note_created(tracee.pid, note.created, note.shown_as)
        if note.option is not None:
            world.note_option(tracee.pid, note.option)
        if member.executed:
            return
        if note.descriptor:
            moved = self._renumber(member, result)
            if moved != result:
                tracee.set_registers(tracee.registers().copy(rax=moved))
        if note.pair_address:
            numbers = struct.unpack("<ii", tracee.memory.read(note.pair_address, 8))
            pair = [self._renumber(member, number) for number in numbers]
            tracee.memory.write(note.pair_address, struct.pack("<ii", *pair))

    def _renumber(self, member: Member, number: int) -> int:
        """Give a new descriptor the number that the past has for the same thing."""
        tracee, view = member.tracee, member.view
        found = read_descriptor(tracee.pid, number)
        if found is None:
            return number
        details = view.socket(number) if found.kind == "socket" else None
        taken = view.numbers() - {number}
        limit = _soft_limit(tracee.pid)
        target = choose_number(number, likeness(found, details), self.past_likeness, taken, limit)
        if target != number:
            move_descriptor(tracee, number, target, cloexec=found.cloexec)
        return target

    # ------------------------------------------------------------------------------------ what goes wrong

    def _tail(self) -> tuple[str, ...]:
        text = self.world.output or self.world.held.last_writes()
        lines = text.decode(errors="replace").splitlines()[-_TAIL_LINES:]
        return tuple(f"it said: {line}" for line in lines if line.strip())

    def _stack(self, member: Member) -> tuple[str, ...]:
        chain = read_chain(member.tracee, self.names)
        try:
            program = str(Path(f"/proc/{member.tracee.pid}/exe").readlink())
        except OSError:
            program = ""
        return describe_frames(chain.frames, self.names, program)

    def _failed(self) -> RefusedError:
        """All processes have ended."""
        bad = [(pid, end) for pid, end in self._ends if end.kind == "killed" or end.status != 0]
        _, end = (bad or self._ends)[-1]
        if end.kind == "killed":
            return RefusedError(
                "startup-crashed",
                f"the new version was killed by {signal_name(end.signal)} while it started",
                "run it by itself and see why; nothing was changed",
                details=(*self._crash, *self._tail()),
            )
        return RefusedError(
            "startup-failed",
            f"the new version ended with exit status {end.status} while it started",
            "see what it said; run it by itself with the same arguments",
            details=self._tail(),
        )

    def _elsewhere(self) -> RefusedError:
        """Asleep for good, but not where the past rests."""
        member = next(m for m in self.members.values() if m is not self.parked)
        if self.parked is not None:
            return self._several()
        assert member.asleep is not None
        chain, call = member.asleep
        return self._different(chain, call)

    def _different(self, chain: Chain, call: str) -> RefusedError:
        return RefusedError(
            "different-point",
            f"the new version waits for work in {show_chain(chain.functions)} ({call}), "
            f"the old one in {self.point}",
            "keep the names of the functions from main to the waiting call",
            details=(
                f"old: {show_chain(self.point.chain)}",
                f"new: {show_chain(chain.functions)}",
                *self._tail(),
            ),
        )

    def _several(self) -> RefusedError:
        assert self.parked is not None
        others = [pid for pid, member in self.members.items() if member is not self.parked]
        code = "has-children" if all(is_leader(pid) for pid in others) else "multi-threaded"
        return RefusedError(
            code,
            f"the new version starts {'threads' if code == 'multi-threaded' else 'processes'} that stay: "
            + ", ".join(map(str, others)),
            "services of several processes or threads cannot be updated yet",
            details=self._tail(),
        )

    def _late(self, deadline: Deadline) -> RefusedError:
        if self.parked is not None:
            return self._several()
        for member in self.members.values():
            if member.asleep is not None:
                return self._different(*member.asleep)
        repeated = [chain for chain in self.rests if self.rests.count(chain) >= 3]
        lines: list[str] = []
        where = "?"
        for member in self.members.values():
            try:
                stop = member.tracee.interrupt(Deadline(1.0))
            except InstarError:
                continue
            if not stop.ended:
                where = show_chain(read_chain(member.tracee, self.names).functions)
                lines += self._stack(member)
        if repeated:
            lines.insert(0, f"it comes back to {show_chain(repeated[-1])}; the old one waits in {self.point}")
        return RefusedError(
            "startup-timeout",
            f"the new version did not come to {self.point} within {deadline.seconds:g} s; it is in {where}",
            "allow more time with --start-timeout, or see what it waits for",
            details=(*lines, *self._tail()),
        )


def _soft_limit(pid: int) -> int:
    soft, _ = parse_limits(Path(f"/proc/{pid}/limits").read_text())[resource.RLIMIT_NOFILE]
    return min(soft, _MANY) if soft != resource.RLIM_INFINITY else _MANY


def kill_all(tracees: Iterable[Tracee]) -> None:
    """End processes and threads; a leader is gone only after its threads."""
    for tracee in sorted(tracees, key=lambda tracee: is_leader(tracee.pid)):
        with contextlib.suppress(Exception):  # the others are ended all the same
            tracee.kill()


def is_leader(tid: int) -> bool:
    """Whether a thread is the first of its process."""
    try:
        return f"\nTgid:\t{tid}\n" in Path(f"/proc/{tid}/status").read_text(errors="replace")
    except OSError:
        return True
