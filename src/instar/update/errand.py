"""The worker's own side: gives its rights up, then carries out what it is told, asking for what it needs."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import tempfile
import threading
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt

from instar import errors
from instar.errors import FaultError, InstarError, InternalError
from instar.guard.shared import BOUNCE, Shared, batch_spans, split_spans
from instar.process.access import look_through, reach_through
from instar.process.registers import Registers
from instar.transfer.plan import PATCH, KeptRange, TransferPlan, Write
from instar.update.calls import RemoteFuture
from instar.update.desk import Desk
from instar.update.exchange import GarbageError, Message, Wire
from instar.update.sandbox import confine, die_with
from instar.update.unexpected import as_instar_error

Array = np.ndarray[Any, np.dtype[Any]]

_SMALL = 64 << 10
_PAGE, _NEAR = 4096, 16 << 10
_FORESEEN = 64
_CHANGING = ("store", "call", "allocate")
_CPU_S = 3600
_LINES = 12  # of a traceback
#: Method of the desk -> types of its arguments.
_TASKS: dict[str, tuple[Any, ...]] = {
    "pair": (),
    "prepare": (),
    "warm": (),
    "look_future": (int, Registers),
    "look_past": (Registers,),
    "plan": (dict[int, int], int),
    "translate": (Array,),
    "alike": (Array, Array),
    "validate": (dict[int, int],),
    "unmet": (),
    "broken": (Literal["old version", "new version"],),
    "quiesced": (),
    "transferred": (),
    "rolled_back": (),
    "details": (),
    "point": (),
    "peek": (Array,),
    "show": (Registers, str, int),
    "seen": (),
}


# ------------------------------------------------------------------------------------------- errors and plans


def error_to(error: BaseException) -> tuple[object, ...]:
    """An error as plain values."""
    if isinstance(error, FaultError):
        return "FaultError", "", "", "", [str(error.address)]
    known = as_instar_error(error)
    details = known.details
    if isinstance(known, InternalError) and known is not error:
        lines = "".join(traceback.format_exception(error)).splitlines()[-_LINES:]
        details = (*details, *(line.strip() for line in lines))
    name = next(cls.__name__ for cls in type(known).__mro__ if cls.__name__ in _CLASSES)
    return name, known.code, known.cause, known.remedy, list(details)


_CLASSES: dict[str, type[InstarError]] = {
    cls.__name__: cls
    for cls in (
        InstarError, errors.RefusedError, errors.RolledBackError, errors.HostError, errors.UsageError,
        errors.InternalError, errors.FaultError,
    )
}  # fmt: skip


def error_from(message: Message) -> InstarError:
    """The error that plain values tell; raises GarbageError."""
    name, details = message.value(0, str), message.value(4, tuple[str, ...])
    if name not in _CLASSES:
        raise GarbageError(name)
    if name == "FaultError":
        if len(details) != 1 or not details[0].isdigit():
            raise GarbageError(name)
        return FaultError(int(details[0]), 1, 0)
    error = _CLASSES[name].__new__(_CLASSES[name])
    texts = (message.value(index, str) for index in (1, 2, 3))
    InstarError.__init__(error, *texts, details=details)
    return error


def own_plan(plan: TransferPlan, translate: Callable[[Array], tuple[Array, Array]]) -> TransferPlan:
    """A plan whose addresses nobody else can change any more, and whose columns are what they should be.

    Raises:
        GarbageError: They are not.
    """
    return replace(
        plan,
        kept=tuple(_own_range(kept) for kept in plan.kept),
        arena=None if plan.arena is None else _own_range(plan.arena),
        writes=tuple(Write(write.address, _bytes(write.data)) for write in plan.writes),
        translate=translate,
    )


def _own_range(kept: KeptRange) -> KeptRange:
    words = np.dtype(np.uint64)
    blocks = _column(kept.blocks, (2,), words, copied=False)  # the runtime checks what it is told
    pages = _column(kept.pages, (2,), words)
    patches = _column(kept.patches, (), PATCH)
    if (patches["address"][1:] < patches["address"][:-1]).any():
        raise GarbageError("patches out of order")
    return replace(kept, blocks=blocks, pages=pages, patches=patches, data=_bytes(kept.data))


def _column(column: Array, inner: tuple[int, ...], dtype: np.dtype[Any], *, copied: bool = True) -> Array:
    if not column.size:
        return np.zeros((0, *inner), dtype)
    if column.ndim != 1 + len(inner) or column.shape[1:] != inner or column.dtype != dtype:
        raise GarbageError(f"a column of {column.shape} {column.dtype}")
    return column.copy() if copied else np.ascontiguousarray(column)


def _bytes(data: Any) -> Any:
    if isinstance(data, np.ndarray) and (data.ndim != 1 or data.dtype != np.uint8):
        raise GarbageError(f"bytes of {data.shape} {data.dtype}")
    return data


# -------------------------------------------------------------------------------------------- the process


class Pages(dict[tuple[int, int], bytes]):
    """Process and address -> a page, as it is while one task is carried out.

    The same task needs much the same pages when it comes again: they are asked for together then.
    """

    def __init__(self) -> None:
        self._task, self._before = "", dict[tuple[str, int], list[int]]()

    def begin(self, task: str) -> None:
        """Forget them all: whatever comes next may find something else there."""
        for pid in {pid for pid, _ in self}:
            self._before[self._task, pid] = [page for owner, page in self if owner == pid]
        self._task = task
        self.clear()

    def batches(self, pid: int, missing: Sequence[int]) -> Iterator[Sequence[int]]:
        """What to ask for at once: with it what was needed the last time, then, if that fails, it alone."""
        foreseen = [page for page in self._before.pop((self._task, pid), ()) if page not in missing]
        if foreseen:
            yield [*missing, *foreseen[:_FORESEEN]]
        yield missing


class Line:
    """The worker's connection: answers come in the order of the questions, whichever threads ask."""

    def __init__(self, wire: Wire, shared: Shared | None) -> None:
        self.wire, self.shared = wire, shared
        self.pages = Pages()
        self._asking, self._turn = threading.Lock(), threading.Condition()
        self._asked = self._answered = 0

    def ask(self, kind: str, *values: object) -> Message:
        """The answer; raises what went wrong with it.

        One thread's question lies ready at the other end while another's is answered.
        """
        if kind in _CHANGING:
            self.pages.clear()
        with self._asking:
            number = self._asked
            self.wire.send(kind, *values)
            self._asked += 1
        with self._turn:
            self._turn.wait_for(lambda: self._answered == number)
            try:
                message = self.wire.receive()
            finally:
                self._answered += 1
                self._turn.notify_all()
        if message.kind == "failed":
            raise error_from(message)
        return message

    def unwritten(self, start: int, end: int) -> Array:
        """See ``validation.remaining.Unwritten``."""
        found: Array = self.ask("unwritten", int(start), int(end)).value(0, Array)
        return found.astype(np.uint64).reshape(-1, 2)

    def look(self, pid: int, name: str, size: int, offset: int) -> bytes:
        """See ``process.access.ProcReader``."""
        try:
            return self.ask("proc", pid, name, size, offset).value(0, bytes)  # type: ignore[no-any-return]
        except errors.InternalError as error:
            raise OSError(error.cause) from error


