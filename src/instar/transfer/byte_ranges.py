"""Bytes of a type that are of one kind: put together from those of its members and elements. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from instar.metadata.version import Version

Range = tuple[int, int]
RangesOf = Callable[[int], Sequence[Range]]


def of_members(version: Version, row: int, ranges_of: RangesOf) -> list[Range]:
    """Ranges of a struct from those of its members' types; bit-fields have none."""
    return [
        (int(m["bit_offset"]) // 8 + low, int(m["bit_offset"]) // 8 + high)
        for m in version.members_of(row)
        if not m["bit_size"] and m["type"] >= 0
        for low, high in ranges_of(int(m["type"]))
    ]


def of_elements(version: Version, row: int, ranges_of: RangesOf, limit: int) -> list[Range]:
    """Ranges of an array from those of its element's type; none when there are more than ``limit``."""
    element = int(version.types["target"][row])
    inner = ranges_of(element) if element >= 0 else ()
    size, count = version.size_of(element), max(int(version.types["elements"][row]), 0)
    if count * len(inner) > limit:
        return []
    return [(i * size + low, i * size + high) for i in range(count) for low, high in inner]


def joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """In order, those that touch or overlap as one."""
    result: list[Range] = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1]:
            result[-1] = (result[-1][0], max(high, result[-1][1]))
        else:
            result.append((low, high))
    return tuple(result)


class TypeRanges:
    """Of types, each worked out once.

    Args:
        find: The ranges of a type; asks ``of`` for those of its parts.
    """

    def __init__(self, find: Callable[[int], Iterable[Range]]) -> None:
        self._find = find
        self._memo: dict[int, tuple[Range, ...]] = {}

    def of(self, row: int) -> tuple[Range, ...]:
        """Touching ones joined; none while the type itself is being worked out."""
        found = self._memo.get(row)
        if found is None:
            self._memo[row] = ()
            found = self._memo[row] = joined(self._find(row))
        return found
