"""What a transfer is planned with: what is known before the past is copied, and what the user lets pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from instar.pairing.symbols import SymbolPairing
from instar.state.capture import Shapes
from instar.state.slots import TypeTable
from instar.transfer.mappings import MappingPool
from instar.transfer.strings import StringResolver


@dataclass(eq=False)
class Prepared:
    """What can be known before the past is paused: types, pairing, compiled mappings, strings.

    Attributes:
        symbols: Variables and functions of the two versions.
        tables: Type tables, old and new.
        shapes: Old and new.
        pool: Compiled mappings; grows when a pair turns up.
        strings: Resolved string constants; remembers.
        verdicts: Which of two types wins a block; remembers.
    """

    symbols: SymbolPairing
    tables: tuple[TypeTable, TypeTable]
    shapes: tuple[Shapes, Shapes]
    pool: MappingPool
    strings: StringResolver
    verdicts: dict[tuple[int, int], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """What the user lets pass, and where the arena may go."""

    strict: bool = False
    allow: frozenset[str] = frozenset()
    arena_base: int = 0
