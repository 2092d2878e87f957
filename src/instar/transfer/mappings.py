"""Compiled mappings of all type pairs of one update, concatenated for the kernels.

Pure. A pair is compiled at most once; rows of the pool are what ``instar_object.mapping`` refers to.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from instar.metadata.model import TypeKind
from instar.pairing.mapping import TypePairing
from instar.pairing.moves import BITFIELD, ENUM_TABLE, ENUM_VALUE, MOVE, Mapping, MoveOp
from instar.state.columns import INNER, KMAPPING
from instar.state.slots import TypeTable

Array = np.ndarray[Any, np.dtype[Any]]

_INNER_LIMIT = 1 << 14


class MappingPool:
    """The mappings that an update uses.

    Attributes:
        pairing: Decides counterparts and compiles mappings.
        paths: Per move row (global) the member path, for messages.
    """

    def __init__(self, pairing: TypePairing, old_table: TypeTable) -> None:
        self.pairing = pairing
        self._table = old_table
        self._rows: dict[tuple[int, int], int] = {}
        self._mappings: list[tuple[Any, ...]] = []
        self._moves: list[Array] = []
        self._bits: list[Array] = []
        self._enums: list[Array] = []
        self._values: list[Array] = []
        self._offsets: list[Array] = []
        self._inners: list[Array] = []
        self._sizes = {"moves": 0, "bits": 0, "enums": 0, "values": 0, "offsets": 0, "inners": 0}
        self.paths: list[str] = []
        self.compiled: dict[int, Mapping] = {}

    def __len__(self) -> int:
        return len(self._mappings)

    def row(self, old_type: int, new_type: int) -> int:
        """Row of the mapping of one old element to one new element, compiled on first use."""
        key = old_type, new_type
        if key not in self._rows:
            self._rows[key] = self._add(self.pairing.compile(old_type, new_type))
        return self._rows[key]

    def _add(self, mapping: Mapping) -> int:
        first, count = self._add_moves(mapping)
        tail_first = tail_count = old_element = new_element = 0
        if mapping.tail is not None:
            tail_first, tail_count = self._add_moves(mapping.tail)
            old_element, new_element = mapping.tail.old_size, mapping.tail.new_size
        offsets = np.ascontiguousarray(
            self.pairing.offset_map(mapping.old_type, mapping.new_type), dtype=np.int64
        )
        first_offset = self._append("offsets", self._offsets, offsets)
        inners = self._inner_rows(mapping.old_type, mapping.new_type)
        first_inner = self._append("inners", self._inners, inners)
        old_tail, new_tail = self.tail_of(mapping, offsets)
        self._mappings.append(
            (
                mapping.old_size, mapping.new_size, old_tail, new_tail, old_element, new_element,
                first, count, tail_first, tail_count, first_offset, first_inner, len(inners),
            )
        )  # fmt: skip
        row = len(self._mappings) - 1
        self.compiled[row] = mapping
        return row

    def tail_of(self, mapping: Mapping, offsets: Array) -> tuple[int, int]:
        """Where a cut or flexible last member starts in both."""
        if mapping.tail is not None:
            return mapping.tail_old_offset, mapping.tail_new_offset
        old_tail = int(self._table.types[mapping.old_type]["tail_offset"]) if mapping.old_type >= 0 else 0
        if old_tail >= mapping.old_size or offsets[old_tail] < 0:
            return mapping.old_size, mapping.new_size
        return old_tail, int(offsets[old_tail])

    def _append(self, name: str, parts: list[Array], rows: Array) -> int:
        first = self._sizes[name]
        parts.append(rows)
        self._sizes[name] += len(rows)
        return first

    def _add_moves(self, mapping: Mapping) -> tuple[int, int]:
        """Append moves with `extra` rebased to the pool's columns and pointees without typedefs."""
        moves = np.array(mapping.moves, dtype=MOVE)
        values = self._append("values", self._values, np.asarray(mapping.enum_values, dtype=ENUM_VALUE))
        tables = np.array(mapping.enum_tables, dtype=ENUM_TABLE)
        tables["first"] += np.uint32(values)
        first_table = self._append("enums", self._enums, tables)
        bits = np.array(mapping.bits, dtype=BITFIELD)
        bits["enum_table"][bits["enum_table"] >= 0] += first_table
        first_bits = self._append("bits", self._bits, bits)
        moves["extra"][moves["op"] == MoveOp.BITS] += first_bits
        moves["extra"][moves["op"] == MoveOp.ENUM] += first_table
        pointers = (moves["op"] == MoveOp.POINTER) & (moves["extra"] >= 0)
        moves["extra"][pointers] = self._table.stripped[moves["extra"][pointers]]
        self.paths.extend(mapping.paths[int(i)] for i in moves["path"])
        moves["path"] = 0
        return self._append("moves", self._moves, moves), len(moves)

    def _inner_rows(self, old_type: int, new_type: int) -> Array:
        """Where each member of the old type starts in the new one: for pointers to embedded structs."""
        rows: list[tuple[int, int, int, int]] = []
        self._collect_inner(old_type, new_type, 0, 0, rows)
        return np.array(sorted(set(rows)), dtype=INNER) if rows else np.zeros(0, dtype=INNER)

    def _collect_inner(
        self,
        old_type: int,
        new_type: int,
        old_base: int,
        new_base: int,
        rows: list[tuple[int, int, int, int]],
    ) -> None:
        old, new = self.pairing.old.version, self.pairing.new.version
        old_type, new_type = old.strip(old_type), new.strip(new_type)
        if old_type < 0 or new_type < 0 or len(rows) > _INNER_LIMIT:
            return
        kinds = TypeKind(int(old.types[old_type]["kind"])), TypeKind(int(new.types[new_type]["kind"]))
        if kinds == (TypeKind.ARRAY, TypeKind.ARRAY):
            self._collect_elements(old_type, new_type, old_base, new_base, rows)
        elif kinds[0] is kinds[1] and kinds[0] in (TypeKind.STRUCT, TypeKind.UNION):
            for before, after in self.pairing.compiler.pairs(old_type, new_type).pairs:
                if before.bit_size or after.bit_size or before.type < 0:
                    continue
                old_at, new_at = old_base + before.bit_offset // 8, new_base + after.bit_offset // 8
                if before.name:
                    rows.append((old_at, new_at, old.strip(before.type), 0))
                    rows += self._array_end(before.type, after.type, old_at, new_at)
                self._collect_inner(before.type, after.type, old_at, new_at, rows)

    def _array_end(
        self, old_type: int, new_type: int, old_at: int, new_at: int
    ) -> list[tuple[int, int, int, int]]:
        """One past the end of an array member, which is the start of the next member or padding too."""
        old, new = self.pairing.old.version, self.pairing.new.version
        before, after = old.strip(old_type), new.strip(new_type)
        ends = old_at + old.size_of(before), new_at + new.size_of(after)
        depth = 0
        while before >= 0 and after >= 0 and old.types[before]["kind"] == TypeKind.ARRAY:
            if new.types[after]["kind"] != TypeKind.ARRAY:
                break
            if old.types[before]["elements"] != new.types[after]["elements"]:
                return []  # a cursor at the end of a full array is no end of the longer one
            before = old.strip(int(old.types[before]["target"]))
            after = new.strip(int(new.types[after]["target"]))
            depth += 1
        return [(*ends, before, 0)] if depth and before >= 0 and ends[0] > old_at else []

    def _collect_elements(
        self,
        old_type: int,
        new_type: int,
        old_base: int,
        new_base: int,
        rows: list[tuple[int, int, int, int]],
    ) -> None:
        old, new = self.pairing.old.version, self.pairing.new.version
        old_element, new_element = int(old.types[old_type]["target"]), int(new.types[new_type]["target"])
        if old.types[old.strip(old_element)]["kind"] not in (TypeKind.STRUCT, TypeKind.UNION, TypeKind.ARRAY):
            return
        count = min(int(old.types[old_type]["elements"]), int(new.types[new_type]["elements"]))
        for i in range(max(count, 0)):
            old_at, new_at = old_base + i * old.size_of(old_element), new_base + i * new.size_of(new_element)
            rows.append((old_at, new_at, old.strip(old_element), 0))
            self._collect_inner(old_element, new_element, old_at, new_at, rows)
            if len(rows) > _INNER_LIMIT:
                return

    def columns(self) -> dict[str, Array]:
        """All columns, contiguous: mappings, moves, bits, enums, values, offsets, inners."""

        def joined(parts: list[Array], dtype: Any) -> Array:
            return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)

        return {
            "mappings": np.array(self._mappings, dtype=KMAPPING),
            "moves": joined(self._moves, MOVE),
            "bits": joined(self._bits, BITFIELD),
            "enums": joined(self._enums, ENUM_TABLE),
            "values": joined(self._values, ENUM_VALUE),
            "offsets": joined(self._offsets, np.int64),
            "inners": joined(self._inners, INNER),
        }
