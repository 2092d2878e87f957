"""What a hostile worker may say: its answers, and what it asks for."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np

from fuzz.targets import Target
from instar.errors import RefusedError
from instar.pairing.problems import Problem
from instar.process.maps import Mapping
from instar.process.memory import Memory
from instar.transfer.plan import PATCH, Figures, KeptRange, TransferPlan, Write
from instar.update.details import Details
from instar.update.errand import error_from, own_plan
from instar.update.exchange import GarbageError, Message, Wire
from instar.update.overreach import require_ranges, require_sources, require_writes
from instar.update.worker import Worker
from instar.validation.outcome import Validation

Array = np.ndarray[Any, np.dtype[Any]]

_HEAD = struct.Struct("<IQ")
_START = 0x5555_0000_0000
_MAPS = (
    Mapping(_START, _START + 0x4000, "rw-p", 0, (8, 1), 7, "/bin/program"),
    Mapping(_START + 0x4000, _START + 0x9000, "rw-p", 0, (0, 0), 0, "[heap]"),
    Mapping(_START + 0x10000, _START + 0x12000, "rw-p", 0, (8, 1), 9, "/lib/libc.so.6"),
)
_EXPECTED = (
    TransferPlan, Validation, Details, list[Problem], tuple[str, ...], bool, str | None, tuple[Array, Array],
)  # fmt: skip
_NUMBERS = (0, 1, -1, 7, 4095, 4096, 2**31, 2**32 - 1, 2**47, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63))


def mutate(rng: random.Random, value: Any, depth: int = 0) -> Any:
    """One place in a JSON value becomes another."""
    if isinstance(value, list) and value and (depth < 2 or rng.random() < 0.9):
        at = rng.randrange(len(value))
        if rng.random() < 0.1:
            return [*value[:at], *([value[at]] * rng.choice((0, 2))), *value[at + 1 :]]
        return [*value[:at], mutate(rng, value[at], depth + 1), *value[at + 1 :]]
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return {**value, key: mutate(rng, value[key], depth + 1)}
    if isinstance(value, int) and rng.random() < 0.6:
        return rng.choice((value + 1, value - 1, value * 4096, value ^ 1 << rng.randrange(64)))
    return rng.choice((*_NUMBERS, None, True, "", "<u8", "|O", 1.5, float("inf"), [], [[]], {}, {"array": 0}))


class _Peer(Target):
    """Frames, damaged as JSON or as bytes; lengths are put right mostly."""

    def repair(self, data: bytes) -> bytes:
        if len(data) < _HEAD.size:
            return data
        length, _ = _HEAD.unpack_from(data)
        length = min(length, len(data) - _HEAD.size)
        return _HEAD.pack(length, len(data) - _HEAD.size - length) + data[_HEAD.size :]

    def one(self, seed: str) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.2:
            return super().one(seed)
        data = rng.choice(self.seeds)
        length, _ = _HEAD.unpack_from(data)
        text, behind = json.loads(data[_HEAD.size : _HEAD.size + length]), data[_HEAD.size + length :]
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            text = mutate(rng, text)
        changed = json.dumps(text).encode()
        return _HEAD.pack(len(changed), len(behind)) + changed + behind


def framed(kind: str, *values: object) -> bytes:
    """What goes over the wire."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Wire(ours, None).send(kind, *values)
        ours.shutdown(socket.SHUT_WR)
        parts = iter(lambda: theirs.recv(1 << 20), b"")
        return b"".join(parts)


def _received(data: bytes) -> Message:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        ours.setblocking(False)
        with suppress(BlockingIOError):
            ours.send(data)
        ours.shutdown(socket.SHUT_WR)
        theirs.settimeout(5)
        return Wire(theirs, None).receive()


def _translate(words: Any) -> tuple[Any, Any]:
    return words, words


