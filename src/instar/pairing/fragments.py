"""Pieces of a mapping while it is compiled: moves with bit offsets, shifted, repeated and joined.

A fragment is the compiled pair of one old and one new type, relative to their starts, and is shared by every
place where that pair occurs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from instar.pairing.layout import Layout
from instar.pairing.moves import MoveFlag, MoveOp
from instar.pairing.problems import Change, Problem

EnumTable = tuple[tuple[int, int], ...]


class RawMove(NamedTuple):
    """A move before it becomes a row; positions and sizes in bits, strides in bytes."""

    op: MoveOp
    old: int
    new: int
    old_bits: int
    new_bits: int
    path: str = ""
    flags: int = 0
    times: int = 1
    old_stride: int = 0
    new_stride: int = 0
    extra: int = -1  # old pointee type of a POINTER
    table: EnumTable | None = None
    same: bool = False  # a BITS move that changes nothing but the position

    @property
    def is_check(self) -> bool:
        """Whether it only checks that old bytes are zero."""
        return bool(self.flags & MoveFlag.CHECK_ZERO_TAIL)

    def joins(self) -> bool:
        """Whether it may become part of one larger COPY."""
        if self.times != 1 or self.old_bits != self.new_bits:
            return False
        plain = self.op == MoveOp.COPY and not self.is_check
        return plain or (self.same and (self.new - self.old) % 8 == 0)

    def in_place(self) -> bool:
        """Whether the element keeps its place and, but for pointers, its bytes."""
        if self.old != self.new or self.old_bits != self.new_bits or self.old_stride != self.new_stride:
            return False
        if self.op == MoveOp.BITS:
            return self.same
        return self.op in (MoveOp.COPY, MoveOp.POINTER, MoveOp.EVIDENCE) and not self.is_check


@dataclass(frozen=True, slots=True)
class Tail:
    """A trailing array that a block may extend: element types and byte offsets of element 0."""

    old_element: int
    new_element: int
    old_offset: int
    new_offset: int
    flexible: bool


@dataclass(frozen=True, slots=True)
class Fragment:
    """The compiled pair of two types; offsets relative to their starts.

    ``problems`` and ``changes`` are those of this pair and of nested pairs without a name of their own;
    ``nested_problems`` are those that a nested named pair has anyway (they count, but are reported once).
    ``settled`` is False when something else than a move keeps an object from staying as it is: a member that
    was added or removed, a changed size.
    """

    moves: tuple[RawMove, ...] = ()
    problems: tuple[Problem, ...] = ()
    nested_problems: tuple[Problem, ...] = ()
    changes: tuple[Change, ...] = ()
    tail: Tail | None = None
    settled: bool = True

    @property
    def is_refused(self) -> bool:
        """Whether the pair, or a pair nested in it, cannot be converted."""
        return bool(self.problems or self.nested_problems)

    @property
    def in_place(self) -> bool:
        """Whether an object can stay where it is, with its bytes but for pointers."""
        return self.settled and not self.is_refused and all(move.in_place() for move in self.moves)

    def under(self, path: str, old_bit: int, new_bit: int, named: bool) -> Fragment:
        """The fragment as seen from the enclosing object.

        Args:
            path: Put before all paths.
            old_bit, new_bit: Where the pair lies in the enclosing pair.
            named: Whether the pair is reported on its own, so that its changes are left out here.
        """
        moves = tuple(
            move._replace(old=move.old + old_bit, new=move.new + new_bit, path=path + move.path)
            for move in self.moves
        )
        own = tuple(problem.under(path) for problem in self.problems)
        nested = tuple(problem.under(path) for problem in self.nested_problems)
        tail = self.tail and replace(
            self.tail,
            old_offset=self.tail.old_offset + old_bit // 8,
            new_offset=self.tail.new_offset + new_bit // 8,
        )
        if named:
            return Fragment(moves, (), own + nested, (), tail, self.settled)
        changes = tuple(change.under(path) for change in self.changes)
        return Fragment(moves, own, nested, changes, tail, self.settled)


def repeat(moves: tuple[RawMove, ...], count: int, old_stride: int, new_stride: int) -> tuple[RawMove, ...]:
    """The moves of `count` elements: one row for each where possible, else the smaller level is unrolled."""
    if count <= 0:
        return ()
    repeated: list[RawMove] = []
    for move in moves:
        repeated += _repeat_one(move, count, old_stride, new_stride)
    return tuple(repeated)


def _repeat_one(move: RawMove, count: int, old_stride: int, new_stride: int) -> list[RawMove]:
    if count == 1:
        return [move]
    if move.times == 1:
        return [_contiguous(move._replace(times=count, old_stride=old_stride, new_stride=new_stride))]
    if move.times * move.old_stride == old_stride and move.times * move.new_stride == new_stride:
        return [move._replace(times=move.times * count)]
    if count <= move.times:
        return [
            move._replace(old=move.old + 8 * at * old_stride, new=move.new + 8 * at * new_stride)
            for at in range(count)
        ]
    return [
        move._replace(
            old=move.old + 8 * at * move.old_stride,
            new=move.new + 8 * at * move.new_stride,
            times=count,
            old_stride=old_stride,
            new_stride=new_stride,
        )
        for at in range(move.times)
    ]


def _contiguous(move: RawMove) -> RawMove:
    """A COPY (or check) whose elements touch on both sides is one element."""
    touches = move.old_bits == 8 * move.old_stride
    if move.op == MoveOp.COPY and touches and (move.is_check or move.new_bits == 8 * move.new_stride):
        bits = move.old_bits * move.times
        new_bits = 0 if move.is_check else bits
        return move._replace(times=1, old_stride=0, new_stride=0, old_bits=bits, new_bits=new_bits)
    return move


class Coalescer:
    """Joins adjacent copies of one record pair across padding, so that unchanged runs are one COPY."""

    def __init__(self, old: Layout, new: Layout, old_type: int, new_type: int) -> None:
        self._old, self._new = old, new
        self._types = (old_type, new_type)
        self._bits = (8 * old.size(old_type), 8 * new.size(new_type))

    def join(self, moves: tuple[RawMove, ...]) -> tuple[RawMove, ...]:
        """The same effect in fewer moves, sorted by old offset."""
        joined: list[RawMove] = [move for move in moves if not move.joins()]
        run: list[RawMove] = []
        for move in sorted((move for move in moves if move.joins()), key=lambda move: move.old):
            if run and not self._continues(run[-1], move):
                joined += self._close(run)
                run = []
            run.append(move)
        joined += self._close(run)
        return tuple(sorted(joined, key=lambda move: (move.old, move.new, move.is_check)))

    def _continues(self, last: RawMove, move: RawMove) -> bool:
        delta = move.new - move.old
        return last.new - last.old == delta and self._is_gap(last.old + last.old_bits, move.old, delta)

    def _is_gap(self, low: int, high: int, delta: int) -> bool:
        old_type, new_type = self._types
        return (
            low <= high
            and self._old.is_padding(old_type, low, high)
            and self._new.is_padding(new_type, low + delta, high + delta)
        )

    def _close(self, run: list[RawMove]) -> list[RawMove]:
        """The run as one COPY; bit-fields at its ends that share a byte with others stay BITS."""
        if not run:
            return []
        run = list(run)
        left_over: list[RawMove] = []
        delta = run[0].new - run[0].old
        while run and (low := self._start(run[0], delta)) is None:
            left_over.append(run.pop(0))
        while run and (high := self._end(run[-1], delta)) is None:
            left_over.append(run.pop())
        if not run:
            return left_over
        assert low is not None and high is not None
        low, high = self._whole(low, high, delta)
        path = run[0].path if len(run) == 1 else ""
        return [*left_over, RawMove(MoveOp.COPY, low, low + delta, high - low, high - low, path)]

    def _start(self, move: RawMove, delta: int) -> int | None:
        aligned = move.old // 8 * 8
        return aligned if self._is_gap(aligned, move.old, delta) else None

    def _end(self, move: RawMove, delta: int) -> int | None:
        end = move.old + move.old_bits
        aligned = (end + 7) // 8 * 8
        return aligned if self._is_gap(end, aligned, delta) else None

    def _whole(self, low: int, high: int, delta: int) -> tuple[int, int]:
        """The whole type where nothing but padding is left out and both sizes agree."""
        if delta or self._bits[0] != self._bits[1]:
            return low, high
        if self._is_gap(0, low, 0) and self._is_gap(high, self._bits[0], 0):
            return 0, self._bits[0]
        return low, high
