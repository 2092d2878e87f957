"""Turns a compiled fragment into the rows of a mapping."""

from __future__ import annotations

import numpy as np

from instar.pairing.compiler import Compiler
from instar.pairing.fragments import Fragment, RawMove
from instar.pairing.layout import Layout
from instar.pairing.moves import BITFIELD, ENUM_TABLE, ENUM_VALUE, MOVE, Mapping, MoveOp, Rows
from instar.pairing.problems import Problem

LIMIT = 2**32 - 1
PIECE = 2**31


class _Tables:
    """Interned paths, bit-fields and enum tables of one mapping."""

    def __init__(self) -> None:
        self.paths: dict[str, int] = {"": 0}
        self.bits: dict[tuple[int, int, int, int, int], int] = {}
        self.enums: dict[tuple[tuple[int, int], ...], int] = {}

    def path(self, text: str) -> int:
        return self.paths.setdefault(text, len(self.paths))

    def enum(self, move: RawMove) -> int:
        return -1 if move.table is None else self.enums.setdefault(move.table, len(self.enums))

    def bit_field(self, move: RawMove) -> int:
        row = (move.old % 8, move.old_bits, move.new % 8, move.new_bits, self.enum(move))
        return self.bits.setdefault(row, len(self.bits))


def assemble(old: Layout, new: Layout, compiler: Compiler, old_type: int, new_type: int) -> Mapping:
    """The mapping of a pair, its tail included."""
    fragment = compiler.fragment(old_type, new_type)
    tables = _Tables()
    moves = [piece for move in fragment.moves for piece in _pieces(move)]
    problems = fragment.problems + fragment.nested_problems
    if any(not _fits(move) for move in moves):
        cause = f"{old.label(old_type)} has elements or counts over 4 GiB"
        problems += (Problem("too-large", "", cause, "write a handler for this type"),)
        moves = []
    rows = np.array([_row(move, tables) for move in moves], MOVE)
    tail = _tail(old, new, compiler, fragment)
    return Mapping(
        old_type,
        new_type,
        old.size(old_type),
        new.size(new_type),
        _freeze(rows),
        tuple(tables.paths),
        _freeze(np.array(list(tables.bits), BITFIELD)),
        *_enum_columns(list(tables.enums)),
        problems=problems + (tail.problems if tail else ()),
        changes=fragment.changes,
        tail=tail,
        tail_old_offset=fragment.tail.old_offset if fragment.tail else 0,
        tail_new_offset=fragment.tail.new_offset if fragment.tail else 0,
        tail_flexible=fragment.tail.flexible if fragment.tail else False,
    )


def _tail(old: Layout, new: Layout, compiler: Compiler, fragment: Fragment) -> Mapping | None:
    if fragment.tail is None:
        return None
    return assemble(old, new, compiler, fragment.tail.old_element, fragment.tail.new_element)


def _pieces(move: RawMove) -> list[RawMove]:
    """A copy of more bytes than one row can say, as several."""
    size = move.old_bits // 8
    if size <= PIECE or move.op not in (MoveOp.COPY, MoveOp.EVIDENCE) or move.times != 1:
        return [move]
    return [
        move._replace(
            old=move.old + 8 * at,
            new=move.new + (0 if move.is_check else 8 * at),
            old_bits=8 * min(PIECE, size - at),
            new_bits=0 if move.is_check else 8 * min(PIECE, size - at),
        )
        for at in range(0, size, PIECE)
    ]


def _fits(move: RawMove) -> bool:
    return max(move.old_bits // 8, move.new_bits // 8, move.times, move.old_stride, move.new_stride) <= LIMIT


def _row(move: RawMove, tables: _Tables) -> tuple[int, ...]:
    extra = move.extra
    old_size, new_size = move.old_bits // 8, move.new_bits // 8
    if move.op == MoveOp.BITS:
        extra = tables.bit_field(move)
        old_size = (move.old % 8 + move.old_bits + 7) // 8
        new_size = (move.new % 8 + move.new_bits + 7) // 8
    elif move.op == MoveOp.ENUM:
        extra = tables.enum(move)
    strides = (move.old_stride, move.new_stride) if move.times > 1 else (0, 0)
    path = tables.path(move.path)
    place = (move.old // 8, move.new // 8, old_size, new_size, move.times)
    return (*place, *strides, extra, path, int(move.op), move.flags, 0)


def _enum_columns(enums: list[tuple[tuple[int, int], ...]]) -> tuple[Rows, Rows]:
    counts = [len(table) for table in enums]
    firsts = np.concatenate(([0], np.cumsum(counts)))[:-1].tolist() if enums else []
    tables = np.array(list(zip(firsts, counts, strict=True)), ENUM_TABLE)
    values = np.array([pair for table in enums for pair in table], ENUM_VALUE)
    return _freeze(tables), _freeze(values)


def _freeze(rows: Rows) -> Rows:
    rows.flags.writeable = False
    return rows
