"""The driver: starts the future and is the only code that changes it. It has no right over the past.

The future is traced with EXITKILL until it waits at the commit gate, so that it dies with this process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future as Pending
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from instar.control.chains import function_names
from instar.control.channel import open_channel, raised_limit
from instar.control.dispositions import apply_dispositions, plan_dispositions
from instar.control.epoll import Cookies, Translate, fill_epolls, plan_epolls
from instar.control.gate import Gate
from instar.control.handed import require_handed
from instar.control.handover import Fetched, hand_over
from instar.control.quiescence import QuiescentPoint
from instar.control.runtime import EPOLL_ITEM, Rows, Runtime
from instar.control.standins import is_exiting
from instar.control.startup import Future, StartSpec, start_future
from instar.control.startup_past import PastFacts
from instar.control.streams import StreamPlan, open_streams, plan_streams, restore_streams
from instar.control.timers import Timers, apply_timers
from instar.errors import InternalError, RefusedError
from instar.heap.inherited import BLOCK
from instar.metadata.version import Version
from instar.process.access import read_proc
from instar.process.deadline import Deadline
from instar.process.descriptors import list_numbers
from instar.process.forking import adopt_orphans
from instar.process.maps import DELETED, Mapping, read_maps
from instar.process.queued import QueuedSignal, blockable, own_values
from instar.process.registers import Registers
from instar.process.status import read_status
from instar.process.syscalls import NUMBERS
from instar.process.written import WrittenPages
from instar.state.columns import Status
from instar.transfer.plan import TransferPlan
from instar.update.apply import all_ranges, choose_arena, map_plan, write_plan
from instar.update.guard import Guard
from instar.update.options import UpdateOptions
from instar.update.overreach import require_ranges, require_sources, require_writes
from instar.update.own import OwnMappings
from instar.update.watching import Bytes, watch_future
from instar.validation.differences import kernel_word_problem
from instar.validation.remaining import all_written

_ARENA_ROOM = 1 << 40
_OWN_NUMBERS = 8
_GATE_NUMBERS = 8
_EPOLL_ADD = 1
_KEPT = (Status.NULL, Status.SMALL, Status.STAY, Status.DANGLING, Status.WILD)


class Driver:
    """Drives one future.

    Args:
        version: What it runs.
        options: Of the update.

    Attributes:
        told: What the kernel keeps for the program, the past's words and what was made of them.
    """

    def __init__(self, version: Version, options: UpdateOptions) -> None:
        self._version, self._options = version, options
        self._future: Future | None = None
        self._channel: socket.socket | None = None
        self._gate: Gate | None = None
        self._mapped: dict[int, int] = {}
        self._arena = 0
        self._floor = 0
        self._streams: dict[int, int] = {}
        self._stream_plan: StreamPlan | None = None
        self._written: WrittenPages | None = None
        self._signal_values: dict[int, int] = {}
        self._stopped = False
        self._handed: Pending[tuple[Cookies, Cookies]] | None = None
        self.told: list[tuple[str, Cookies, Cookies]] = []
        self.warnings: list[str] = []

    # Start --------------------------------------------------------------------------------------------------

    def start(self, path: Path, facts: PastFacts, point: QuiescentPoint, deadline: Deadline) -> None:
        """Start the new version and park it where the past waits."""
        self._past = facts.pid
        if self._options.probation_s:
            adopt_orphans()  # also one that went to the background is ours to wait for
        spec = StartSpec(
            path.resolve(),
            function_names(self._version),
            self._options.argv,
            self._options.start_as,
            self._options.allow,
        )
        self._future = start_future(spec, facts, point, deadline)
        self.runtime = Runtime(self._future.tracee)
        self.program = os.fsdecode(read_proc(self.pid, "exe")).removesuffix(DELETED)

    @property
    def future(self) -> Future:
        """The started future."""
        if self._future is None:
            raise InternalError("the future was not started")
        return self._future

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.future.pid

    def abort(self) -> None:
        """End the future and undo what it did to the outside; harmless when done already."""
        if self._gate is not None:
            self._gate.abandon()
        if self._channel is not None:
            self._channel.close()
        self._stop_watching()
        if self._future is not None:
            self.warnings.extend(f"left-behind: {text}" for text in self._future.abort())
        self._future = None

    def drop_descriptors(self) -> None:
        """Close all that the parked future has: it is kept for a look only, and holds nothing open."""
        self.future.tracee.inject_syscall(NUMBERS["close_range"], 0, 0xFFFFFFFF, 0)

    def registers(self) -> Registers:
        """Of the parked future."""
        return self.future.tracee.registers()

    def poll_end(self) -> int | None:
        """How the serving future has ended: its status, minus a signal, 256 when unknown; None: it runs."""
        try:
            found, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return 256 if is_exiting(self.pid) else None
        return os.waitstatus_to_exitcode(status) if found else None

    def is_alive(self) -> bool:
        """Whether the parked future was not killed from outside."""
        return self.future.tracee.poll() is None and self.future.tracee.end is None

    def arena_base(self, past_maps: Sequence[Mapping]) -> int:
        """Where blocks that move go: free in both processes."""
        if not self._arena:
            self._arena = choose_arena([*past_maps, *read_maps(self.pid)], _ARENA_ROOM)
        return self._arena

    # Memory -------------------------------------------------------------------------------------------------

    def map(self, plan: TransferPlan, past_maps: Sequence[Mapping]) -> None:
        """Map the plan's ranges; raises AddressTakenError, RefusedError "worker-overreach".

        Args:
            plan: What the worker made.
            past_maps: What the past has mapped, as the kernel tells.
        """
        require_ranges(all_ranges(plan))
        if any(kept.source is not None for kept in all_ranges(plan)):
            require_sources(all_ranges(plan), past_maps)
        wanted = {kept.start: kept.size for kept in all_ranges(plan) if not kept.plain}
        gone = {start: size for start, size in self._mapped.items() if start not in wanted}
        if gone:
            self.runtime.unmap_ranges(list(gone), list(gone.values()))
        map_plan(plan, self.runtime)
        self._mapped = wanted
        self._own.map([kept for kept in all_ranges(plan) if kept.plain], refreshed=plan.refreshed)

    def write(self, plan: TransferPlan) -> int:
        """Write the plan; returns the bytes written. Raises RefusedError "worker-overreach"."""
        require_writes(plan, read_maps(self.pid), self.program)
        written = write_plan(plan, self.runtime, self.future.tracee)
        if not plan.refreshed:
            self._require_told(plan)
        self._own.close()
        return written

    def _require_told(self, plan: TransferPlan) -> None:
        """The runtime knows as many blocks of each range as there are: the program will free them."""
        told = {int(row["start"]): int(row["block_count"]) for row in self.runtime.ranges()}
        for kept in (*plan.kept, *([plan.arena] if plan.arena is not None else [])):
            wanted = 0 if kept.plain else kept.blocks.nbytes // BLOCK.itemsize
            if told.get(kept.start, 0) != wanted:
                raise InternalError(
                    f"the new version is told of {told.get(kept.start, 0)} blocks from {kept.start:#x} on, "
                    f"not of {wanted}"
                )

    def watch(self, plan: TransferPlan) -> None:
        """Have the kernel tell from here on which pages of the plan's ranges are written, where it can."""
        self._stop_watching()
        self._written = watch_future(self.future.tracee, all_ranges(plan))

    def unwritten(self, start: int, end: int) -> Bytes:
        """What of a range nobody has written since ``watch``: see ``WrittenPages.unwritten``."""
        return self._written.unwritten(start, end) if self._written is not None else all_written(start, end)

    def _stop_watching(self) -> None:
        if self._written is not None:
            self._written.close()
        self._written = None

    def check(self, plan: TransferPlan) -> None:
        """Read back what was written outside of the kept ranges; raises InternalError where it differs."""
        for write in plan.writes:
            expected = np.frombuffer(write.data, np.uint8)
            found = np.empty(len(expected), np.uint8)
            self.future.tracee.memory.read_into(write.address, found)
            if not np.array_equal(found, expected):
                raise InternalError(
                    f"{len(expected)} bytes at {write.address:#x} of the future are not as written"
                )

    # Descriptors --------------------------------------------------------------------------------------------

    def open_channel(self, highest: int) -> None:
        """Make the socket over which descriptors come; its number is above all that the past uses."""
        self._floor = max([highest, *list_numbers(self.pid)]) + 1
        self._channel = open_channel(self.runtime, self._floor)
        number = self._floor + _OWN_NUMBERS - 1
        self._own = OwnMappings(self._past, self.future.tracee, self.runtime, self._channel, number)

    @property
    def channel(self) -> socket.socket:
        """Our end."""
        if self._channel is None:
            raise InternalError("the channel is not open")
        return self._channel

    def take_descriptors(self, fetched: Fetched, plan: TransferPlan) -> None:
        """Give the future the past's descriptors, its epoll sets with translated cookies."""
        hand_over(fetched, self.runtime, self.channel)
        self.told.clear()
        fill_epolls(self.runtime, plan_epolls(fetched, partial(_translate, plan)))
        fill_epolls(self.runtime, self._own_registrations())
        pool = ThreadPoolExecutor(1)  # while the rest is transferred: ten thousand connections take 40 ms
        self._handed = pool.submit(require_handed, fetched, self.pid)
        pool.shutdown(wait=False)

    def _own_registrations(self) -> Rows:
        """Listeners that only the new version has: they were registered, but did not listen yet."""
        own = [one for one in self.future.registrations if one.past is None]
        items = np.zeros(len(own), EPOLL_ITEM)
        for item, one in zip(items, own, strict=True):
            item["epoll"], item["descriptor"], item["operation"] = one.epoll, one.number, _EPOLL_ADD
            item["events"], item["data"], item["source"] = one.events, one.data, -1
        return items

    def pair_streams(self, guard: Guard) -> dict[int, int]:
        """The future's own stream for every ``FILE`` of the held past (old address -> new)."""
        plan = plan_streams(
            guard.past.memory, guard.maps(), self.future.tracee.memory, read_maps(self.pid), self._streams
        )
        self._stream_plan = plan
        self._streams = open_streams(self.runtime, plan)
        return {old: new for old, new in self._streams.items() if old in plan.carried}

    def take_streams(self, guard: Guard) -> None:
        """Put position, buffering and unflushed bytes of the past's streams into the future's."""
        if self._stream_plan is not None:
            restore_streams(self.runtime, guard.past.memory, self._stream_plan, self._streams)

    def take_signals(self, guard: Guard, plan: TransferPlan) -> None:
        """Give the future the past's timers, and the dispositions that its own start-up left alone."""
        timers = guard.timers()
        apply_timers(self.future.tracee, timers, self._tells("a timer holds", plan, _translate))
        dispositions = plan_dispositions(read_status(guard.pid), read_status(self.pid))
        handlers = guard.handlers(dispositions.caught)
        tell = self._tells("a signal is handled by", plan, _translate_functions)
        apply_dispositions(self.runtime, dispositions, handlers, tell)
        self._translate_signals(guard, timers, plan)

    def _translate_signals(self, guard: Guard, timers: Timers, plan: TransferPlan) -> None:
        """Values that the past itself put into signals, those included that its timers may yet send."""
        values = own_values(guard.pending_signals(), guard.pid) | {
            timer.value for timer, _, _ in timers.posix
        }
        words = np.array(sorted(values), np.uint64)
        if len(words):
            statuses, counterparts = plan.translate(words)
            moved = np.isin(statuses, (Status.MOVED, Status.LIBRARY))
            self._signal_values = dict(zip(words[moved].tolist(), counterparts[moved].tolist(), strict=True))
            self.told.append(("a queued signal carries", words[moved], counterparts[moved]))

    def _tells(self, what: str, plan: TransferPlan, translate: Callable[..., Cookies]) -> Translate:
        """Translates words for the kernel, and remembers what was made of them."""

        def tell(words: Cookies) -> Cookies:
            told = translate(plan, words)
            self.told.append((what, words.copy(), told.copy()))
            return told

        return tell

    def require_same_mappings(self) -> None:
        """Validate what may be done with the program's own memory; raises RolledBackError."""
        self._own.require_alike()

    def require_alike(self, alike: Callable[[Cookies, Cookies], Cookies]) -> None:
        """Validate what the kernel keeps for the program, which is no memory of its; raises RolledBackError.

        Args:
            alike: Per word of the past and the future, whether they lead to the same.
        """
        if self._handed is not None:
            self.told.append(("an epoll set holds", *self._handed.result()))
            self._handed = None
        if not any(len(past) for _, past, _ in self.told):
            return
        past = np.concatenate([words for _, words, _ in self.told])
        future = np.concatenate([words for _, _, words in self.told])
        wrong = np.flatnonzero(alike(past, future) == 0)
        if len(wrong):
            row = int(wrong[0])
            names = [what for what, words, _ in self.told for _ in words]
            raise kernel_word_problem(names[row], int(past[row]), int(future[row]))

    # Commit -------------------------------------------------------------------------------------------------

    def enter_gate(self, past: int, signal_mask: int, locks: Rows, deadline: Deadline) -> None:
        """Let the future run into the gate, where it waits for the past to end."""
        gate = Gate(self.runtime, self.channel)
        with raised_limit(self.pid, self._floor + _OWN_NUMBERS + _GATE_NUMBERS):
            gate.prepare(past, self._floor + _OWN_NUMBERS, signal_mask, locks)
        self._gate = gate
        gate.enter(deadline)

    @property
    def gate(self) -> Gate:
        """The gate that was entered."""
        if self._gate is None:
            raise InternalError("the future is not at the gate")
        return self._gate

    def forward_signals(self, signals: Sequence[QueuedSignal], deadline: Deadline) -> None:
        """Signals that came for the past while it was held go to the version that serves afterwards."""
        adapted = [one.for_successor(self._past, self.pid, self._signal_values) for one in signals]
        self._stopped = any(one.number == signal.SIGSTOP for one in signals)
        if lost := self.gate.queue_signals(blockable(adapted), deadline):
            self.warnings.append(
                f"signals-lost: the kernel did not take {lost} of {len(signals)} for the new version"
            )

    def do_held(self) -> None:
        """Do to the outside what the start-up held back."""
        for outcome in self.future.do_held():
            self.warnings.append(f"held-action-failed: {outcome}")
        self.warnings.extend(self.future.warnings)

    def close_start(self) -> None:
        """Give back what the start needed, once the future serves: processes of ours end then."""
        if self._stopped:  # by a SIGSTOP that came for the past, which no mask holds back
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGSTOP)
        self._stop_watching()
        self.future.close()


def _translate_functions(plan: TransferPlan, addresses: Cookies) -> Cookies:
    statuses, values = plan.translate(addresses)
    result: Cookies = np.where(np.isin(statuses, (Status.MOVED, Status.LIBRARY)), values, 0).astype(np.uint64)
    return result


def _translate(plan: TransferPlan, cookies: Cookies) -> Cookies:
    statuses, values = plan.translate(cookies)
    moved = np.isin(statuses, (Status.MOVED, Status.LIBRARY))
    wrong = ~moved & ~np.isin(statuses, _KEPT)
    if wrong.any():
        index = int(np.flatnonzero(wrong)[0])
        status = Status(int(statuses[index])).name.lower()
        raise RefusedError(
            "epoll-cookie",
            f"an epoll set holds {int(cookies[index]):#x}, which has no counterpart ({status})",
            "remove that descriptor from the set before the update",
        )
    result: Cookies = np.where(moved, values, cookies)
    return result
