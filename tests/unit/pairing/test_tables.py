"""Which entries of a constant table are the same in the next version."""

from __future__ import annotations

import pytest

from instar.pairing.mapping import TypePairing
from instar.pairing.strings import ContentPairing
from instar.pairing.symbols import pair_symbols
from instar.pairing.tables import TablePairing
from instar.pairing.units import pair_units
from instar.testing.versions import VersionBuilder

RODATA, DATA = 0x2000, 0x4000
Entry = tuple[bytes, int]


class Table:
    """``struct command { const char *name; long flags; } commands[]``; grown: with a member more."""

    def __init__(self, *entries: Entry, shift: int = 0, grown: bool = False) -> None:
        self.b, self.count = VersionBuilder(), len(entries)
        size, texts = 24 if grown else 16, bytes(shift)
        self.element = self.b.struct("command", size)
        self.b.member(self.element, "name", self.b.pointer(self.b.c_char), size - 16)
        self.b.member(self.element, "flags", self.b.c_long, size - 8)
        if grown:
            self.b.member(self.element, "more", self.b.c_long, 0)
        self.b.variable("commands", self.b.array(self.element, len(entries)), DATA)
        data = b""
        for index, (name, flags) in enumerate(entries):
            if name:
                self.b.relocation(DATA + index * size + size - 16, RODATA + len(texts))
            texts += name + b"\0"
            data += bytes(size - 8) + flags.to_bytes(8, "little")
        self.b.data(RODATA, texts)
        self.b.section(".rodata", RODATA, len(texts))
        self.b.section(".data", DATA, len(data), 3)
        self.b.data(DATA, data)


def kept(old: Table, new: Table) -> list[bool] | None:
    versions = old.b.build(), new.b.build()
    types, symbols = TypePairing(*versions), pair_symbols(*versions, pair_units(*versions))
    content = ContentPairing(*versions, types, symbols)
    tables = TablePairing(*versions, types, symbols, content)
    found = tables.displaced((DATA, DATA), (old.element, new.element), (old.count, new.count))
    return None if found is None else found.tolist()


A, B, C, D, END = (b"add", 1), (b"bind", 2), (b"call", 3), (b"dump", 4), (b"", 0)


@pytest.mark.parametrize("grown", [False, True])
@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ((A, B, C), None),
        ((A, B, C, D), None),
        ((A, (b"bind", 7), C), None),  # edited
        ((A, (b"other", 2), C), None),
        ((D, A, B, C), [False, False, False]),
        ((A, D, B, C), [True, False, False]),
        ((A, C, B), [True, False, False]),
        ((A, C), [True, False, False]),
        ((A, B), [True, True, False]),
        ((A, (b"bind", 7), C, D), [True, False, True]),  # edited, or put in? nobody can tell
    ],
)
def test_entries(entries: tuple[Entry, ...], expected: list[bool] | None, grown: bool) -> None:
    assert kept(Table(A, B, C), Table(*entries, shift=5, grown=grown)) == expected


def test_the_end_of_a_table_moves_when_entries_are_added() -> None:
    assert kept(Table(A, B, END), Table(A, B, C, END)) == [True, True, False]


def test_equal_entries_may_change_places() -> None:
    assert kept(Table(A, A, B), Table(A, A, B, A)) is None
