"""The quiescent point: the blocking call of a long-lived loop, found in the past and reached again later.

Nothing here changes the past: where a stop breaks a blocking call off, the call is made again with the time
that was left (``instar.process.parking``), so that it sees neither an EINTR nor another timeout.
"""

from __future__ import annotations

import math
import os
import stat
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from instar.control.chains import Chain, FunctionNames, read_chain, show_chain
from instar.control.startup_answers import Call
from instar.control.startup_waiting import Onlooker, inspect_wait
from instar.errors import InstarError, InternalError, RefusedError
from instar.guard.client import Past, Sight
from instar.process.blocking import CALLS, describe_call, may_rest
from instar.process.deadline import Deadline, DeadlineError
from instar.process.descriptors import SocketDetails, describe_socket, duplicate
from instar.process.failures import ProcessDiedError
from instar.process.parking import BrokenOff, stop_past
from instar.process.status import read_children, read_status, read_threads
from instar.process.syscalls import NUMBERS
from instar.process.tracee import Tracee
from instar.process.waiting import Pause

_IDLE_S = 0.03  # asleep in one call for this long: idle
_BURST = 2000  # system call stops in one look at a busy process
_RETURNS = 3  # seen so often about to wait in the same call: it comes back to it
_ROUNDS = 60  # or so often asking there, with something to do every time
_LOOKS = 16  # or so often waiting for the same peer, and nowhere else
_STOP_S = 2.0
_RESTART_SYSCALL = NUMBERS["restart_syscall"]
_RESTING = [number for number, call in CALLS.items() if call.waits_for_work]
_OF_PEERS = ("read", "recv", "wait", "msgrcv", "futex", "restart_syscall")
_MAIN = [number for number in _RESTING if not CALLS[number].name.startswith(_OF_PEERS)]
_LONGEST_LOOK_S = 10.0
_FOLLOW_S = 0.3
_FOREVER_S = 1e6


@dataclass(frozen=True, slots=True)
class QuiescentPoint:
    """A blocking call at which a program waits for work.

    Attributes:
        chain: The program's functions, innermost first.
        syscall: Number of the call.
        name: Of the call.
        waits: Whether it was seen asleep there (else it was seen to come back to it).
        alternatives: Other chains at which it was seen to rest, the most frequent first.
    """

    chain: tuple[str, ...]
    syscall: int
    name: str
    waits: bool = True
    alternatives: tuple[tuple[str, ...], ...] = ()

    def accepts(self, chain: tuple[str, ...]) -> bool:
        """Whether a thread with this chain stands at the point, or at another that was seen."""
        return chain == self.chain or chain in self.alternatives

    def at(self, chain: tuple[str, ...], syscall: int) -> QuiescentPoint:
        """The same point with one of its alternatives as the chain."""
        name = CALLS[syscall].name if syscall in CALLS else self.name
        return QuiescentPoint(chain, syscall, name, self.waits, self.alternatives)

    def __str__(self) -> str:
        return f"{show_chain(self.chain)} ({self.name})"


# -------------------------------------------------------------------------------------- who cannot be updated


def require_single(pid: int) -> None:
    """Refuse a process with more threads, or with children; raises RefusedError."""
    threads = read_threads(pid)
    if len(threads) > 1:
        raise RefusedError(
            "multi-threaded",
            f"process {pid} has {len(threads)} threads",
            "programs with several threads cannot be updated yet",
            details=tuple(f"thread {tid}: {_thread_name(pid, tid)}" for tid in threads),
        )
    children = living_children(pid)
    if children:
        shared = {child: _shared_channels(pid, child) for child in children}
        raise RefusedError(
            "has-children",
            f"process {pid} has {len(children)} child process{'es' if len(children) > 1 else ''}: "
            + ", ".join(f"{child} ({process_name(child)})" for child in children),
            "services of several processes cannot be updated yet; end the children",
            details=tuple(
                f"{child} ({process_name(child)}) shares {', '.join(found)} with it"
                for child, found in shared.items()
                if found
            ),
        )


def living_children(pid: int) -> list[int]:
    """Its children that have not ended."""
    found = []
    for child in read_children(pid):
        try:
            if not read_status(child).zombie:
                found.append(child)
        except InstarError:
            continue
    return found


