"""Places to jump back to (``jmp_buf``): libc keeps them mangled with a secret of the process.

A live one leads into a frame below the quiescent point. Where that frame is carried whole, its words are
taken apart with the past's secret, translated and mangled with the future's; where it is not, the new version
must have come to the same ``setjmp`` during its start-up, and keeps what it has. One whose function has
returned may not be used and goes over as it is. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.metadata.model import TypeKind
from instar.pairing.problems import Problem
from instar.process.numbering import CALLEE_SAVED
from instar.state.columns import CARRIED, WORD, Fate, ObjectFlag, ObjectKind, Status, WordSource
from instar.state.image import Image
from instar.state.kernel import State
from instar.transfer.stack import FramePair

Array = np.ndarray[Any, np.dtype[Any]]
Translate = Callable[[Array], tuple[Array, Array]]
# Bytes of the future at a place of an object of the past (row, offset); None where it has none.
Counterpart = Callable[[int, int, int], bytes | None]

_GUARD = 0x30  # of the thread pointer: the secret of sysdeps/x86_64/nptl/tls.h
_TURNS = 17
_WORDS = 8  # rbx, rbp, r12 to r15, rsp, pc (sysdeps/x86_64/jmpbuf-offsets.h)
_RBP, _RSP, _PC = 1, 6, 7
_MASK = (1 << 64) - 1
_SIZE = 8 * _WORDS
_ELEMENTS = 4096
_JUMP, _CONTEXT = "struct __jmp_buf_tag", "struct ucontext_t"


@dataclass(frozen=True, eq=False)
class Jumps:
    """What becomes of saved places.

    Attributes:
        words: ``WORD`` rows to write.
        places: (object row, offset) of every word that nothing else may judge.
        problems: (object row, problem).
    """

    words: Array
    places: frozenset[tuple[int, int]]
    problems: tuple[tuple[int, Problem], ...]


@dataclass(eq=False)
class JumpCarrier:
    """Finds and carries saved places.

    Args:
        state: The past's, fates decided.
        past, future: Both, parked.
        pairs: Frames below the quiescent point.
        translate: Statuses and new values of words.
        counterpart: What the future has in an object's place.
    """

    state: State
    past: Image
    future: Image
    pairs: Sequence[FramePair]
    translate: Translate
    counterpart: Counterpart

    def carry(self) -> Jumps:
        """All saved places of the state."""
        version = self.past.subject.version
        self._inside: dict[int, list[tuple[int, str]]] = {}
        self._tags = {row: name for name in (_JUMP, _CONTEXT) for row in version.find_types(name)}
        words: list[Array] = []
        places: set[tuple[int, int]] = set()
        problems: list[tuple[int, Problem]] = []
        for row, offset, name in self._found() if self._tags else ():
            if name == _CONTEXT:
                problems += self._judge_context(row, offset)
                continue
            problem, new = self._judge(row, offset)
            problems += [(row, problem)] if problem is not None else []
            if new is not None:
                places |= {(row, offset + 8 * index) for index in range(_WORDS)}
                words.append(new)
        joined = np.concatenate(words) if words else np.zeros(0, dtype=WORD)
        return Jumps(joined, frozenset(places), tuple(problems))

    def _found(self) -> Iterator[tuple[int, int, str]]:
        """(object row, offset, type name) of everything of these types in live objects that are carried."""
        objects = self.state.objects
        live = (objects["flags"] & (ObjectFlag.REACHED | ObjectFlag.ROOT)) != 0
        live &= (objects["type"] >= 0) & np.isin(objects["fate"], (Fate.STAY, Fate.MOVE))
        live &= ~np.isin(objects["kind"], (ObjectKind.LOCAL, ObjectKind.FRAME))
        for kind in np.unique(objects["type"][live]).tolist():
            inside = self._of(kind)
            size = int(self.state.table.types[kind]["size"])
            for row in np.flatnonzero(live & (objects["type"] == kind)).tolist() if inside else ():
                for element in range(int(objects["count"][row])):
                    for offset, name in inside:
                        yield row, element * size + offset, name

    def _of(self, kind: int) -> list[tuple[int, str]]:
        """Where things of these types lie in a type."""
        found = self._inside.get(kind)
        if found is None:
            self._inside[kind] = found = list(self._search(kind))
        return found

    def _search(self, kind: int) -> Iterator[tuple[int, str]]:
        version = self.past.subject.version
        entry = version.types[kind]
        if kind in self._tags:
            yield 0, self._tags[kind]
        elif entry["kind"] == TypeKind.ARRAY:
            element = version.strip(int(entry["target"]))
            inside = self._of(element) if element >= 0 else []
            for index in range(min(int(entry["elements"]), _ELEMENTS) if inside else 0):
                yield from ((index * version.size_of(element) + at, name) for at, name in inside)
        elif entry["kind"] in (TypeKind.STRUCT, TypeKind.UNION):
            for member in version.members_of(kind):
                inner = version.strip(int(member["type"])) if member["type"] >= 0 else -1
                if inner >= 0 and not member["bit_size"]:
                    yield from ((int(member["bit_offset"]) // 8 + at, name) for at, name in self._of(inner))

    def _judge_context(self, row: int, offset: int) -> list[tuple[int, Problem]]:
        data = self.state.bytes_at(int(self.state.objects["address"][row]) + offset, 256)
        return [(row, _problem("a context (getcontext) is saved"))] if data and any(data) else []

    def _judge(self, row: int, offset: int) -> tuple[Problem | None, Array | None]:
        """The new words of one saved place, or why there are none; neither where it is not live."""
        data = self.state.bytes_at(int(self.state.objects["address"][row]) + offset, _SIZE)
        if not data or not any(data):
            return None, None
        words = _plain(data, self._guard(self.past))
        pair = next((p for p in self.pairs if p.old.low <= words[_RSP] <= p.old.high), None)
        if pair is None or not self._is_in(pair, words[_PC]):
            return None, None  # its function has returned
        if not pair.whole:
            own = self.counterpart(row, offset, _SIZE)
            if own is not None and self._is_own(pair, own):
                return None, self._rows(row, offset, data, np.frombuffer(own, np.uint64).tolist())
            return _problem(f"a jump leads back into {pair.old.name}, whose code changed"), None
        carried = [self._carry_word(pair, index, words[index]) for index in range(_PC)]
        if None in carried:
            return _problem(f"a jump back into {pair.old.name} needs a value without counterpart"), None
        new = [*(word or 0 for word in carried), words[_PC] - pair.old.entry + pair.new.entry]
        return None, self._rows(row, offset, data, _mangled(new, self._guard(self.future)))

    def _carry_word(self, pair: FramePair, index: int, word: int) -> int | None:
        """A saved register: translated, or that of the future's frame where it belongs to libc's."""
        statuses, values = self.translate(np.array([word], dtype=np.uint64))
        if int(statuses[0]) in CARRIED:
            return int(values[0])
        register = CALLEE_SAVED[index] if index < len(CALLEE_SAVED) else -1
        if pair.old.frame.registers.get(register) == word:
            return pair.new.frame.registers.get(register)
        return None

    def _is_in(self, pair: FramePair, pc: int) -> bool:
        columns = self.past.subject.version.functions
        low, high = int(columns["low"][pair.old.function]), int(columns["high"][pair.old.function])
        return pair.old.entry <= pc < pair.old.entry + high - low

    def _is_own(self, pair: FramePair, data: bytes) -> bool:
        """Whether the new version's start-up has come to the same function's ``setjmp``."""
        words = _plain(data, self._guard(self.future))
        columns = self.future.subject.version.functions
        low, high = int(columns["low"][pair.new.function]), int(columns["high"][pair.new.function])
        return (
            pair.new.entry <= words[_PC] < pair.new.entry + high - low
            and pair.new.low <= words[_RSP] <= pair.new.high
        )

    def _guard(self, image: Image) -> int:
        pointer = image.subject.thread_pointer
        if pointer is None:
            return 0
        return int.from_bytes(image.subject.memory.read(pointer + _GUARD, 8), "little")

    def _rows(self, row: int, offset: int, data: bytes, values: Sequence[int]) -> Array:
        rows = np.zeros(_WORDS, dtype=WORD)
        rows["value"], rows["new_value"] = np.frombuffer(data, np.uint64), np.array(values, dtype=np.uint64)
        rows["object"], rows["offset"] = row, offset + 8 * np.arange(_WORDS)
        rows["pointee"], rows["status"], rows["source"] = -1, Status.MOVED, WordSource.UNEXPLAINED
        return rows


def _plain(data: bytes, guard: int) -> list[int]:
    """Words of a ``jmp_buf`` without the secret: (word rotated right by 17) xor guard."""
    words: list[int] = np.frombuffer(data, np.uint64).tolist()
    for index in (_RBP, _RSP, _PC):
        word = words[index]
        words[index] = ((word >> _TURNS | word << (64 - _TURNS)) & _MASK) ^ guard
    return words


def _mangled(words: Sequence[int], guard: int) -> list[int]:
    result = list(words)
    for index in (_RBP, _RSP, _PC):
        word = result[index] ^ guard
        result[index] = (word << _TURNS | word >> (64 - _TURNS)) & _MASK
    return result


def _problem(cause: str) -> Problem:
    remedy = "keep that function's code as it is, or let start-up save the place before it waits for work"
    return Problem("jump-buffer", "", cause, remedy)
