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


def union_notes(version: Version) -> tuple[UnionNote, ...]:
    """What ``INSTAR_UNION`` says, each once; what cannot be read is left out."""
    section = version.elf.section(NOTES)
    if section is None:
        return ()
    texts = bytes(version.elf.section_bytes(section)).split(b"\0")
    notes = dict.fromkeys(_union_note(text.decode(errors="replace")) for text in texts)
    return tuple(note for note in notes if note is not None)


def _union_note(text: str) -> UnionNote | None:
    parts = text.split("|")
    if len(parts) != 4 or parts[0] != "union":
        return None
    pairs = [tuple(word.strip() for word in case.split(":")) for case in parts[3].split(",") if case.strip()]
    cases = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]
    otherwise = next((member for value, member in cases if value == "*"), "")
    plain = tuple(case for case in cases if case[0] != "*")
    return UnionNote(" ".join(parts[1].split()), parts[2].strip(), plain, otherwise)
