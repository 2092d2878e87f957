"""Whether a function is the same code in two versions: equal bytes but for operands that name paired things.

Jumps inside the function keep their displacement; everything that is addressed relative to the program
counter (or absolutely, where the program is not position independent) must lead to the counterpart of what
it led to. In doubt the answer is no.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import capstone

from instar.pairing.referents import Referents, ranges_of

if TYPE_CHECKING:
    from instar.metadata.version import Version
    from instar.pairing.strings import ContentPairing
    from instar.pairing.symbols import SymbolPairing

_BRANCH = re.compile(r"^(?:.* )?(?:j\w+|call|loop\w*|xbegin)$")
_IMMEDIATE = re.compile(r"^(?:0x[0-9a-f]+|\d+)$")
_RIP = re.compile(r"\[rip(?: ([+-]) (0x[0-9a-f]+|\d+))?\]")
_THREAD = re.compile(r"fs:\[(0x[0-9a-f]+|\d+)\]")
_NUMBER = re.compile(r"0x[0-9a-f]+")
_WIDTH = re.compile(r"(byte|word|dword|qword|xmmword|ymmword|zmmword|tbyte|xword) ptr \[rip")
_WIDTHS = {
    "byte": 1,
    "word": 2,
    "dword": 4,
    "qword": 8,
    "tbyte": 10,
    "xword": 10,
    "xmmword": 16,
    "ymmword": 32,
    "zmmword": 64,
}
_TRAILERS = (0, 1, 4, 2)  # bytes of immediate that may follow a displacement


class _Operand(NamedTuple):
    """A field of an instruction that names an address."""

    kind: str  # code, data, thread, absolute
    field: int  # offset in the range
    size: int
    base: int  # offset in the range that the field is relative to; -1: absolute
    width: int = 0


class _Undecided(Exception):
    """The bytes are no code that is understood: not the same, to be safe."""


class CodeComparison:
    """Compares functions of two versions; every answer is remembered.

    Args:
        old, new: Both versions.
        symbols, content: Their pairing.
    """

    def __init__(self, old: Version, new: Version, symbols: SymbolPairing, content: ContentPairing) -> None:
        self._old, self._new = old, new
        self._symbols = symbols
        self._referents = Referents(old, new, symbols, content)
        self._decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._known: dict[tuple[int, int], bool] = {}

    def same(self, old_function: int, new_function: int) -> bool:
        """Whether two functions (rows) are the same code, cold parts included."""
        key = (old_function, new_function)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._compare(*key)
        return found

    def changed(self) -> list[tuple[int, int]]:
        """Pairs of paired functions that are not the same code."""
        pairs = enumerate(self._symbols.functions.tolist())
        return [(old, new) for old, new in pairs if new >= 0 and not self.same(old, new)]

    def _compare(self, old_function: int, new_function: int) -> bool:
        ranges = (ranges_of(self._old, old_function), ranges_of(self._new, new_function))
        if len(ranges[0]) != len(ranges[1]) or not ranges[0][0][0] or not ranges[1][0][0]:
            return False
        try:
            return all(
                self._same_range(old_range, new_range, (old_function, new_function))
                for old_range, new_range in zip(*ranges, strict=True)
            )
        except _Undecided:
            return False

    def _same_range(
        self, old_range: tuple[int, int], new_range: tuple[int, int], functions: tuple[int, int]
    ) -> bool:
        size = old_range[1] - old_range[0]
        if size != new_range[1] - new_range[0] or size <= 0:
            return False
        try:
            codes = (self._old.elf.read(old_range[0], size), self._new.elf.read(new_range[0], size))
        except ValueError:
            return False
        operands = self._operands(codes[0], old_range[0])
        masked = (bytearray(codes[0]), bytearray(codes[1]))
        for operand in operands:
            field = slice(operand.field, operand.field + operand.size)
            masked[0][field] = masked[1][field] = bytes(operand.size)
        if masked[0] != masked[1]:
            return False
        starts = (old_range[0], new_range[0])
        return all(self._same_operand(operand, codes, starts, functions) for operand in operands)

    def _same_operand(
        self,
        operand: _Operand,
        codes: tuple[bytes, bytes],
        starts: tuple[int, int],
        functions: tuple[int, int],
    ) -> bool:
        values = []
        for code, start in zip(codes, starts, strict=True):
            raw = code[operand.field : operand.field + operand.size]
            value = int.from_bytes(raw, "little", signed=operand.kind != "absolute")
            values.append(value + start + operand.base if operand.base >= 0 else value)
        old_value, new_value = values
        if operand.kind == "code":
            return self._referents.same_code(old_value, new_value)
        if operand.kind == "thread":
            return self._referents.same_thread_offset(old_value, new_value)
        return self._referents.same_data(old_value, new_value, operand.width, functions)

    def _operands(self, code: bytes, start: int) -> list[_Operand]:
        """The fields of old code that name addresses outside of it."""
        operands: list[_Operand] = []
        at = 0
        end = start + len(code)
        absolute = not self._old.elf.is_pie
        for address, size, mnemonic, text in self._decoder.disasm_lite(code, start):
            at = address + size - start
            if _IMMEDIATE.match(text) and _BRANCH.match(mnemonic):
                target = int(text, 0)
                if not start <= target < end:
                    width = _branch_width(code[at - size : at], target - address - size)
                    operands.append(_Operand("code", at - width, width, at))
                continue
            raw = code[at - size : at]
            plain = text
            if "rip" in text and (found := _RIP.search(text)):
                displacement = int(found[2], 0) * (-1 if found[1] == "-" else 1) if found[2] else 0
                wide = _WIDTH.search(text)
                field = at - size + _find_field(raw, displacement)
                operands.append(_Operand("data", field, 4, at, _WIDTHS[wide[1]] if wide else 0))
                plain = text[: found.start()] + text[found.end() :]
            elif "fs:" in text:
                operands += self._thread_operands(text, raw, at - size)
            if absolute:
                operands += self._absolute_operands(plain, raw, at - size)
        if at != len(code):
            raise _Undecided
        return operands

    def _thread_operands(self, text: str, raw: bytes, at: int) -> list[_Operand]:
        found = _THREAD.search(text)
        if found is None:
            return []
        offset = int(found[1], 0)
        if offset >= 2**63:
            return [_Operand("thread", at + _find_field(raw, offset - 2**64), 4, -1)]
        if offset == 0 and not self._referents.same_thread_layout:
            raise _Undecided  # the thread pointer itself: what is added to it later is not followed
        return []

    def _absolute_operands(self, text: str, raw: bytes, at: int) -> list[_Operand]:
        operands = []
        for number in _NUMBER.findall(text):
            value = int(number, 16)
            if value >= 0x1000 and self._old.elf.contains(value):
                size = 8 if value >= 2**31 else 4
                place = raw.find(value.to_bytes(size, "little"))
                if place < 0:
                    raise _Undecided
                operands.append(_Operand("absolute", at + place, size, -1))
        return operands


def _branch_width(raw: bytes, displacement: int) -> int:
    """Bytes of the displacement that ends a branch: short ones may leave a function too."""
    wanted = displacement.to_bytes(8, "little", signed=True)
    if len(raw) >= 5 and raw.endswith(wanted[:4]):
        return 4
    if len(raw) < 5 and raw.endswith(wanted[:1]):
        return 1
    raise _Undecided


def _find_field(raw: bytes, displacement: int) -> int:
    """Offset of a 4-byte displacement in its instruction; only an immediate follows it."""
    wanted = displacement.to_bytes(4, "little", signed=True)
    places = [len(raw) - 4 - trailer for trailer in _TRAILERS]
    found = [place for place in places if place > 0 and raw[place : place + 4] == wanted]
    if len(found) != 1:
        raise _Undecided
    return found[0]


def same_code(
    old: Version, old_function: int, new: Version, new_function: int, comparison: CodeComparison
) -> bool:
    """Whether two functions are the same code (see ``CodeComparison``, which keeps the answers)."""
    return comparison.same(old_function, new_function)
