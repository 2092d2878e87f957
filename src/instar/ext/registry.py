"""The decorators, and what they collect.

Loading a handler module runs it with a ``Registry`` in place (``collecting``); outside of that, as in a test
that imports the module, decorators only wrap their functions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

Kind = Literal["transform", "initialize", "resolve_union", "resolve_pointer", "on", "invariant", "repair"]
Event = Literal["quiesced", "before_transfer", "after_transfer", "before_commit", "rolled_back"]
EVENTS: tuple[Event, ...] = ("quiesced", "before_transfer", "after_transfer", "before_commit", "rolled_back")
BEFORE: tuple[Event, ...] = ("quiesced", "before_transfer")
"""What they learn when the past stands still may be what transforms go by."""


@dataclass(frozen=True)
class Line:
    """Where something was said: for messages."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Handler(Generic[P, R]):
    """A function with what it is for. Calling it calls the function.

    Attributes:
        kind: Which decorator made it.
        target: What it is about: ``struct conn``, ``struct conn.timeout_ms``, a variable, an event.
        source: ``from_``: what it is made of in the old version, "" for what has the same name.
        is_batch: Whether it takes all objects at once.
        function: The function.
        inverse: Its backward half, None when it has none.
        predicate: Its check, None when it has none.
        is_declared: Whether the program itself says what it does (``instar.h``): what it says is right.
        line: Where it was written.
    """

    def __init__(
        self, kind: Kind, target: str, source: str, is_batch: bool, function: Callable[P, R], line: Line
    ) -> None:
        self.kind, self.target, self.source, self.is_batch = kind, target, source, is_batch
        self.function, self.line = function, line
        self.inverse: Callable[..., Any] | None = None
        self.predicate: Callable[..., Any] | None = None
        self.is_declared = False
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", "handler")

    def __call__(self, *arguments: P.args, **options: P.kwargs) -> R:
        """Call the function itself."""
        return self.function(*arguments, **options)

    def backward(self, function: F) -> F:
        """Declare the inverse: it makes old values of new ones, for transfer back and for rollback.

        It takes what the handler takes, with the two versions in each other's place.
        """
        self.inverse = function
        return function

    def check(self, function: F) -> F:
        """Declare what must be true of what it made: looked at in the new version itself, before the commit.

        It takes what the handler was given and what is there now, and returns True or False, or raises, or
        returns nothing:

        - of a handler of a value (a member, an enum, a variable): ``f(value, made)``; of a member also
          ``f(value, made, old, new)``;
        - of a handler of objects (a struct, an initialised member, a resolver): ``f(old, new)``;
        - of an initialised variable: ``f(made)``;
        - with ``batch`` the same with arrays; it may return an array with a truth value an object.

        It changes nothing. ``same(old.p, new.p)`` tells whether pointers lead to the same.
        """
        if self.predicate is not None:
            raise TypeError(f"{self.__name__} has a check already")
        self.predicate = function
        return function

    @property
    def is_checked(self) -> bool:
        """Whether what it makes is compared with the old version's state, by its own halves."""
        return self.is_declared or self.inverse is not None or self.predicate is not None

    def __repr__(self) -> str:
        return f"<{self.kind} {self.target!r} at {self.line}>"


@dataclass(frozen=True)
class Pair:
    """``pair(old, new)`` and where it was said."""

    old: str
    new: str
    line: Line


@dataclass
class Registry:
    """What one handler module declares, in the order of the file.

    Attributes:
        path: The file, "" for none.
        again: Runs it a second time, None where there is no file: see ``handlers.module.forget``.
    """

    path: str = ""
    handlers: list[Handler[..., Any]] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    again: Callable[[], Registry] | None = field(default=None, compare=False, repr=False)

    def of(self, *kinds: Kind) -> list[Handler[..., Any]]:
        """The handlers of some kinds."""
        return [handler for handler in self.handlers if handler.kind in kinds]

    def events(self, *events: Event) -> list[Handler[..., Any]]:
        """The handlers of some events."""
        return [handler for handler in self.of("on") if handler.target in events]


_current: list[Registry] = []


@contextmanager
def collecting(registry: Registry) -> Iterator[Registry]:
    """Inside, decorators and ``pair`` add to a registry."""
    _current.append(registry)
    try:
        yield registry
    finally:
        _current.pop()


def _line_of(depth: int = 2) -> Line:
    frame = sys._getframe(depth)
    return Line(frame.f_code.co_filename, frame.f_lineno)


def _declare(
    kind: Kind, target: str, source: str, is_batch: bool
) -> Callable[[Callable[P, R]], Handler[P, R]]:
    if not isinstance(target, str) or not target.strip():
        raise TypeError(f"@{kind} takes the name of what it is for, not {target!r}")
    name = " ".join(target.split())

    def wrap(function: Callable[P, R]) -> Handler[P, R]:
        code = getattr(function, "__code__", None)
        line = Line(code.co_filename, code.co_firstlineno) if code is not None else _line_of()
        handler = Handler(kind, name, " ".join(source.split()), is_batch, function, line)
        if _current:
            _current[-1].handlers.append(handler)
        return handler

    return wrap


