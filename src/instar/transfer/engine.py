"""Calls the transfer kernels over columns; no process is involved."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.metadata.distinct import distinct
from instar.native import load
from instar.state.columns import FAULT, WORD, Status
from instar.state.kernel import State
from instar.state.mirror import Changes

Array = np.ndarray[Any, np.dtype[Any]]

_FINDINGS = 1 << 16
_FAULTS = 4096
_STATUSES = len(Status)
_CHANGED = 1 << 16


class _CTransfer(ctypes.Structure):
    _fields_ = [
        ("state", ctypes.c_void_p),
        ("fixed", ctypes.c_void_p),
        ("fixed_count", ctypes.c_uint64),
        ("mappings", ctypes.c_void_p),
        ("moves", ctypes.c_void_p),
        ("bits", ctypes.c_void_p),
        ("enums", ctypes.c_void_p),
        ("enum_values", ctypes.c_void_p),
        ("offset_maps", ctypes.c_void_p),
        ("inners", ctypes.c_void_p),
        ("bitmaps", ctypes.c_void_p),
        ("bitmap_first", ctypes.c_void_p),
        ("known", ctypes.c_void_p),
        ("known_count", ctypes.c_uint64),
        ("output", ctypes.c_void_p),
        ("words", ctypes.c_void_p),
        ("word_count", ctypes.c_uint64),
        ("word_capacity", ctypes.c_uint64),
        ("findings", ctypes.c_void_p),
        ("finding_count", ctypes.c_uint64),
        ("finding_capacity", ctypes.c_uint64),
        ("faults", ctypes.c_void_p),
        ("fault_count", ctypes.c_uint64),
        ("fault_capacity", ctypes.c_uint64),
        ("statuses", ctypes.c_uint64 * _STATUSES),
        ("unexplained", ctypes.c_uint64 * _STATUSES),
    ]


@dataclass(frozen=True, eq=False)
class Scan:
    """What a scan over all words of the state found.

    Attributes:
        words: ``WORD`` rows to rewrite.
        findings: ``WORD`` rows that need attention: dangling, wild, assumed, inside, unresolved.
        statuses: Pointer slots by Status.
        unexplained: All other words by Status.
        faults: ``FAULT`` rows: what conversions would lose.
    """

    words: Array
    findings: Array
    statuses: dict[Status, int]
    unexplained: dict[Status, int]
    faults: Array


class Engine:
    """The kernels bound to one state, one table of fixed targets and one pool of mappings.

    Args:
        state: Typed, fates decided.
        fixed: ``FIXED`` rows sorted by start.
        columns: See ``MappingPool.columns``.
        known: Sorted, disjoint address ranges that exist in the past besides.
    """

    def __init__(self, state: State, fixed: Array, columns: dict[str, Array], known: Array) -> None:
        self._library = load("kernels")
        self.state = state
        self.fixed, self._keep = fixed, (columns, known)
        self._c = _CTransfer(
            state=ctypes.addressof(state.c_state),
            fixed=fixed.ctypes.data,
            fixed_count=len(fixed),
            mappings=columns["mappings"].ctypes.data,
            moves=columns["moves"].ctypes.data,
            bits=columns["bits"].ctypes.data,
            enums=columns["enums"].ctypes.data,
            enum_values=columns["values"].ctypes.data,
            offset_maps=columns["offsets"].ctypes.data,
            inners=columns["inners"].ctypes.data,
            bitmaps=state.table.bitmaps.ctypes.data,
            bitmap_first=state.table.bitmap_first.ctypes.data,
            known=known.ctypes.data,
            known_count=len(known),
        )

    def run(self, output: Array) -> Scan:
        """Judge every word of the state and convert every object that moves.

        Args:
            output: Receives the new bytes of objects that move, at their ``out`` offsets.
        """
        faults = np.zeros(_FAULTS, dtype=FAULT)
        self._c.output = output.ctypes.data
        capacity, room = max(1024, len(self.state.objects) // 4), _FINDINGS
        while True:
            words = np.empty(capacity, dtype=WORD)
            findings = np.empty(room, dtype=WORD)
            self._c.words, self._c.word_capacity, self._c.word_count = words.ctypes.data, len(words), 0
            self._c.findings, self._c.finding_capacity = findings.ctypes.data, len(findings)
            self._c.finding_count = 0
            self._c.statuses = (ctypes.c_uint64 * _STATUSES)()
            self._c.unexplained = (ctypes.c_uint64 * _STATUSES)()
            self._c.faults, self._c.fault_capacity, self._c.fault_count = faults.ctypes.data, len(faults), 0
            self._library.instar_transfer_scan(ctypes.byref(self._c))
            self._library.instar_transfer_convert(ctypes.byref(self._c))
            if self._c.word_count <= capacity and self._c.finding_count <= room:
                break
            capacity = max(capacity, int(self._c.word_count))
            room = max(room, int(self._c.finding_count))
        return Scan(
            words[: self._c.word_count],
            findings[: self._c.finding_count],
            {status: int(self._c.statuses[status]) for status in Status},
            {status: int(self._c.unexplained[status]) for status in Status},
            faults[: min(int(self._c.fault_count), len(faults))],
        )

    def changed_rows(self, changes: Changes) -> Array | None:
        """The objects that changes lie in, ascending; None when they may call for another plan.

        Every change must be from one inert word to another, in no pointer slot, in a block that was not typed
        by looking at its words: then types, reachability, fates and findings are what they were.
        """
        rows = np.empty(_CHANGED, dtype=np.int64)
        function = self._library.instar_transfer_changed_rows
        function.restype = ctypes.c_int64
        count = function(
            ctypes.byref(self._c),
            ctypes.c_void_p(changes.rows.ctypes.data),
            ctypes.c_void_p(changes.saved.ctypes.data),
            ctypes.c_uint64(len(changes.rows)),
            ctypes.c_void_p(rows.ctypes.data),
            ctypes.c_uint64(len(rows)),
        )
        return None if count < 0 else distinct(rows[:count])

    def convert_again(self, rows: Array) -> bool:
        """Convert some objects once more, into the output that ``run`` was given; whether nothing is lost."""
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        self._c.word_capacity = self._c.finding_capacity = self._c.fault_capacity = self._c.fault_count = 0
        self._library.instar_transfer_convert_rows(
            ctypes.byref(self._c), ctypes.c_void_p(rows.ctypes.data), ctypes.c_uint64(len(rows))
        )
        return int(self._c.fault_count) == 0

    def translate(self, values: Array, *, exact: bool) -> tuple[Array, Array]:
        """(statuses, new values) of words of any origin, such as registers and frame words."""
        values = np.ascontiguousarray(values, dtype=np.uint64)
        statuses, results = np.zeros(len(values), dtype=np.uint8), np.zeros(len(values), dtype=np.uint64)
        self._library.instar_transfer_translate_all(
            ctypes.byref(self._c),
            ctypes.c_void_p(values.ctypes.data),
            ctypes.c_uint64(len(values)),
            ctypes.c_int(exact),
            ctypes.c_void_p(statuses.ctypes.data),
            ctypes.c_void_p(results.ctypes.data),
        )
        return statuses, results
