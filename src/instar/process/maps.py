"""The mappings of a process: /proc/PID/maps (proc(5))."""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from instar.process.access import read_proc
from instar.process.failures import explain_absence, lost_process

DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of /proc/PID/maps; ``path`` is "" for anonymous memory, or "[heap]" and the like."""

    start: int
    end: int
    perms: str
    offset: int
    device: tuple[int, int]
    inode: int
    path: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    @property
    def readable(self) -> bool:
        """Whether the process itself may read there."""
        return self.perms[0] == "r"

    @property
    def writable(self) -> bool:
        """Whether the process itself may write there."""
        return self.perms[1] == "w"

    @property
    def executable(self) -> bool:
        """Whether the process itself may execute there."""
        return self.perms[2] == "x"

    @property
    def shared(self) -> bool:
        """Whether writes reach other processes or the file."""
        return self.perms[3] == "s"

    @property
    def deleted(self) -> bool:
        """Whether the mapped file has lost its name."""
        return self.inode != 0 and self.path.endswith(DELETED)

    @property
    def file(self) -> str:
        """The path without the kernel's " (deleted)"; "" when no file is mapped."""
        if not self.path.startswith("/"):
            return ""
        return self.path.removesuffix(DELETED) if self.deleted else self.path

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and self.start <= address < self.end


def parse_maps(text: str) -> list[Mapping]:
    """Read the text of /proc/PID/maps."""
    return [_parse_line(line) for line in text.split("\n") if line]


def _parse_line(line: str) -> Mapping:
    bounds, perms, offset, device, inode, *path = line.split(maxsplit=5)
    start, _, end = bounds.partition("-")
    major, _, minor = device.partition(":")
    return Mapping(
        int(start, 16),
        int(end, 16),
        perms,
        int(offset, 16),
        (int(major, 16), int(minor, 16)),
        int(inode),
        path[0].replace("\\012", "\n") if path else "",
    )


def read_maps(pid: int) -> list[Mapping]:
    """The mappings of a process, by address; raises HostError when it is gone or may not be looked at."""
    try:
        text = read_proc(pid, "maps").decode(errors="surrogateescape")
    except OSError as error:
        raise lost_process(pid, error) from error
    if not text:  # a zombie, or a thread of the kernel
        raise explain_absence(pid) or lost_process(pid, OSError(errno.ESRCH, os.strerror(errno.ESRCH)))
    return parse_maps(text)


def find_mapping(maps: Sequence[Mapping], address: int) -> Mapping | None:
    """The mapping that holds an address; ``maps`` must be in the order of addresses."""
    index = bisect_right(maps, address, key=lambda mapping: mapping.start) - 1
    if index >= 0 and address in maps[index]:
        return maps[index]
    return None


def mappings_of(maps: Iterable[Mapping], path: str) -> list[Mapping]:
    """The mappings of one file."""
    return [mapping for mapping in maps if mapping.file == path]
