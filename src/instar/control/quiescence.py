"""The quiescent point: the blocking call of a long-lived loop, found in the past and reached again later.

Nothing here changes the past: where a stop breaks a blocking call off, the call is made again with the time
that was left (``instar.process.parking``), so that it sees neither an EINTR nor another timeout.
"""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from instar.control.chains import Chain, FunctionNames, read_chain, show_chain
from instar.control.startup_answers import Call
from instar.control.startup_waiting import Onlooker, inspect_wait
from instar.errors import FaultError, HostError, InstarError, InternalError, RefusedError
from instar.process import ptrace
from instar.process.blocking import CALLS, blocking_call, describe_call, may_rest, relative_timeout_ns
from instar.process.deadline import Deadline, DeadlineError
from instar.process.descriptors import SocketDetails, describe_socket, duplicate
from instar.process.parking import Parked, park, rewind_syscall, unpark
from instar.process.status import read_children, read_status, read_threads
from instar.process.syscalls import NAMES, NUMBERS
from instar.process.tracee import Pause, Stop, Tracee

_IDLE_S = 0.03  # asleep in one call for this long: idle
_BURST = 2000  # system call stops in one look at a busy process
_RETURNS = 3  # seen so often about to wait in the same call: it comes back to it
_ROUNDS = 200  # or so often asking there, with something to do every time
_LOOKS = 16  # or so often waiting for the same peer, and nowhere else
_STOP_S = 2.0
_RESTART_SYSCALL = NUMBERS["restart_syscall"]
_ERESTARTSYS, _ERESTARTNOHAND = -512, -514
_RESTARTED = ("read", "readv", "recvfrom", "recvmsg", "accept", "accept4", "wait4", "waitid")  # by SA_RESTART


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


def observe_past(pid: int, names: FunctionNames, deadline: Deadline) -> QuiescentPoint:
    """Find where a running process waits for work; it runs on as if it had not been looked at.

    An idle process is looked at once. A busy one is followed for a moment, and the call chosen that it
    comes back to: one that waits for many things, for clients or for time before one that waits for a peer.

    Args:
        pid: A process of one thread.
        names: Of the functions of its program (``chains.function_names``).
        deadline: Until when it must have been seen at such a point.

    Raises:
        RefusedError: multi-threaded, has-children; no-quiescent-point: it was never seen waiting;
            stack-unreadable.
    """
    require_single(pid)
    tracee = Tracee.seize(pid)
    try:
        return _observe(tracee, names, deadline)
    finally:
        release(tracee)


def _observe(tracee: Tracee, names: FunctionNames, deadline: Deadline) -> QuiescentPoint:
    seen = Sightings()
    last: Chain | None = None
    while True:
        idle = wait_until_asleep(tracee.pid, deadline.within(_IDLE_S * 2), _IDLE_S)
        parked = park(tracee, Deadline(_STOP_S))
        if parked.stop.ended:
            raise tracee.died(parked.stop)
        last = read_chain(tracee, names)
        unpark(tracee, parked)
        if parked.resting and parked.call is not None:
            rank = _rank(tracee.pid, parked.call.number, parked.arguments, asleep=True)
            seen.add(parked.call.number, last, rank)
            if idle and last.whole and rank == 0:
                return seen.best(asleep=True)
        if not idle:
            _follow(tracee, names, seen, deadline)
        else:
            tracee.resume("cont", _due_signal(tracee))
        if seen.settled or (deadline.expired and seen):
            return seen.best(asleep=idle)
        if deadline.expired:
            raise _never_rests(tracee, names, last)


