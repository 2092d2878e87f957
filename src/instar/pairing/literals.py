"""Pairs compound literals that no variable leads to any more (the compiler folded it away).

What is left of them is a data symbol without a type (``__compound_literal.N``, ``.compoundliteral``); the
numbers change from build to build. Two are the same if their initial contents mean the same: equal bytes,
pointers at strings of equal text, at the same symbol, or at literals that are the same in turn; and neither
version has another one like it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

import numpy as np

from instar.metadata.elf import RelocationKind, SymbolKind
from instar.metadata.version import Version
from instar.pairing.strings import Constants, Initializers

_NAMES = ("__compound_literal", ".compoundliteral")
_DEPTH = 16


class _Literals:
    """The unnamed literals of one version."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._constants, self._initializers = Constants(version), Initializers(version)
        symbols = version.elf.symbols
        self.sizes: dict[int, int] = {}
        for symbol in symbols[(symbols["kind"] == SymbolKind.OBJECT) & (symbols["size"] > 0)]:
            if version.elf.text(int(symbol["name"])).startswith(_NAMES):
                self.sizes[int(symbol["value"])] = int(symbol["size"])

    def by_meaning(self) -> dict[Hashable, list[int]]:
        """What the initial contents mean -> addresses."""
        groups: dict[Hashable, list[int]] = defaultdict(list)
        for address in self.sizes:
            groups[self._meaning(address, 0)].append(address)
        return groups

    def _meaning(self, address: int, depth: int) -> Hashable:
        size = self.sizes[address]
        image = bytearray(self._version.elf.read(address, size))
        pointers: list[Hashable] = []
        for offset in range(0, size - 7, 8):
            target = self._initializers.target(address + offset)
            if target is not None:
                image[offset : offset + 8] = bytes(8)
                pointers.append((offset, self._target(target, depth)))
        return size, bytes(image), tuple(pointers)

    def _target(self, target: int, depth: int) -> Hashable:
        if target in self.sizes and depth < _DEPTH:
            return self._meaning(target, depth + 1)
        text = self._constants.text_at(target)
        if text is not None:
            return text
        names = {
            self._version.elf.text(int(self._version.elf.symbols["name"][row]))
            for row in self._symbols(target)
        }
        return frozenset(names) or ("?", target)

    def _symbols(self, target: int) -> list[int]:
        return np.flatnonzero(self._version.elf.symbols["value"] == target).tolist()


def pair_nameless(old: Version, new: Version) -> dict[int, int]:
    """Old link address -> new one of all data that debug information does not know.

    Literals are paired by what they mean, data of units without -g by a symbol name that is unique on both
    sides; sizes are equal. What the loader copies from libraries is theirs.
    """
    mine, theirs = _unknown_symbols(old), _unknown_symbols(new)
    pairs = {
        places[0][0]: theirs[name][0][0]
        for name, places in mine.items()
        if len(places) == 1 and len(theirs.get(name, ())) == 1 and places[0][1] == theirs[name][0][1]
    }
    return pairs | {address: other for address, (other, _) in pair_literals(old, new).items()}


def _unknown_symbols(version: Version) -> dict[str, list[tuple[int, int]]]:
    """Name -> (address, size) of data symbols that are no variable, no literal and no library's."""
    symbols = version.elf.symbols
    relocations = version.elf.relocations
    copied = relocations["address"][relocations["kind"] == RelocationKind.COPY]
    wanted = (symbols["kind"] == SymbolKind.OBJECT) & (symbols["size"] > 0) & (symbols["dynamic"] == 0)
    wanted &= ~np.isin(symbols["value"], np.concatenate([copied, version.variables["address"]]))
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for symbol in symbols[wanted]:
        name = version.elf.text(int(symbol["name"]))
        if not name.startswith(_NAMES):
            found[name].append((int(symbol["value"]), int(symbol["size"])))
    return found


def pair_literals(old: Version, new: Version) -> dict[int, tuple[int, int]]:
    """Old link address -> (new link address, size) of literals that are certainly the same."""
    theirs = _Literals(new).by_meaning()
    pairs = {}
    mine = _Literals(old)
    for meaning, addresses in mine.by_meaning().items():
        others = theirs.get(meaning, [])
        if len(addresses) == len(others) == 1:
            pairs[addresses[0]] = others[0], mine.sizes[addresses[0]]
    return pairs
