"""A core file as the past: what is read of it, in the worker and in another child without rights.

Nobody trusts a core: the tool itself never reads it. What it must know is data of ``CoreFacts``; memory,
which it needs for streams, it asks the worker for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from instar.control.chains import chain_of, function_names
from instar.control.quiescence import QuiescentPoint
from instar.errors import FaultError, InternalError, RefusedError
from instar.metadata.version import Version
from instar.process import maps as process_maps
from instar.process.blocking import blocking_call
from instar.process.core import CoreFile
from instar.process.memory import Bytes, Memory
from instar.process.registers import Registers
from instar.state.arguments import ArgumentArea
from instar.state.capturer import Capturer
from instar.update.desk import Assignment, Desk
from instar.update.exchange import GarbageError
from instar.update.room import make_shared
from instar.update.worker import Worker

Array = np.ndarray[Any, np.dtype[Any]]

_SPACE, _PAGE = 1 << 64, 4096
_MOST_PEEKED = 1 << 26
_DAMAGE = (ValueError, OverflowError, IndexError, struct.error)


@dataclass(frozen=True)
class Source:
    """A core file that is open.

    Attributes:
        path: Of the core.
        program: Where its program file is now; None: where it was.
        opened: Descriptors of both.
    """

    path: Path
    program: Path | None
    opened: Mapping[Path, int]

    def open(self) -> CoreFile:
        """Read it, where nothing can be lost; raises InstarError."""
        return CoreFile(self.path, self.program, self.opened)


@dataclass(frozen=True)
class CoreFacts:
    """What the tool must know of a core.

    Attributes:
        pid: Of the process that was dumped.
        program: Path of its program file, as it was.
        build_id: Of that file, as far as the core has it.
        arguments, environment: Its words.
        maps: Its mappings.
    """

    pid: int
    program: str
    build_id: str
    arguments: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    maps: tuple[process_maps.Mapping, ...]


def read_facts(source: Source) -> CoreFacts:
    """Read a core, in a process without rights.

    Raises:
        RefusedError: "not-a-core" and what else ``CoreFile`` refuses, "arguments-lost".
    """
    try:
        core = source.open()
        found, text = core.arguments(), core.memory.read_cstring
        return CoreFacts(
            core.pid,
            core.program,
            core.build_id(core.program),
            tuple(text(address) for address in found.arguments),
            tuple(text(address) for address in found.environment),
            tuple(core.maps),
        )
    except (*_DAMAGE, FaultError) as error:
        raise RefusedError(
            "not-a-core",
            f"{source.path} contradicts itself ({error})",
            "make one with gcore (gdb): gcore PID",
        ) from error


def require_sane(facts: CoreFacts) -> CoreFacts:
    """The facts, which an enemy may have made; raises GarbageError."""
    for mapping in facts.maps:
        bounds = mapping.start, mapping.end, mapping.offset
        if not 0 <= mapping.start < mapping.end <= _SPACE or mapping.offset < 0:
            raise GarbageError(f"a mapping at {bounds}")
        if mapping.start % _PAGE or len(mapping.perms) != 4 or "\0" in mapping.path:
            raise GarbageError(f"a mapping at {bounds}")
    if any(b"\0" in word for word in (*facts.arguments, *facts.environment)) or "\0" in facts.program:
        raise GarbageError("a word that goes on behind its end")
    return facts


class CoreCapturer(Capturer):
    """Copies the process in a core file."""

    def __init__(self, core: CoreFile, version: Version, table: object) -> None:
        self.core = core
        super().__init__(core, version, table)  # type: ignore[arg-type]

    def find_program(self) -> str:
        """See Capturer."""
        return self.core.program

    def maps(self) -> Sequence[process_maps.Mapping]:
        """See Capturer."""
        return self.core.maps

    def arguments(self) -> ArgumentArea:
        """See Capturer."""
        found, memory = self.core.arguments(), self.core.memory
        words = {at: memory.read_cstring(at) for at in (*found.arguments, *found.environment)}
        environment = {words[at].split(b"=", 1)[0]: (at, len(words[at]) + 1) for at in found.environment}
        arguments = tuple((at, len(words[at]) + 1) for at in found.arguments)
        return ArgumentArea(arguments, environment, (found.argv_at, len(arguments) + 1))


class CoreDesk(Desk):
    """The work where the past is a core; it is read once the rights are given up."""

    def __init__(self, assignment: Assignment, source: Source) -> None:
        super().__init__(assignment)
        self._source, self._core = source, None
        self.keep = tuple(source.opened.values())

    _core: CoreFile | None

    @property
    def core(self) -> CoreFile:
        """Opened at the first use."""
        if self._core is None:
            self._core = self._source.open()
        return self._core

    def look_past(self, registers: Registers) -> None:
        """Copy it; the registers are the core's own."""
        capturer = CoreCapturer(self.core, self._given.old, self.prepared.tables[0])
        capturer.repairer = self._repairer
        self._past = capturer.image(heap=True)

    def point(self) -> QuiescentPoint:
        """Where it waits; raises RefusedError "core-not-waiting"."""
        registers = self.core.registers()
        chain = chain_of(self.past.frames, self.core.program, function_names(self._given.old))
        number = registers.orig_rax
        call = blocking_call(number, registers.syscall_arguments()) if registers.in_syscall else None
        if call is None or not chain.whole:
            raise RefusedError(
                "core-not-waiting",
                f"in {self.core.path} the program does not wait for work: it is in {chain}",
                "dump it while it is idle: gcore PID",
            )
        return QuiescentPoint(chain.functions, number, call.name)

    def peek(self, spans: Array) -> Array:
        """Bytes of it, span after span (address, size); raises FaultError."""
        return self.core.memory.read_spans(spans[:, 0], spans[:, 1])

    def _prepare_next(self) -> None:
        """It never changes."""


