"""The readers in Python, each with valid input to be damaged."""

from __future__ import annotations

import json
import random
import socket
import struct
import subprocess
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from faults.files import damage
from faults.subjects import build_tables

from instar.errors import FaultError, InstarError, InternalError
from instar.process.maps import Mapping
from instar.process.memory import Memory


@dataclass
class Fuzzed:
    """What came of one target.

    Attributes:
        name: Of the target.
        executed: Inputs.
        findings: What must not have happened, with what is needed to see it again.
        covered: Edges, where they are counted.
        refused: Inputs that got one of instar's own errors, or none where nothing can be read.
    """

    name: str
    executed: int = 0
    findings: list[str] = field(default_factory=list)
    covered: int = 0
    refused: int = 0


class Target(ABC):
    """One reader. ``home`` is a directory for its files."""

    name: ClassVar[str]

    def __init__(self, home: Path) -> None:
        self.home = home
        self.seeds: Sequence[bytes] = self.make_seeds()

    @abstractmethod
    def make_seeds(self) -> Sequence[bytes]:
        """Valid inputs, made anew."""

    def repair(self, data: bytes) -> bytes:
        """Put checksums right, so that more than the first check is tried."""
        return data

    @abstractmethod
    def read(self, data: bytes) -> bool:
        """Whether it was accepted; InstarError is no finding, everything else is."""

    def one(self, seed: str) -> bytes:
        """The input that follows from a seed."""
        rng = random.Random(seed)
        data = rng.choice(self.seeds)
        for _ in range(rng.choice((1, 1, 2, 4))):
            data, _ = damage(rng, data)
        return self.repair(data) if rng.random() < 0.8 else data

    def fuzz(self, seconds: float, seed: int, most: int = 1 << 62) -> Fuzzed:
        """For so long, or so many inputs."""
        result, end = Fuzzed(self.name), time.monotonic() + seconds
        while time.monotonic() < end and result.executed < most:
            name = f"{seed}:{self.name}:{result.executed}"
            result.executed += 1
            begun = time.monotonic()
            try:
                result.refused += not self.read(self.one(name))
            except InternalError as error:
                result.findings.append(f"{name}: {error!r}")
            except InstarError:
                result.refused += 1
            except Exception as error:  # what the fuzzer is after
                result.findings.append(f"{name}: {type(error).__name__}: {error}")
            if time.monotonic() - begun > 10:
                result.findings.append(f"{name}: took {time.monotonic() - begun:.0f} s")
            if len(result.findings) > 5:
                break
        return result


class Cache(Target):
    """Columns of a version, with a checksum that is right."""

    name = "cache"

    def make_seeds(self) -> Sequence[bytes]:
        from instar.metadata.version import load_version

        load_version(build_tables(1), cache=self.home / "cache")
        return [path.read_bytes() for path in (self.home / "cache").glob("*.columns")]

    def repair(self, data: bytes) -> bytes:
        from instar.metadata.cache import HEADER

        if len(data) < HEADER.itemsize:
            return data
        assert HEADER.fields is not None
        rows = HEADER.fields["rows"][1]
        start = bytearray(self.seeds[0][: HEADER.itemsize])
        start[rows:] = data[rows : HEADER.itemsize]
        header = np.frombuffer(bytes(start), HEADER).copy()
        header["checksum"] = zlib.crc32(data[HEADER.itemsize :])
        return header.tobytes() + data[HEADER.itemsize :]

    def read(self, data: bytes) -> bool:
        """Accepted columns are used as a version's are: names, types, members."""
        from instar.metadata.cache import HEADER, read_cached

        path = self.home / "damaged.columns"
        path.write_bytes(data)
        header = np.frombuffer(self.seeds[0][: HEADER.itemsize], HEADER)[0]
        columns = read_cached(path, header["fingerprint"].tobytes())
        if columns is None:
            return False
        text = columns["strings"].tobytes() if "strings" in columns else b""
        for name in ("types", "variables", "functions"):
            assert (columns[name]["name"] < max(len(text), 1)).all() or not text
        return True


class Journal(Target):
    """Lines of JSON."""

    name = "journal"

    def make_seeds(self) -> Sequence[bytes]:
        report = {"outcome": "updated", "old_pid": 1, "new_pid": 2, "old": None, "new": None, "warnings": []}
        line = {
            "schema": 1, "time": "2026-01-01T00:00:00.000Z", "user": "root", "instar": "0.1.0",
            "report": report, "processes": {"boot": "x", "old_started": 1, "new_started": 2},
        }  # fmt: skip
        return [(json.dumps(line) + "\n").encode() * count for count in (1, 5)]

    def read(self, data: bytes) -> bool:
        """As `instar history`, `status` and `rollback` read it."""
        from instar.update.journal import read_history
        from instar.update.lineage import living_chains, parse_step

        path = self.home / "journal.jsonl"
        path.write_bytes(data)
        history = read_history(path=path)
        steps = [step for entry in history.entries if (step := parse_step(entry.to_json())) is not None]
        living_chains(steps)
        return not history.damaged


