"""Where variables and data without a name go, and which keep the new value. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from instar.state.columns import Fate, FixedFlag, FixedKind, ObjectFlag, ObjectKind
from instar.state.image import Image
from instar.state.kernel import Span, State
from instar.transfer.fates import Fates, TypeFates, decide_static
from instar.transfer.places import address_of
from instar.transfer.prepared import Prepared
from instar.transfer.targets import NOTHING, Target, TargetTable
from instar.transfer.untouched import initial_image, untouched

Array = np.ndarray[Any, np.dtype[Any]]


class Statics:
    """Variables and unnamed data of the past in a transfer that is being planned.

    Args:
        state: The past's objects.
        prepared: What the two versions share.
        types: Fates of types.
        fates: Fates of objects, and what is found on the way.
        past, future: Both processes.
    """

    def __init__(
        self, state: State, prepared: Prepared, types: TypeFates, fates: Fates, past: Image, future: Image
    ) -> None:
        self.state, self.prepared, self.types, self.fates = state, prepared, types, fates
        self.past, self.future = past, future
        self.old, self.new = past.subject.version, future.subject.version
        self._unnamed: dict[int, int] = {}  # row -> address in the future
        self.symbol_names: dict[int, str] = {}  # of unnamed rows
        self._untouched: list[tuple[Array, Array]] = []

    def targets(self, span: Span) -> list[Target]:
        """Paired variables of one segment; decides their fates on the way."""
        found = []
        first = self.first_row(span)
        for index in range(len(span.objects)):
            row, variable = first + index, int(span.origins[index])
            entry = self.state.objects[row]
            start, size = int(entry["address"]), int(entry["size"])
            other = int(self.prepared.symbols.variables[variable]) if variable >= 0 else -1
            if variable < 0:
                continue
            if other < 0:
                entry["fate"] = Fate.DROP
                found.append(Target(start, start + size, 0, FixedKind.STATIC, FixedFlag.UNPAIRED))
                continue
            entry["new_address"] = address_of(self.future, other)
            old_type, new_type = (
                int(self.old.variables[variable]["type"]),
                int(self.new.variables[other]["type"]),
            )
            self.decide(row, old_type, new_type)
            entry = self.state.objects[row]
            found.append(
                Target(
                    start, start + size, int(entry["new_address"]), FixedKind.STATIC, NOTHING,
                    int(entry["type"]), int(entry["count"]), int(entry["mapping"]),
                )
            )  # fmt: skip
        return found

    def first_row(self, span: Span) -> int:
        """The row of the first object of a span."""
        index = next(i for i, s in enumerate(self.state.spans) if s is span)
        return int(self.state.regions["first"][index])

    def decide(self, row: int, old_type: int, new_type: int) -> None:
        """What becomes of a variable of a new type."""
        shapes = self.prepared.shapes
        decide_static(self.state, self.new, self.types, self.fates, row, old_type, new_type, shapes)

    def keep_untouched(self) -> None:
        """Statics that neither process ever changed, and constants, keep what the new version has."""
        olds = self._untouched = [_untouched_rows(span, self.past) for span in self.past.statics]
        news = {
            int(a): bool(u)
            for span in self.future.statics
            for a, u in zip(*_untouched_rows(span, self.future), strict=True)
        }
        for span, (_, flags) in zip(self.past.statics, olds, strict=True):
            first = self.first_row(span)
            for index in np.flatnonzero(flags):
                entry = self.state.objects[first + int(index)]
                if entry["fate"] == Fate.MOVE and news.get(int(entry["new_address"]), False):
                    entry["fate"] = Fate.REPLACE
        for span in self.past.statics:
            first = self.first_row(span)
            rows = self.state.objects[first : first + len(span.objects)]
            for low, high in read_only(self.past):
                inside = (rows["address"] >= low) & (rows["address"] < high) & (rows["fate"] == Fate.MOVE)
                rows["fate"][inside] = Fate.REPLACE

    def is_untouched_same(self, spans: Sequence[Span], past: Image) -> bool:
        """Whether the same statics of some segments are as the program file made them, in a later image."""
        flags = {
            span.start: flags for span, (_, flags) in zip(self.past.statics, self._untouched, strict=True)
        }
        return all(
            span.start not in flags or np.array_equal(_untouched_rows(span, past)[1], flags[span.start])
            for span in spans
        )

    def mark_unnamed(self) -> None:
        """Data without debug information that both versions have (literals, units without -g): roots."""
        objects = self.state.objects
        bias = self.past.subject.load_bias
        for row in np.flatnonzero(objects["kind"] == ObjectKind.UNNAMED).tolist():
            link = self.prepared.strings.unnamed(int(objects["address"][row]) - bias)
            if link is not None:
                self._unnamed[row] = link + self.future.subject.load_bias
                symbols = self.old.elf.symbols_at(int(objects["address"][row]) - bias)
                if symbols:
                    self.symbol_names[row] = self.old.elf.text(int(self.old.elf.symbols["name"][symbols[0]]))
                objects["flags"][row] |= np.uint32(ObjectFlag.ROOT)

    def place_unnamed(self, table: TargetTable) -> None:
        """Where unnamed statics go; without a type their words are judged one by one."""
        objects = self.state.objects
        objects["fate"][objects["kind"] == ObjectKind.UNNAMED] = Fate.REPLACE
        for row, address in self._unnamed.items():
            start, size, kind = (int(objects[name][row]) for name in ("address", "size", "type"))
            mapping = self.types.of(kind)[1] if kind >= 0 else -1
            objects["new_address"][row], objects["mapping"][row] = address, mapping
            objects["fate"][row], objects["out_size"][row] = Fate.MOVE, size
            count = int(objects["count"][row])
            table.add(Target(start, start + size, address, FixedKind.STATIC, NOTHING, kind, count, mapping))

    def roots(self) -> Iterator[tuple[int, int, int, int]]:
        """Paired variables, transferred or not: row, address in the future, both types."""
        for span in [*self.past.statics, *([self.past.tls] if self.past.tls else [])]:
            first = self.first_row(span)
            for index, variable in enumerate(span.origins):
                other = int(self.prepared.symbols.variables[variable]) if variable >= 0 else -1
                if other >= 0:
                    types = (self.old.variables[variable]["type"], self.new.variables[other]["type"])
                    yield first + index, address_of(self.future, other), int(types[0]), int(types[1])


def read_only(image: Image) -> list[tuple[int, int]]:
    """RELRO: writable in the file, read-only by now."""
    return [(m.start, m.end) for m in image.subject.maps if m.file == image.program and not m.writable]


def _untouched_rows(span: Span, image: Image) -> tuple[Array, Array]:
    subject = image.subject
    size = len(span.data)
    initial = initial_image(
        subject.version, span.start - subject.load_bias, size, subject.load_bias, image.resolve
    )
    starts, sizes = span.objects["address"], span.objects["size"]
    return starts, untouched(span, initial, starts, sizes)
