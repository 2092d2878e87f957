"""The extension API: what no rule can know about an update, said in a few lines of Python.

A handler module lies beside the new program as ``NEW.instar.py``, or is given with ``--handlers FILE``::

    from instar.ext import Struct, initialize, pair, transform

    pair("struct conn.fd", "struct conn.socket")

    @transform("struct conn.timeout_ms", from_="struct conn.timeout")
    def to_milliseconds(seconds: int) -> int:
        return seconds * 1000

    @to_milliseconds.check
    def is_thousandfold(seconds: int, milliseconds: int) -> bool:
        return milliseconds == seconds * 1000

    @initialize("struct conn.deadline")
    def deadline(old: Struct, new: Struct) -> int:
        return old.started + old.timeout

    @deadline.check
    def is_later(old: Struct, new: Struct) -> bool:
        return new.deadline - new.started == old.timeout

Handlers work on copies of both states, run more than once for one update, and must not do anything to the
outside. Until the last of them is done the old version is untouched; an error in any of them leaves it so.
docs/handlers.md tells the whole story, ``instar.testing.handlers`` runs handlers without any process.
"""

from __future__ import annotations

from instar.ext.context import (
    alloc,
    alloc_string,
    call,
    cast,
    convert,
    future,
    past,
    raw,
    same,
    tagged,
)
from instar.ext.registry import (
    Handler,
    initialize,
    invariant,
    on,
    pair,
    repair,
    resolve_pointer,
    resolve_union,
    transform,
)
from instar.ext.values import (
    Array,
    Enumerator,
    HandlerError,
    Pointer,
    PointerError,
    RangeError,
    Raw,
    ReadOnlyError,
    State,
    Struct,
    TypeMismatchError,
    address_of,
    members_of,
    type_of,
)

__all__ = [
    "Array",
    "Enumerator",
    "Handler",
    "HandlerError",
    "Pointer",
    "PointerError",
    "RangeError",
    "Raw",
    "ReadOnlyError",
    "State",
    "Struct",
    "TypeMismatchError",
    "address_of",
    "alloc",
    "alloc_string",
    "call",
    "cast",
    "convert",
    "future",
    "initialize",
    "invariant",
    "members_of",
    "on",
    "pair",
    "past",
    "raw",
    "repair",
    "resolve_pointer",
    "resolve_union",
    "same",
    "tagged",
    "transform",
    "type_of",
]
