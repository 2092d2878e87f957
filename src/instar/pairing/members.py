"""Pairs the members of two structs or unions by name, and recognises a likely rename."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher

from instar.pairing.layout import Entry
from instar.pairing.problems import Problem

SIMILAR = 0.6


@dataclass(frozen=True, slots=True)
class MemberPairs:
    """Members of one record pair. ``problems`` have paths relative to the record."""

    pairs: tuple[tuple[Entry, Entry], ...]
    removed: tuple[Entry, ...]
    added: tuple[Entry, ...]
    problems: tuple[Problem, ...]


def pair_members(
    old_entries: tuple[Entry, ...], new_entries: tuple[Entry, ...], renamed: Mapping[str, str] | None = None
) -> MemberPairs:
    """Pair by name; an anonymous union pairs with the one that shares a member name with it.

    Args:
        old_entries, new_entries: ``Layout.entries`` of both records.
        renamed: Old member name -> new member name, where the user has said so.
    """
    renamed = renamed or {}
    homes: dict[str, Entry] = {}
    leaves: dict[str, Entry] = {}
    for entry in new_entries:
        for leaf in entry.leaves or (entry,):
            homes[leaf.name] = entry
            leaves[leaf.name] = leaf
    pairs: list[tuple[Entry, Entry]] = []
    removed: list[Entry] = []
    problems: list[Problem] = []
    used: dict[Entry, Entry] = {}
    for old in old_entries:
        names = [renamed.get(leaf.name, leaf.name) for leaf in old.leaves or (old,)]
        found = list(dict.fromkeys(homes[name] for name in names if name in homes))
        if not found:
            removed.append(old)
        elif len(found) > 1 or (old.leaves and not found[0].leaves):
            problems.append(_split_union(old, found))
            used.update((home, old) for home in found)
        elif found[0] in used:
            problems.append(_merged_into_union(old, used[found[0]], found[0]))
        else:
            used[found[0]] = old
            pairs.append((old, found[0] if old.leaves else leaves[names[0]]))
    added = tuple(entry for entry in new_entries if entry not in used)
    return MemberPairs(tuple(pairs), tuple(removed), added, tuple(problems))


def _split_union(old: Entry, found: list[Entry]) -> Problem:
    places = ", ".join(entry.label().lstrip(".") for entry in found)
    return Problem(
        "needs-handler",
        old.label(),
        f"members of an anonymous union become separate members ({places}); which one is in use is unknown",
        "write a handler for this type that knows which alternative is in use",
    )


def _merged_into_union(old: Entry, other: Entry, home: Entry) -> Problem:
    return Problem(
        "needs-handler",
        old.label(),
        f"`{old.name}` and `{other.name}` were separate members and now share a union ({home.label()[1:]})",
        "write a handler for this type that decides which of them to keep",
    )


def similar_names(old: str, new: str) -> bool:
    """Whether one name may be the other renamed: one contains the other's words, or most letters agree."""
    if not old or not new:
        return False
    old_words, new_words = _words(old), _words(new)
    if old_words and new_words and (old_words <= new_words or new_words <= old_words):
        return True
    return SequenceMatcher(None, old.lower(), new.lower()).ratio() >= SIMILAR


def _words(name: str) -> set[str]:
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return {word.lower() for word in re.split(r"[_\W]+", spaced) if len(word) > 2}
