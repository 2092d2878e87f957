"""What handlers can ask for besides their arguments: memory of the future, its functions, both states.

The functions here go to the surroundings of the running handler (``Surroundings``); outside of one they raise
HandlerError. ``instar.handlers`` provides them on copies, the driver of an update on the future itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from instar.ext.values import Array, HandlerError, Pointer, Raw, State, Struct


class Surroundings(Protocol):
    """What a running handler stands in."""

    @property
    def past(self) -> State:
        """The old version's variables."""

    @property
    def future(self) -> State:
        """The new version's."""

    def alloc(self, type_name: str, count: int | None) -> Any:
        """Zeroed memory of the future."""

    def call(self, function: str, arguments: tuple[Any, ...]) -> Any:
        """Call a function of the future."""

    def cast(self, value: Any, type_name: str) -> Pointer:
        """A pointer seen as one of another type."""

    def convert(self, old: Any, new: Any) -> None:
        """Fill an object of the future from one of the past."""

    def tagged(self, value: Any, bits: int) -> Any:
        """A pointer with bits of its own in its low end."""

    def same(self, old: Any, new: Any) -> bool:
        """Whether a value of the future is the one of the past, carried over."""


_stack: list[Surroundings] = []


@contextmanager
def within(surroundings: Surroundings) -> Iterator[None]:
    """Inside, the functions of this module work."""
    _stack.append(surroundings)
    try:
        yield
    finally:
        _stack.pop()


def _now() -> Surroundings:
    if not _stack:
        raise HandlerError("only a running handler can do this")
    return _stack[-1]


def alloc(type_name: str, count: int | None = None) -> Any:
    """New zeroed memory in the future, as by ``calloc``; the new version may ``free`` and ``realloc`` it.

    Args:
        type_name: ``"struct item"``, ``"char"``, ``"struct item *"``: a type of the new version.
        count: How many in one block.

    Returns:
        The object, or with ``count`` an Array; assign it to a pointer to have the pointer point at it.
    """
    return _now().alloc(type_name, count)


def alloc_string(text: str | bytes) -> Array:
    """A copy of a text, NUL included, in new memory of the future: ``new.name = alloc_string("x")``."""
    data = text.encode() if isinstance(text, str) else bytes(text)
    block: Array = _now().alloc("char", len(data) + 1)
    for index, byte in enumerate(data):
        block[index] = byte - 256 if byte > 127 else byte
    return block


def call(function: str, *arguments: Any) -> Any:
    """Call a function of the future, such as its own initialiser, and return what it returns.

    Possible in ``@on("after_transfer")`` and ``@on("before_commit")``, where the state has been written.
    Arguments are whole numbers, objects and pointers of the future, None, and texts.
    """
    return _now().call(function, arguments)


def cast(value: Pointer | Struct | Array | int, type_name: str) -> Pointer:
    """A pointer with another type: ``cast(old.data, "struct session *")``, in the state it belongs to.

    A whole number is an address of the past.
    """
    return _now().cast(value, type_name)


def convert(old: Struct | Array, new: Struct | Array) -> None:
    """Fill an object of the future from one of the past: members by name, arrays as far as both go."""
    _now().convert(old, new)


def raw(value: int) -> Raw:
    """A word to store in a pointer as it is, without translating or checking it."""
    return Raw(int(value) & (1 << 64) - 1)


def tagged(pointer: Pointer | Struct | Array | None, bits: int) -> Any:
    """A pointer that carries ``bits`` in its low end, to be returned or stored."""
    return _now().tagged(pointer, bits)


def same(old: Any, new: Any) -> bool:
    """Whether a value of the new version is one of the old version, carried over; for checks.

    Pointers are the same when they lead to the same object (``tagged`` ones: with the same bits), enumerators
    when they have the same name, arrays of characters when they hold the same text; other arrays element by
    element, structs by the members that both have. Unions must be told apart: ask for the member in use.
    """
    return _now().same(old, new)


class _StateNow(State):
    """The state of the running handler's update."""

    __slots__ = ("_instar_which",)

    def __init__(self, which: str) -> None:
        object.__setattr__(self, "_instar_which", which)

    def _instar_state(self) -> State:
        state: State = getattr(_now(), object.__getattribute__(self, "_instar_which"))
        return state

    def __getattr__(self, name: str) -> Any:
        return self._instar_state()[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._instar_state()[name] = value

    def __getitem__(self, name: str) -> Any:
        return self._instar_state()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._instar_state()[name] = value


past: State = _StateNow("past")
future: State = _StateNow("future")
