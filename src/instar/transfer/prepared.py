"""What a transfer is planned with: what is known before the past is copied, and what the user lets pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from instar.pairing.problems import Problem
from instar.pairing.symbols import SymbolPairing
from instar.pairing.tables import TablePairing
from instar.state.capture import Shapes
from instar.state.slots import TypeTable
from instar.transfer.mappings import MappingPool
from instar.transfer.plan import KeptRange, Write
from instar.transfer.strings import StringResolver

if TYPE_CHECKING:
    from instar.transfer.findings import Judge
    from instar.transfer.targets import Target


@dataclass(frozen=True)
class Changes:
    """What the user's handlers add to a plan.

    Attributes:
        problems: Any of them refuses the update.
        ranges: Memory that they allocated.
        writes: Into memory that the future's start-up made.
    """

    problems: tuple[Problem, ...] = ()
    ranges: tuple[KeptRange, ...] = ()
    writes: tuple[Write, ...] = ()


NO_CHANGES = Changes()


@dataclass(frozen=True)
class Reversal:
    """What came of running backward halves and checks on the future's state.

    Attributes:
        problems: Differences from the past.
        compared: How many objects and variables came back.
        checked: For how many a check was run.
        unchecked: What has neither, and no invariant reads: one a handler.
    """

    problems: tuple[Problem, ...] = ()
    compared: int = 0
    checked: int = 0
    unchecked: tuple[Problem, ...] = ()


class PlanHandlers(Protocol):
    """The user's handlers, as the planner sees them."""

    def place(self, planner: Any) -> list[Target]:
        """Place statics and locals that are another kind of object in the new version."""

    def pins(self, planner: Any) -> list[int]:
        """Rows of objects that handlers have placed, heap blocks among them."""

    def findings(self, planner: Any, findings: Any) -> Any:
        """Findings of a scan without the words that a handler answers for."""

    def convert(self, planner: Any, judge: Judge) -> Changes:
        """Run on a plan whose rules have all been executed; changes its output and patches."""

    def reverse(self, planner: Any, same_words: Any, handled: Any) -> Reversal:
        """Take the future's state back, once a plan was carried out, and compare it with the past's.

        ``same_words``: whether words of the past and of the future lead to the same; ``handled``: addresses
        of the future's bytes that handlers made, ascending.
        """

    def reuse(self, planner: Any, words: Any, rows: Any) -> Callable[[], None] | None:
        """Keep what they made though words of some objects changed: to be called when these were converted.

        None when they must run again.
        """


@dataclass(eq=False)
class Prepared:
    """What can be known before the past is paused: types, pairing, compiled mappings, strings.

    Attributes:
        symbols: Variables and functions of the two versions.
        tables: Type tables, old and new.
        shapes: Old and new.
        pool: Compiled mappings; grows when a pair turns up.
        strings: Resolved string constants; remembers.
        entries: Which elements of constant tables are the same entries; remembers.
        verdicts: Which of two types wins a block; remembers.
        handlers: The user's.
        invariants: Evaluates the user's expressions over a process and memory of it; whether all hold.
    """

    symbols: SymbolPairing
    tables: tuple[TypeTable, TypeTable]
    shapes: tuple[Shapes, Shapes]
    pool: MappingPool
    strings: StringResolver
    entries: TablePairing
    verdicts: dict[tuple[int, int], int] = field(default_factory=dict)
    handlers: PlanHandlers | None = None
    invariants: Callable[[Any, Any], bool] | None = None


@dataclass(frozen=True)
class Options:
    """What the user lets pass, and where the arena may go."""

    strict: bool = False
    allow: frozenset[str] = frozenset()
    arena_base: int = 0