class Wire(Target):
    """Messages between the guard and its peer."""

    name = "wire"

    def make_seeds(self) -> Sequence[bytes]:
        return [b'[1,"ok",null]\n', b'[2,"copy",0]\n' + bytes(64), b'[3,"inject",36,[1,2],"00ff"]\n']

    def read(self, data: bytes) -> bool:
        """One message."""
        from instar.guard import wire

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            theirs.send(data)
            theirs.shutdown(socket.SHUT_WR)
            try:
                wire.close(wire.receive(ours)[2])
            except (wire.WireError, EOFError):
                return False
        return True


class Program(Target):
    """The new program: headers, symbols, relocations, debug information."""

    name = "program"

    def make_seeds(self) -> Sequence[bytes]:
        return [build_tables(version).read_bytes() for version in (1, 2)]

    def read(self, data: bytes) -> bool:
        """All of it."""
        from instar.metadata.version import load_version

        path = self.home / "program"
        path.write_bytes(data)
        load_version(path, cache=self.home / "none")
        for one in (self.home / "none").glob("*"):
            one.unlink()
        return True


class Core(Target):
    """A core file, as `instar update --rehearse --from` reads it."""

    name = "core"

    def make_seeds(self) -> Sequence[bytes]:
        command = ["gdb", "-q", "-batch", "-ex", "break main", "-ex", "run", "-ex", f"gcore {self.home}/core"]
        subprocess.run([*command, str(build_tables(1))], check=True, capture_output=True, timeout=60)
        data = (self.home / "core").read_bytes()
        self._notes = self._places(data)
        return [data]

    @staticmethod
    def _places(data: bytes) -> tuple[int, int]:
        """Headers and notes, which come first or last: where they lie."""
        (table,) = struct.unpack_from("<Q", data, 0x20)
        (count,) = struct.unpack_from("<H", data, 0x38)
        rows = [struct.unpack_from("<IIQQQQQQ", data, table + 56 * i) for i in range(count)]
        note = next(row for row in rows if row[0] == 4)
        return note[2], note[2] + note[5]

    def one(self, seed: str) -> bytes:
        """Most of a core is memory, whose damage means nothing: headers and notes are damaged."""
        rng = random.Random(seed)
        low, high = rng.choice(((0, 4096), self._notes))
        return damage(rng, self.seeds[0], low, high)[0]

    def read(self, data: bytes) -> bool:
        """With its mappings."""
        from instar.process.core import CoreFile

        path = self.home / "damaged-core"
        path.write_bytes(data)
        core = CoreFile(path)
        core.registers()
        return len(core.maps) > 0


class Config(Target):
    """``instar.toml``."""

    name = "config"

    def make_seeds(self) -> Sequence[bytes]:
        return [
            b'[invariants]\na = "len(list(leaves)) == count and all(p.first > 0 for p in fixed)"\n'
            b'[filters]\nb = "count >= 0 and newest->older != NULL or fixed[3].second % 7 in [1, 2]"\n'
        ]

    def read(self, data: bytes) -> bool:
        """Parsed, names looked up."""
        from instar.validation.conditions import Conditions

        path = self.home / "instar.toml"
        path.write_bytes(data)
        Conditions.find(path, path)
        return True


class Heap(Target):
    """A segment of glibc's heap, corrupted."""

    name = "heap"

    def make_seeds(self) -> Sequence[bytes]:
        rng, found = random.Random(1), []
        for _ in range(8):
            data, before = bytearray(), 0
            for _ in range(rng.randrange(4, 60)):
                size = 16 * rng.randrange(2, 70)
                free = rng.random() < 0.3 and not before
                data += struct.pack("<QQ", before, size | (0 if before else 1)) + bytes(size - 16)
                before = size if free else 0
            if not before:
                data += struct.pack("<QQ", 0, 0x1001)
                found.append(bytes(data))
        return found

    def read(self, data: bytes) -> bool:
        """Blocks lie inside, in order, whatever the chunks say."""
        from instar.heap.buffers import BufferPool
        from instar.heap.image import BlockKind
        from instar.heap.walk import WalkFault, walk_segment

        base = 0x5555_0000_0000
        array = np.frombuffer(data[: len(data) & ~15], np.uint8).copy()
        if len(array) < 32:
            return False
        with suppress(WalkFault):
            top = base + len(array) - 16
            blocks, _, _ = walk_segment(array, base, base, top, BlockKind.MAIN, BufferPool())
            ends = blocks["address"] + blocks["size"]
            assert (blocks["address"] >= base).all() and (ends <= base + len(array)).all(), "a block outside"
            assert (blocks["address"][1:] >= ends[:-1]).all(), "blocks overlap"
            return True
        return False


