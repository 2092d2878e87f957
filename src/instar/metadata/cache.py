"""The columns of versions on disk, by build-id.

One file a version: a header, then the columns as they are in memory. Nothing in it is executed or
unpickled; it is read (not mapped: another process could change mapped bytes after they were checked),
checked against its checksum, then by ``validate_columns``. Whatever is wrong with it, the version is read
from its debug information again. Writing goes to a temporary file and a rename, so that nobody sees half
of one.
"""

from __future__ import annotations

import logging
import os
import tempfile
import zlib
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from instar.metadata.model import COLUMNS
from instar.metadata.validate import InvalidColumnsError, validate_columns

Columns = dict[str, npt.NDArray[Any]]

MAGIC = b"INSTARCO"
FORMAT = 2  # raise it when the walker's answers change; a changed layout is noticed by itself
KEPT_FILES = 64
HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("format", "<u4"),
        ("checksum", "<u4"),  # CRC-32 of everything after the header
        ("layout", "V16"),  # digest of model.COLUMNS
        ("fingerprint", "V16"),  # of the version's files
        ("rows", "<u8", (len(COLUMNS),)),
    ]
)
ALIGNMENT = 16
log = logging.getLogger(__name__)


def default_directory() -> Path:
    """``$XDG_CACHE_HOME/instar``, else ``~/.cache/instar``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path("~/.cache").expanduser()) / "instar"


def digest(*parts: bytes | memoryview) -> bytes:
    """16 bytes that name a content."""
    state = blake2b(digest_size=16)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


LAYOUT = digest(repr([(name, dtype.descr) for name, dtype in COLUMNS.items()]).encode())


def cache_path(directory: Path, key: str) -> Path:
    """The file of a version; the key is its build-id."""
    return directory / f"{key}.columns"


def read_cached(path: Path, fingerprint: bytes) -> Columns | None:
    """The columns in a cache file; None if there is none, or none that can be trusted."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
                log.warning("%s is ignored: others can write it", path)
                return None
            raw = np.fromfile(file, np.uint8)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("the cache %s is not readable: %s", path, error.strerror)
        return None
    try:
        return _parse(raw, fingerprint)
    except InvalidColumnsError as error:
        log.info("the cache %s is ignored: %s", path, error)
        return None


def _parse(raw: npt.NDArray[np.uint8], fingerprint: bytes) -> Columns:
    if len(raw) < HEADER.itemsize:
        raise InvalidColumnsError("too short")
    header = raw[: HEADER.itemsize].view(HEADER)[0]
    if header["magic"] != MAGIC or header["format"] != FORMAT or header["layout"].tobytes() != LAYOUT:
        raise InvalidColumnsError("of another release")
    if header["fingerprint"].tobytes() != fingerprint:
        raise InvalidColumnsError("of another file")
    columns: Columns = {}
    place = HEADER.itemsize
    for (name, dtype), rows in zip(COLUMNS.items(), header["rows"].tolist(), strict=True):
        size = rows * dtype.itemsize
        if size > len(raw) - place:
            raise InvalidColumnsError("cut off")
        columns[name] = raw[place : place + size].view(dtype)
        place += size + -size % ALIGNMENT
    if zlib.crc32(raw[HEADER.itemsize :].data) != header["checksum"]:
        raise InvalidColumnsError("damaged")
    validate_columns(columns)
    return columns


def write_cached(path: Path, fingerprint: bytes, columns: Columns) -> bool:
    """Store columns; a failure (full disk, no permission) is only logged. Returns whether they are stored."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, _serialise(fingerprint, columns))
        _prune(path.parent)
    except OSError as error:
        log.warning("the cache %s is not written: %s", path, error.strerror)
        return False
    return True


def _serialise(fingerprint: bytes, columns: Columns) -> list[bytes]:
    body: list[bytes] = []
    for name in COLUMNS:
        raw = columns[name].tobytes()
        body += [raw, bytes(-len(raw) % ALIGNMENT)]
    header = np.zeros(1, HEADER)
    header["magic"], header["format"] = MAGIC, FORMAT
    header["layout"], header["fingerprint"] = np.void(LAYOUT), np.void(fingerprint)
    header["rows"] = [len(columns[name]) for name in COLUMNS]
    checksum = 0
    for part in body:
        checksum = zlib.crc32(part, checksum)
    header["checksum"] = checksum
    return [header.tobytes(), *body]


def _write(path: Path, parts: list[bytes]) -> None:
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def _prune(directory: Path) -> None:
    """Keep the newest KEPT_FILES."""
    files = sorted(directory.glob("*.columns"), key=lambda file: file.stat().st_mtime)
    for file in files[:-KEPT_FILES]:
        file.unlink(missing_ok=True)
