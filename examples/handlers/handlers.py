"""Handlers for a chat server: from version 1 to version 2."""

from typing import Any

import numpy as np
import numpy.typing as npt

from instar.ext import (
    Array,
    Enumerator,
    State,
    Struct,
    alloc,
    alloc_string,
    call,
    cast,
    future,
    initialize,
    invariant,
    on,
    pair,
    past,
    resolve_pointer,
    resolve_union,
    same,
    tagged,
    transform,
)

pair("struct client", "struct session")
pair("struct client.fd", "struct session.socket")
pair("clients", "sessions")


@transform("struct session.timeout_ms", from_="struct client.timeout")
def to_milliseconds(seconds: int) -> int:
    """The unit changed."""
    return seconds * 1000


@to_milliseconds.backward
def to_seconds(milliseconds: int) -> int:
    """For a rollback."""
    return milliseconds // 1000


@transform("struct user")
def split_name(old: Struct, new: Struct) -> None:
    """One member became two."""
    first, _, last = old.name.string().partition(" ")
    new.first = first
    new.last = alloc_string(last)


@split_name.backward
def join_name(old: Struct, new: Struct) -> None:
    """The same name again: what cannot be made of two members would show."""
    new.name = f"{old.first.string()} {old.last.string()}".rstrip(" ")


@initialize("struct session.deadline")
def deadline(old: Struct, new: Struct) -> int:
    """What only the new version has."""
    return int(old.started) + int(new.timeout_ms) // 1000


@deadline.check
def is_after_start(old: Struct, new: Struct) -> bool:
    """What must be true of it, said in another way."""
    return int(new.deadline) - int(old.started) == int(old.timeout)


@transform("enum mode")
def renamed_mode(mode: Enumerator) -> str:
    """Other names for the same things."""
    return {"MODE_RO": "READ_ONLY", "MODE_RW": "READ_WRITE"}[mode.name or ""]


@renamed_mode.backward
def mode_before(mode: Enumerator) -> str:
    """For a rollback."""
    return {"READ_ONLY": "MODE_RO", "READ_WRITE": "MODE_RW"}[mode.name or ""]


@resolve_union("struct message.body")
def body(message: Struct) -> str | None:
    """Only the program knows which member is in use."""
    return {0: None, 1: "text", 2: "attachment"}[message.kind]


@body.check
def body_arrived(old: Struct, new: Struct) -> bool:
    """The member in use is the one that was."""
    name = body(old)
    return name is None or same(old.body[name], new.body[name])


@resolve_pointer("struct entry.next")
def next_entry(old: Struct) -> Any:
    """The low bit says whether the entry was deleted."""
    word = int(old.next)
    return tagged(cast(word & ~1, "struct entry *"), word & 1)


@next_entry.check
def next_arrived(old: Struct, new: Struct) -> bool:
    """It leads to the same entry, with the same bit."""
    return same(next_entry(old), new.next)


@transform("history")
def to_list(lines: Array) -> Any:
    """A static array became a list."""
    head: Any = None
    for index in range(past.history_used):
        node = alloc("struct line")
        node.text = lines[index].text
        node.next = head
        head = node
    return head


@to_list.check
def has_all(lines: Array, head: Any) -> bool:
    """Every line is in the list, the last one first."""
    for index in reversed(range(past.history_used)):
        if not same(lines[index].text, head.text):
            return False
        head = head.next
    return not head


@transform("struct sample.value", batch=True)
def to_fahrenheit(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Many small objects at once."""
    return values * np.float32(1.8) + np.float32(32)


@to_fahrenheit.check
def is_warmer(celsius: npt.NDArray[np.float32], fahrenheit: npt.NDArray[np.float32]) -> bool:
    """The other way round, as exactly as such numbers can be."""
    return np.allclose((fahrenheit - 32) / 1.8, celsius, rtol=1e-4, atol=1e-3)


@on("after_transfer")
def index_again() -> None:
    """The new version has an index, which its own function builds."""
    if call("rebuild_index", future.sessions) != 0:
        raise RuntimeError("the index could not be built")


@invariant
def count_is_plausible(state: State) -> bool:
    """There are never fewer than no clients, nor more than descriptors."""
    return 0 <= int(state.count) <= 65536