class Sightings:
    """Where a process was seen in calls in which it can rest."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, int, tuple[str, ...]]] = Counter()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, number: int, chain: Chain, rank: int) -> None:
        """Note one; stacks that cannot be read do not count."""
        if chain.whole:
            self._counts[rank, number, chain.functions] += 1

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


def _follow(tracee: Tracee, names: FunctionNames, seen: Sightings, deadline: Deadline) -> None:
    """Watch the calls of a busy process for a while; it runs freely afterwards."""
    for _ in range(_BURST):
        if deadline.expired or seen.settled:
            break
        try:
            stop = next_syscall(tracee, deadline.within(_IDLE_S))
        except DeadlineError:
            break  # it sleeps now: the caller looks again
        if stop.ended:
            raise tracee.died(stop)
        call = stop.syscall
        if stop.entry and call is not None and may_rest(call.number, call.arguments):
            rank = _rank(tracee.pid, call.number, call.arguments)
            seen.add(call.number, read_chain(tracee, names), rank)
    go_on(tracee)


def next_syscall(tracee: Tracee, deadline: Deadline) -> Stop:
    """From any stop to the next stop of a system call (or the end); signals are delivered on the way."""
    while True:
        tracee.resume("syscall", _due_signal(tracee))
        stop = tracee.wait(deadline)
        if stop.entry or stop.exit or stop.ended:
            return stop
        if stop.event == ptrace.EVENT_STOP:  # asked for earlier
            rewind_syscall(tracee)


def _due_signal(tracee: Tracee) -> int:
    """The signal of a signal stop, which must not be lost."""
    stop = tracee.stop
    return stop.signal if stop is not None and stop.kind == "signal" else 0


def go_on(tracee: Tracee) -> None:
    """Let a traced process run freely (no more system call stops), still traced; also a held one."""
    _stand(tracee)
    if tracee.end is None:
        tracee.resume("cont", _due_signal(tracee))


def release(tracee: Tracee, held: Parked | None = None) -> None:
    """Stop tracing a process so that it does not notice: no EINTR, no lost signal, no lost time.

    A plain detach wakes the thread as a signal does: a call that it is in, or about to make, returns EINTR.

    Args:
        tracee: Running, or at any stop.
        held: What ``bring_to_point`` returned, if it still stands there: its timeout ends when it was to end.
    """
    if held is not None and held.stop is tracee.stop:
        unpark(tracee, held)
    if tracee.stop is not None and tracee.stop.entry:
        try:
            hold_in_call(tracee)
        except HostError:  # its seccomp filter forbids that: let the call begin, then stop it inside
            tracee.resume("cont")
    _stand(tracee)
    tracee.detach(_due_signal(tracee))


def _stand(tracee: Tracee) -> None:
    """Stop a running process where it can be let go unnoticed."""
    if tracee.end is None and tracee.stop is None:
        parked = park(tracee, Deadline(_STOP_S))
        if not parked.stop.ended:
            unpark(tracee, parked)


def hold_before_call(tracee: Tracee) -> int:
    """From the entry stop of a call back to before it: it stands where it will make the call anew.

    The registers are set at once (number -1 makes the kernel pass over the call and leave rax alone), so
    that there is no moment at which our death would let the thread see anything but the call itself.

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


def hold_in_call(tracee: Tracee) -> None:
    """From the entry stop of a call to the state of a thread that was stopped while it waited in it.

    However it is let go, it makes the call, unless a signal with a handler has come meanwhile: then the call
    returns EINTR, or is made after the handler (SA_RESTART), as if the signal had come while it waited.
    """
    number = hold_before_call(tracee)
    ptrace.interrupt(tracee.pid)
    tracee.resume("cont")
    _expect(tracee, "event")
    registers = tracee.registers()
    result = _ERESTARTSYS if NAMES.get(number, "") in _RESTARTED else _ERESTARTNOHAND
    tracee.set_registers(registers.copy(rip=registers.rip + 2, rax=result, orig_rax=number))


def _expect(tracee: Tracee, kind: str) -> None:
    stop = tracee.wait(Deadline(_STOP_S))
    if stop.ended:
        raise tracee.died(stop)
    if stop.kind != kind:
        raise InternalError(f"process {tracee.pid}: {stop.kind} in place of {kind}")


