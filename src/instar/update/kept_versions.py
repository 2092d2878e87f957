"""Program files that were updated away, kept as long as a process may be taken back to them.

Beside the journal, a directory for each build: the program under its own name, its separate debug file if it
has one, and a note with both digests. Whatever goes wrong here is a warning of the update: it only means that
there is no way back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from instar.errors import InstarError, RefusedError
from instar.metadata.debug_files import find_debug_files
from instar.metadata.elf_reader import read_program
from instar.update.journal import journal_path

_NOTE = "kept.json"
_CHUNK = 1 << 20
_GRACE_S = 3600.0  # an update that is under way may not have written its journal line yet
_MODE = 0o777  # never a set-user-id bit


@dataclass(frozen=True)
class Kept:
    """A version that is there.

    Attributes:
        build_id: Of the program.
        path: The program file to run.
        size: Bytes on disk.
    """

    build_id: str
    path: Path
    size: int


def versions_directory() -> Path:
    """Where they are: beside the journal."""
    return journal_path().parent / "versions"


def keep(source: int, path: Path, build_id: str) -> None:
    """Copy a program; nothing is done when it is there already.

    Args:
        source: Descriptor of the program file, which may have lost its name.
        path: Where it was started from.
        build_id: ``Version.build_id``.

    Raises:
        OSError: It could not be copied.
    """
    place = _place(build_id)
    if (place / _NOTE).exists():
        return
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() == 0:  # the program must be within reach of the user that it runs as
        for directory in (place.parent.parent, place.parent):
            directory.chmod(directory.stat().st_mode | 0o111)
    made = Path(mkdtemp(prefix=".new-", dir=place.parent))
    try:
        _fill(made, source, path)
        made.chmod(0o755)
        made.rename(place)
    except BaseException as error:
        shutil.rmtree(made, ignore_errors=True)
        if isinstance(error, OSError) and (place / _NOTE).exists():
            return  # another instar was faster
        raise


def _fill(directory: Path, source: int, path: Path) -> None:
    name = path.name.removesuffix(" (deleted)") or "program"
    digests = {name: _copy(source, directory / name)}
    elf = read_program(directory / name)
    for extra, target in _debug_files(path, Path(f"/proc/self/fd/{source}"), directory / name):
        number = os.open(extra, os.O_RDONLY | os.O_CLOEXEC)
        try:
            digests[target] = _copy(number, directory / target)
        finally:
            os.close(number)
    note = {"schema": 1, "program": name, "from": str(path), "build_id": elf.build_id, "digests": digests}
    (directory / _NOTE).write_text(json.dumps(note))


def _debug_files(path: Path, running: Path, kept: Path) -> Iterator[tuple[Path, str]]:
    """Separate debug files and the names under which they are found beside the kept program."""
    elf = None
    for place in (path, running):
        with contextlib.suppress(InstarError, OSError):
            elf = read_program(place)
            if elf.build_id == read_program(kept).build_id:
                break
            elf = None
    if elf is None:
        return
    with contextlib.suppress(InstarError):
        files = find_debug_files(elf)
        link = elf.section(".gnu_debuglink")
        if files.debug != elf.path and link is not None:
            name = os.fsdecode(bytes(elf.section_bytes(link)).split(b"\0")[0])
            if name and "/" not in name and name not in (_NOTE, kept.name):
                yield files.debug, name
        if files.package is not None:
            yield files.package, f"{kept.name}.dwp"


def _copy(source: int, target: Path) -> str:
    """Copy a whole file with its owner and rights; returns its digest."""
    facts = os.fstat(source)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    written = os.open(target, flags, 0o600)
    digest = hashlib.sha256()
    try:
        offset = 0
        while piece := os.pread(source, _CHUNK, offset):
            digest.update(piece)
            offset += len(piece)
            view = memoryview(piece)
            while view:
                view = view[os.write(written, view) :]
        if os.geteuid() == 0:
            os.fchown(written, facts.st_uid, facts.st_gid)
        os.fchmod(written, stat.S_IMODE(facts.st_mode) & _MODE)
        os.fsync(written)
    finally:
        os.close(written)
    return digest.hexdigest()


def keep_handlers(contents: bytes) -> str:
    """Copy the handler file of an update; returns its digest. Raises OSError."""
    digest = hashlib.sha256(contents).hexdigest()
    place = _handlers_place(digest)
    if not place.exists():
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Path(mkdtemp(prefix=".new-", dir=place.parent))
        (made / place.name).write_bytes(contents)
        (made / place.name).rename(place)
        made.rmdir()
    return digest


def find_handlers_kept(digest: str) -> Path:
    """The kept handler file; raises RefusedError "no-kept-version" when it is gone or was changed."""
    place = _handlers_place(digest)
    try:
        if _digest(place) == digest:
            return place
    except OSError:
        pass
    raise _none(digest, f"the handlers that the update used are not in {place} any more")


def _handlers_place(digest: str) -> Path:
    return versions_directory() / f"handlers-{digest}.py"


def handlers_name(digest: str) -> str:
    """How the kept file is called, for ``forget_unused``."""
    return _handlers_place(digest).name


def find_kept(build_id: str) -> Kept:
    """A kept version, whole.

    Raises:
        RefusedError: "no-kept-version": it is not there, or was changed since.
    """
    place = _place(build_id)
    try:
        note = json.loads((place / _NOTE).read_text())
        digests: dict[str, str] = dict(note["digests"])
        path = place / Path(str(note["program"])).name
        for name, expected in digests.items():
            if _digest(place / Path(name).name) != expected:
                raise _none(build_id, f"{place / name} was changed since it was kept")
        size = sum((place / Path(name).name).stat().st_size for name in digests)
        return Kept(build_id, _original(note, path), size)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _none(build_id, f"build {build_id[:12]} is not in {place.parent}") from error


def _original(note: dict[str, Any], kept: Path) -> Path:
    """Where the program was started from, if it is still the same there: libraries may lie beside it."""
    place = Path(str(note["from"]))
    with contextlib.suppress(OSError):
        if place.is_absolute() and _digest(place) == note["digests"][note["program"]]:
            return place
    return kept


def is_kept(build_id: str) -> bool:
    """Whether a version is there (without looking at its bytes)."""
    return (_place(build_id) / _NOTE).exists()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _none(build_id: str, cause: str) -> RefusedError:
    return RefusedError(
        "no-kept-version", cause, "update to the program file of that version, if you still have it"
    )


def forget_unused(needed: Collection[str]) -> None:
    """Remove what no living process can be taken back to; what is young stays."""
    young = time.time() - _GRACE_S
    with contextlib.suppress(OSError):
        for place in versions_directory().iterdir():
            if place.name not in needed and place.stat().st_mtime < young:
                if place.is_dir():
                    shutil.rmtree(place, ignore_errors=True)
                else:
                    place.unlink()


def _place(build_id: str) -> Path:
    if not build_id or not build_id.isalnum():
        raise _none(build_id, "the version has no build-id")
    return versions_directory() / build_id
