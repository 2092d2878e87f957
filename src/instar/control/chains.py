"""The chain of a program's own functions in which a thread stands: what a quiescent point is known by."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from instar.metadata.elf import SymbolKind
from instar.metadata.version import Version
from instar.process.held import Standing
from instar.process.maps import read_maps
from instar.process.unwind import Frame, complete, unwind

#: Link address -> name of the function of the program that holds it; None where nothing is there.
FunctionNames = Callable[[int], str | None]
UNKNOWN = "?"
_CLONE_SUFFIX = re.compile(r"\.(constprop|isra|part|cold|lto_priv|llvm|localalias)\b.*$")
_START_CODE = ("_start", "_init", "__libc_csu_init")


@dataclass(frozen=True, slots=True)
class Chain:
    """Where a thread stands.

    Attributes:
        functions: The program's own functions, innermost first; functions of libraries are left out.
        frames: All frames, innermost first.
        whole: The stack could be followed to its end, outside of any signal handler, and every function of
            the program has a name.
    """

    functions: tuple[str, ...]
    frames: tuple[Frame, ...]
    whole: bool

    def __str__(self) -> str:
        return show_chain(self.functions)


def show_chain(functions: Sequence[str]) -> str:
    """A chain for people, outermost first: "main > serve > wait_for_events"."""
    return " > ".join(reversed(functions)) or "(no function of the program)"


def function_names(version: Version) -> FunctionNames:
    """Names from debug information, else from the symbol table; inlined functions do not count."""

    def name(address: int) -> str | None:
        row = version.function_at(address)
        if row is not None:
            return version.text(int(version.functions["name"][row])) or UNKNOWN
        return _symbol_name(version, address)

    return name


def _symbol_name(version: Version, address: int) -> str | None:
    symbols = version.elf.symbols
    inside = (symbols["value"] <= address) & (address < symbols["value"] + symbols["size"])
    for row in np.flatnonzero(inside & (symbols["kind"] == SymbolKind.FUNCTION)):
        return clean_name(version.elf.text(int(symbols["name"][row])))
    return None


def clean_name(name: str) -> str:
    """A symbol without what compilers append for clones and parts of a function."""
    return _CLONE_SUFFIX.sub("", name)


def read_chain(tracee: Standing, names: FunctionNames) -> Chain:
    """The chain of a stopped thread. Reads only."""
    maps = read_maps(tracee.pid)
    program = os.readlink(f"/proc/{tracee.pid}/exe").removesuffix(" (deleted)")  # noqa: PTH115
    return chain_of(unwind(tracee.registers(), tracee.memory, maps), program, names)


def chain_of(frames: Sequence[Frame], program: str, names: FunctionNames) -> Chain:
    """The chain of some frames; ``program`` is the path of the program as the mappings have it."""
    functions = []
    for frame in frames:
        if frame.module != program:
            continue
        name = names(frame.lookup_pc) or UNKNOWN
        if name not in _START_CODE:
            functions.append(name)
    whole = complete(frames) and UNKNOWN not in functions and not any(frame.signal_frame for frame in frames)
    return Chain(tuple(functions), tuple(frames), whole and bool(functions))


def describe_frames(
    frames: Sequence[Frame], names: FunctionNames, program: str, limit: int = 30
) -> tuple[str, ...]:
    """A stack for people, one line a frame, innermost first."""
    lines = []
    for frame in frames[:limit]:
        name = names(frame.lookup_pc) if frame.module == program else None
        where = os.path.basename(frame.module) or "?"  # noqa: PTH119
        lines.append(f"#{frame.index} {name or UNKNOWN} ({where}+{frame.link_pc:#x})")
    return tuple(lines)