class Bindings(Target):
    """A program that binds lazily and a library, as the loader lays them out: their tables are damaged."""

    name = "bindings"
    _SOURCES: ClassVar = {
        "lib.so": "int given(void) { return 1; } int other(void) { return 2; }",
        "program": (
            "#include <string.h>\nint given(void);\n"
            "int main(int n, char **v) { return n > 1 ? given() : (int)strlen(v[0]); }"
        ),
    }
    _FLAGS: ClassVar = {
        "lib.so": ("-shared", "-fPIC", "-Wl,--version-script=versions", "-Wl,--hash-style=both"),
        "program": ("-no-pie", "-Wl,-z,lazy", "./lib.so"),
    }
    _TABLES = (".dynsym", ".dynstr", ".gnu.hash", ".hash", ".gnu.version", ".gnu.version_r",
               ".gnu.version_d", ".rela.plt", ".dynamic", ".got.plt")  # fmt: skip

    def make_seeds(self) -> Sequence[bytes]:
        (self.home / "versions").write_text("FIRST { other; }; SECOND { given; } FIRST;")
        self._maps: list[Mapping] = []
        self._damaged: list[tuple[int, int]] = []
        image = b""
        for name, source in self._SOURCES.items():
            (self.home / f"{name}.c").write_text(source)
            command = ["gcc", "-O1", "-w", f"{name}.c", "-o", name, *self._FLAGS[name]]
            subprocess.run(command, check=True, cwd=self.home)
            image += self._load(self.home / name, len(image), 0x7F00_0000_0000 if name == "lib.so" else 0)
        return [image]

    def _load(self, path: Path, at: int, bias: int) -> bytes:
        """The segments of a file one after the other; notes where they are mapped and what may be damaged."""
        data = path.read_bytes()
        table, sections = struct.unpack_from("<QQ", data, 0x20)
        (count,) = struct.unpack_from("<H", data, 0x38)
        image = b""
        for row in range(count):
            kind, flags, offset, address, _, size, room, _ = struct.unpack_from(
                "<IIQQQQQQ", data, table + 56 * row
            )
            if kind != 1:
                continue
            low, high = address & -4096, (address + room + 4095) & -4096
            perms = "".join(c if flags & bit else "-" for c, bit in (("r", 4), ("w", 2), ("x", 1))) + "p"
            begin = offset - (address - low)
            self._maps.append(Mapping(bias + low, bias + high, perms, begin, (8, 1), 7 + at, str(path)))
            place = at + len(image)
            image += data[begin : offset + size].ljust(high - low, b"\0")
            self._damaged += [
                (place + start - low, place + start + length - low)
                for start, length in self._sections(data, sections)
                if low <= start and start + length <= high
            ]
            if begin == 0:
                self._damaged += [(place, place + 64), (place + table, place + table + 56 * count)]
        return image

    def _sections(self, data: bytes, table: int) -> list[tuple[int, int]]:
        """(address, size) of the tables."""
        count, names = struct.unpack_from("<HH", data, 0x3C)
        rows = [struct.unpack_from("<IIQQQQ", data, table + 64 * row) for row in range(count)]
        text = data[rows[names][4] :]
        found = {text[row[0] : text.index(b"\0", row[0])].decode(): (row[3], row[5]) for row in rows}
        return [found[name] for name in self._TABLES if name in found]

    def one(self, seed: str) -> bytes:
        """Tables stay as long as they are."""
        rng = random.Random(seed)
        data = self.seeds[0]
        for _ in range(rng.choice((1, 1, 2, 4))):
            low, high = rng.choice(self._damaged)
            part = damage(rng, data[low:high])[0][: high - low].ljust(high - low, b"\0")
            data = data[:low] + part + data[high:]
        return data

    def read(self, data: bytes) -> bool:
        """Whether every table can be read; the one call that nobody has is found in tables that are whole."""
        from instar.heap.bindings import find_undefined

        found = [str(call) for call in find_undefined(ImageMemory(self._maps, data), self._maps)]
        if data == self.seeds[0]:
            assert found == ["program: undefined symbol: strlen, version GLIBC_2.2.5"], (
                found
            )  # libc is not there
        return not any("cannot be read" in text or "no name at" in text for text in found)


class ImageMemory(Memory):
    """Memory that is bytes: mappings one after the other."""

    def __init__(self, maps: Sequence[Mapping], data: bytes) -> None:
        super().__init__(1)
        self._maps, self._data = maps, data

    def read(self, address: int, size: int) -> bytes:
        """As a process's; whoever asks for more than there is would have made room for it."""
        assert 0 <= size <= 1 << 22, f"room for {size} bytes"  # as many program headers as can be named
        place = 0
        for mapping in self._maps:
            if mapping.start <= address and address + size <= mapping.end:
                start = place + address - mapping.start
                return self._data[start : start + size]
            place += mapping.size
        raise FaultError(address, size, self.pid)


TARGETS: tuple[type[Target], ...] = (Cache, Journal, Wire, Program, Core, Config, Heap, Bindings)