class CoreWorker(Worker):
    """A worker with a core in the place of the past."""

    def point(self) -> QuiescentPoint:
        """See ``CoreDesk``."""
        found: QuiescentPoint = self._call("point").value(0, QuiescentPoint)
        return found

    def peek(self, starts: npt.NDArray[np.uint64], sizes: npt.NDArray[np.uint64]) -> Bytes:
        """See ``CoreDesk``."""
        total = sum(sizes.tolist())
        if total > _MOST_PEEKED:
            raise FaultError(int(starts[0]), total, 0)
        data: Array = self._call("peek", np.stack([starts, sizes], axis=1)).value(0, Array)
        if data.shape != (total,) or data.dtype != np.uint8:
            raise GarbageError(f"{data.shape} {data.dtype} in place of {total} bytes")
        return data.copy()


class _Nobody(Memory):
    """The worker asks nobody for the core's memory: it has the core."""

    def copy_spans(self, starts: npt.ArrayLike, sizes: npt.ArrayLike, local: int) -> None:
        """See Memory."""
        raise InternalError("the worker has the core itself")

    def read_spans(self, starts: npt.ArrayLike, sizes: npt.ArrayLike) -> Bytes:
        """See Memory."""
        raise InternalError("the worker has the core itself")


class CorePast:
    """What the worker and the driver have in the place of the past."""

    def __init__(self) -> None:
        self.pid = 0
        self.memory: Memory = _Nobody(0)
        self.shared = make_shared()


class PeekedMemory(Memory):
    """The core's memory as the tool sees it: through the worker."""

    def __init__(self, peek: Callable[[npt.NDArray[np.uint64], npt.NDArray[np.uint64]], Bytes]) -> None:
        super().__init__(0)
        self._peek = peek

    def read(self, address: int, size: int) -> bytes:
        """See Memory."""
        return self.read_spans([address], [size]).tobytes()

    def read_into(self, address: int, buffer: Bytes) -> None:
        """See Memory."""
        buffer[:] = self.read_spans([address], [len(buffer)])

    def read_spans(self, starts: npt.ArrayLike, sizes: npt.ArrayLike) -> Bytes:
        """See Memory."""
        return self._peek(*(np.asarray(words, np.uint64).reshape(-1) for words in (starts, sizes)))