def _never_rests(tracee: Tracee, names: FunctionNames, chain: Chain | None) -> RefusedError:
    if chain is not None and not chain.whole:
        return RefusedError(
            "stack-unreadable",
            f"the stack of process {tracee.pid} cannot be followed from {show_chain(chain.functions)}",
            "build the program and its libraries with unwind tables (the default), and with -g",
        )
    parked = park(tracee, Deadline(1.0))
    chain = read_chain(tracee, names)
    where = describe_place(tracee, parked.call is not None)
    unpark(tracee, parked)
    return RefusedError(
        "no-quiescent-point",
        f"process {tracee.pid} was never seen waiting for work; "
        f"it is in {show_chain(chain.functions)}{where}",
        "wait until it is less busy, or allow more time with --timeout",
        details=tuple(chain.functions),
    )


def describe_place(tracee: Tracee, in_call: bool) -> str:
    """ " (poll on ...)": what a stopped thread does, for messages."""
    registers = tracee.registers()
    if not in_call or not registers.in_syscall:
        return ""
    return f" ({describe_call(registers.orig_rax, registers.syscall_arguments(), tracee.memory)})"


# ---------------------------------------------------------------------------------------- reaching the point


def bring_to_point(tracee: Tracee, names: FunctionNames, point: QuiescentPoint, deadline: Deadline) -> Parked:
    """Run a seized process on until it is about to make the blocking call of the point, and leave it there.

    It stands as if it had been stopped while it waited in the call: whether it is resumed, detached, or let
    go by our death, it waits on. What is left of a timeout that had begun is kept.

    Returns:
        For ``release``.

    Raises:
        RefusedError: quiescence-timeout, with where it is; it runs on, still seized.
        ProcessDiedError: It has ended.
    """
    parked = park(tracee, deadline)
    if parked.stop.ended:
        raise tracee.died(parked.stop)
    unpark(tracee, parked)
    broken_off, entries = parked.call.number if parked.call is not None else -1, 0
    try:
        while not _stands_at(tracee, names, point, broken_off):
            stop = next_syscall(tracee, deadline)
            if stop.ended:
                raise tracee.died(stop)
            entries += stop.entry
            deadline.check("")
    except DeadlineError as error:
        raise _late(tracee, names, point, deadline) from error
    ends_at_ns = parked.ends_at_ns if entries <= 1 else None
    hold_in_call(tracee)
    return _held(tracee, ends_at_ns)


def _held(tracee: Tracee, ends_at_ns: int | None) -> Parked:
    """What ``unpark`` needs; a wait that has not begun yet begins now."""
    assert tracee.stop is not None
    registers = tracee.registers()
    arguments = registers.syscall_arguments()
    call = blocking_call(registers.orig_rax, arguments)
    if call is not None and ends_at_ns is None:
        try:
            wait = relative_timeout_ns(call, arguments, tracee.memory)
        except FaultError:
            wait = None
        ends_at_ns = None if wait is None else time.monotonic_ns() + wait
    return Parked(tracee.stop, call, arguments, ends_at_ns)


def _stands_at(tracee: Tracee, names: FunctionNames, point: QuiescentPoint, broken_off: int) -> bool:
    """Whether it is about to make the call; restart_syscall makes the one again that we broke off."""
    stop = tracee.stop
    if stop is None or not stop.entry or stop.syscall is None:
        return False
    number = broken_off if stop.syscall.number == _RESTART_SYSCALL else stop.syscall.number
    return number == point.syscall and read_chain(tracee, names).functions == point.chain


def _late(tracee: Tracee, names: FunctionNames, point: QuiescentPoint, deadline: Deadline) -> RefusedError:
    """Why it did not come, and let it run."""
    parked = park(tracee, Deadline(2.0))
    chain, where = read_chain(tracee, names), describe_place(tracee, parked.call is not None)
    unpark(tracee, parked)
    go_on(tracee)
    return RefusedError(
        "quiescence-timeout",
        f"process {tracee.pid} did not come to {point} within {deadline.seconds:g} s: it is in "
        f"{show_chain(chain.functions)}{where}",
        "try again when it is less busy, or allow more time with --timeout",
    )


def list_chains(chains: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Chains for the details of an error."""
    return tuple(show_chain(chain) for chain in chains)
