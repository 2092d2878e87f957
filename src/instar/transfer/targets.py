"""Where everything that is not a heap block goes: statics, functions, strings, libraries, stack, arguments.

The result is one sorted column of ``FIXED`` rows for the translation kernel. Pure; addresses are run-time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instar.metadata.elf import ElfFile, SymbolKind
from instar.process.maps import Mapping
from instar.state.arguments import ArgumentArea
from instar.state.capture import Subject
from instar.state.columns import FIXED, FixedFlag, FixedKind

Array = np.ndarray[Any, np.dtype[Any]]


NOTHING = FixedFlag(0)


@dataclass(frozen=True)
class Target:
    """One row to be: the old range [start, end) leads to new_start."""

    start: int
    end: int
    new_start: int
    kind: FixedKind
    flags: FixedFlag = NOTHING
    type: int = -1
    count: int = 1
    mapping: int = -1


@dataclass
class TargetTable:
    """Collects targets; the first that starts wins where ranges overlap."""

    rows: list[Target] = field(default_factory=list)

    def add(self, target: Target) -> None:
        """Add one; empty ranges are dropped."""
        if target.end > target.start:
            self.rows.append(target)

    def extend(self, targets: Iterable[Target]) -> None:
        """Add several."""
        for target in targets:
            self.add(target)

    def build(self, *groups: Sequence[Target]) -> Array:
        """``FIXED`` rows sorted by start; what no target covers in a filler becomes part of the filler.

        Args:
            groups: Fillers; those of an earlier group go before those of a later one.
        """
        ranked = sorted(enumerate(self.rows), key=lambda pair: (pair[1].start, pair[0]))
        placed: list[Target] = []
        for _, target in ranked:
            if not placed or target.start >= placed[-1].end:
                placed.append(target)
        for fillers in groups:
            placed += _gaps(placed, fillers)
            placed.sort(key=lambda target: target.start)
        rows = np.zeros(len(placed), dtype=FIXED)
        for name in ("start", "end", "new_start", "type", "count", "mapping", "kind", "flags"):
            rows[name] = [int(getattr(target, name)) for target in placed]
        return rows


def _gaps(placed: Sequence[Target], fillers: Sequence[Target]) -> list[Target]:
    """The parts of each filler that no target covers."""
    starts = np.array([t.start for t in placed], dtype=np.uint64)
    found: list[Target] = []
    for filler in sorted(fillers, key=lambda f: f.start):
        at = filler.start
        index = max(int(np.searchsorted(starts, at, side="right")) - 1, 0)
        while at < filler.end:
            while index < len(placed) and placed[index].end <= at:
                index += 1
            following = placed[index].start if index < len(placed) else filler.end
            stop = min(max(following, at), filler.end)
            if stop > at:
                found.append(_part(filler, at, stop))
            at = max(
                stop, placed[index].end if index < len(placed) and following < filler.end else filler.end
            )
    return found


def _part(filler: Target, start: int, end: int) -> Target:
    new_start = filler.new_start + (start - filler.start) if filler.new_start else 0
    return Target(start, end, new_start, filler.kind, filler.flags, -1, 1, -1)


def function_targets(old: Subject, new: Subject, new_rows: Array) -> Iterable[Target]:
    """Every function of the past; only its entry may be pointed at.

    Args:
        old, new: Past and future.
        new_rows: Per function row of the old version the row in the new one, -1 when it has none.
    """
    columns = old.version.functions
    for row in range(len(columns)):
        low, high = int(columns["low"][row]), int(columns["high"][row])
        other = int(new_rows[row])
        start = int(new.version.functions["low"][other]) + new.load_bias if other >= 0 else 0
        flags = FixedFlag.EXACT if other >= 0 else FixedFlag.UNPAIRED | FixedFlag.EXACT
        yield Target(low + old.load_bias, high + old.load_bias, start, FixedKind.FUNCTION, flags)


def symbol_targets(old: Subject, new: Subject) -> Iterable[Target]:
    """What only the symbol table knows: code without debug information, library variables and functions that
    live in the program (copy relocations, canonical PLT entries). Paired by unique global name."""
    symbols = old.version.elf.symbols
    wanted = (symbols["value"] != 0) & np.isin(symbols["kind"], (SymbolKind.OBJECT, SymbolKind.FUNCTION))
    for symbol in symbols[wanted & (symbols["bind"] != 0)]:
        name = old.version.elf.text(int(symbol["name"]))
        address = _unique_symbol(new.version.elf, name, int(symbol["kind"]))
        start = int(symbol["value"]) + old.load_bias
        if address is not None and address[1] == int(symbol["size"]):
            end = start + max(int(symbol["size"]), 1)
            is_code = symbol["kind"] == SymbolKind.FUNCTION
            yield Target(
                start,
                end,
                address[0] + new.load_bias,
                FixedKind.CODE if is_code else FixedKind.STATIC,
                FixedFlag.EXACT if is_code else NOTHING,
            )


def _unique_symbol(elf: ElfFile, name: str, kind: int) -> tuple[int, int] | None:
    found = {
        (int(elf.symbols[i]["value"]), int(elf.symbols[i]["size"]))
        for i in elf.find_symbols(name)
        if elf.symbols[i]["value"] and int(elf.symbols[i]["kind"]) == kind
    }
    return found.pop() if len(found) == 1 else None


@dataclass(frozen=True)
class LoadedFile:
    """A file that is mapped into a process: first and last address of its mappings."""

    path: str
    start: int
    end: int
    identity: tuple[str, int]


def loaded_files(subject: Subject, program: str) -> dict[str, LoadedFile]:
    """Shared objects of a process by path, the program itself left out; vDSO and its data included.

    The zero-filled tail of a library's data belongs to it, as far as its program headers say: the kernel
    joins neighbours, so the anonymous mapping behind a library may hold somebody else's memory as well.
    """
    ends = {module.base: module.end for module in subject.modules}
    found: dict[str, LoadedFile] = {}
    last = ""
    for mapping in subject.maps:
        name = mapping.path
        if name in ("[vdso]", "[vvar]", "[vvar_vclock]"):
            found[name] = LoadedFile(name, mapping.start, mapping.end, (str(mapping.device), mapping.inode))
            last = ""
        elif name.startswith("/") and mapping.file != program:
            known = found.get(name)
            start = known.start if known else mapping.start
            found[name] = LoadedFile(name, start, mapping.end, (str(mapping.device), mapping.inode))
            last = name
        elif not name and last and mapping.start == found[last].end and "w" in mapping.perms:
            known = found[last]
            end = max(known.end, min(mapping.end, ends.get(known.start, 0)))
            found[last] = LoadedFile(last, known.start, end, known.identity)
            last = ""
        else:
            last = ""
    return found


def library_targets(old: Subject, new: Subject, programs: tuple[str, str]) -> list[Target]:
    """Libraries by (library, offset).

    A library that the future has in another build, or does not have, leads nowhere: pointers into it are
    refused by name when there are any.
    """
    old_files, new_files = loaded_files(old, programs[0]), loaded_files(new, programs[1])
    targets = []
    for path, loaded in old_files.items():
        other = new_files.get(path)
        same = other is not None and (
            path.startswith("[") or (other.identity == loaded.identity and _is_code(old.maps, path))
        )
        if other is not None and same and other.end - other.start >= loaded.end - loaded.start:
            targets.append(Target(loaded.start, loaded.end, other.start, FixedKind.LIBRARY))
        else:
            targets.append(Target(loaded.start, loaded.end, 0, FixedKind.LIBRARY, FixedFlag.UNPAIRED))
    return targets


def _is_code(maps: Iterable[Mapping], path: str) -> bool:
    return any(m.path == path and "x" in m.perms for m in maps)


def image_fillers(old: Subject, programs: tuple[str, str]) -> list[Target]:
    """The whole program image of the past: what nothing else explains there has no counterpart, except
    read-only data, which is resolved by content when something points at it."""
    fillers = []
    for mapping in old.maps:
        if mapping.file == programs[0]:
            constant = "w" not in mapping.perms and "x" not in mapping.perms
            kind = FixedKind.CONSTANT if constant else FixedKind.CODE
            flags = FixedFlag.UNRESOLVED if constant else FixedFlag.UNPAIRED
            fillers.append(Target(mapping.start, mapping.end, 0, kind, flags))
    return fillers


def argument_targets(
    old: ArgumentArea, new: ArgumentArea, *, environment_kept: bool = False
) -> Iterable[Target]:
    """``config = optarg`` and the like: same argument, same offset; environment strings by name.

    ``saved = environ``, too, where the past has changed nothing of that vector (``is_vector_kept``).
    """
    for (start, size), (new_start, new_size) in zip(old.arguments, new.arguments, strict=False):
        if new_size == size:
            yield Target(start, start + size, new_start, FixedKind.ARGUMENT)
    for name, (start, size) in old.environment.items():
        if name in new.environment and new.environment[name][1] == size:
            yield Target(start, start + size, new.environment[name][0], FixedKind.ARGUMENT)
    if old.pointers[1] == new.pointers[1]:
        start, slots = old.pointers
        yield Target(start, start + 8 * slots, new.pointers[0], FixedKind.ARGUMENT)
    place, new_place = old.environment_pointers, new.environment_pointers
    if environment_kept and place and new_place:
        yield Target(place, place + 8, new_place, FixedKind.ARGUMENT)
