"""What the new version calls and nobody has is refused before the loader ends it at the first call."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.live.running import Compile, Running, Start
from tests.live.startup_support import future_of, start

from instar.errors import RefusedError
from instar.heap.bindings import find_undefined
from instar.process.maps import read_maps
from instar.process.memory import Memory

startup = start
LAZY = ("-O1", "-Wl,-z,lazy")
Lazy = tuple[Path, Path, Running]


@pytest.fixture
def lazy(compile_c: Compile, start: Start) -> Lazy:
    """Both versions of a program that binds lazily, the first one running."""
    old, new = (compile_c("startup_programs/lazy.c", f"-DVERSION={version}", *LAZY) for version in (1, 2))
    return old, new, start(old)


class Copy:
    """A copy of a program to be damaged in place.

    Attributes:
        path: Of the copy.
    """

    def __init__(self, program: Path, target: Path) -> None:
        shutil.copy(program, target)
        self.path, self._data = target, bytearray(program.read_bytes())

    def _list(self, option: str) -> list[str]:
        command = ["readelf", "-W", option, str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    def section(self, name: str) -> int:
        """Its offset in the file."""
        row = next(line for line in self._list("-S") if f" {name} " in line)
        return int(row.partition("]")[2].split()[3], 16)

    def symbol(self, name: str) -> int:
        """Its number in the table of dynamic symbols."""
        row = next(line for line in self._list("--dyn-syms") if f" {name}@" in line)
        return int(row.split(":")[0])

    def write(self, at: int, data: bytes) -> Path:
        """Over what is there; returns the path."""
        self._data[at : at + len(data)] = data
        self.path.write_bytes(self._data)
        return self.path

    def read(self, at: int, size: int) -> bytes:
        """What is there."""
        return bytes(self._data[at : at + size])

    def rename(self, name: bytes, other: bytes) -> Path:
        """Another name in the table of dynamic symbols."""
        assert len(name) == len(other)
        return self.write(self._data.index(b"\0" + name + b"\0", self.section(".dynstr")) + 1, other)


def test_a_damaged_name_is_refused_in_the_words_of_the_loader(lazy: Lazy, tmp_path: Path) -> None:
    old, new, past = lazy
    broken = Copy(new, tmp_path / "lazy").rename(b"memfrob", b"memfrog")
    with pytest.raises(RefusedError) as caught:
        startup(past.pid, old, broken)
    assert caught.value.code == "undefined-symbol"
    done = subprocess.run([broken], input="s", capture_output=True, text=True)
    assert done.returncode == 127
    assert done.stderr.strip().endswith(caught.value.cause.partition("when it does: ")[2])
    assert "memfrog, version GLIBC_2.2.5" in caught.value.cause


def test_allowed_if_the_call_is_never_made(lazy: Lazy, tmp_path: Path) -> None:
    old, new, past = lazy
    broken = Copy(new, tmp_path / "lazy").rename(b"memfrob", b"memfrog")
    with future_of(past.pid, old, broken, allow=["undefined-symbol"]) as future:
        assert [text.split(":")[0] for text in future.warnings] == ["undefined-symbol"]
        assert "memfrog" in future.warnings[0] and "allowed" in future.warnings[0]


def test_what_the_old_version_lacks_as_well_is_told(compile_c: Compile, start: Start, tmp_path: Path) -> None:
    old, new = (compile_c("startup_programs/lazy.c", f"-DVERSION={version}", *LAZY) for version in (1, 2))
    old = Copy(old, tmp_path / "lazy").rename(b"strfry", b"strfri")
    new = Copy(new, tmp_path / "lazy2").rename(b"strfry", b"strfri")
    past = start(old)
    with future_of(past.pid, old, new) as future:
        assert [text.partition(": ")[0] for text in future.warnings] == ["undefined-symbol"]
        assert "strfri" in future.warnings[0] and "so has the old version" in future.warnings[0]


def test_another_version_of_a_function_is_another_function(lazy: Lazy, tmp_path: Path) -> None:
    """The loader asks each library for the version that the program was linked with."""
    old, new, past = lazy
    copy = Copy(new, tmp_path / "lazy")
    versions = copy.section(".gnu.version")
    other = copy.read(versions + 2 * copy.symbol("__libc_start_main"), 2)
    broken = copy.write(versions + 2 * copy.symbol("memfrob"), other)
    with pytest.raises(RefusedError, match=r"memfrob, version GLIBC_2\.34"):
        startup(past.pid, old, broken)


def test_a_name_beyond_the_end_of_the_table(lazy: Lazy, tmp_path: Path) -> None:
    old, new, past = lazy
    copy = Copy(new, tmp_path / "lazy")
    at = copy.section(".dynsym") + 24 * copy.symbol("memfrob")
    with pytest.raises(RefusedError, match=r"no name at 1048576"):
        startup(past.pid, old, copy.write(at, (1 << 20).to_bytes(4, "little")))


def test_nothing_is_missing_in_a_process_with_many_libraries() -> None:
    """This one: names with versions, weak ones, those that a library asks another for."""
    library = ctypes.CDLL("libstdc++.so.6")  # thousands of names, many calls of its own
    assert library is not None
    assert find_undefined(Memory(os.getpid()), read_maps(os.getpid())) == []
