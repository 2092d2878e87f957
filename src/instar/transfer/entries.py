"""Arrays that keep what the new file has in them: pointers to displaced entries lead nowhere. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.metadata.elf import SECTION_NOBITS
from instar.metadata.version import Version
from instar.pairing.problems import Problem
from instar.state.columns import Fate, FixedFlag, FixedKind, KernelType
from instar.state.image import Image
from instar.state.kernel import State
from instar.transfer.places import address_of
from instar.transfer.prepared import Prepared
from instar.transfer.targets import Target

Array = np.ndarray[Any, np.dtype[Any]]

_NUMBERED = 4  # of fewer it may be chance


@dataclass(frozen=True)
class ChangedTable:
    """An array of which entries were displaced.

    Attributes:
        name: Of the variable.
        address: Where it is in the past.
        kept: Per element, whether it is the same entry in the new version.
        sizes: Old and new bytes of one element.
        is_numbered: What its entries lead to knows its own index.
    """

    name: str
    address: int
    kept: Array
    sizes: tuple[int, int]
    is_numbered: bool


def changed_tables(state: State, prepared: Prepared, past: Image, future: Image) -> list[ChangedTable]:
    """All of them.

    Args:
        state: The past's; it is decided which statics keep the new version's content.
        prepared: Knows the files.
        past, future: Both processes.
    """
    versions = past.subject.version, future.subject.version
    pairs, rows = prepared.symbols.variables, versions[0].variables
    found = []
    for old in np.flatnonzero((pairs >= 0) & (rows["tls"] == 0)).tolist():
        variables = rows[old], versions[1].variables[int(pairs[old])]
        shapes = [shape.of(int(row["type"])) for shape, row in zip(prepared.shapes, variables, strict=True)]
        if not _is_table(prepared, shapes[0]) or not shapes[1][2]:
            continue
        address = address_of(past, old)
        row = state.find(address)
        if row is not None and state.objects["fate"][row] != Fate.REPLACE:
            continue  # its entries go over, each to its index
        places = int(variables[0]["address"]), int(variables[1]["address"])
        if not all(_is_filled(version, at) for version, at in zip(versions, places, strict=True)):
            continue
        elements, counts = (shapes[0][0], shapes[1][0]), (shapes[0][1], shapes[1][1])
        kept = prepared.entries.displaced(places, elements, counts)
        if kept is not None:
            sizes = shapes[0][2] // counts[0], shapes[1][2] // counts[1]
            numbered = sizes[0] == 8 and _is_numbered(state, address, counts[0])
            name = versions[0].text(int(variables[0]["name"]))
            found.append(ChangedTable(name, address, kept, sizes, numbered))
    return found


def split_tables(targets: Sequence[Target], tables: Sequence[ChangedTable]) -> list[Target]:
    """Targets, with every array of which entries were displaced taken apart.

    The start of such an array still leads to its start: most pointers to it mean the whole table.
    """
    changed = {table.address: table for table in tables}
    result: list[Target] = []
    for target in targets:
        table = changed.get(target.start)
        if table is None or target.flags or target.kind not in (FixedKind.STATIC, FixedKind.CONSTANT):
            result.append(target)
        else:
            result += _pieces(target, table)
    return result


def numbered_problems(tables: Sequence[ChangedTable]) -> Iterator[Problem]:
    """Tables by whose indices the program numbers what it has: the numbers mean others in the new version."""
    for table in tables:
        if table.is_numbered:
            cause = (
                f"the entries of {table.name} have other indices in the new version, and what they lead to "
            )
            cause += "is numbered by them"
            remedy = "add entries at the end, or pass --allow table-renumbered and settle them with a handler"
            yield Problem("table-renumbered", table.name, cause, remedy)


def _is_numbered(state: State, address: int, count: int) -> bool:
    """Whether objects that the words of an array lead to have their index at one place."""
    data = state.bytes_at(address, 8 * count)
    words = np.frombuffer(data or b"", np.uint64)
    words = words[: np.flatnonzero(words)[-1] + 1] if words.any() else words[:0]
    rows = [state.find(word) for word in words.tolist()]
    if len(rows) < _NUMBERED or any(row is None for row in rows):
        return False
    width = int(min(state.objects["size"][row] for row in rows)) // 4 * 4
    objects = [state.bytes_at(word, width) for word in words.tolist()]
    if not width or any(one is None for one in objects):
        return False
    numbers = np.stack([np.frombuffer(one or b"", np.uint32) for one in objects])
    return bool((numbers == np.arange(len(rows), dtype=np.uint32)[:, None]).all(axis=0).any())


def _is_table(prepared: Prepared, shape: tuple[int, int, int]) -> bool:
    """Whether it is an array of structs or of pointers."""
    element, count, size = shape
    if element < 0 or count < 2 or not size:
        return False
    kind = prepared.tables[0].types[element]["kind"]
    return bool(kind in (KernelType.AGGREGATE, KernelType.POINTER))


def _is_filled(version: Version, address: int) -> bool:
    """Whether the file has anything there."""
    section = version.elf.section_at(address)
    return section is not None and section.kind != SECTION_NOBITS


def _pieces(target: Target, table: ChangedTable) -> Iterator[Target]:
    """The entries of an array: those that were displaced have no counterpart."""
    old_size, new_size = table.sizes
    for index, same in enumerate(table.kept.tolist()):
        start = target.start + index * old_size
        end = start + old_size
        if not same and index == 0:
            yield Target(start, start + 1, target.new_start, target.kind, type=target.type)
            start += 1
        new = target.new_start + index * new_size if same else 0
        mapping = target.mapping if same else -1
        flags = FixedFlag(0) if same else FixedFlag.UNPAIRED
        yield Target(start, end, new, target.kind, flags, target.type, 1, mapping)
