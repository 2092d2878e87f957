"""What the kernel tells of each mapping besides its line: /proc/PID/smaps (proc_pid_smaps(5))."""

from __future__ import annotations

from dataclasses import dataclass

from instar.process.access import read_proc
from instar.process.failures import lost_process


@dataclass(frozen=True, slots=True)
class MappingDetails:
    """One mapping.

    Attributes:
        filled: Whether it has any page, in memory or swapped out.
        flags: ``VmFlags``: two letters each.
    """

    start: int
    end: int
    filled: bool
    flags: frozenset[str]


def read_smaps(pid: int) -> list[MappingDetails]:
    """All mappings, by address; raises HostError when the process is gone or out of reach."""
    try:
        text = read_proc(pid, "smaps").decode(errors="surrogateescape")
    except OSError as error:
        raise lost_process(pid, error) from error
    return parse_smaps(text)


def parse_smaps(text: str) -> list[MappingDetails]:
    """The same from a text: each mapping ends with its flags."""
    found = []
    start = end = size = 0
    for line in text.split("\n"):
        name, _, rest = line.partition(" ")
        if name in ("Rss:", "Swap:"):
            size += int(rest.split()[0])
        elif name == "VmFlags:":
            found.append(MappingDetails(start, end, size > 0, frozenset(rest.split())))
        elif not name.endswith(":") and "-" in name:
            first, _, last = name.partition("-")
            start, end, size = int(first, 16), int(last, 16), 0
    return found
