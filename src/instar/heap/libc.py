"""Finds the libc of a process, makes sure that its malloc is the one in use, and which version it is."""

from __future__ import annotations

import re
from collections.abc import Sequence

from instar.errors import RefusedError
from instar.heap.modules import Module, Segment, defines
from instar.process.memory import Memory

_VERSION = re.compile(rb"GNU C Library [^\0\n]{0,80}?release version (\d+)\.(\d+)")
_OLDEST = (2, 31)
_OUR_RUNTIME = "libinstar-runtime.so"


def find_libc(memory: Memory, modules: Sequence[Module]) -> Module:
    """The glibc whose malloc the process uses; refused when another module's comes before it."""
    libc = next((m for m in modules if m.name.startswith(("libc.so", "libc-2."))), None)
    others = [m for m in modules if m is not libc and not m.name.startswith(("ld-linux", "ld-2."))]
    for module in others:
        if module.name != _OUR_RUNTIME and (
            module.name.startswith("ld-musl") or defines(memory, module, "malloc")
        ):
            raise RefusedError(
                "unknown-allocator",
                f"malloc of this process is that of {module.path}, not glibc's",
                "start the program without it (LD_PRELOAD, linker options)",
            )
    if libc is None:
        raise RefusedError(
            "unknown-allocator",
            "the process has no glibc loaded",
            "link the program dynamically with glibc",
        )
    return libc


def libc_version(memory: Memory, libc: Module) -> tuple[int, int]:
    """Major and minor, from the banner that glibc carries; refused before 2.31."""
    for segment in libc.read_only():
        found = _VERSION.search(memory.read(segment.address, segment.file_size))
        if found is not None:
            version = (int(found[1]), int(found[2]))
            if version < _OLDEST:
                raise RefusedError(
                    "unknown-allocator",
                    f"{libc.path} is glibc {version[0]}.{version[1]}; known are 2.31 and later",
                    "use a newer distribution",
                )
            return version
    raise RefusedError(
        "unknown-allocator", f"{libc.path} does not say that it is glibc", "link the program with glibc"
    )


def data_segment(libc: Module) -> Segment:
    """libc's .data and .bss, from a multiple of 8 on."""
    segment = libc.writable()
    if segment is None:
        raise RefusedError("unknown-allocator", f"{libc.path} has no data", "link the program with glibc")
    start = (segment.address + 7) & ~7
    return Segment(segment.kind, segment.flags, start, 0, segment.address + segment.size - start)
