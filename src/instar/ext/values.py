"""What handlers see of the two states: typed views, as abstract classes.

Scalars are plain Python numbers, enumerators are numbers with a name; structs, unions, arrays and pointers
are views, which read (and in the future write) the state as they are used. Views of the past are read-only.
Every write is checked: type, range, and for pointers what they point at.

Members of a struct are its attributes, whatever their names; that is why everything else that can be asked of
a view is a function: ``address_of(view)``, ``type_of(view)``, ``members_of(view)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


class HandlerError(Exception):
    """Base of what views raise; not caught, it refuses the update with the object's path."""


class TypeMismatchError(HandlerError, TypeError):
    """A value of the wrong kind was stored, or a member asked for that does not exist."""


class RangeError(HandlerError, ValueError):
    """A value does not fit: a number in its type, a text in its array, an index in its bounds."""


class PointerError(HandlerError):
    """A pointer leads nowhere: it is null, dangles, or has no counterpart in the new version."""


class ReadOnlyError(HandlerError, TypeError):
    """The past is never written."""


class Enumerator(int):
    """The value of an enum: a number that knows its name.

    Attributes:
        name: Of the enumerator, None for a value that has none.
    """

    name: str | None

    def __new__(cls, value: int, name: str | None = None) -> Enumerator:
        """A value with its name."""
        self = super().__new__(cls, value)
        self.name = name
        return self

    def __repr__(self) -> str:
        return f"<{self.name}: {int(self)}>" if self.name else int.__repr__(self)


@dataclass(frozen=True)
class Raw:
    """A word that is stored in a pointer as it is; see ``raw``."""

    value: int


class Struct(ABC):
    """A struct or union. Members are attributes; assigning one converts and checks.

    ``view["name"]`` is the same member, for names that are no Python identifiers.
    """

    __slots__ = ()

    @abstractmethod
    def __getattr__(self, name: str) -> Any:
        """The member: a number, an enumerator, or a view."""

    @abstractmethod
    def __setattr__(self, name: str, value: Any) -> None:
        """Store in a member of the future; raises TypeMismatchError, RangeError, ReadOnlyError."""

    @abstractmethod
    def __getitem__(self, name: str) -> Any:
        """The member of a name."""

    @abstractmethod
    def __setitem__(self, name: str, value: Any) -> None:
        """Store in the member of a name."""


class Array(ABC):
    """An array, or several elements in one block."""

    __slots__ = ()

    @abstractmethod
    def __len__(self) -> int:
        """Elements."""

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """An element; negative indices count from the end. Raises RangeError."""

    @abstractmethod
    def __setitem__(self, index: int, value: Any) -> None:
        """Store in an element."""

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """All elements."""

    @abstractmethod
    def string(self) -> str:
        """The text in an array of characters, up to its NUL; bytes that are not UTF-8 are escaped."""

    @abstractmethod
    def bytes(self) -> bytes:
        """All its bytes."""


class Pointer(ABC):
    """A pointer. False when it is null; equal to a pointer to the same address of the same state.

    Attributes are those of what it points at: ``old.next.x`` is ``old.next.deref().x``.
    """

    __slots__ = ()

    @abstractmethod
    def deref(self) -> Any:
        """What it points at. Raises PointerError when it is null or leads nowhere."""

    @abstractmethod
    def string(self) -> str:
        """The text it points at, up to its NUL."""

    @abstractmethod
    def array(self, count: int) -> Array:
        """``count`` elements from where it points."""

    @abstractmethod
    def __bool__(self) -> bool:
        """Whether it is not null."""

    @abstractmethod
    def __int__(self) -> int:
        """The word as it is: address, tag and all."""

    @abstractmethod
    def __getattr__(self, name: str) -> Any:
        """A member of the struct it points at."""

    @abstractmethod
    def __setattr__(self, name: str, value: Any) -> None:
        """Store in a member of the struct it points at."""

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """Element ``index`` from where it points."""

    @abstractmethod
    def __setitem__(self, index: int, value: Any) -> None:
        """Store in an element."""


class State(ABC):
    """The static variables of one version: ``past.server.clients``, ``future["cache.c:table"]``."""

    __slots__ = ()

    @abstractmethod
    def __getattr__(self, name: str) -> Any:
        """The variable of a name. Raises HandlerError when there is none, or several."""

    @abstractmethod
    def __setattr__(self, name: str, value: Any) -> None:
        """Store in a variable of the future."""

    @abstractmethod
    def __getitem__(self, name: str) -> Any:
        """``name``, ``function.name`` of a function static, ``file.c:name`` of a file static."""

    @abstractmethod
    def __setitem__(self, name: str, value: Any) -> None:
        """Store in a variable of the future."""


def address_of(view: Struct | Array) -> int:
    """The address of an object, in the process that its state belongs to."""
    return int(view._instar_address)  # type: ignore[union-attr]


def type_of(view: Struct | Array | Pointer) -> str:
    """The C spelling of a view's type."""
    return str(object.__getattribute__(view, "_instar_type_name")())


def members_of(view: Struct) -> tuple[str, ...]:
    """Names of the members, those of anonymous ones included."""
    return tuple(object.__getattribute__(view, "_instar_members")())
