"""Where the debug information of a program is: in itself, or in files of its own.

The places are those of gdb and elfutils: by build-id and by .gnu_debuglink under /usr/lib/debug and beside
the program; .gnu_debugaltlink (dwz) from there; PROGRAM.dwp for split DWARF.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from instar.errors import HostError, InstarError, RefusedError
from instar.metadata.elf import SECTION_NOBITS, ElfFile
from instar.metadata.elf_reader import read_elf

DEBUG_ROOTS = (Path("/usr/lib/debug"),)


@dataclass(frozen=True)
class DebugFiles:
    """Attributes:
    debug: The file with .debug_info.
    elf: The same, parsed (its symbols may be all there are).
    beside: The program's directory, where .dwo files may be.
    alternate: The common file of dwz, if ``debug`` refers to one.
    package: PROGRAM.dwp, if there is one.
    """

    debug: Path
    elf: ElfFile
    beside: Path
    alternate: Path | None
    package: Path | None


def has_debug_info(elf: ElfFile) -> bool:
    """Whether the file has a .debug_info section with bytes."""
    sections = (elf.section(".debug_info"), elf.section(".zdebug_info"))
    return any(one is not None and one.size and one.kind != SECTION_NOBITS for one in sections)


def find_debug_files(elf: ElfFile, roots: Sequence[Path] = DEBUG_ROOTS) -> DebugFiles:
    """Find what the walker has to read for a program.

    Raises:
        RefusedError: no-debug-info with the places that were looked at, dwz-missing.
    """
    path = elf.path.resolve()
    found = elf if has_debug_info(elf) else _find_separate(elf, path, roots)
    own = found.path.resolve()
    packages = [Path(f"{one}.dwp") for one in (path, own)]
    return DebugFiles(
        debug=found.path,
        elf=found,
        beside=path.parent,
        alternate=_find_alternate(found, own, roots),
        package=next((one for one in packages if one.is_file()), None),
    )


def _find_separate(elf: ElfFile, path: Path, roots: Sequence[Path]) -> ElfFile:
    looked: list[str] = []
    for candidate, checksum in _candidates(elf, path, roots):
        if not candidate.is_file() or candidate == path:
            looked.append(f"{candidate}: not there")
            continue
        try:
            found = read_elf(candidate)
        except InstarError as error:
            looked.append(f"{candidate}: {error.cause}")
            continue
        if not _belongs(elf, found, checksum):
            looked.append(f"{candidate}: belongs to another build")
        elif not has_debug_info(found):
            looked.append(f"{candidate}: has no .debug_info")
        else:
            return found
    raise RefusedError(
        "no-debug-info",
        f"{elf.path} has no debug information",
        "build the program with gcc or clang and -g, do not strip it, or install its debug symbols",
        details=tuple(looked),
    )


def _candidates(elf: ElfFile, path: Path, roots: Sequence[Path]) -> Iterator[tuple[Path, int | None]]:
    """Files that may be the separate debug file, with the checksum each must have if it has no build-id."""
    for root in roots:
        if elf.build_id:
            yield build_id_path(root, elf.build_id), None
    link = elf.section(".gnu_debuglink")
    if link is None:
        return
    raw = bytes(elf.section_bytes(link))
    name = raw.split(b"\0")[0].decode("utf-8", "surrogateescape")
    checksum = int.from_bytes(raw[-4:], "little")
    if not name or "/" in name:
        return
    for directory in (
        path.parent,
        path.parent / ".debug",
        *(r / path.parent.relative_to("/") for r in roots),
    ):
        yield directory / name, checksum


def build_id_path(root: Path, build_id: str) -> Path:
    """``root/.build-id/xx/yyyy.debug``."""
    return root / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"


def _belongs(elf: ElfFile, found: ElfFile, checksum: int | None) -> bool:
    if elf.build_id and found.build_id:
        return elf.build_id == found.build_id
    return checksum is not None and zlib.crc32(found.image) == checksum


def _find_alternate(debug: ElfFile, path: Path, roots: Sequence[Path]) -> Path | None:
    """The file that .gnu_debugaltlink names: a path, NUL, a build-id."""
    link = debug.section(".gnu_debugaltlink")
    if link is None:
        return None
    name, _, build_id = bytes(debug.section_bytes(link)).partition(b"\0")
    candidates = [path.parent / name.decode("utf-8", "surrogateescape")]
    candidates += [build_id_path(root, build_id.hex()) for root in roots if build_id]
    for candidate in candidates:
        try:
            if candidate.is_file() and read_elf(candidate).build_id == build_id.hex():
                return candidate
        except (HostError, RefusedError):
            continue
    raise RefusedError(
        "dwz-missing",
        f"{debug.path} refers to the common debug file {name.decode('utf-8', 'replace')} that is not found",
        "install the package's debug symbols completely",
        details=tuple(f"{candidate}: not there or of another build" for candidate in candidates),
    )
