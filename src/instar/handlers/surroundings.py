"""What a running handler stands in: variables of both states, allocation, casts, calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from instar.errors import RefusedError
from instar.ext.registry import Line
from instar.ext.values import HandlerError, Pointer, Raw, State, TypeMismatchError
from instar.handlers.memory import Blocks
from instar.handlers.names import Names
from instar.handlers.sameness import LeadsSame, is_same
from instar.handlers.store import Tagged, store, store_elements
from instar.handlers.types import VOID, Types
from instar.handlers.views import ArrayView, PointerView, Side, StructView, load
from instar.metadata.model import TypeKind

_TAG_LIMIT = 4096


class Future(Protocol):
    """The future itself, where handlers may call its functions: implemented by whoever drives it."""

    def allocate(self, size: int) -> int:
        """Zeroed memory of its own allocator; the address."""

    def call(self, address: int, arguments: tuple[int, ...]) -> int:
        """Call a function with whole numbers; returns the 64 bits that it returns."""

    def function_address(self, link_address: int) -> int:
        """Where a function of the program file is."""


class StateView(State):
    """The static variables of one side.

    Args:
        names: Of the version.
        side: Types and memory.
        address: Variable row -> address.
    """

    __slots__ = ("_instar_address", "_instar_names", "_instar_side")
    _instar_names: Names
    _instar_side: Side
    _instar_address: Callable[[int], int]

    def __init__(self, names: Names, side: Side, address: Callable[[int], int]) -> None:
        set_slot = object.__setattr__
        set_slot(self, "_instar_names", names)
        set_slot(self, "_instar_side", side)
        set_slot(self, "_instar_address", address)

    def _instar_place(self, name: str) -> tuple[int, int]:
        try:
            found = self._instar_names.resolve(name, Line("state", 0))
        except RefusedError as error:
            raise HandlerError(f"{error.cause.partition(': ')[2]}: {error.remedy}") from None
        if found.kind != "variable":
            raise HandlerError(f"`{name}` is a {found.kind}, not a static variable")
        row = int(self._instar_side.types.version.variables["type"][found.row])
        return row, self._instar_address(found.row)

    def __getitem__(self, name: str) -> Any:
        row, address = self._instar_place(name)
        return load(self._instar_side, row, address, name)

    def __setitem__(self, name: str, value: Any) -> None:
        row, address = self._instar_place(name)
        store(self._instar_side, row, address, value, name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class Desk:
    """The surroundings of a handler.

    Args:
        past, future: Variables of both states; one may be None where there is no such state.
        sides: Both sides, for casts.
        blocks: Where allocations go while handlers work on copies.
        process: The future itself, once the state was written.
        leads_same: Whether words of both lead to the same, where that can be told: in checks.
    """

    def __init__(
        self,
        past: StateView | None,
        future: StateView | None,
        sides: tuple[Side | None, Side | None],
        blocks: Blocks | None = None,
        process: Future | None = None,
        leads_same: LeadsSame | None = None,
    ) -> None:
        self._past, self._future, self._sides = past, future, sides
        self._blocks, self._process = blocks, process
        self._leads_same = leads_same

    @property
    def past(self) -> State:
        """The old version's variables."""
        if self._past is None:
            raise HandlerError("the past's state is not there at this point")
        return self._past

    @property
    def future(self) -> State:
        """The new version's."""
        if self._future is None:
            raise HandlerError("the future's state is not there at this point")
        return self._future

    def _future_side(self) -> Side:
        if self._sides[1] is None:
            raise HandlerError("the future's state is not there at this point")
        return self._sides[1]

    def alloc(self, type_name: str, count: int | None) -> Any:
        """Zeroed memory of the future."""
        side = self._future_side()
        row = _parsed(side.types, type_name)
        size = 8 if row is None else side.types.size(row)
        if not size:
            raise TypeMismatchError(f"alloc: {type_name} has no size")
        if count is not None and count < 0:
            raise HandlerError(f"alloc: {count} elements")
        total = size * (1 if count is None else count)
        address = self._process.allocate(total) if self._process else self._allocate(total)
        if row is None:
            row = _pointer_row(side.types, type_name)
        if count is not None:
            return ArrayView(side, row, count, address, f"alloc({type_name!r})")
        return _object(side, row, address, f"alloc({type_name!r})")

    def _allocate(self, size: int) -> int:
        if self._blocks is None:
            raise HandlerError("nothing can be allocated at this point")
        return self._blocks.allocate(size)

    def call(self, function: str, arguments: tuple[Any, ...]) -> Any:
        """Call a function of the future."""
        if self._process is None:
            raise HandlerError('call works in @on("after_transfer") and @on("before_commit") only')
        side = self._future_side()
        version = side.types.version
        rows = version.find_functions(function)
        if len(rows) != 1:
            raise HandlerError(f"the new version has {len(rows) or 'no'} functions called {function}")
        row = version.functions[rows[0]]
        words = tuple(self._word(side, argument) for argument in arguments)
        result = self._process.call(self._process.function_address(int(row["low"])), words)
        return _returned(side, int(row["type"]), result, function)

    def _word(self, side: Side, argument: Any) -> int:
        if argument is None:
            return 0
        if isinstance(argument, str | bytes):
            data = (argument.encode() if isinstance(argument, str) else argument) + b"\0"
            address = self._process.allocate(len(data)) if self._process else 0
            side.memory.write(address, data)
            return address
        if isinstance(argument, Raw):
            return argument.value
        if isinstance(argument, PointerView | StructView | ArrayView):
            if not argument._instar_side.is_future:
                raise TypeMismatchError("an object of the past cannot be an argument")
            return argument._instar_word if isinstance(argument, PointerView) else argument._instar_address
        if isinstance(argument, int):
            return int(argument) & (1 << 64) - 1
        raise TypeMismatchError(
            f"{argument!r} cannot be an argument: whole numbers, objects, pointers, texts can"
        )

    def cast(self, value: Any, type_name: str) -> Pointer:
        """A pointer seen as one of another type."""
        if isinstance(value, PointerView):
            side, word = value._instar_side, value._instar_word
        elif isinstance(value, StructView | ArrayView):
            side, word = value._instar_side, value._instar_address
        elif isinstance(value, int) and self._sides[0] is not None:
            side, word = self._sides[0], int(value) & (1 << 64) - 1
        else:
            raise TypeMismatchError(f"cast: {value!r} is no pointer")
        base, stars = side.types.parse(type_name)
        if stars != 1 or base is None:
            raise TypeMismatchError(f'cast takes a pointer type such as "struct x *", not {type_name!r}')
        return PointerView(side, base, word, f"({type_name}) ...")

    def convert(self, old: Any, new: Any) -> None:
        """Fill an object of the future from one of the past."""
        if isinstance(new, PointerView):
            new = new.deref()
        if isinstance(old, PointerView):
            old = old.deref()
        if isinstance(new, ArrayView):
            count = new._instar_count
            store_elements(
                new._instar_side, new._instar_row, count, new._instar_address, old, new._instar_path
            )
        elif isinstance(new, StructView) and isinstance(old, StructView):
            store(new._instar_side, new._instar_row, new._instar_address, old, new._instar_path)
        else:
            raise TypeMismatchError("convert takes two structs or two arrays")

    def tagged(self, value: Any, bits: int) -> Any:
        """A pointer with bits of its own in its low end."""
        if not 0 <= bits < _TAG_LIMIT:
            raise HandlerError(f"tagged: {bits} is no tag")
        return Tagged(value, bits)

    def same(self, old: Any, new: Any) -> bool:
        """Whether a value of the future is one of the past, carried over."""
        if self._leads_same is None:
            raise HandlerError("same works in checks only, where the state is in the new version")
        return is_same(old, new, self._leads_same)


