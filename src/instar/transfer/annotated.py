"""Words that the program itself says are no pointers (``IXFER``, ``NOXFER`` of instar.h). Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from instar.metadata.annotations import annotation_of, has_annotations
from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.state.kernel import State
from instar.transfer.byte_ranges import Range, TypeRanges, of_elements, of_members
from instar.transfer.engine import Scan

Array = np.ndarray[Any, np.dtype[Any]]

_SILENT = ("ixfer", "noxfer")
_LIMIT = 1 << 14


def without_annotated(state: State, version: Version, scan: Scan) -> Scan:
    """A scan without the words that lie in such members: they are neither rewritten nor judged."""
    if not has_annotations(version):
        return scan
    silent = _Silent(state, version)
    words, findings = (rows[[not silent.covers(row) for row in rows]] for rows in (scan.words, scan.findings))
    return replace(scan, words=words, findings=findings)


class _Silent:
    def __init__(self, state: State, version: Version) -> None:
        self._state, self._version = state, version
        self._silent = TypeRanges(self._find)

    def covers(self, word: Any) -> bool:
        """Whether a whole word lies in annotated bytes of its object."""
        row, offset = int(word["object"]), int(word["offset"])
        entry = self._state.objects[row]
        kind = int(entry["type"])
        size = self._version.size_of(kind) if kind >= 0 else 0
        variable = self._state.origin(row) if entry["kind"] in (1, 2) else -1
        if variable >= 0 and self._ranges(int(self._version.variables["type"][variable]), offset):
            return True
        return bool(
            kind >= 0 and size and self._ranges(kind, offset % size if entry["count"] > 1 else offset)
        )

    def _ranges(self, row: int, offset: int) -> bool:
        return any(low <= offset and offset + 8 <= high for low, high in self._silent.of(row))

    def _find(self, row: int) -> list[Range]:
        version = self._version
        if annotation_of(version, row) in _SILENT:
            return [(0, version.size_of(row))]
        row = version.strip(row)
        kind = TypeKind(int(version.types["kind"][row])) if row >= 0 else TypeKind.VOID
        if kind is TypeKind.STRUCT:
            return of_members(version, row, self._silent.of)
        return of_elements(version, row, self._silent.of, _LIMIT) if kind is TypeKind.ARRAY else []
