"""Where things in read-only data that have no symbol begin: at what code and pointers refer to."""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property
from typing import TYPE_CHECKING

import capstone
import numpy as np

from instar.metadata.elf import SECTION_EXECUTE, SECTION_NOBITS, SECTION_WRITE, RelocationKind

if TYPE_CHECKING:
    from instar.metadata.version import Version

_RIP = re.compile(r"\[rip ([+-]) (0x[0-9a-f]+|\d+)\]")
_NUMBER = re.compile(r"0x[0-9a-f]+")


class Boundaries:
    """Starts of things in read-only data; all code of the version is swept once, when first asked."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._elf = version.elf

    def extent(self, address: int) -> int:
        """Bytes from an address to where the next thing begins, or to the end of its section."""
        place = bisect_right(self._starts, address)
        return self._starts[place] - address if place < len(self._starts) else 0

    @cached_property
    def _starts(self) -> list[int]:
        ends = {section.address + section.size for section in self._elf.sections if section.address}
        return sorted(self._from_code() | self._from_pointers() | self._from_names() | ends)

    def _from_code(self) -> set[int]:
        decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        decoder.skipdata = True
        found: set[int] = set()
        for section in self._elf.sections:
            if not section.flags & SECTION_EXECUTE or section.kind == SECTION_NOBITS:
                continue
            code = bytes(self._elf.section_bytes(section))
            for address, size, _, text in decoder.disasm_lite(code, section.address):
                if "rip" in text and (match := _RIP.search(text)):
                    displacement = int(match[2], 0)
                    found.add(address + size + (displacement if match[1] == "+" else -displacement))
                elif not self._elf.is_pie and "0x" in text:
                    found.update(int(number, 16) for number in _NUMBER.findall(text))
        return found

    def _from_pointers(self) -> set[int]:
        rows = self._elf.relocations
        found = set(rows["addend"][rows["kind"] == RelocationKind.RELATIVE].tolist())
        if not self._elf.is_pie:
            for section in self._elf.sections:
                if section.flags & SECTION_WRITE and section.kind != SECTION_NOBITS:
                    data = bytes(self._elf.section_bytes(section))
                    found.update(np.frombuffer(data[: len(data) // 8 * 8], "<u8").tolist())
        return found

    def _from_names(self) -> set[int]:
        variables = self._version.variables
        found = set(variables["address"][variables["tls"] == 0].tolist())
        return found | set(self._elf.symbols["value"].tolist())