def _parsed(types: Types, type_name: str) -> int | None:
    """Stripped row; None for a pointer type."""
    base, stars = types.parse(type_name)
    if base is None:
        raise TypeMismatchError(f"the new version has no one type `{type_name}`")
    return None if stars else base


def _pointer_row(types: Types, type_name: str) -> int:
    """A row of a pointer type, for blocks of pointers."""
    base, stars = types.parse(type_name)
    columns = types.version.types
    for row in range(len(columns)):
        if columns["kind"][row] == TypeKind.POINTER and stars == 1 and types.target(row) == base:
            return row
    raise TypeMismatchError(f"the new version has no type `{type_name}`")


def _object(side: Side, row: int, address: int, path: str) -> Any:
    """A struct as itself, anything else as an array of one, so that it can be stored to and pointed at."""
    if side.types.kind(row) in (TypeKind.STRUCT, TypeKind.UNION):
        return StructView(side, row, address, path)
    return ArrayView(side, row, 1, address, path)


def _returned(side: Side, function_type: int, word: int, name: str) -> Any:
    types = side.types
    if function_type < 0:
        return word
    row = types.strip(int(types.version.types["target"][function_type]))
    kind = types.kind(row)
    if row == VOID or kind is TypeKind.VOID:
        return None
    if kind is TypeKind.POINTER:
        return PointerView(side, types.target(row), word, f"{name}()")
    if kind not in (TypeKind.INTEGER, TypeKind.ENUM):
        raise HandlerError(f"{name} returns a {types.label(row)}, which cannot be looked at")
    bits = 8 * types.size(row)
    word &= (1 << bits) - 1
    return word - (1 << bits) if types.is_signed(row) and word >> (bits - 1) else word
