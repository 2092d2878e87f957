"""The annotations of include/instar.h: typedef names on the way from a type to what it stands for."""

from __future__ import annotations

import re
from typing import NamedTuple

from instar.metadata.model import TypeKind
from instar.metadata.version import Version

UPDATE_POINTS = "instar_update_point"
"""The section of functions that the program itself names as the place to be updated at."""
NOTES = "instar_notes"
"""The section with texts of ``INSTAR_UNION``."""
_TAGGED = re.compile(r"instar_tagged_(0[xX][0-9a-fA-F]+|[0-9]+)_")
_LARGEST_MASK = 255
PREFIXES = {"instar_ixfer_": "ixfer", "instar_pxfer_": "pxfer", "instar_noxfer_": "noxfer"}


def annotation_of(version: Version, row: int) -> str:
    """``ixfer``, ``pxfer`` or ``noxfer`` when a typedef on the way says so, else ""."""
    while row >= 0 and version.types["kind"][row] == TypeKind.TYPEDEF:
        name = version.text(int(version.types["name"][row]))
        for prefix, meaning in PREFIXES.items():
            if name.startswith(prefix):
                return meaning
        row = int(version.types["target"][row])
    return ""


def has_annotations(version: Version) -> bool:
    """Whether any type is annotated: most programs have none."""
    names = version.types["name"][version.types["kind"] == TypeKind.TYPEDEF]
    return any(version.text(int(name)).startswith("instar_") for name in set(names.tolist()))


def update_points(version: Version) -> frozenset[str]:
    """Names of the functions that ``INSTAR_UPDATE_POINT`` marks; most programs have none."""
    section = version.elf.section(UPDATE_POINTS)
    if section is None:
        return frozenset()
    low = version.functions["low"]
    marked = version.functions[(low >= section.address) & (low < section.address + section.size)]
    return frozenset(version.text(int(name)) for name in marked["name"])


def tag_mask(version: Version, row: int) -> int:
    """The bits that are no part of the address in a pointer that is ``TAGGED``; 0 for what is none."""
    while row >= 0 and version.types["kind"][row] == TypeKind.TYPEDEF:
        found = _TAGGED.match(version.text(int(version.types["name"][row])))
        if found is not None:
            mask = int(found[1], 0)
            return mask if 0 < mask <= _LARGEST_MASK and version.size_of(row) == 8 else 0
        row = int(version.types["target"][row])
    return 0


class UnionNote(NamedTuple):
    """What a program says of a union.

    Attributes:
        union: ``struct value.u``.
        by: The member of the same struct that says which one is in use.
        cases: (value or enumerator, member of the union).
        otherwise: The member for all other values, "" for none.
    """

    union: str
    by: str
    cases: tuple[tuple[str, str], ...]
    otherwise: str


class UnreadNote(NamedTuple):
    """A text that does not say what it should.

    Attributes:
        text: As the program has it.
        union: What it seems to be about, "" where that cannot be told.
        why: What is wrong.
    """

    text: str
    union: str
    why: str


def union_notes(version: Version) -> tuple[UnionNote | UnreadNote, ...]:
    """What ``INSTAR_UNION`` says, each text once."""
    section = version.elf.section(NOTES)
    if section is None:
        return ()
    texts = bytes(version.elf.section_bytes(section)).split(b"\0")
    return tuple(dict.fromkeys(_union_note(text.decode(errors="replace")) for text in texts if text))


def _union_note(text: str) -> UnionNote | UnreadNote:
    parts = [" ".join(part.split()) for part in text.split("|")]
    if parts[0] != "union" or len(parts) != 4:
        named = parts[1] if parts[0] == "union" and len(parts) > 1 else ""
        return UnreadNote(text, named, "it is not made of three texts: UNION, MEMBER, CASES")
    _, union, by, listed = parts
    if not union or not by:
        return UnreadNote(text, union, "the union or the member that tells is not named")
    cases: dict[str, str] = {}
    for case in filter(str.strip, listed.split(",")):
        value, colon, member = (word.strip() for word in case.partition(":"))
        if not value or not member or not colon or ":" in member:
            return UnreadNote(text, union, f"{case.strip()!r} is not VALUE: MEMBER")
        if value in cases:
            return UnreadNote(text, union, f"{value} is there twice")
        cases[value] = member
    if not cases:
        return UnreadNote(text, union, "it has no case")
    otherwise = cases.pop("*", "")
    return UnionNote(union, by, tuple(cases.items()), otherwise)
