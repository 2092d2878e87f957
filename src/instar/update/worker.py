"""The worker as the tool sees it: a forked process without rights, which answers calls of a desk's methods.

It is forked when both versions are loaded, gives its rights up (``update.sandbox``) before it sees the first
byte of the past or runs a line of the user's, and asks for what it needs of the two processes: spans of
memory, a few files of /proc, and, while handlers of events run, calls and writes in the future. What comes
from it is decoded as data of the type that is expected (``update.exchange``), bounded in time and size.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol

import numpy as np

from instar.errors import InstarError, InternalError
from instar.guard.shared import Shared
from instar.pairing.problems import Problem
from instar.process.access import FOLDERS, LINKS, read_proc
from instar.process.deadline import Deadline
from instar.process.memory import Memory
from instar.process.registers import Registers
from instar.transfer.plan import TransferPlan
from instar.update import errand
from instar.update.calls import FutureCalls
from instar.update.confined import compute
from instar.update.desk import Assignment, Desk
from instar.update.details import Details
from instar.update.exchange import GarbageError, Message, Wire
from instar.update.exchange import WorkerLostError as WorkerLostError
from instar.update.unexpected import as_instar_error
from instar.validation.outcome import Validation
from instar.validation.remaining import Unwritten, all_written

Array = np.ndarray[Any, np.dtype[Any]]


class Reached(Protocol):
    """The past as the worker may ask for it.

    Attributes:
        pid: Its process id; 0: it has none.
        memory: Its memory.
        shared: Memory that the worker shares with us, if there is any.
    """

    pid: int
    memory: Memory
    shared: Shared | None


_PROC = (*LINKS, *FOLDERS, "maps", "smaps", "stat", "pagemap")
_MOST_SPANS = 1 << 22
_MOST_READ = 1 << 30
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 512 << 10
_LATE_S = 10.0  # for what is asked when everything else is over


class Worker:
    """A worker process, and the desk's methods by their names.

    Args:
        assignment: What it works on.
        past: Who reaches the past for it.
        deadline: Of the update.
        desk: Makes what does the work.

    Attributes:
        pid: Its process id.
        missing: What of its confinement the kernel does not have.
    """

    def __init__(
        self,
        assignment: Assignment,
        past: Reached,
        deadline: Deadline,
        desk: Callable[[Assignment], Desk] = Desk,
    ) -> None:
        self._assignment, self._past, self._deadline = assignment, past, deadline
        self._memories: dict[int, Memory] = {past.pid: past.memory}
        self._future: FutureCalls | None = None
        self._unwritten: Unwritten = all_written
        self._serial, self._broken = 0, False
        self._cause: InstarError | None = None
        shared, bounds = past.shared, (0, 0)
        if shared is not None:
            bounds = shared.share_out()
        self._part, self._shared = bounds, shared
        ours, theirs = socket.socketpair()
        _give_memory_back()
        self.pid = _fork()
        if self.pid == 0:
            _work(desk, assignment, theirs, shared, bounds, None)
        theirs.close()
        self._channel, self._wire = ours, Wire(ours, shared)
        self.missing = self._receive(deadline).value(0, tuple[str, ...])

    def close(self) -> None:
        """End it."""
        self._channel.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    # The desk's methods -------------------------------------------------------------------------------------

    def pair(self) -> list[Problem]:
        """See ``Desk``."""
        return self._call("pair").value(0, list[Problem])  # type: ignore[no-any-return]

    def prepare(self) -> bool:
        """See ``Desk``."""
        return self._call("prepare").value(0, bool)  # type: ignore[no-any-return]

    def warm(self) -> None:
        """See ``Desk``."""
        self._call("warm")

    def look_future(self, pid: int, registers: Registers) -> None:
        """See ``Desk``."""
        self._memories = {self._past.pid: self._past.memory, pid: Memory(pid)}
        self._call("look_future", pid, registers)

    def look_past(self, registers: Registers) -> None:
        """See ``Desk``."""
        self._call("look_past", registers)

    def plan(self, streams: Mapping[int, int], arena_base: int) -> TransferPlan:
        """See ``Desk``; words are translated by asking."""
        plan: TransferPlan = self._call("plan", streams, arena_base).value(0, TransferPlan)
        return errand.own_plan(plan, self.translate)

    def translate(self, words: Array) -> tuple[Array, Array]:
        """See ``Desk``."""
        message = self._call("translate", np.ascontiguousarray(words, np.uint64))
        statuses, values = message.value(0, tuple[Array, Array])
        if statuses.shape != words.shape or values.shape != words.shape or statuses.dtype.kind not in "ui":
            raise GarbageError("translated words")
        return statuses.copy(), values.astype(np.uint64)

    def alike(self, past: Array, future: Array) -> Array:
        """See ``Desk``."""
        message = self._call("alike", *(np.ascontiguousarray(words, np.uint64) for words in (past, future)))
        same: Array = message.value(0, Array)
        if same.shape != past.shape or same.dtype != np.uint8:
            raise GarbageError("compared words")
        return same.astype(bool)

    def validate(self, registers: Mapping[int, int], unwritten: Unwritten = all_written) -> Validation:
        """See ``Desk``."""
        self._unwritten = unwritten
        return self._call("validate", registers).value(0, Validation)  # type: ignore[no-any-return]

    def unmet(self) -> list[str]:
        """See ``Desk``."""
        return self._call("unmet").value(0, list[str])  # type: ignore[no-any-return]

    def broken(self, when: Literal["old version", "new version"]) -> list[Problem]:
        """See ``Desk``."""
        return self._call("broken", when).value(0, list[Problem])  # type: ignore[no-any-return]

    def quiesced(self) -> None:
        """See ``Desk``."""
        self._call("quiesced")

    def transferred(self, future: FutureCalls) -> None:
        """See ``Desk``; meanwhile the handlers reach the future."""
        self._future = future
        try:
            self._call("transferred")
        finally:
            self._future = None

    def rolled_back(self) -> str | None:
        """See ``Desk``, in a process of their own where the worker is lost; what fails then is a warning."""
        try:
            if self._broken:
                return compute(self._anew, str | None, seconds=_LATE_S)
            return self._call("rolled_back", deadline=Deadline(_LATE_S)).value(0, str | None)  # type: ignore[no-any-return]
        except InstarError as error:
            return f"{error.code}: {error.cause}"

    def _anew(self) -> str | None:
        """With handlers that know nothing of what the lost ones did."""
        desk = Desk(self._assignment)
        desk.load_handlers()
        return desk.rolled_back()

    def details(self) -> Details:
        """See ``Desk``."""
        if self._broken:
            return Details()
        return self._call("details", deadline=Deadline(_LATE_S)).value(0, Details)  # type: ignore[no-any-return]

    # Calls --------------------------------------------------------------------------------------------------

    def _call(self, name: str, *values: object, deadline: Deadline | None = None) -> Message:
        if self._broken:
            raise WorkerLostError("does not answer any more")
        self._serial += 1
        self._cause = None
        try:
            self._wire.send(name, self._serial, *values)
            while True:
                message = self._receive(deadline or self._deadline)
                if message.kind == "done":
                    return Message("done", message.plain[1:], message.arrays)
                if message.kind == "failed":
                    self._raise(message)
                self._serve(message)
        except GarbageError:
            self._give_up()
            raise
        except OSError as error:
            self._give_up()
            raise WorkerLostError(f"is out of reach: {error.strerror}") from error
        except BaseException as error:
            if not getattr(error, "_of_worker", False):
                self._give_up()  # interrupted in the middle: what it says next belongs to nothing
            raise

    def _give_up(self) -> None:
        self._broken = True
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _receive(self, deadline: Deadline) -> Message:
        self._channel.settimeout(max(deadline.remaining(), 0.001))
        self._wire.until = time.monotonic() + deadline.remaining()
        try:
            return self._wire.receive()
        except TimeoutError as error:
            self._give_up()
            raise WorkerLostError("does not come to an end") from error
        except EOFError as error:
            self._broken = True
            raise WorkerLostError(self._how_it_ended()) from error

    def _how_it_ended(self) -> str:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            with suppress(ChildProcessError):
                found, status = os.waitpid(self.pid, os.WNOHANG)
                if found:
                    code = os.waitstatus_to_exitcode(status)
                    return f"was killed by {signal.Signals(-code).name}" if code < 0 else "has ended"
            time.sleep(0.001)
        return "has ended"

    def _raise(self, message: Message) -> NoReturn:
        error = errand.error_from(message)
        if self._cause is not None and self._cause.code == error.code:
            error = self._cause
        error._of_worker = True  # type: ignore[attr-defined]
        raise error

    # What it asks -------------------------------------------------------------------------------------------

    def _serve(self, message: Message) -> None:
        """Answer one of a short list of questions; anything else is garbage."""
        answers = {
            "copy": self._copy, "read": self._read, "proc": self._proc,
            "unwritten": self._watched,
            "allocate": self._allocate, "call": self._call_future, "store": self._store,
        }  # fmt: skip
        if message.kind not in answers:
            raise GarbageError(message.kind)
        try:
            answer = answers[message.kind](message)
        except GarbageError:
            raise
        except (InstarError, OSError, MemoryError) as error:
            self._cause = error if isinstance(error, InstarError) else as_instar_error(error)
            self._wire.send("failed", *errand.error_to(error))
            return
        self._wire.send("answer", answer)

    def _spans(self, message: Message) -> tuple[int, Array, Array, int]:
        pid, spans = message.value(0, int), message.value(1, np.ndarray[Any, np.dtype[Any]])
        if pid not in self._memories or spans.dtype != np.uint64 or spans.ndim != 2 or spans.shape[1] != 2:
            raise GarbageError(f"spans of {pid}")
        starts, sizes = spans[:, 0].copy(), spans[:, 1].copy()
        if len(spans) > _MOST_SPANS or (len(sizes) and int(sizes.max()) > self._part[1] + _MOST_READ):
            raise GarbageError(f"{len(spans)} spans")
        return pid, starts, sizes, sum(sizes.tolist())

    def _copy(self, message: Message) -> None:
        pid, starts, sizes, total = self._spans(message)
        offset = message.value(2, int)
        if self._shared is None or not self._part[0] <= offset <= offset + total <= self._part[1]:
            raise GarbageError(f"{total} bytes at {offset}")
        self._memories[pid].copy_spans(starts, sizes, self._shared.base + offset)

    def _read(self, message: Message) -> Array:
        pid, starts, sizes, total = self._spans(message)
        if total > _MOST_READ:
            raise GarbageError(f"{total} bytes at once")
        return self._memories[pid].read_spans(starts, sizes)

    def _proc(self, message: Message) -> bytes:
        pid, name = message.value(0, int), message.value(1, str)
        size, offset = message.value(2, int), message.value(3, int)
        if (
            pid not in self._memories
            or name not in _PROC
            or not -1 <= size <= _MOST_READ
            or not 0 <= offset < 1 << 63
        ):
            raise GarbageError(f"/proc/{pid}/{name}")
        return read_proc(pid, name, size, offset)

    def _watched(self, message: Message) -> Array:
        start, end = message.value(0, int), message.value(1, int)
        if not 0 <= start <= end < 1 << 47:
            raise GarbageError(f"{start:#x}-{end:#x}")
        return np.ascontiguousarray(self._unwritten(start, end), np.uint64)

    def _reached(self) -> FutureCalls:
        if self._future is None:
            raise InternalError("handlers reach the future once the state is there, and not before")
        return self._future

    def _allocate(self, message: Message) -> int:
        return self._reached().allocate(message.value(0, int))

    def _call_future(self, message: Message) -> int:
        return self._reached().call(message.value(0, int), message.value(1, tuple[int, ...]))

    def _store(self, message: Message) -> None:
        self._reached().store(message.value(0, int), message.value(1, bytes))


def _give_memory_back() -> None:
    """Have malloc give back what is freed, here and in the worker: else it keeps what was freed at once."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
    libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads: those of BLAS, which is not used
        return os.fork()


def _work(
    desk: Callable[[Assignment], Desk],
    assignment: Assignment,
    channel: socket.socket,
    shared: Shared | None,
    bounds: tuple[int, int],
    own: Path | None,
) -> NoReturn:
    """The forked process: never returns."""
    try:
        errand.run(desk(assignment), channel, shared, bounds, own)
    except BaseException:  # nothing of the tool's own ends may run twice
        os._exit(1)
    os._exit(0)
