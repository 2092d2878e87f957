"""Variables that keep what the new program file gives them: neither process may ever have changed them. Pure.

Nothing of them is transferred, so nothing of them comes back: it is held against both program files instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from instar.state.columns import Fate, ObjectKind
from instar.state.image import Image
from instar.state.kernel import Span
from instar.transfer.planner import Planner
from instar.transfer.untouched import initial_image
from instar.validation.counterparts import Counterparts

Array = np.ndarray[Any, np.dtype[Any]]


class UntouchedCheck:
    """Of one plan; the future's side is looked at once, the past's whenever it was copied anew.

    Args:
        planner: Has planned.
        found: Its counterparts.
    """

    def __init__(self, planner: Planner, found: Counterparts) -> None:
        self._planner = planner
        objects = planner.state.objects
        rows = np.flatnonzero((objects["kind"] == ObjectKind.STATIC) & (objects["fate"] == Fate.REPLACE))
        rows = rows[objects["new_address"][rows] != 0]
        constant = [(m.start, m.end) for m in planner.past.subject.maps if not m.writable]
        kept = (row for row in rows.tolist() if planner.state.origin(row) >= 0)
        rows = np.array([row for row in kept if not self._is_inside(row, constant)], np.int64)
        self._initial = self._of_the_past(rows)
        self._changed_in_future = self._of_the_future(rows, found)

    def wrong(self) -> Iterator[tuple[int, str]]:
        """(object row, which version has changed it)."""
        for row, initial in self._initial.items():
            entry = self._planner.state.objects[row]
            now = self._planner.state.bytes_at(int(entry["address"]), int(entry["size"]))
            if now != (initial or bytes(int(entry["size"]))):
                yield row, "the old version"
        for row in self._changed_in_future:
            yield row, "the new version's start-up"

    def _is_inside(self, row: int, ranges: list[tuple[int, int]]) -> bool:
        """Whether it is in memory that nobody writes any more: a constant that the loader has relocated."""
        address = int(self._planner.state.objects["address"][row])
        return any(low <= address < high for low, high in ranges)

    def _of_the_past(self, rows: Array) -> dict[int, bytes]:
        """Object row -> what its program file has; empty where that is zero."""
        objects, found = self._planner.state.objects, {}
        for span, initial in _initial_images(self._planner.past):
            addresses = objects["address"][rows]
            for row in rows[(addresses >= span.start) & (addresses < span.end)].tolist():
                at = int(objects["address"][row]) - span.start
                data = initial[at : at + int(objects["size"][row])]
                found[row] = data.tobytes() if data.any() else b""
        return found

    def _of_the_future(self, rows: Array, found: Counterparts) -> list[int]:
        """Rows of variables that the future's start-up has changed: these would have to be carried."""
        places, sizes = found.places(rows), self._new_sizes(rows)
        changed: list[int] = []
        for span, initial in _initial_images(self._planner.future):
            unlike = np.flatnonzero(span.data != initial)
            low = np.searchsorted(unlike, places.astype(np.int64) - span.start)
            high = np.searchsorted(unlike, (places + sizes).astype(np.int64) - span.start)
            changed += rows[(high > low) & (places >= span.start) & (places < span.end)].tolist()
        return changed

    def _new_sizes(self, rows: Array) -> Array:
        """Bytes of the variables in the new version."""
        planner, new = self._planner, self._planner.new
        pairs = [int(planner.prepared.symbols.variables[planner.state.origin(row)]) for row in rows.tolist()]
        return np.array([new.size_of(int(new.variables["type"][row])) for row in pairs], np.uint64)


def _initial_images(image: Image) -> Iterator[tuple[Span, Array]]:
    subject = image.subject
    for span in image.statics:
        link, size = span.start - subject.load_bias, len(span.data)
        yield span, initial_image(subject.version, link, size, subject.load_bias, image.resolve)
