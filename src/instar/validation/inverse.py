"""Inverse mappings: from an element of the future's type to one of the past's, as columns for the kernels.

Made from a walk over the two types (``validation.walk``), not from the moves that transfer forward. In the
columns "old" is what is read, the future, and "new" what is made, the reversed state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.metadata.model import TypeKind
from instar.pairing.mapping import TypePairing
from instar.pairing.moves import BITFIELD, ENUM_TABLE, ENUM_VALUE, MOVE, MoveFlag, MoveOp
from instar.state.columns import INNER, KMAPPING
from instar.validation.columns import MASK
from instar.validation.walk import Leaf, Pair, Region, TypeWalk, kind_of

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Facts:
    """What the report says of one mapping: bits of a past element that are not compared, and why."""

    dropped: int
    handled: int


class InversePool:
    """The inverse mappings that one update uses; rows are what ``COUNTERPART["mapping"]`` refers to.

    Attributes:
        facts: Per row.
    """

    def __init__(self, pairing: TypePairing) -> None:
        self.pairing = pairing
        self._walk = TypeWalk(pairing)
        self._rows: dict[tuple[int, int], int] = {}
        self._parts: dict[str, list[Array]] = {
            name: [] for name in ("moves", "bits", "enums", "values", "offsets", "inners", "mask_bits")
        }
        self._sizes = dict.fromkeys(self._parts, 0)
        self._mappings: list[tuple[int, ...]] = []
        self._masks: list[tuple[int, int, int]] = []
        self.facts: list[Facts] = []

    def __len__(self) -> int:
        return len(self._mappings)

    def row(self, old_type: int, new_type: int) -> int:
        """Row of the inverse of ``old_type`` -> ``new_type``, made on first use."""
        key = old_type, new_type
        if key not in self._rows:
            self._rows[key] = self._add(old_type, new_type)
        return self._rows[key]

    def is_handled(self, old_type: int, new_type: int) -> bool:
        """Whether a handler has taken on a part of this pair."""
        return self._walk.pair(old_type, new_type).handled > 0

    def columns(self) -> dict[str, Array]:
        """All columns, contiguous."""
        kinds: dict[str, Any] = {
            "moves": MOVE, "bits": BITFIELD, "enums": ENUM_TABLE, "values": ENUM_VALUE,
            "offsets": np.int64, "inners": INNER, "mask_bits": np.uint8,
        }  # fmt: skip
        found = {
            name: np.concatenate([np.zeros(0, dtype), *self._parts[name]]).astype(dtype, copy=False)
            for name, dtype in kinds.items()
        }
        found["mappings"] = np.array(self._mappings, dtype=KMAPPING)
        found["masks"] = np.array(self._masks, dtype=MASK)
        return found

    def places(self, row: int, offset: int) -> Array:
        """Offsets in a future object of the word at an offset of its past one."""
        mapping = self._mappings[row]
        offsets = np.concatenate(self._parts["offsets"])[mapping[10] : mapping[10] + mapping[0]]
        element, inner = divmod(offset, mapping[1] or 1)
        found: Array = np.flatnonzero((offsets > inner - 8) & (offsets < inner + 8)) + element * mapping[0]
        return found

    def _append(self, name: str, rows: Array) -> int:
        first = self._sizes[name]
        self._parts[name].append(rows)
        self._sizes[name] += len(rows)
        return first

    def _add(self, old_type: int, new_type: int) -> int:
        pairing, pair = self.pairing, self._walk.pair(old_type, new_type)
        sizes = pairing.old.version.size_of(old_type), pairing.new.version.size_of(new_type)
        first, count, kept = self._moves(pair)
        tail_first = tail_count = tail_keep = 0
        tail = old_element = new_element = 0
        ends = (sizes[1], sizes[0])
        if pair.tail is not None:
            old_element, new_element = (
                pairing.old.version.size_of(pair.tail[2]), pairing.new.version.size_of(pair.tail[3])
            )  # fmt: skip
            inner = self._walk.pair(pair.tail[2], pair.tail[3])
            tail_first, tail_count, tail_kept = self._moves(inner)
            tail = self._append("mask_bits", _mask(old_element, tail_kept))
            tail_keep, ends = tail, (pair.tail[1], pair.tail[0])
        inners = np.array(sorted({(b, a, kind, 0) for a, b, kind in pair.starts}), dtype=INNER)
        self._mappings.append(
            (
                sizes[1], sizes[0], *ends, new_element, old_element, first, count, tail_first, tail_count,
                self._append("offsets", _offsets(pair, *sizes)), self._append("inners", inners), len(inners),
            )
        )  # fmt: skip
        keep = self._append("mask_bits", _mask(sizes[0], [*kept, *pair.lost]))
        fresh = self._append("mask_bits", _mask(sizes[1], pair.fresh))
        self._masks.append((keep, fresh, tail_keep))
        self.facts.append(Facts(pair.dropped, pair.handled))
        return len(self._mappings) - 1

    # Moves --------------------------------------------------------------------------------------------------

    def _moves(self, pair: Pair) -> tuple[int, int, list[Region]]:
        """(first row, count, bits of the past that they make)."""
        rows: list[tuple[Any, ...]] = []
        kept = []
        for leaf in sorted(pair.leaves, key=lambda one: (one.new_at, one.old_at)):
            row = _whole(self._move(leaf))
            kept.append(Region(leaf.old_at, leaf.old_bits, leaf.count, leaf.old_stride))
            if not (rows and _join(rows, row)):
                rows.append(row)
        moves = np.array(rows, dtype=MOVE) if rows else np.zeros(0, MOVE)
        return self._append("moves", moves), len(moves), kept

    def _move(self, leaf: Leaf) -> tuple[Any, ...]:
        old, new = self.pairing.old, self.pairing.new
        kinds = kind_of(old.version, leaf.old_type), kind_of(new.version, leaf.new_type)
        table = self._table(leaf) if kinds == (TypeKind.ENUM, TypeKind.ENUM) else ()
        flags = 0
        if kinds[1] is not TypeKind.FLOAT and kinds[1] in (TypeKind.INTEGER, TypeKind.ENUM):
            flags |= MoveFlag.OLD_SIGNED if new.is_signed(leaf.new_type) else 0
        if kinds[0] in (TypeKind.INTEGER, TypeKind.ENUM):
            flags |= MoveFlag.NEW_SIGNED if old.is_signed(leaf.old_type) else 0
        if leaf.is_field:
            return self._field(leaf, table, flags)
        op, extra = MoveOp.COPY, -1
        if table:
            op, extra = MoveOp.ENUM, self._enum(table)
        elif TypeKind.FLOAT in kinds and kinds[0] is not kinds[1]:
            op = MoveOp.INT_FLOAT
            flags |= MoveFlag.FROM_FLOAT if kinds[1] is TypeKind.FLOAT else 0
        elif leaf.old_bits != leaf.new_bits:
            op = MoveOp.FLOAT if TypeKind.FLOAT in kinds else MoveOp.INTEGER
        sizes = leaf.new_bits // 8, leaf.old_bits // 8
        if op in (MoveOp.FLOAT, MoveOp.INT_FLOAT):
            sizes = _stored(sizes[0]), _stored(sizes[1])
        return _row(leaf, *sizes, op, int(flags), extra)

    def _field(self, leaf: Leaf, table: tuple[tuple[int, int], ...], flags: int) -> tuple[Any, ...]:
        shifts = leaf.new_at % 8, leaf.old_at % 8
        bits = np.array(
            [(shifts[0], leaf.new_bits, shifts[1], leaf.old_bits, self._enum(table) if table else -1)],
            dtype=BITFIELD,
        )
        sizes = (shifts[0] + leaf.new_bits + 7) // 8, (shifts[1] + leaf.old_bits + 7) // 8
        return _row(leaf, *sizes, MoveOp.BITS, flags, self._append("bits", bits))

    def _table(self, leaf: Leaf) -> tuple[tuple[int, int], ...]:
        """(new value, old value) by name; empty where they are the same. Zero without a name stays zero."""
        old = dict(self.pairing.old.enumerators(leaf.old_type))
        new = self.pairing.new.enumerators(leaf.new_type)
        pairs = {(value, old[name]) for name, value in new if name in old}
        if all(a == b for a, b in pairs):
            return ()
        if 0 not in old.values() and 0 not in {value for _, value in new}:
            pairs.add((0, 0))
        return tuple(sorted(pairs))

    def _enum(self, table: tuple[tuple[int, int], ...]) -> int:
        first = self._append("values", np.array(list(table), dtype=ENUM_VALUE))
        return self._append("enums", np.array([(first, len(table))], dtype=ENUM_TABLE))


def _row(leaf: Leaf, from_size: int, to_size: int, op: MoveOp, flags: int, extra: int) -> tuple[Any, ...]:
    strides = (leaf.new_stride // 8, leaf.old_stride // 8) if leaf.count > 1 else (0, 0)
    places = leaf.new_at // 8, leaf.old_at // 8
    return (*places, from_size, to_size, leaf.count, *strides, extra, 0, int(op), flags, 0)


def _stored(size: int) -> int:
    """Bytes of a floating-point number in memory: x87 has 10 of 16."""
    return 16 if size == 10 else size


def _whole(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """One copy in place of many of neighbours."""
    if row[9] != MoveOp.COPY or row[4] == 1 or not row[2] == row[3] == row[5] == row[6]:
        return row
    size = int(row[2]) * int(row[4])
    return (*row[:2], size, size, 1, 0, 0, *row[7:])


def _join(rows: list[tuple[Any, ...]], row: tuple[Any, ...]) -> bool:
    """Make one move of two that copy neighbours to neighbours."""
    last = rows[-1]
    if last[9] != MoveOp.COPY or row[9] != MoveOp.COPY or last[4] != 1 or last[2] != last[3]:
        return False
    size = int(last[2])
    if row[2] != row[3] or (row[0] - last[0], row[1] - last[1]) != (size, size):
        return False
    if row[4] > 1:
        return False
    size += int(row[2])
    rows[-1] = (*last[:2], size, size, 1, 0, 0, -1, 0, int(MoveOp.COPY), 0, 0)
    return True


def _mask(size: int, regions: list[Region]) -> Array:
    """One byte per byte of an element: the bits of the regions."""
    bits = np.zeros(8 * size, dtype=bool)
    for region in regions:
        if region.count == 1:
            bits[region.at : region.at + region.bits] = True
        else:
            places = region.at + np.arange(region.count)[:, None] * region.stride
            bits[places + np.arange(region.bits)] = True
    return np.packbits(bits, bitorder="little")


def _offsets(pair: Pair, old_size: int, new_size: int) -> Array:
    """Where each byte of a future element was in the past's, -1 where it was nowhere."""
    result = np.full(new_size + 1, -1, dtype=np.int64)
    for leaf in pair.leaves:
        if leaf.is_field:
            continue
        length = leaf.new_bits // 8 if leaf.new_bits == leaf.old_bits else 1
        steps = np.arange(leaf.count)[:, None]
        into = leaf.new_at // 8 + steps * (leaf.new_stride // 8) + np.arange(length)
        result[into] = leaf.old_at // 8 + steps * (leaf.old_stride // 8) + np.arange(length)
    result[new_size] = old_size
    return result