class Relay:
    """Reaches one process through the line; see ``process.access.Access``."""

    def __init__(self, pid: int, line: Line) -> None:
        self._pid, self._line = pid, line

    def copy(self, starts: npt.NDArray[np.uint64], sizes: npt.NDArray[np.uint64], local: int) -> None:
        """Into the shared memory without another copy, if the place is in it."""
        shared, total = self._line.shared, int(sizes.sum())
        if len(starts) == 1 and total <= _NEAR and self._near(int(starts[0]), total, local):
            return
        spans = np.stack([starts, sizes], axis=1)
        offset = shared.offset_of(local, total) if shared is not None else None
        if offset is not None:
            self._line.ask("copy", self._pid, spans, offset)
        elif shared is None or total <= _SMALL:
            data = self._line.ask("read", self._pid, spans).value(0, Array)
            ctypes.memmove(local, data.ctypes.data, total)
        else:
            self._bounce(starts, sizes, local, shared)

    def _bounce(
        self, starts: npt.NDArray[np.uint64], sizes: npt.NDArray[np.uint64], local: int, shared: Shared
    ) -> None:
        room = shared.array(BOUNCE)
        place = room.ctypes.data
        starts, sizes = split_spans(starts, sizes, BOUNCE)
        for first, last, at in batch_spans(sizes, BOUNCE):
            spans = np.stack([starts[first:last], sizes[first:last]], axis=1)
            self._line.ask("copy", self._pid, spans, shared.offset_of(place, BOUNCE))
            ctypes.memmove(local + at, place, int(sizes[first:last].sum()))

    def _near(self, address: int, size: int, local: int) -> bool:
        """A short read, from whole pages that are kept until the task is done; False: not all can be read."""
        pages = range(address & -_PAGE, address + size, _PAGE)
        known = self._line.pages
        missing = [page for page in pages if (self._pid, page) not in known]
        if missing and not any(self._fetch(wanted) for wanted in known.batches(self._pid, missing)):
            return False
        whole = b"".join(known[self._pid, page] for page in pages)
        at = address % _PAGE
        ctypes.memmove(local, whole[at : at + size], size)
        return True

    def _fetch(self, pages: Sequence[int]) -> bool:
        spans = np.array([(page, _PAGE) for page in pages], np.uint64)
        try:
            data = self._line.ask("read", self._pid, spans).value(0, bytes)
        except FaultError:
            return False
        for index, page in enumerate(pages):
            self._line.pages[self._pid, page] = data[index * _PAGE : (index + 1) * _PAGE]
        return True

    def duplicate(self, numbers: Iterable[int]) -> dict[int, int]:
        """Never."""
        raise InternalError(f"the worker has no descriptor of {self._pid}'s")

    def room(self, size: int) -> Array:
        """In the shared memory."""
        return self._line.shared.array(size) if self._line.shared is not None else np.empty(size, np.uint8)


