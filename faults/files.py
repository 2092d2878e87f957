"""Faults in what an update reads: handler files, the cache, journal, configuration, new program."""

from __future__ import annotations

import random
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path

from faults.subjects import Subject, build_tables


@dataclass
class Prepared:
    """What an injection outside of the tool needs.

    Attributes:
        options: Further arguments of ``instar update``.
        new: Another new program.
        text: What was done.
    """

    options: list[str] = field(default_factory=list)
    new: Path | None = None
    text: str = ""


def damage(rng: random.Random, data: bytes, low: int = 0, high: int | None = None) -> tuple[bytes, str]:
    """Damage of one of the classes that files suffer from, within a range of offsets."""
    high = len(data) if high is None else high
    if high <= low:
        return data, "nothing to damage"
    broken = bytearray(data)
    kind = rng.choice(("bit", "byte", "zeros", "ones", "text", "limit", "run", "cut", "hole", "more"))
    at = rng.randrange(low, high)
    size = min(rng.choice((1, 4, 8, 64, 4096)), high - at)
    if kind == "bit":
        broken[at] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        broken[at] = rng.randrange(256)
    elif kind in ("zeros", "ones"):
        broken[at : at + size] = (b"\0" if kind == "zeros" else b"\xff") * size
    elif kind == "text":
        broken[at : at + size] = (b"}\n\0{\"'[]\\\xc3" * size)[:size]
    elif kind == "limit":
        value = struct.pack("<Q", rng.choice((2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)))
        broken[at : at + 8] = value[: len(broken[at : at + 8])]
    elif kind == "run":
        broken[at : at + size] = rng.randbytes(size)
    elif kind == "cut":
        del broken[at:high]
    elif kind == "hole":
        del broken[at : at + size]
    else:
        broken[at:at] = rng.randbytes(size)
    return bytes(broken), f"{kind} at {at} of {len(data)}"


def _cache(rng: random.Random, subject: Subject, home: Path) -> Prepared:
    found = sorted((home / "cache").rglob("*.columns"))
    if not found:
        return Prepared(text="no cache yet")
    path = rng.choice(found)
    data, text = damage(rng, path.read_bytes())
    path.write_bytes(data)
    return Prepared(text=f"cache: {text}")


def _journal(rng: random.Random, subject: Subject, home: Path) -> Prepared:
    found = sorted((home / "state").rglob("*.jsonl"))
    if not found:
        return Prepared(text="no journal yet")
    data, text = damage(rng, found[0].read_bytes())
    found[0].write_bytes(data)
    return Prepared(text=f"journal: {text}")


_CONFIGS = {
    "tables": b"""[invariants]
counted = "len(list(leaves)) == count"
paired = "all(p.first + p.second > 0 for p in fixed)"
newest = "newest == NULL or newest.newer == NULL"
[filters]
quiet = "count >= 0"
""",
    "hallway": b"""[invariants]
sessions = "stats.sessions >= 0"
table = "table.count >= 0"
[filters]
calm = "stats.sessions < 100000"
""",
    "dnsmasq": b'[filters]\nany = "1 == 1"\n',
}


def _config(rng: random.Random, subject: Subject, home: Path) -> Prepared:
    data, text = damage(rng, _CONFIGS[subject.name])
    path = home / "instar.toml"
    path.write_bytes(data)
    return Prepared(["--config", str(path)], text=f"config: {text}")


def _sections(data: bytes) -> list[tuple[str, int, int]]:
    """(name, offset, size) of a program file's sections that have bytes."""
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3A)
    rows = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    start = rows[names][4]
    found = []
    for row in rows:
        if row[1] not in (0, 8):
            end = data.index(b"\0", start + row[0])
            found.append((data[start + row[0] : end].decode(), row[4], row[5]))
    return found


def _broken_program(rng: random.Random, subject: Subject, home: Path, *, debug: bool) -> Prepared:
    data = subject.new.read_bytes()
    if debug:
        places = [entry for entry in _sections(data) if entry[0].startswith(".debug") and entry[2]]
    else:
        (table,) = struct.unpack_from("<Q", data, 0x28)
        places = [
            ("header", 0, 64),
            ("program headers", 64, 56 * 11),
            ("section headers", table, len(data) - table),
        ]
        wanted = (
            ".symtab",
            ".strtab",
            ".dynsym",
            ".dynstr",
            ".rela.dyn",
            ".note.gnu.build-id",
            ".eh_frame",
            ".shstrtab",
        )
        places += [entry for entry in _sections(data) if entry[0] in wanted]
    name, start, size = rng.choice(places)
    broken, text = damage(rng, data, start, start + size)
    path = home / f"damaged-{subject.name}"
    path.write_bytes(broken)
    path.chmod(0o755)
    return Prepared(new=path, text=f"{name}: {text}")


def _elf(rng: random.Random, subject: Subject, home: Path) -> Prepared:
    return _broken_program(rng, subject, home, debug=False)


def _dwarf(rng: random.Random, subject: Subject, home: Path) -> Prepared:
    return _broken_program(rng, subject, home, debug=True)


# Programs that fail in their start-up ---------------------------------------------------------------------

_STARTS = {
    "crash": "-DIN_START=abort()",
    "hang": "-DIN_START=for(;;)",
    "exit": "-DIN_START=exit(0)",
}


START_KINDS = tuple(_STARTS)


def prepare_start(kind: str, subject: Subject) -> Prepared:
    """A new version of the tables that fails before it waits for anything."""
    program = build_tables(2, (_STARTS[kind],), f"-{kind}")
    return Prepared(["--start-timeout", "1"], new=program, text=f"{kind} in the start-up")


_INPUTS = {"cache": _cache, "journal": _journal, "config": _config, "ELF": _elf, "DWARF": _dwarf}
INPUT_KINDS = tuple(_INPUTS)


def prepare_input(kind: str, rng: random.Random, subject: Subject, home: Path) -> Prepared:
    """Damage one file; the campaign's own home has copies of cache and journal."""
    return _INPUTS[kind](rng, subject, home)


def copy_cache(source: Path, home: Path) -> None:
    """A cache to be damaged."""
    shutil.rmtree(home / "cache", ignore_errors=True)
    shutil.copytree(source, home / "cache")
