"""The guard as its peer sees it: starts its process, asks it, and knows what its answers mean."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from instar import errors
from instar.errors import FaultError, HostError, InstarError, InternalError
from instar.guard import wire
from instar.guard.asking import ROOM as ROOM
from instar.guard.shared import BOUNCE, Array, Shared, Words, batch_spans, split_spans
from instar.process.access import reach_through
from instar.process.deadline import DeadlineError
from instar.process.failures import (
    ProcessDiedError,
    RemoteCallError,
    explain_absence,
    explain_seize,
    lost_process,
)
from instar.process.maps import find_mapping, read_maps
from instar.process.memory import Memory
from instar.process.queued import QueuedSignal
from instar.process.registers import Registers
from instar.process.timeouts import MS, TIMEOUTS, TIMESPEC, TIMEVAL, timeout_ns

_PROGRAM = Path(__file__).with_name("__main__.py")
_SHARED = (1 << 40, 1 << 36, 1 << 33, 1 << 31)  # sparse: what is not used costs nothing
_STEP_S, _SHORTEST_S = 0.5, 0.001
_ANSWER_S, _RELEASE_S = 10.0, 3.0  # beyond what a request may take: a guard that says nothing is stuck
_LONGEST_S = 1e6
_AT_ONCE = 1 << 30
_UNIT_NS = {MS: 10**6, TIMESPEC: 1, TIMEVAL: 1000}
_LIBC = ("libc.", "libc-", "libpthread", "ld-musl")  # where system calls for waiting are made
VALUE = -1
#: Question -> number of the call and its arguments: getitimer, timer_gettime, rt_sigaction.
QUESTIONS: dict[str, tuple[int, tuple[int, ...]]] = {
    "itimer": (36, (VALUE, ROOM)),
    "timer": (224, (VALUE, ROOM)),
    "action": (13, (VALUE, 0, ROOM, 8)),
}
_ERRORS: dict[str, type[InstarError]] = {
    "RefusedError": errors.RefusedError,
    "HostError": HostError,
}


class GuardLostError(InstarError):
    """The guard is gone; the kernel has let the past go on."""

    def __init__(self, pid: int) -> None:
        super().__init__(
            "guard-lost",
            f"the process that held the old version {pid} has ended; the old version goes on",
            "find out who ended it (out of memory, a signal) and try again",
        )


@dataclass(frozen=True, slots=True)
class Sight:
    """How the past's thread stands; ``kind`` and the numbers as in ``process.thread.Stop``.

    Attributes:
        registers: None once it has ended.
        stops: How often it was stopped for this; when held: whether the rest of its wait is not known yet.
    """

    kind: str
    signal: int
    event: int
    status: int
    registers: Registers | None
    stops: int

    @property
    def ended(self) -> bool:
        """Whether the process is no more."""
        return self.registers is None

    @property
    def entry(self) -> bool:
        """Whether it is about to make a call."""
        return self.kind == "syscall-entry"


class Past:
    """A process that a guard of ours holds, or will.

    Attributes:
        pid: The past.
        guard_pid: The guard.
        memory: The past's; read through the guard.
        sight: Where it stands, as last seen; None while it runs or is free.
        lost: The guard was found to be gone.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.memory = Memory(pid)
        self.sight: Sight | None = None
        self.lost = False
        self._lock = threading.Lock()
        self._serial = 0
        self._until = 0.0  # the guard holds the past so long at most
        self._window: tuple[int, bytes] = (0, b"")
        self._libc = (0, 0)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            arguments = [sys.executable, "-I", "-S", "-B", str(_PROGRAM), str(theirs.fileno()), str(pid)]
            self._process = subprocess.Popen(
                arguments,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # the terminal's signals are for us
            )
        self._channel = ours
        self.guard_pid = self._process.pid
        self.shared: Shared | None = None

    def connect(self) -> None:
        """Have everything of the past's go through the guard from now on.

        Where limits leave no room for shared memory (`ulimit -v`, `ulimit -f`) its bytes come in messages.
        """
        for size in _SHARED:
            with suppress(OSError):
                self.shared = self._share(size)
                break
        reach_through(self.pid, self)

    def _share(self, size: int) -> Shared:
        descriptor = os.memfd_create("past", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            self._ask("share", given=[descriptor])
            return Shared(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """End the guard; a past that it holds goes on."""
        reach_through(self.pid, None)
        self._channel.close()
        try:
            self._process.wait(_RELEASE_S)
        except subprocess.TimeoutExpired:  # stuck: the kernel lets go of what it holds
            self._process.kill()
            self._process.wait()

    # ------------------------------------------------------------------------------------ requests

    def _ask(
        self,
        name: str,
        *arguments: Any,
        data: bytes = b"",
        given: Sequence[int] = (),
        within: float | None = None,
    ) -> tuple[Any, bytes, list[int]]:
        with self._lock:
            self._serial += 1
            if within is None:
                within = max(self._until - time.monotonic(), 0.0) + _ANSWER_S
            try:
                self._channel.settimeout(min(within, _LONGEST_S))
                wire.send(self._channel, [self._serial, name, *arguments], data, given)
                while True:
                    answer, window, descriptors = wire.receive(self._channel)
                    if answer[0] == self._serial:
                        break
                    wire.close(descriptors)  # asked for by somebody who was interrupted
            except (EOFError, OSError) as error:
                self.lost = True
                if isinstance(error, TimeoutError):  # it is stuck: the kernel lets the past go on
                    self._process.kill()
                raise GuardLostError(self.pid) from error
        if answer[1] == "ok":
            return answer[2], window, descriptors
        raise self._error(answer[1:])

    def _error(self, answer: list[Any]) -> Exception:
        match answer:
            case ["fault", int(address)]:
                return FaultError(address, 1, self.pid)
            case ["errno", int(number)]:
                return OSError(number, os.strerror(number))
            case ["error", _, "process-died", *_]:
                return ProcessDiedError(self.pid, None)
            case ["error", str(name), str(code), str(cause), str(remedy)] if name in _ERRORS:
                return _ERRORS[name](code, cause, remedy)
        return InternalError(f"the guard says {answer!r:.200}")

    def _see(self, answer: Any, window: bytes) -> Sight:
        kind, signal, event, status, stops, registers, stack = answer
        self._window = stack, window
        self.sight = Sight(
            kind,
            signal,
            event,
            status,
            Registers.parse(bytes.fromhex(registers)) if registers else None,
            stops,
        )
        return self.sight

    def _goes(self) -> None:
        self.sight, self._window = None, (0, b"")

    # ------------------------------------------------------------------------------------ steps

    def seize(self, limit_s: float) -> None:
        """Trace it, for so long at most: the guard lets it go by itself then.

        Raises:
            HostError: It may not be traced.
        """
        problem = explain_absence(self.pid)
        if problem is not None and problem.code != "already-traced":
            raise problem
        try:
            self._ask("seize", limit_s)
            self._until = time.monotonic() + limit_s
        except OSError as error:
            raise explain_seize(self.pid, error) from error

    def stop(self, seconds: float) -> Sight:
        """Stop it wherever it is; a call that it waits in is made again when it goes on."""
        end = time.monotonic() + seconds
        while True:
            answer, window, _ = self._ask("stop", min(seconds, _STEP_S))
            if answer is not None:
                return self._see(answer, window)
            if time.monotonic() >= end:
                raise DeadlineError(f"a stop of process {self.pid}", seconds)

    def since(self, began_ns: int) -> None:
        """Tell when the wait began in which it stands (CLOCK_MONOTONIC): only the rest of it is left.

        A wait that the program makes with a ``syscall`` instruction of its own begins anew: the rest is put
        into an argument register, which the kernel gives back unchanged and libc does not use again.
        """
        registers, now = self.registers(), time.monotonic_ns()
        if registers.orig_rax not in TIMEOUTS or not self._waits_in_libc(registers.rip):
            return
        with suppress(FaultError):
            wait = timeout_ns(registers.orig_rax, registers.syscall_arguments(), self.memory.read)
            if wait is not None:
                index, unit = TIMEOUTS[registers.orig_rax]
                end = min(max(began_ns, now - wait), now) + wait
                self._ask("since", end, index, _UNIT_NS[unit])

    def _waits_in_libc(self, address: int) -> bool:
        if not self._libc[0] <= address < self._libc[1]:
            found = find_mapping(read_maps(self.pid), address)
            if found is None or not Path(found.path).name.startswith(_LIBC):
                return False
            self._libc = found.start, found.end
        return True

    def step(self, seconds: float, wanted: Iterable[int]) -> Sight:
        """Let it run until it is about to make one of the wanted calls; raises DeadlineError (it runs on)."""
        self._goes()
        numbers, end = list(wanted), time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            answer, window, _ = self._ask("step", max(_SHORTEST_S, min(left, _STEP_S)), numbers)
            if answer is not None:
                return self._see(answer, window)
            if left <= 0:
                raise DeadlineError(f"a stop of process {self.pid}", seconds)

    def hold(self, limit_s: float) -> Sight:
        """From the entry of a call to the state of a thread that was stopped while it waited in it."""
        sight = self._see(*self._ask("hold", limit_s)[:2])
        self._until = time.monotonic() + limit_s
        if sight.stops:
            self.since(time.monotonic_ns())
        return sight

    def release(self) -> None:
        """Let it go as if nothing had been; harmless when it is free, or the guard is gone."""
        self._goes()
        with suppress(GuardLostError):
            self._ask("release", within=_RELEASE_S)
            self._until = 0.0

    def registers(self) -> Registers:
        """Of the stopped thread."""
        if self.sight is None or self.sight.registers is None:
            raise InternalError(f"process {self.pid} does not stand")
        return self.sight.registers

    def signal_mask(self) -> int:
        """The signals that the stopped thread blocks."""
        return int(self._ask("mask")[0])

    def pending_signals(self) -> list[QueuedSignal]:
        """The signals that are queued for its thread, then those for the process, each in their order."""
        found: list[QueuedSignal] = []
        for shared in (False, True):
            first = 0
            while batch := self._ask("signals", shared, first)[0]:
                found += [QueuedSignal(not shared, bytes.fromhex(info)) for info in batch]
                first += len(batch)
        return found

    def ask(self, questions: Sequence[tuple[str, int]]) -> list[bytes]:
        """Answers to ``QUESTIONS``, 32 bytes each; it must be held in a call."""
        found = []
        for question, value in questions:
            number, arguments = QUESTIONS[question]
            result, answer = self.inject(number, *(value if one == VALUE else one for one in arguments))
            if result < 0:
                raise RemoteCallError(
                    "remote-call-failed", f"{question} {value}: {os.strerror(-result)}", "try again"
                )
            found.append(answer)
        return found

    # ------------------------------------------------------------------------------------ its end

    def keep(self, witness: int) -> None:
        """Have the guard hold a descriptor open as long as it lives: whoever waits at its other end knows."""
        self._ask("keep", given=[witness])

    def stake(self, staked: bool) -> None:
        """Make the held past die with its guard, because its successor serves; or not any more."""
        self._ask("stake", staked)

    def inject(self, number: int, *arguments: int, room: bytes = b"") -> tuple[int, bytes]:
        """Have the held past make a system call, as far as the guard allows it.

        Returns:
            The result, and the 32 bytes at ``ROOM`` afterwards.
        """
        result, answer, _ = self._ask("inject", number, list(arguments), room.hex())
        return int(result), answer

    def prepare_end(self) -> None:
        """What can fail about its end; changes nothing in it."""
        self._ask("prepare_end")

    def commit_end(self) -> None:
        """The point of no return."""
        self._ask("commit_end")

    def run_end(self, seconds: float) -> None:
        """Let it run into its exit."""
        self._ask("run_end", seconds, within=min(seconds, _LONGEST_S) + _ANSWER_S)

    # ------------------------------------------------------------------------------------ bytes and files

    def copy(self, starts: npt.NDArray[np.uint64], sizes: npt.NDArray[np.uint64], local: int) -> None:
        """See ``process.access.Access``."""
        total = int(sizes.sum())
        if self.shared is None or (len(starts) == 1 and total <= wire.LARGEST):
            for start, size in zip(
                *(column.tolist() for column in split_spans(starts, sizes, wire.LARGEST)), strict=True
            ):
                ctypes.memmove(local, self._peek(start, size), size)
                local += size
            return
        offset = self.shared.offset_of(local, total)
        if offset is not None:
            for first, last, at in batch_spans(sizes, _AT_ONCE):
                self._copy(starts[first:last], sizes[first:last], offset + at)
            return
        with self.shared.bounce:
            starts, sizes = split_spans(starts, sizes, BOUNCE)
            for first, last, at in batch_spans(sizes, BOUNCE):
                self._copy(starts[first:last], sizes[first:last], 0)
                ctypes.memmove(local + at, self.shared.base, int(sizes[first:last].sum()))

    def _copy(self, starts: Words, sizes: Words, offset: int) -> None:
        self._reach("copy", offset, data=np.stack([starts, sizes], axis=1).tobytes())

    def _peek(self, address: int, size: int) -> bytes:
        start, window = self._window
        if start <= address and address + size <= start + len(window):
            return window[address - start : address - start + size]
        data: bytes = self._reach("peek", address, size)
        if len(data) < size:
            raise FaultError(address + len(data), size - len(data), self.pid)
        return data

    def _reach(self, name: str, *arguments: Any, data: bytes = b"") -> bytes:
        try:
            return self._ask(name, *arguments, data=data)[1]
        except ProcessLookupError as error:
            raise ProcessDiedError(self.pid, None) from error
        except OSError as error:
            raise lost_process(self.pid, error) from error

    def room(self, size: int) -> Array:
        """See ``process.access.Access``."""
        return self.shared.array(size) if self.shared is not None else np.empty(size, np.uint8)

    def duplicate(self, numbers: Iterable[int]) -> dict[int, int]:
        """See ``process.access.Access``; raises OSError."""
        wanted, found = list(numbers), dict[int, int]()
        for first in range(0, len(wanted), wire.MOST_DESCRIPTORS):
            part = wanted[first : first + wire.MOST_DESCRIPTORS]
            try:
                names, _, descriptors = self._ask("duplicate", part)
            except BaseException:
                wire.close(list(found.values()))
                raise
            found.update(zip(names, descriptors, strict=True))
        return found
