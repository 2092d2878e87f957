"""The commit: the future waits in the runtime's gate while the past ends.

native/runtime/gate.c has the protocol and why exactly one version serves whoever dies when.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from instar.control.runtime import CLOEXEC, LOCK, Rows, Runtime
from instar.errors import InstarError, InternalError, RefusedError
from instar.heap.inherited import GATE, GATE_OFFSET, INTENT_OFFSET
from instar.process.deadline import Deadline, DeadlineError
from instar.process.queued import QueuedSignal
from instar.process.registers import MASK, Registers
from instar.process.resting import RESTARTS
from instar.process.status import read_status
from instar.process.tracee import Tracee

#: struct instar_gate_signal.
SIGNAL = np.dtype(
    {"names": ["message", "to_thread", "info"], "formats": ["S1", "u1", "V128"], "offsets": [0, 1, 8]}
)
PARKED_DISTANCE = 136  # the red zone and the word that holds the parked rip
GRACE_MS = 5000
ENDING, ENDED = 1, 2
_WAITING, _SERVING, _GO, _ABANDON = b"W", b"S", b"G", b"A"
_PING, _LOST = b"P", b"L"
_QUEUE, _BATCH = b"Q", 32  # signals in one go: their answers fit into the channel
_DEADLY = (
    signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV,
    signal.SIGSYS, signal.SIGSTOP,
)  # fmt: skip


class GateError(InstarError):
    """The future was lost at the gate; the past still serves."""


class Gate:
    """The last steps of a commit, in the order of the methods.

    The future is parked (its registers make the blocking call again) and holds everything it needs. After
    ``enter`` it is no longer traced; it goes on when the past has ended, and ends when this process dies
    before ``announce_ended`` or calls ``abandon``.
    """

    def __init__(self, runtime: Runtime, channel: socket.socket) -> None:
        self.runtime = runtime
        self.channel = channel
        self.memory = runtime.memory
        self._gate = runtime.state_address + GATE_OFFSET

    def prepare(self, past: int, floor: int, signal_mask: int, locks: Rows | None = None) -> None:
        """Give the future what it waits with.

        Args:
            past: PID of the past.
            floor: Descriptor numbers from here on are free in the future.
            signal_mask: What the program blocks when it goes on.
            locks: Rows of ``LOCK``: record locks of the past, to be taken when it is gone.

        Raises:
            RefusedError: "seccomp-filter": the future's own filter could kill it for waiting in the gate.
        """
        require_no_filter(self.runtime.tracee.pid)
        require_no_deadly_signal(self.runtime.tracee.pid)
        pidfd, stat = os.pidfd_open(past), os.open(f"/proc/{past}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.runtime.import_descriptors(self.channel, [floor, floor + 1], [pidfd, stat], CLOEXEC)
        finally:
            os.close(pidfd)
            os.close(stat)
        row = np.zeros(1, GATE)
        row["signal_mask"] = signal_mask & MASK
        row["grace_ms"] = GRACE_MS
        row["pidfd"], row["stat"] = floor, floor + 1
        if locks is not None and len(locks):
            address = self.runtime.scratch(locks.nbytes)
            self.memory.write(address, locks.astype(LOCK).tobytes())
            row["locks"], row["lock_count"] = address, len(locks)
        self.memory.write(self._gate, row.tobytes())

    def enter(self, deadline: Deadline, before_detach: Callable[[], None] | None = None) -> None:
        """Send the future into the gate and let it go; returns when it waits there.

        Raises:
            GateError: "gate-lost": it ended instead.
        """
        tracee = self.runtime.tracee
        tracee.set_signal_mask(MASK)
        registers = parked_registers(tracee)
        stack = registers.rsp - PARKED_DISTANCE
        self.memory.write(stack, registers.rip.to_bytes(8, "little"))
        entry = self.runtime.symbols["instar_runtime_gate"]
        tracee.set_registers(registers.copy(rip=entry, rsp=stack, orig_rax=-1))
        if before_detach is not None:
            before_detach()
        tracee.detach()
        self._expect(_WAITING, "the new version to wait at the gate", deadline)

    def announce_ending(self, deadline: Deadline) -> None:
        """Step 2, immediately before step 3: the future will look at the past before it gives up.

        Raises:
            GateError: "gate-lost", "gate-signalled": there is no future any more, or not for long; the past
                must go on.
        """
        self._write_intent(ENDING)
        try:
            self.channel.send(_PING, socket.MSG_NOSIGNAL)
        except OSError as error:
            raise self._lost() from error
        self._expect(_WAITING, "an answer of the new version", deadline)
        require_no_deadly_signal(self.runtime.tracee.pid)  # came while it waited

    def announce_ended(self) -> None:
        """Step 4, right after the past's registers were set: the future will wait for it without limit."""
        self._write_intent(ENDED)

    def queue_signals(self, signals: Sequence[QueuedSignal], deadline: Deadline) -> int:
        """Have the future queue signals to itself, which it takes when it goes on; after ``announce_ended``.

        Returns:
            How many the kernel did not take: too many are queued for its user (RLIMIT_SIGPENDING).
        """
        lost = 0
        for first in range(0, len(signals), _BATCH):
            for one in signals[first : first + _BATCH]:
                message = np.zeros((), SIGNAL)
                message["message"], message["to_thread"], message["info"] = _QUEUE, one.to_thread, one.info
                self.channel.send(message.tobytes(), socket.MSG_NOSIGNAL)
            self.channel.send(_PING, socket.MSG_NOSIGNAL)
            while (said := self._hear("an answer of the new version", deadline)) == _LOST:
                lost += 1
            self._require(said, _WAITING)
        return lost

    def go(self) -> None:
        """Step 5: the past stands in its exit (PTRACE_EVENT_EXIT); the future need not wait for its end.

        It may have seen that end itself, and be gone from here.
        """
        with suppress(BrokenPipeError):
            self.channel.send(_GO, socket.MSG_NOSIGNAL)

    def wait_until_serving(self, deadline: Deadline) -> None:
        """Return when the future has passed the gate; raises GateError when it ended."""
        self._expect(_SERVING, "the new version to serve", deadline)

    def abandon(self) -> None:
        """Give up: the future exits at once without a trace; must not be called after step 3."""
        try:
            self.channel.send(_ABANDON, socket.MSG_NOSIGNAL)
        except OSError:
            return  # it is gone already

    def close(self) -> None:
        """Let go of the channel; before the commit this ends the future."""
        self.channel.close()

    def _write_intent(self, value: int) -> None:
        self.memory.write(self._gate + INTENT_OFFSET, value.to_bytes(4, "little"))

    def _expect(self, message: bytes, what: str, deadline: Deadline) -> None:
        self._require(self._hear(what, deadline), message)

    def _require(self, got: bytes, message: bytes) -> None:
        if got != message:
            raise InternalError(f"the new version says {got!r} instead of {message!r}")

    def _hear(self, what: str, deadline: Deadline) -> bytes:
        ready, _, _ = select.select([self.channel], [], [], min(deadline.remaining(), 3600.0))
        if not ready:
            raise DeadlineError(what, deadline.seconds)
        try:
            got = self.channel.recv(16)
        except ConnectionResetError:  # it left a message of ours unread; what it said is still there
            got = self.channel.recv(16)
        if not got:
            raise self._lost()
        return got

    def _lost(self) -> GateError:
        return GateError(
            "gate-lost",
            f"the new version (process {self.runtime.tracee.pid}) ended at the commit gate",
            "find out who ended it (out of memory, a signal) and try again",
        )


def require_no_deadly_signal(pid: int) -> None:
    """Raise GateError "gate-signalled" when a signal waits that ends or stops the future once it serves."""
    status = read_status(pid)
    waiting = status.signals_pending & ~status.signals_ignored
    names = [number.name for number in _DEADLY if waiting >> (number - 1) & 1]
    if names:
        raise GateError(
            "gate-signalled",
            f"{', '.join(names)} was sent to the new version (process {pid}) while it was prepared",
            "find out who sends it, and try again",
        )


def require_no_filter(pid: int) -> None:
    """Raise RefusedError "seccomp-filter" when a future's own filter could kill it in the gate."""
    if read_status(pid).seccomp:
        raise RefusedError(
            "seccomp-filter",
            f"the new version (process {pid}) has put itself under a seccomp filter at its start",
            "start it without the filter; what confines itself cannot be updated",
        )


def parked_registers(tracee: Tracee) -> Registers:
    """The registers from which a thread makes the system call again that it stands in."""
    registers = tracee.registers()
    at_entry = tracee.stop is not None and tracee.stop.entry
    if at_entry or (registers.in_syscall and registers.result in RESTARTS):
        return registers.copy(rip=registers.rip - 2, rax=registers.orig_rax, orig_rax=-1)
    return registers
