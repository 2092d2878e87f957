"""The strings of argv and environment on a process's initial stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from instar.process.access import read_proc


@dataclass(frozen=True)
class ArgumentArea:
    """The strings of argv and environment on the initial stack, in order of memory.

    Attributes:
        arguments: (address, size with NUL) of each argument string.
        environment: The same by variable name.
        pointers: Address of argv[0]'s slot and number of slots (argc + 1).
    """

    arguments: tuple[tuple[int, int], ...]
    environment: dict[bytes, tuple[int, int]]
    pointers: tuple[int, int]

    @property
    def environment_pointers(self) -> int:
        """Address of envp[0]'s slot, which is right behind argv's end; 0 where argv is not known."""
        address, slots = self.pointers
        return address + 8 * slots if slots > 1 else 0


def argument_area(pid: int, read: Callable[[int, int], bytes]) -> ArgumentArea:
    """Find argv and environment of a process (proc(5): start_stack, arg_start .. env_end)."""
    fields = read_proc(pid, "stat").decode(errors="replace").rpartition(")")[2].split()
    start_stack = int(fields[25])
    arg_start, arg_end, env_start, env_end = (int(fields[i]) for i in (45, 46, 47, 48))
    arguments = tuple((at, len(text) + 1) for at, text in _strings(read, arg_start, arg_end))
    strings = _strings(read, env_start, env_end)
    environment = {text.split(b"=", 1)[0]: (at, len(text) + 1) for at, text in strings}
    count = int.from_bytes(read(start_stack, 8), "little") if start_stack else 0
    return ArgumentArea(arguments, environment, (start_stack + 8, count + 1))


def _strings(read: Callable[[int, int], bytes], start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Address and bytes, without the NUL, of each string in a range."""
    at = start
    for text in read(start, end - start).split(b"\0")[:-1] if end > start else ():
        yield at, text
        at += len(text) + 1
