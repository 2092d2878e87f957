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


@initialize("struct session.deadline")
def deadline(old: Struct, new: Struct) -> int:
    """What only the new version has."""
    return int(old.started) + int(new.timeout_ms) // 1000


@transform("enum mode")
def renamed_mode(mode: Enumerator) -> str:
    """Other names for the same things."""
    return {"MODE_RO": "READ_ONLY", "MODE_RW": "READ_WRITE"}[mode.name or ""]


@resolve_union("struct message.body")
def body(message: Struct) -> str | None:
    """Only the program knows which member is in use."""
    return {0: None, 1: "text", 2: "attachment"}[message.kind]


@resolve_pointer("struct entry.next")
def next_entry(old: Struct) -> Any:
    """The low bit says whether the entry was deleted."""
    word = int(old.next)
    return tagged(cast(word & ~1, "struct entry *"), word & 1)


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


@transform("struct sample.value", batch=True)
def to_fahrenheit(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Many small objects at once."""
    return values * np.float32(1.8) + np.float32(32)


@on("after_transfer")
def index_again() -> None:
    """The new version has an index, which its own function builds."""
    if call("rebuild_index", future.sessions) != 0:
        raise RuntimeError("the index could not be built")


@invariant
def count_is_plausible(state: State) -> bool:
    """There are never fewer than no clients, nor more than descriptors."""
    return 0 <= int(state.count) <= 65536
