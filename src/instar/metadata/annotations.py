"""The annotations of include/instar.h: typedef names on the way from a type to what it stands for."""

from __future__ import annotations

from instar.metadata.model import TypeKind
from instar.metadata.version import Version

UPDATE_POINTS = "instar_update_point"
"""The section of functions that the program itself names as the place to be updated at."""
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