def process_name(pid: int) -> str:
    """The name of a process, "?" when it is gone."""
    return _thread_name(pid, pid)


def _thread_name(pid: int, tid: int) -> str:
    try:
        return Path(f"/proc/{pid}/task/{tid}/comm").read_text().strip()
    except OSError:
        return "?"


def _shared_channels(pid: int, other: int) -> list[str]:
    """Sockets and pipes that two processes both hold."""

    def channels(process: int) -> set[str]:
        found = set()
        try:
            for entry in Path(f"/proc/{process}/fd").iterdir():
                target = os.readlink(entry)  # noqa: PTH115
                if target.startswith(("socket:", "pipe:")):
                    found.add(target)
        except OSError:
            pass
        return found

    return sorted(channels(pid) & channels(other))


# ---------------------------------------------------------------------------------------- finding the point


def observe_past(
    past: Past, names: FunctionNames, deadline: Deadline, marked: frozenset[str] = frozenset()
) -> QuiescentPoint:
    """Find where a running process waits for work; it runs on as if it had not been looked at.

    An idle process is looked at once. A busy one is followed for a moment, and the call chosen that it
    comes back to: one that waits for many things, for clients or for time before one that waits for a peer.

    Args:
        past: A process of one thread.
        names: Of the functions of its program (``chains.function_names``).
        deadline: Until when it must have been seen at such a point.
        marked: Functions that the program says are its update points: it must wait in one of them.

    Raises:
        RefusedError: multi-threaded, has-children; no-quiescent-point: it was never seen waiting;
            stack-unreadable.
    """
    require_single(past.pid)
    seen = Sightings(marked)
    try:
        while True:
            last, idle = _look_once(past, names, seen, deadline)
            if seen.settled or (seen and ((idle and seen.at_rest) or deadline.expired)):
                return seen.best(asleep=idle)
            if deadline.expired:
                raise _never_rests(past, names, last, marked)
    finally:
        past.release()


def _look_once(past: Past, names: FunctionNames, seen: Sightings, deadline: Deadline) -> tuple[Chain, bool]:
    """Where it stands, and whether it was idle; a busy one is followed for a while."""
    idle = wait_until_asleep(past.pid, deadline.within(_IDLE_S * 2), _IDLE_S)
    past.seize(_LONGEST_LOOK_S)
    try:
        call = stop_past(past, _STOP_S)
        chain = read_chain(past, names)
        if call is not None and may_rest(call.number, call.arguments):
            rank = _rank(past.pid, call.number, call.arguments, asleep=True)
            seen.add(call.number, chain, rank)
            seen.at_rest = chain.whole and seen.accepts(chain) and (rank == 0 or bool(seen.marked))
        if not idle or (seen.marked and not seen.at_rest):
            _follow(past, names, seen, deadline)
    finally:
        past.release()
    return chain, idle


class Sightings:
    """Where a process was seen in calls in which it can rest."""

    def __init__(self, marked: frozenset[str] = frozenset()) -> None:
        self.marked = marked
        self._counts: Counter[tuple[int, int, tuple[str, ...]]] = Counter()
        self.looked = False  # it was followed before
        self.at_rest = False  # the last one was in a call that waits for many things, asleep

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, number: int, chain: Chain, rank: int) -> None:
        """Note one; stacks that cannot be read do not count, nor do others than those of update points."""
        if chain.whole and self.accepts(chain):
            self._counts[0 if self.marked else rank, number, chain.functions] += 1

    def accepts(self, chain: Chain) -> bool:
        """Whether the program may be updated there, by what it says itself."""
        return not self.marked or not self.marked.isdisjoint(chain.functions)

    @property
    def settled(self) -> bool:
        """Whether some main loop was seen often enough."""
        needed = {0: _RETURNS, 1: _ROUNDS, 2: _LOOKS}
        return any(count >= needed.get(rank, 1 << 30) for (rank, _, _), count in self._counts.items())

    def best(self, *, asleep: bool) -> QuiescentPoint:
        """The most frequent of the best rank; the others as alternatives."""
        order = sorted(self._counts.items(), key=lambda item: (item[0][0], -item[1]))
        (_, number, chain), _ = order[0]
        others = tuple(dict.fromkeys(c for (_, _, c), _ in order if c != chain))
        return QuiescentPoint(chain, number, CALLS[number].name, asleep, others)


