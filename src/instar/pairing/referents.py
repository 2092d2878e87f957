"""Whether an operand of old code and one of new code lead to the same thing."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from instar.metadata.elf import SECTION_EXECUTE, ElfFile, RelocationKind, SymbolKind
from instar.pairing.boundaries import Boundaries

if TYPE_CHECKING:
    from instar.metadata.version import Version
    from instar.pairing.strings import ContentPairing
    from instar.pairing.symbols import SymbolPairing

Ranges = list[tuple[int, int]]
_BINDINGS = (RelocationKind.SYMBOLIC, RelocationKind.JUMP_SLOT)
_THREAD_OFFSETS = (RelocationKind.TLS_OFFSET, RelocationKind.TLS_STATIC, RelocationKind.TLS_DESCRIPTOR)
_TEXT = frozenset((*range(0x20, 0x7F), *range(0x80, 0x100), 7, 8, 9, 10, 11, 12, 13, 27))


def ranges_of(version: Version, function: int) -> Ranges:
    """The function's code ranges, its entry's first."""
    row = version.functions[function]
    further = version.ranges_of(function)
    return [
        (int(row["low"]), int(row["high"])),
        *zip(further["low"].tolist(), further["high"].tolist(), strict=True),
    ]


def place_in(ranges: Ranges, address: int) -> tuple[int, int] | None:
    """(range, offset) of an address in a function."""
    for index, (low, high) in enumerate(ranges):
        if low <= address < high:
            return index, address - low
    return None


class _Side:
    """One version's answers about addresses."""

    def __init__(self, version: Version) -> None:
        self.version = version
        self.elf: ElfFile = version.elf

    @cached_property
    def _linkage(self) -> dict[int, str]:
        """Address of each stub in the .plt sections -> name of the function it jumps to."""
        names: dict[int, str] = {}
        slots = self._slot_symbols
        for section in self.elf.sections:
            if not section.name.startswith(".plt") or not section.flags & SECTION_EXECUTE:
                continue
            data = bytes(self.elf.section_bytes(section))
            place = data.find(b"\xff\x25")
            while 0 <= place <= len(data) - 6:
                target = (
                    section.address
                    + place
                    + 6
                    + int.from_bytes(data[place + 2 : place + 6], "little", signed=True)
                )
                if target in slots:
                    for start in _stub_starts(data, place):
                        names.setdefault(section.address + start, slots[target])
                place = data.find(b"\xff\x25", place + 6)
        return names

    @cached_property
    def _slot_symbols(self) -> dict[int, str]:
        rows = self.elf.relocations
        bound = rows[np.isin(rows["kind"], _BINDINGS) & (rows["symbol"] >= 0)]
        names = [self.elf.text(int(self.elf.symbols["name"][s])) for s in bound["symbol"].tolist()]
        return dict(zip(bound["address"].tolist(), names, strict=True))

    def import_at(self, address: int) -> str | None:
        """The imported function that a call to a linkage stub reaches."""
        return self._linkage.get(address)

    def symbol_names(self, address: int, *, code: bool) -> dict[str, int]:
        """Names and sizes of the symbols at an address."""
        symbols = self.elf.symbols
        rows = self.elf.symbols_at(address)
        kinds = (SymbolKind.FUNCTION, SymbolKind.NONE, SymbolKind.INDIRECT_FUNCTION)
        return {
            self.elf.text(int(symbols["name"][row])): int(symbols["size"][row])
            for row in rows
            if (symbols["kind"][row] in kinds) == code
        }

    @cached_property
    def boundaries(self) -> Boundaries:
        """Where unnamed constants begin."""
        return Boundaries(self.version)

    def string(self, address: int) -> bytes | None:
        """The string constant at an address, None if what is there is no text, or more than one text."""
        data = self.elf.read(address, self.boundaries.extent(address))
        text, nul, rest = data.partition(b"\0")
        return text if nul and _TEXT.issuperset(text) and not rest.strip(b"\0") else None

    @cached_property
    def _code(self) -> Ranges:
        """Address ranges of the executable sections."""
        return [
            (section.address, section.address + section.size)
            for section in self.elf.sections
            if section.flags & SECTION_EXECUTE
        ]

    def is_code(self, address: int) -> bool:
        """Whether an address lies in an executable section."""
        return any(low <= address < high for low, high in self._code)

    @cached_property
    def statics(self) -> dict[int, list[int]]:
        """Address -> rows of the variables that start there: equal constants may be merged."""
        rows = self.version.variables
        found: dict[int, list[int]] = {}
        for row in np.flatnonzero(rows["tls"] == 0).tolist():
            found.setdefault(int(rows["address"][row]), []).append(row)
        return found

    @cached_property
    def thread_locals(self) -> dict[int, int]:
        """Offset in the TLS block -> variable row."""
        rows = self.version.variables
        found = np.flatnonzero(rows["tls"])
        return dict(zip(rows["address"][found].tolist(), found.tolist(), strict=True))

    @cached_property
    def thread_size(self) -> int:
        """From the start of the TLS block to the thread pointer (System V ABI, variant II)."""
        tls = self.elf.tls
        if tls is None:
            return 0
        align = max(tls.align, 1)
        return tls.size + (-tls.size - tls.address) % align if align > 1 else tls.size


