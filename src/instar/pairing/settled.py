"""What the user's handlers settle, as rows of the two versions: the part of them that pairing must know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from instar.pairing.fragments import Fragment, RawMove
from instar.pairing.moves import MoveFlag
from instar.pairing.problems import Change

if TYPE_CHECKING:
    from instar.pairing.layout import Entry
    from instar.pairing.symbols import SymbolPairing


@dataclass(frozen=True)
class Owned:
    """What handlers say of one record.

    Attributes:
        whole: A handler takes whole objects: nothing about them is refused.
        new: Members of the new type that a handler gives their value.
        old: Members of the old type that a handler has looked at.
    """

    whole: bool = False
    new: frozenset[str] = frozenset()
    old: frozenset[str] = frozenset()

    def takes(self, new_entry: Entry) -> bool:
        """Whether a handler gives a new member its value."""
        return any(leaf.name in self.new for leaf in (new_entry, *new_entry.leaves))

    def has_seen(self, old_entry: Entry) -> bool:
        """Whether a handler uses an old member."""
        return any(leaf.name in self.old for leaf in (old_entry, *old_entry.leaves))


NOTHING_OWNED = Owned()


@dataclass(frozen=True)
class Settled:
    """Everything that handlers settle. Keys are rows; types are stripped.

    Attributes:
        type_renames: Old type name -> new type name.
        members: Old type -> old member name -> new member name.
        variables, functions: Old row -> new row.
        types: New type -> what handlers say of it.
        seen: Old type -> names of members that handlers use.
        old_variables, new_variables: Rows that handlers read and write.
        to_heap: Old variables that are on the heap in the new version.
        answered: New unions without a name that handlers answer for wherever they know of them.
        lines: (what, where) in the order of the handler file: for the report.
    """

    type_renames: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    variables: Mapping[int, int] = field(default_factory=dict)
    functions: Mapping[int, int] = field(default_factory=dict)
    types: Mapping[int, Owned] = field(default_factory=dict)
    seen: Mapping[int, frozenset[str]] = field(default_factory=dict)
    old_variables: frozenset[int] = frozenset()
    new_variables: frozenset[int] = frozenset()
    to_heap: frozenset[int] = frozenset()
    answered: frozenset[int] = frozenset()
    lines: tuple[tuple[str, str], ...] = ()

    def between(self, old_type: int, new_type: int) -> Owned:
        """What is said of a pair of (stripped) records."""
        owned = self.types.get(new_type, NOTHING_OWNED)
        seen = self.seen.get(old_type)
        return owned if seen is None else replace(owned, old=owned.old | seen)


def settle_member(owned: Owned, pair: tuple[Entry, Entry], part: Fragment, named: bool) -> Fragment:
    """A member's fragment as handlers leave it.

    Args:
        owned: What handlers say of the record.
        pair: The member in both versions.
        part: What the rules make of it.
        named: Whether its type is one that is reported, and handled, on its own.
    """
    old, new = pair
    if owned.takes(new):
        place = (old.bit_offset, old.bit_size) == (new.bit_offset, new.bit_size)
        change = Change("handled", new.label(), "a handler gives it its value")
        return Fragment(changes=(change,), settled=place and part.settled)
    if not owned.whole:
        return part
    if part.problems:
        change = Change("handled", new.label(), "left to the handler of the whole type")
        return Fragment(nested_problems=part.nested_problems, changes=(change,), settled=False)
    if named:
        return part
    return replace(part, moves=unchecked(part.moves))


def handled_value(in_place: bool) -> Fragment:
    """A single value that a handler makes of the old one; ``in_place``: it lies where it lay."""
    return Fragment(changes=(Change("handled", "", "a handler gives it its value"),), settled=in_place)


def unchecked(moves: Iterable[RawMove]) -> tuple[RawMove, ...]:
    """Moves that report no loss."""
    return tuple(move._replace(flags=move.flags | int(MoveFlag.HANDLED)) for move in moves)


def settle_symbols(
    symbols: SymbolPairing, settled: Settled, apart: Iterable[tuple[int, int]]
) -> SymbolPairing:
    """The pairing of variables and functions as handlers correct it.

    Args:
        symbols: By the rules.
        settled: What handlers say.
        apart: Pairs of variables that are none, because a handler makes one of the other.
    """
    arrays = [
        symbols.variables.copy(),
        symbols.functions.copy(),
        symbols.old_variables.copy(),
        symbols.old_functions.copy(),
    ]
    for old_row, new_row in apart:
        arrays[0][old_row] = arrays[2][new_row] = -1
    for pairs, forward, backward in (
        (settled.variables, arrays[0], arrays[2]),
        (settled.functions, arrays[1], arrays[3]),
    ):
        for old_row, new_row in pairs.items():
            for table, row, other in ((forward, old_row, backward), (backward, new_row, forward)):
                if table[row] >= 0:
                    other[table[row]] = -1
            forward[old_row], backward[new_row] = new_row, old_row
    for array in arrays:
        array.flags.writeable = False
    return replace(
        symbols,
        variables=arrays[0],
        functions=arrays[1],
        old_variables=arrays[2],
        old_functions=arrays[3],
    )