def transform(
    target: str, *, from_: str = "", batch: bool = False
) -> Callable[[Callable[P, R]], Handler[P, R]]:
    """Make a new value from an old one.

    - ``@transform("struct conn")``: ``f(old, new)`` for every object of the type, after everything that has a
      rule was converted; it writes into ``new``. What could not be converted, or would lose something, is
      left to it.
    - ``@transform("struct conn.timeout_ms", from_="struct conn.timeout")``: ``f(value)`` returns the new
      member's value; ``f(value, old, new)`` sees the objects too.
    - ``@transform("total", from_="main.count")``: the same for a variable: ``f(value)`` or ``f(value, new)``.

    Args:
        target: A type, a member or a variable of the new version.
        from_: What it is made of in the old version; default: what has the same name there.
        batch: All objects at once: ``f(old, new)`` with two NumPy structured arrays (``old`` is read-only),
            or ``f(values)`` with one of the member's values. Pointers are words (u8).
    """
    return _declare("transform", target, from_, batch)


def initialize(target: str, *, batch: bool = False) -> Callable[[Callable[P, R]], Handler[P, R]]:
    """Give a member or variable that only the new version has its value.

    ``f(old)`` or ``f(old, new)`` returns the value of a member (``new``'s other members are there already);
    ``f()`` that of a variable. With ``batch``: ``f(old)`` or ``f(old, new)`` returns an array of values.
    """
    return _declare("initialize", target, "", batch)


def resolve_union(target: str) -> Callable[[Callable[P, R]], Handler[P, R]]:
    """Say which member of a union is in use: ``f(old)`` returns its name, None for none.

    ``"struct value.u"``: for a union that is a member, ``old`` being the struct value. A member of an
    anonymous union stands for the union. The member in use is converted by its name and type; the rest
    becomes zero.
    """
    return _declare("resolve_union", target, "", False)


def resolve_pointer(target: str) -> Callable[[Callable[P, R]], Handler[P, R]]:
    """Say what a pointer (or an integer that is one) means: ``f(old)``, for every object of the struct.

    It returns a pointer or object of either state (translated where it is of the past), None for null,
    ``tagged(pointer, bits)``, or ``raw(number)`` for a word that is copied as it is.
    """
    return _declare("resolve_pointer", target, "", False)


def on(event: Event) -> Callable[[Callable[P, R]], Handler[P, R]]:
    """Run ``f()`` at a point of the update.

    - ``"quiesced"``: the old version stands still; ``past`` is its state.
    - ``"before_transfer"``: both stand still, nothing is transferred yet; ``past``.
    - ``"after_transfer"``: the state is in the future: ``future`` reads and writes it, ``call`` and ``alloc``
      are its own.
    - ``"before_commit"``: the last moment at which raising rolls back; as ``after_transfer``.
    - ``"rolled_back"``: the old version serves again; no state.
    """
    if event not in EVENTS:
        raise ValueError(f"no such event: {event!r}; there are {', '.join(EVENTS)}")
    return _declare("on", event, "", False)


def invariant(function: Callable[P, R]) -> Handler[P, R]:
    """A condition, ``f(state) -> bool``: holds in the past before the transfer, in the future after it."""
    return _declare("invariant", getattr(function, "__name__", "invariant"), "", False)(function)


def repair(target: str) -> Callable[[Callable[P, R]], Handler[P, R]]:
    """Repair the past's state as it goes over, in a file for ``--tainted repair=FILE``.

    - ``@repair("struct buffer")``: ``f(object)`` for every object of a type of the old version.
    - ``@repair("server")``, a variable: ``f(value)`` once. These run first, before heap blocks are looked
      for, and may repair what stands between blocks.

    They write into the objects themselves: into the copy that is transferred, never into the old version.
    """
    return _declare("repair", target, "", False)


def pair(old: str, new: str) -> None:
    """Say what became what.

    Types (``struct conn``, ``conn_t``), members (``"struct conn.fd", "struct conn.socket"``), variables
    (``counter``; ``main.count`` of a function static; ``file.c:name`` of a file static), functions
    (``"on_read()", "handle_read()"``), and objects of another kind: a local of a frame that waits
    (``"main.count", "count"``), a static that is on the heap now (``"cache", "*cache"``), and back.
    """
    for name in (old, new):
        if not isinstance(name, str) or not name.strip():
            raise TypeError(f"pair takes two names, not {name!r}")
    if _current:
        _current[-1].pairs.append(Pair(" ".join(old.split()), " ".join(new.split()), _line_of()))