def _rank(pid: int, number: int, arguments: tuple[int, ...], *, asleep: bool = False) -> int:
    """How well a call does for a quiescent point.

    0: it waits, for many things, for clients or for time; 1: it asks for many things and something has come;
    2: it waits for one peer that is connected; 3: it takes what has come.
    """
    call = CALLS[number]
    asked = Call(pid, number, call.name, arguments)
    waits = asleep or inspect_wait(asked, Onlooker(pid)).outcome != "returns"
    if call.name.startswith(("poll", "ppoll", "select", "pselect", "epoll")):
        return 0 if waits else 1
    if not waits:
        return 3
    if call.descriptor_index < 0 or not call.name.startswith(("read", "recv")):
        return 0
    details = describe_number(pid, arguments[call.descriptor_index] & 0xFFFFFFFF)
    return 2 if details is not None and details.peer is not None else 0


def describe_number(pid: int, number: int) -> SocketDetails | None:
    """The details of a descriptor that is a socket."""
    try:
        descriptor = duplicate(pid, number)
    except InstarError:
        return None
    try:
        return describe_socket(descriptor) if stat.S_ISSOCK(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


def wait_until_asleep(pid: int, deadline: Deadline, seconds: float) -> bool:
    """Whether a process was asleep in one resting call for some time; looks at /proc only."""
    pause = Pause(deadline, "")
    since, known = time.monotonic(), None
    while True:
        now = _asleep_in(pid)
        if now is None or now != known:
            since, known = time.monotonic(), now
        elif time.monotonic() - since >= seconds:
            return True
        try:
            pause.sleep()
        except DeadlineError:
            return False


def _asleep_in(pid: int) -> tuple[str, str] | None:
    """The call (as /proc/PID/syscall has it) and its switches so far; None when it does not rest."""
    try:
        text = Path(f"/proc/{pid}/syscall").read_text()
        words = text.split()
        if len(words) != 9:
            return None
        arguments = [int(word, 16) for word in words[1:7]]
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except (OSError, ValueError):
        return None
    if not may_rest(int(words[0]), arguments):
        return None
    return text, status[status.index("voluntary_ctxt_switches:") :]


def _follow(past: Past, names: FunctionNames, seen: Sightings, deadline: Deadline) -> None:
    """Watch the calls of a busy process for a while: those of main loops, if it was seen to have one.

    It is slowed down meanwhile, the more the more of its calls are looked at. One that names its update
    points is followed through its waits elsewhere: it may stand at such a point for a moment only.
    """
    end, wanted = Deadline(_FOLLOW_S), _RESTING if seen.marked or (seen.looked and not seen) else _MAIN
    asleep_s = _FOLLOW_S if seen.marked else _IDLE_S
    seen.looked = True
    for _ in range(_BURST):
        if deadline.expired or end.expired or seen.settled:
            break
        try:
            sight = past.step(deadline.within(asleep_s).remaining(), wanted)
        except DeadlineError:
            break  # it sleeps now: the caller looks again
        require_alive(past, sight)
        if sight.entry and sight.registers is not None:
            number, arguments = sight.registers.orig_rax, sight.registers.syscall_arguments()
            if may_rest(number, arguments):
                seen.add(number, read_chain(past, names), _rank(past.pid, number, arguments))


def require_alive(past: Past, sight: Sight) -> None:
    """Raise ProcessDiedError for a process that has ended."""
    if sight.ended:
        raise ProcessDiedError(past.pid, -sight.signal if sight.kind == "killed" else sight.status)


def hold_before_call(tracee: Tracee) -> int:
    """From the entry stop of a call back to before it: it stands where it will make the call anew.

    Returns:
        The number of the call.
    """
    stop = tracee.stop
    if stop is None or not stop.entry or stop.syscall is None:
        raise InternalError(f"process {tracee.pid} is not about to make a call")
    registers = tracee.registers()
    tracee.suspend_filter()  # it would see the number -1
    try:
        tracee.set_registers(registers.copy(rip=registers.rip - 2, rax=stop.syscall.number, orig_rax=-1))
        tracee.resume("syscall")
        _expect(tracee, "syscall-exit")
    finally:
        if tracee.end is None:
            tracee.resume_filter()
    return stop.syscall.number


def _expect(tracee: Tracee, kind: str) -> None:
    stop = tracee.wait(Deadline(_STOP_S))
    if stop.ended:
        raise tracee.died(stop)
    if stop.kind != kind:
        raise InternalError(f"process {tracee.pid}: {stop.kind} in place of {kind}")


def require_point_marked(point: QuiescentPoint, marked: frozenset[str]) -> None:
    """Refuse a point that is none of those that the new version names, if it names any.

    Raises:
        RefusedError: different-point.
    """
    if marked and marked.isdisjoint(point.chain):
        raise RefusedError(
            "different-point",
            f"the old version waits in {show_chain(point.chain)}, the new one says that it is to be updated "
            f"in {', '.join(sorted(marked))}",
            "mark the same function with INSTAR_UPDATE_POINT in both versions",
        )


def _never_rests(
    past: Past, names: FunctionNames, chain: Chain, marked: frozenset[str] = frozenset()
) -> RefusedError:
    if not chain.whole:
        return RefusedError(
            "stack-unreadable",
            f"the stack of process {past.pid} cannot be followed from {show_chain(chain.functions)}",
            "build the program and its libraries with unwind tables (the default), and with -g",
        )
    past.seize(_LONGEST_LOOK_S)
    call = stop_past(past, _STOP_S)
    chain = read_chain(past, names)
    where = f" in its update point, {', '.join(sorted(marked))}" if marked else ""
    return RefusedError(
        "no-quiescent-point",
        f"process {past.pid} was never seen waiting for work{where}; "
        f"it is in {show_chain(chain.functions)}{_describe(past, call)}",
        "wait until it is less busy, or allow more time with --timeout",
        details=tuple(chain.functions),
    )


def _describe(past: Past, call: BrokenOff | None) -> str:
    """ " (poll on ...)": what a stopped process does, for messages."""
    return "" if call is None else f" ({describe_call(call.number, call.arguments, past.memory)})"


# ---------------------------------------------------------------------------------------- reaching the point


def bring_to_point(
    past: Past, names: FunctionNames, point: QuiescentPoint, deadline: Deadline, limit_s: float = math.inf
) -> None:
    """Run a seized process on until it is about to make the blocking call of the point, and hold it there.

    It stands as if it had been stopped while it waited in the call: whether it is released, or let go by the
    guard's death, it waits on. What is left of a timeout that had begun is kept.

    Args:
        past: Seized.
        names: Of the functions of its program.
        point: Where it is to stand.
        deadline: Until when it must stand there.
        limit_s: After so long the guard lets it go by itself.

    Raises:
        RefusedError: quiescence-timeout, with where it is; it was let go.
        ProcessDiedError: It has ended.
    """
    call = stop_past(past, deadline.remaining())
    broken_off = -1 if call is None else call.number
    try:
        while not _stands_at(past, names, point, broken_off):
            require_alive(past, past.step(deadline.remaining(), (point.syscall, _RESTART_SYSCALL)))
            deadline.check("")
    except DeadlineError as error:
        raise _late(past, names, point, deadline) from error
    past.hold(min(limit_s, _FOREVER_S))


def _stands_at(past: Past, names: FunctionNames, point: QuiescentPoint, broken_off: int) -> bool:
    """Whether it is about to make the call; restart_syscall makes the one again that we broke off."""
    sight = past.sight
    if sight is None or not sight.entry:
        return False
    number = past.registers().orig_rax
    number = broken_off if number == _RESTART_SYSCALL else number
    return number == point.syscall and read_chain(past, names).functions == point.chain


def _late(past: Past, names: FunctionNames, point: QuiescentPoint, deadline: Deadline) -> RefusedError:
    """Why it did not come; lets it go."""
    call = stop_past(past, _STOP_S)
    chain, where = read_chain(past, names), _describe(past, call)
    past.release()
    return RefusedError(
        "quiescence-timeout",
        f"process {past.pid} did not come to {point} within {deadline.seconds:g} s: it is in "
        f"{show_chain(chain.functions)}{where}",
        "try again when it is less busy, or allow more time with --timeout",
    )