def run(
    desk: Desk, channel: socket.socket, shared: Shared | None, bounds: tuple[int, int], own: Path | None
) -> NoReturn:
    """Give up all rights, then work until the other end is closed."""
    gc.freeze()
    if shared is not None:
        shared.take(bounds)
    missing = retire((channel.fileno(), *desk.keep), own)
    line = Line(Wire(channel, shared), shared)
    look_through(line.look)
    reach_through(desk.pid, Relay(desk.pid, line))
    line.wire.send("ready", missing)
    while True:
        try:
            message = line.wire.receive()
        except EOFError:
            os._exit(0)
        _carry_out(desk, line, message)


def retire(keep: Collection[int], own: Path | None, memory: int | None = None) -> list[str]:
    """Give up all rights and all descriptors but some and standard output and error.

    Returns:
        What the kernel does not have for that.
    """
    os.setsid()  # the terminal's signals are for the tool, which tells, or leaves
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    die_with(desk_parent())
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in _open_numbers():
        if number not in (1, 2, nothing, *keep):
            os.dup2(nothing, number)  # whoever still has the number closes nothing of ours
    if own is not None:
        os.environ["TMPDIR"] = tempfile.tempdir = str(own)
    return confine(own, cpu_s=_CPU_S, memory=memory or _room())


def desk_parent() -> int:
    """Who forked us."""
    return os.getppid()


def _open_numbers() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208


def _room() -> int:
    """All the memory that there is."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _lend_plan(plan: TransferPlan, line: Line) -> TransferPlan:
    """The plan with the bytes of its ranges where the other end can see them: only those to be copied.

    A range may be much larger than what is in it, and takes memory only where it was written.
    """
    if line.shared is None:
        return plan
    arena = None if plan.arena is None else _lend_range(plan.arena, line, line.shared)
    return replace(plan, kept=tuple(_lend_range(k, line, line.shared) for k in plan.kept), arena=arena)


def _lend_range(kept: KeptRange, line: Line, shared: Shared) -> KeptRange:
    size = len(kept.data)
    if size <= _SMALL or shared.offset_of(kept.data.ctypes.data, size) is not None:
        return kept
    room = shared.array(size)
    for start, length in kept.pages.tolist():
        at = start - kept.data_start
        room[at : at + length] = kept.data[at : at + length]
    line.wire.lent.append(room)
    return replace(kept, data=room)


def _carry_out(desk: Desk, line: Line, message: Message) -> None:
    before = line.wire.lent if message.kind != "plan" else []  # what was planned is written
    line.wire.lent = []
    serial = message.value(0, int)
    line.pages.begin(message.kind)
    try:
        expected = _TASKS[message.kind]
        values = [message.value(index + 1, kind) for index, kind in enumerate(expected)]
        if message.kind == "look_future":
            pid = values[0]
            reach_through(pid, Relay(pid, line))
            desk.serve_future(lambda: RemoteFuture(pid, desk, line))
        if message.kind == "validate":
            values.append(line.unwritten)
        result = getattr(desk, message.kind)(*values)
        if isinstance(result, TransferPlan):
            result = _lend_plan(result, line)
        line.wire.send("done", serial, result)
    except (EOFError, BrokenPipeError):
        os._exit(0)
    except BaseException as error:
        line.wire.send("failed", *error_to(error))
    if message.kind != "plan":
        line.wire.lent = [*before, *line.wire.lent]
