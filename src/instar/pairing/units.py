"""Which compile unit of the new version is the counterpart of one of the old: by the end of its path."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from instar.metadata.version import Version


def unit_path(version: Version, unit: int) -> tuple[str, ...]:
    """Components of a unit's normalised path, its directory included."""
    row = version.units[unit]
    path = posixpath.join(version.text(int(row["directory"])), version.text(int(row["name"])))
    return tuple(part for part in posixpath.normpath(path).split("/") if part)


def common_suffix(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    """How many trailing components two paths share."""
    count = 0
    for a, b in zip(reversed(left), reversed(right), strict=False):
        if a != b:
            break
        count += 1
    return count


def pair_units(old: Version, new: Version) -> dict[int, int]:
    """Old unit row -> new unit row; a unit that moved, vanished or is ambiguous is not in it.

    Two units pair when each is the other's longest common path suffix (at least the file name) and no third
    one is as good. If one unit of each version is left over then, it was renamed.
    """
    by_name: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    paths: tuple[dict[int, tuple[str, ...]], dict[int, tuple[str, ...]]] = ({}, {})
    for side, version in enumerate((old, new)):
        for unit in range(len(version.units)):
            path = unit_path(version, unit)
            if path:
                paths[side][unit] = path
                by_name[path[-1]][side].append(unit)
    pairs: dict[int, int] = {}
    for old_units, new_units in by_name.values():
        pairs.update(_pair_same_named(old_units, new_units, paths))
    lost = paths[0].keys() - pairs.keys()
    fresh = paths[1].keys() - set(pairs.values())
    if len(lost) == len(fresh) == 1:
        pairs[lost.pop()] = fresh.pop()
    return pairs


def _pair_same_named(
    old_units: list[int],
    new_units: list[int],
    paths: tuple[dict[int, tuple[str, ...]], dict[int, tuple[str, ...]]],
) -> dict[int, int]:
    scored = [(common_suffix(paths[0][o], paths[1][n]), o, n) for o in old_units for n in new_units]
    pairs: dict[int, int] = {}
    settled: tuple[set[int], set[int]] = (set(), set())
    for score in sorted({entry[0] for entry in scored}, reverse=True):
        level = [(o, n) for s, o, n in scored if s == score and o not in settled[0] and n not in settled[1]]
        olds, news = Counter(o for o, _ in level), Counter(n for _, n in level)
        pairs.update((o, n) for o, n in level if olds[o] == 1 and news[n] == 1)
        settled[0].update(olds)  # also the ambiguous ones: a worse match is no better evidence
        settled[1].update(news)
    return pairs
