"""What a plug-in calls is looked up as the loader does, which is asked as well: it makes the call."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.live.running import Start

from instar.heap.bindings import find_undefined
from instar.heap.modules import read_modules
from instar.process.maps import read_maps
from instar.process.memory import Memory

HOST = "startup_programs/plugin_host.c"
PLAIN = "int gift(void) { return 1; }"
PICKED = "static int one(void) { return 1; } static void *pick(void) { return one; }"
LATIN = 'int gift(void) __asm__("caf\\xe9");'
HIDDEN = '__asm__(".symver old,gift@SECOND"); int old(void) { return 1; } int other(void) { return 2; }'
TWO_VERSIONS = "FIRST { global: other; local: *; }; SECOND { global: gift; } FIRST;"
FAR = "-Wl,-Ttext-segment=0x7fffa0000000"


@dataclass(frozen=True)
class Case:
    """A library that has the function, or has not.

    Attributes:
        source: Of the library.
        flags: Both are linked with.
        versions: The library's version script.
        call: Goes before the plug-in's source.
        linked: What the plug-in is linked with, where that is another library.
    """

    source: str = PLAIN
    flags: Sequence[str] = ()
    versions: str = ""
    call: str = "int gift(void);"
    linked: str = ""


CASES = {
    "sysv hash alone": Case(flags=["-Wl,--hash-style=sysv"]),
    "indirect": Case(PICKED + 'int gift(void) __attribute__((ifunc("pick")));'),
    "protected": Case(flags=["-fvisibility=protected"]),
    "gold": Case(flags=["-fuse-ld=gold"]),
    "a name that is no text": Case(LATIN + PLAIN, call=LATIN),
    "not where it wants to be": Case(flags=[FAR]),
    "default version": Case("int other(void) { return 2; }" + PLAIN, versions=TWO_VERSIONS, linked=PLAIN),
    "hidden first version": Case(HIDDEN, versions="SECOND { global: gift; local: *; };", linked=PLAIN),
    "hidden second version": Case(
        HIDDEN, versions=TWO_VERSIONS, linked=PLAIN
    ),
    "not exported": Case("__attribute__((visibility(\"hidden\"))) " + PLAIN, linked=PLAIN),
    "another name": Case("int gifts(void) { return 1; }", linked=PLAIN),
}  # fmt: skip
MISSING = {"hidden second version", "not exported", "another name"}


def build(folder: Path, name: str, source: str, *flags: str) -> Path:
    target = folder / name
    target.with_suffix(".c").write_text(source)
    command = ["gcc", "-shared", "-fPIC", "-w", "-o", name, target.with_suffix(".c").name, *flags]
    subprocess.run(command, check=True, cwd=folder)
    return target


def plugin_of(case: Case, folder: Path) -> Path:
    """The library is loaded with the plug-in."""
    soname = "-Wl,-soname,lib.so"
    build(folder, "lib.so", case.linked or case.source, soname, *case.flags)
    bound = (*case.flags, "-Wl,-z,lazy", "./lib.so", "-Wl,-rpath,$ORIGIN")
    plugin = build(folder, "plugin.so", f"{case.call} void ask(void) {{ gift(); }}", *bound)
    if case.versions:
        (folder / "versions").write_text(case.versions)
    script = ("-Wl,--version-script=versions",) if case.versions else ()
    build(folder, "lib.so", case.source, soname, *case.flags, *script)
    return plugin


@pytest.mark.parametrize("name", CASES)
def test_the_loader_agrees(start: Start, tmp_path: Path, name: str) -> None:
    plugin = plugin_of(CASES[name], tmp_path)
    host = start(HOST, str(tmp_path / "lib.so"), str(plugin), stderr=subprocess.PIPE)
    found = [str(call) for call in find_undefined(Memory(host.pid), read_maps(host.pid))]
    _, words = host.process.communicate(b"x", timeout=20)
    assert (host.process.returncode == 127) == (name in MISSING), words
    assert len(found) == (name in MISSING)
    assert not found or words.decode().strip().endswith(found[0])


def test_a_dynamic_section_is_as_long_as_its_entries(start: Start, tmp_path: Path) -> None:
    """The loader does not look at the size that the program header names."""
    plugin = plugin_of(Case(), tmp_path)
    data = bytearray(plugin.read_bytes())
    table, count = int.from_bytes(data[0x20:0x28], "little"), int.from_bytes(data[0x38:0x3A], "little")
    at = next(table + 56 * row for row in range(count) if data[table + 56 * row] == 2)
    data[at + 32 : at + 48] = (1 << 44).to_bytes(8, "little") * 2
    plugin.write_bytes(data)
    host = start(HOST, str(plugin))
    modules = {one.name: one for one in read_modules(Memory(host.pid), read_maps(host.pid))}
    assert modules["plugin.so"].dynamic
    assert find_undefined(Memory(host.pid), read_maps(host.pid)) == []
