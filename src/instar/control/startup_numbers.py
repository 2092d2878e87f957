"""Which number a new descriptor of the new version should have: the past's number for the same thing.

A descriptor that the past has nothing like is moved up, clear of the numbers that the past gives to its
next clients: the lowest number that is free in both processes is the very one that the past takes next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from instar.process.descriptors import Descriptor, SocketDetails

HEADROOM = 64
_ANONYMOUS = ("epoll", "eventfd", "timerfd", "signalfd", "inotify", "pidfd", "io_uring")
_STREAM = (1, 5)


@dataclass(frozen=True, slots=True)
class Likeness:
    """What makes two descriptors of two versions the same thing.

    Attributes:
        key: Equal for the same thing.
        exact: The object itself is the same (a file), not only its kind.
    """

    key: tuple[object, ...]
    exact: bool


def likeness(descriptor: Descriptor, details: SocketDetails | None) -> Likeness | None:
    """None for what has no counterpart by itself: an accepted connection."""
    kind = descriptor.kind
    if kind == "socket":
        if details is None or _is_accepted(details):
            return None
        return Likeness((kind, details.family, details.type), exact=False)
    if kind in _ANONYMOUS:
        return Likeness((kind,), exact=False)
    if kind == "pipe":
        if not descriptor.target.startswith("pipe:"):
            return Likeness((kind, descriptor.device, descriptor.inode), exact=True)
        return Likeness((kind, descriptor.flags & 3), exact=False)
    if kind == "memfd":
        return Likeness((kind, descriptor.target), exact=False)
    if kind in ("terminal", "device"):
        return Likeness((kind, descriptor.device_number), exact=True)
    if kind in ("file", "directory"):
        return Likeness((kind, descriptor.target.removesuffix(" (deleted)")), exact=True)
    return Likeness((kind, descriptor.target), exact=False)


def _is_accepted(details: SocketDetails) -> bool:
    """A stream that has a peer and shares the address it was accepted at, or has none of its own."""
    return details.type in _STREAM and details.peer is not None and details.family in (2, 10)


def choose_number(
    number: int,
    wanted: Likeness | None,
    past: Mapping[int, Likeness | None],
    taken: Collection[int],
    limit: int,
) -> int:
    """The number that a new descriptor should have.

    Args:
        number: The one it got.
        wanted: What it is.
        past: The past's descriptors.
        taken: The other numbers of the new version.
        limit: RLIMIT_NOFILE: all numbers are lower.
    """
    if wanted is not None:
        here = past.get(number)
        if here is not None and here.key == wanted.key:
            return number
        for other, there in sorted(past.items()):
            if there is not None and there.key == wanted.key and other not in taken:
                return other
    return free_number(number, past, taken, limit)


def free_number(number: int, past: Iterable[int], taken: Collection[int], limit: int) -> int:
    """A number that neither uses, well above the past's if there is room below the limit."""
    used = {*past, *taken}
    start = max(used, default=2) + 1
    highest = max(past, default=2)
    for first in (highest + 1 + HEADROOM, start, 3):
        found = next((n for n in range(first, limit) if n not in used), None)
        if found is not None and (number not in used or found != number):
            return found
    return number


def pair_numbers(
    past: Mapping[int, tuple[Likeness | None, tuple[int, int]]],
    future: Mapping[int, tuple[Likeness | None, tuple[int, int]]],
) -> dict[int, int]:
    """Past number -> future number of the same thing, from likeness and object identity of both.

    The same object (a lent socket, a file) wins over the same number.
    """
    pairs: dict[int, int] = {}
    used: set[int] = set()
    by_object: dict[tuple[object, ...], list[int]] = {}
    for number, (like, identity) in future.items():
        if like is not None and (like.key[0] in ("socket", "file", "directory", "pipe")):
            by_object.setdefault((like.key[0], *identity), []).append(number)
    for number, (like, identity) in past.items():
        if like is None:
            continue
        same = [n for n in by_object.get((like.key[0], *identity), []) if n not in used]
        if same:
            pairs[number] = number if number in same else same[0]
            used.add(pairs[number])
    for number, (like, _) in past.items():
        other = future.get(number)
        if number in pairs or like is None or other is None or other[0] is None or number in used:
            continue
        if other[0].key == like.key:
            pairs[number] = number
            used.add(number)
    return pairs
