"""The quiescent point: the blocking call of a long-lived loop, found in the past and reached again later.

Nothing here changes the past: where a stop breaks a blocking call off, the call is made again with the time
that was left (``instar.process.parking``), so that it sees neither an EINTR nor another timeout.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from instar.control.chains import Chain, FunctionNames, read_chain, show_chain
from instar.errors import InstarError, RefusedError
from instar.process.blocking import CALLS, describe_call, may_rest
from instar.process.deadline import Deadline, DeadlineError
from instar.process.parking import park, unpark
from instar.process.status import read_children, read_status, read_threads
from instar.process.syscalls import NUMBERS
from instar.process.tracee import Pause, Stop, Tracee

_REST_S = 0.005  # asleep in one call for this long: it really blocks
_BURST = 400  # system call stops in one look at a busy process
_RETURNS = 3  # so often at the same call: it comes back to it
_LOOKS = 8
_RESTART_SYSCALL = NUMBERS["restart_syscall"]


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

    Args:
        pid: A process of one thread.
        names: Of the functions of its program (``chains.function_names``).
        deadline: Until when it must have been seen at such a point.

    Raises:
        RefusedError: multi-threaded, has-children; no-quiescent-point: it was never seen waiting, with its
            stack; stack-unreadable.
    """
    require_single(pid)
    tracee = Tracee.seize(pid)
    try:
        return _observe(tracee, names, deadline)
    finally:
        tracee.detach()


def _observe(tracee: Tracee, names: FunctionNames, deadline: Deadline) -> QuiescentPoint:
    seen: Counter[tuple[int, tuple[str, ...]]] = Counter()
    last: Chain | None = None
    for look in range(_LOOKS):
        asleep = wait_until_asleep(tracee.pid, deadline.within(0.05 * (look + 1)))
        parked = park(tracee, deadline)
        if parked.stop.ended:
            raise tracee.died(parked.stop)
        if parked.resting and parked.call is not None:
            last = read_chain(tracee, names)
            unpark(tracee, parked)
            if asleep and last.whole:
                return QuiescentPoint(last.functions, parked.call.number, parked.call.name)
            seen[parked.call.number, last.functions] += last.whole
        found = _watch(tracee, names, seen, deadline)
        if found is not None:
            return found
        if deadline.expired:
            break
    raise _never_rests(tracee, names, last)


def wait_until_asleep(pid: int, deadline: Deadline) -> bool:
    """Whether a process was asleep in one resting call for some time; looks at /proc only."""
    pause = Pause(deadline, "")
    since, known = time.monotonic(), None
    while True:
        now = _asleep_in(pid)
        if now is None or now != known:
            since, known = time.monotonic(), now
        elif time.monotonic() - since >= _REST_S:
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


def _watch(
    tracee: Tracee,
    names: FunctionNames,
    seen: Counter[tuple[int, tuple[str, ...]]],
    deadline: Deadline,
) -> QuiescentPoint | None:
    """Follow a busy process for a while; the resting call that it comes back to, seen often enough."""
    for _ in range(_BURST):
        if deadline.expired:
            break
        try:
            stop = next_syscall(tracee, deadline.within(0.02))
        except DeadlineError:
            break  # it sleeps now: the caller looks again
        if stop.ended:
            raise tracee.died(stop)
        call = stop.syscall
        if not stop.entry or call is None or not may_rest(call.number, call.arguments):
            continue
        chain = read_chain(tracee, names)
        if not chain.whole:
            continue
        seen[call.number, chain.functions] += 1
        if seen[call.number, chain.functions] >= _RETURNS:
            others = tuple(c for (_, c), _ in seen.most_common() if c != chain.functions)
            _let_go(tracee, deadline)
            return QuiescentPoint(chain.functions, call.number, CALLS[call.number].name, False, others)
    _let_go(tracee, deadline)
    return None


def next_syscall(tracee: Tracee, deadline: Deadline) -> Stop:
    """From any stop to the next stop of a system call (or the end); signals are delivered on the way."""
    while True:
        tracee.resume("syscall", _due_signal(tracee))
        stop = tracee.wait(deadline)
        if stop.entry or stop.exit or stop.ended:
            return stop


def _due_signal(tracee: Tracee) -> int:
    """The signal of a signal stop, which must not be lost."""
    stop = tracee.stop
    return stop.signal if stop is not None and stop.kind == "signal" else 0


def _let_go(tracee: Tracee, deadline: Deadline) -> None:
    """Let a traced process run freely (no more system call stops), still seized."""
    if tracee.stop is None:
        parked = park(tracee, deadline.within(1.0))
        if parked.stop.ended:
            raise tracee.died(parked.stop)
        unpark(tracee, parked)
    tracee.resume("cont", _due_signal(tracee))


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


def bring_to_point(tracee: Tracee, names: FunctionNames, point: QuiescentPoint, deadline: Deadline) -> None:
    """Run a seized process on until it is about to make the blocking call of the point, and leave it there.

    It stands at the entry of the call: nothing is cancelled, and whether it is resumed, detached, or let go
    by our death, it makes the call. What is left of a timeout that had begun is kept.

    Raises:
        RefusedError: quiescence-timeout, with where it is; it runs on, still seized.
        ProcessDiedError: It has ended.
    """
    parked = park(tracee, deadline)
    if parked.stop.ended:
        raise tracee.died(parked.stop)
    unpark(tracee, parked)
    broken_off = parked.call.number if parked.call is not None else -1
    try:
        while not _stands_at(tracee, names, point, broken_off):
            if next_syscall(tracee, deadline).ended and tracee.stop is not None:
                raise tracee.died(tracee.stop)
            deadline.check("")
    except DeadlineError as error:
        raise _late(tracee, names, point, deadline) from error


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
    tracee.resume("cont", _due_signal(tracee))
    return RefusedError(
        "quiescence-timeout",
        f"process {tracee.pid} did not come to {point} within {deadline.seconds:g} s: it is in "
        f"{show_chain(chain.functions)}{where}",
        "try again when it is less busy, or allow more time with --timeout",
    )


def list_chains(chains: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Chains for the details of an error."""
    return tuple(show_chain(chain) for chain in chains)