class Answers(_Peer):
    """Plans and all else that is handed back, as far as the checks before anything is done."""

    name: ClassVar[str] = "answers"

    def make_seeds(self) -> Sequence[bytes]:
        kept = KeptRange(
            _START, 8192, np.array([[_START + 16, 64]], np.uint64), np.array([[_START, 4096]], np.uint64),
            np.zeros(4096, np.uint8), _START, True, 3, _MAPS[0], np.array([(_START + 8, 1 << 63)], PATCH),
        )  # fmt: skip
        plan = TransferPlan(
            (kept,),
            KeptRange(_START + 8192, 4096, kept.pages[:0], kept.pages[:0], kept.data, _START + 8192),
            (Write(_START + 5, b"bytes"),), {3: (1 << 64) - 1}, (Problem("code", "path", "cause", "remedy"),),
            ("warning",), Figures({"heap": 2}, 1, 2, 3, 4, 5), _translate, True,
        )  # fmt: skip
        others = (
            Validation(),
            Details(),
            [Problem("code", "path", "cause", "remedy")],
            ("landlock",),
            True,
            (np.zeros(3, np.uint64),) * 2,
        )
        error = ("RefusedError", "a-code", "cause", "remedy", ["detail"])
        found = [framed("done", 1, value) for value in (plan, plan, plan, *others)]
        return [*found, framed("failed", *error)]

    def read(self, data: bytes) -> bool:
        """Whatever is expected then: garbage, or a value that is checked before it is used."""
        try:
            message = _received(data)
        except EOFError:  # the worker has ended
            return False
        if message.kind == "failed":
            error_from(message)
            return True
        accepted = False
        for expected in _EXPECTED:
            with suppress(GarbageError):
                self._use(message.value(1, expected))
                accepted = True
        return accepted

    @staticmethod
    def _use(value: object) -> None:
        if isinstance(value, Validation):
            value.to_json()
        if not isinstance(value, TransferPlan):
            return
        plan = own_plan(value, _translate)
        ranges = [*plan.kept, *([plan.arena] if plan.arena is not None else [])]
        ranges.sort(key=lambda one: one.start)
        with suppress(RefusedError):
            require_ranges(ranges)
            require_sources(ranges, _MAPS)
            require_writes(plan, _MAPS, "/bin/program")
            for one in ranges:  # what the driver would do now lies where it was said to
                for start, size in one.pages.tolist():
                    assert one.start <= start <= start + size <= one.start + one.size, "outside of its range"
                    assert len(one.data[start - one.data_start :][:size]) == size, "bytes that are not there"
            for write in plan.writes:
                inside = [m for m in _MAPS[:2] if m.start <= write.address]
                assert inside and write.address + len(write.data) <= _MAPS[1].end, "a write elsewhere"


class _Region:
    """Shared memory with room before and behind a worker's part."""

    def __init__(self) -> None:
        self.bytes = np.full(12 << 12, 0xA5, np.uint8)
        self.base = self.bytes.ctypes.data
        self.part = (4 << 12, 8 << 12)

    def is_whole(self) -> bool:
        """Nothing was written outside of the part."""
        low, high = self.part
        return bool((self.bytes[:low] == 0xA5).all() and (self.bytes[high:] == 0xA5).all())


class Questions(_Peer):
    """What the worker asks its tool for: spans of memory, files of /proc."""

    name: ClassVar[str] = "questions"

    def make_seeds(self) -> Sequence[bytes]:
        self._own = np.arange(1 << 14, dtype=np.uint32).view(np.uint8)
        self._region, pid, start = _Region(), os.getpid(), self._own.ctypes.data
        spans = np.array([[start, 4096], [start + 8192, 64]], np.uint64)
        return [
            framed("copy", pid, spans, self._region.part[0]), framed("read", pid, spans),
            framed("proc", pid, "maps", -1, 0), framed("proc", pid, "stat", 64, 3),
            framed("unwritten", _START, _START + 8192), framed("allocate", 64),
            framed("call", _START, (1, 2, 3)), framed("store", _START, b"bytes"),
        ]  # fmt: skip

    def read(self, data: bytes) -> bool:
        """Answered or refused; what is written lies in the worker's own part of the shared memory."""
        worker = Worker.__new__(Worker)
        worker._memories = {os.getpid(): Memory(os.getpid())}
        worker._shared, worker._part, worker._future = self._region, self._region.part, None  # type: ignore[assignment]
        worker._unwritten = lambda start, end: np.zeros(0, np.uint64)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
            ours.settimeout(0.5)
            worker._wire = Wire(ours, None)
            try:
                worker._serve(_received(data))
            except (TimeoutError, EOFError):  # nobody reads the answer; the worker has ended
                return False
        assert self._region.is_whole(), "written outside of the worker's part"
        return True


PEERS: tuple[type[Target], ...] = (Answers, Questions)