class Referents:
    """Compares what operands of the two versions lead to.

    Args:
        old, new: Both versions.
        symbols, content: Their pairing.
    """

    def __init__(self, old: Version, new: Version, symbols: SymbolPairing, content: ContentPairing) -> None:
        self._old, self._new = _Side(old), _Side(new)
        self._symbols, self._content = symbols, content
        self._known: dict[tuple[int, int, int], bool] = {}

    def same_code(self, old_target: int, new_target: int) -> bool:
        """Whether two code addresses are the same place of paired functions, or the same import."""
        old, new = self._old, self._new
        if min(old_target, new_target) < 0:
            return False
        functions = (old.version.function_at(old_target), new.version.function_at(new_target))
        if functions[0] is not None and functions[1] is not None:
            if self._symbols.function(functions[0]) != functions[1]:
                return False
            places = (
                place_in(ranges_of(old.version, functions[0]), old_target),
                place_in(ranges_of(new.version, functions[1]), new_target),
            )
            return places[0] == places[1]
        if functions != (None, None):
            return False
        imported = old.import_at(old_target)
        if imported is not None or new.import_at(new_target) is not None:
            return imported == new.import_at(new_target)
        names = old.symbol_names(old_target, code=True)
        return bool(names.keys() & new.symbol_names(new_target, code=True).keys())

    def same_data(self, old_target: int, new_target: int, width: int, functions: tuple[int, int]) -> bool:
        """Whether two addresses that code mentions are those of paired things.

        Args:
            old_target, new_target: Link-time addresses.
            width: Bytes that the instruction reads there, 0 where it takes the address.
            functions: The functions compared, for their jump tables.
        """
        key = (old_target, new_target, width)
        if min(old_target, new_target) < 0:
            return False
        found = self._known.get(key)
        if found is None:
            found = self._same_data(*key)
            if found is None:
                return self._same_jump_table(old_target, new_target, functions)
            self._known[key] = found
        return found

    def _same_data(self, old_target: int, new_target: int, width: int) -> bool | None:
        """None: may be a jump table, which depends on the function."""
        old, new = self._old, self._new
        if old.is_code(old_target) or new.is_code(new_target):
            return self.same_code(old_target, new_target)
        slots = (
            self._content.old_initializers.relocation(old_target),
            self._content.new_initializers.relocation(new_target),
        )
        variables = (old.version.variable_at(old_target), new.version.variable_at(new_target))
        if variables[0] is not None and variables[1] is not None:
            return self._same_variable((old_target, new_target), (variables[0], variables[1]))
        if variables != (None, None):
            return False
        if slots[0] is not None and slots[1] is not None:
            return self._same_slot(slots[0], slots[1])
        if slots != (None, None):
            return False
        return self._same_unnamed(old_target, new_target, width)

    def _same_variable(self, targets: tuple[int, int], rows: tuple[int, int]) -> bool:
        sides = (self._old, self._new)
        starts = [int(side.version.variables["address"][row]) for side, row in zip(sides, rows, strict=True)]
        if targets[0] - starts[0] != targets[1] - starts[1]:
            return False
        here = set(self._new.statics[starts[1]])
        return any(self._symbols.variable(row) in here for row in self._old.statics[starts[0]])

    def _same_slot(self, old_row: np.void, new_row: np.void) -> bool:
        """Two slots that the dynamic linker fills (the global offset table, mostly)."""
        if old_row["kind"] != new_row["kind"]:
            return False
        if old_row["symbol"] >= 0 or new_row["symbol"] >= 0:
            names = (_symbol_name(self._old.elf, old_row), _symbol_name(self._new.elf, new_row))
            return names[0] == names[1] != "" and old_row["addend"] == new_row["addend"]
        addends = (int(old_row["addend"]), int(new_row["addend"]))
        if old_row["kind"] == RelocationKind.RELATIVE:
            return self._same_data(*addends, 0) is True
        if old_row["kind"] in _THREAD_OFFSETS:
            return self.same_thread_local(*addends)
        return bool(old_row["kind"] == RelocationKind.TLS_MODULE)

    def same_thread_offset(self, old_offset: int, new_offset: int) -> bool:
        """Whether two (negative) offsets from the thread pointer are those of paired thread-locals."""
        return self.same_thread_local(old_offset + self._old.thread_size, new_offset + self._new.thread_size)

    def same_thread_local(self, old_offset: int, new_offset: int) -> bool:
        """The same for offsets in the TLS block."""
        found = (_covering(self._old, old_offset), _covering(self._new, new_offset))
        if found[0] is None or found[1] is None or found[0][1] != found[1][1]:
            return False
        return self._symbols.variable(found[0][0]) == found[1][0]

    @cached_property
    def same_thread_layout(self) -> bool:
        """Whether every thread-local has the same offset from the thread pointer in both versions."""
        old, new = self._old, self._new
        if old.thread_size != new.thread_size or old.thread_locals.keys() != new.thread_locals.keys():
            return False
        return all(
            self._symbols.variable(row) == new.thread_locals[at] for at, row in old.thread_locals.items()
        )

    def _same_unnamed(self, old_target: int, new_target: int, width: int) -> bool | None:
        """What no variable covers: constants, strings, switch tables, what only the linker names."""
        old, new = self._old, self._new
        constant = (self._content.old_constants, self._content.new_constants)
        if constant[0].contains(old_target) and constant[1].contains(new_target):
            if width:
                return old.elf.read(old_target, width) == new.elf.read(new_target, width)
            return self._same_constant(old_target, new_target)
        if self._content.by_initializer(old_target) == new_target:
            return True
        names = (old.symbol_names(old_target, code=False), new.symbol_names(new_target, code=False))
        return any(names[1].get(name) == size for name, size in names[0].items())

    def _same_constant(self, old_target: int, new_target: int) -> bool | None:
        """Address of something in read-only data: as much of it as there is must be equal."""
        old, new = self._old, self._new
        if self._looks_like_table(old_target):
            return None
        texts = (old.string(old_target), new.string(new_target))
        if texts != (None, None):
            return texts[0] == texts[1]
        extents = (old.boundaries.extent(old_target), new.boundaries.extent(new_target))
        size = max(extents)
        data = [
            side.elf.read(target, extent).ljust(size, b"\0")
            for side, target, extent in zip((old, new), (old_target, new_target), extents, strict=True)
        ]
        return data[0] == data[1]

    def _looks_like_table(self, address: int) -> bool:
        """Whether the first entry of a jump table could be here."""
        old = self._old
        try:
            relative = int.from_bytes(old.elf.read(address, 4), "little", signed=True)
            absolute = 0 if old.elf.is_pie else int.from_bytes(old.elf.read(address, 8), "little")
        except ValueError:
            return False
        return any(
            target > 0 and old.version.function_at(target) is not None
            for target in (address + relative, absolute)
        )

    def _same_jump_table(self, old_table: int, new_table: int, functions: tuple[int, int]) -> bool:
        """Entries relative to the table (4 bytes) or absolute (8 bytes, programs that are not PIE)."""
        old_ranges = ranges_of(self._old.version, functions[0])
        new_ranges = ranges_of(self._new.version, functions[1])
        if not self._old.elf.is_pie and self._compare_table(old_table, new_table, old_ranges, new_ranges, 8):
            return True
        return self._compare_table(old_table, new_table, old_ranges, new_ranges, 4)

    def _compare_table(
        self, old_table: int, new_table: int, old_ranges: Ranges, new_ranges: Ranges, size: int
    ) -> bool:
        count = 0
        while True:
            targets = []
            for elf, table in ((self._old.elf, old_table), (self._new.elf, new_table)):
                try:
                    raw = elf.read(table + count * size, size)
                except ValueError:
                    return count > 0
                targets.append(
                    int.from_bytes(raw, "little")
                    if size == 8
                    else table + int.from_bytes(raw, "little", signed=True)
                )
            place = place_in(old_ranges, targets[0])
            if place is None:
                return count > 0
            if place_in(new_ranges, targets[1]) != place:
                return False
            count += 1


def _symbol_name(elf: ElfFile, relocation: np.void) -> str:
    symbol = int(relocation["symbol"])
    return elf.text(int(elf.symbols["name"][symbol])) if symbol >= 0 else ""


def _stub_starts(data: bytes, place: int) -> list[int]:
    """Where the stub whose indirect jump is at `place` may begin: before ``bnd`` and ``endbr64``."""
    starts = [place]
    if data[place - 1 : place] == b"\xf2":
        starts.append(place - 1)
    if data[starts[-1] - 4 : starts[-1]] == b"\xf3\x0f\x1e\xfa":
        starts.append(starts[-1] - 4)
    return starts


def _covering(side: _Side, offset: int) -> tuple[int, int] | None:
    """(row, offset inside) of the thread-local at an offset of the TLS block."""
    for start, row in side.thread_locals.items():
        size = max(1, side.version.size_of(int(side.version.variables["type"][row])))
        if start <= offset < start + size:
            return row, offset - start
    return None
