"""Faults in the C kernels: single instructions of the forward transfer are changed in a copy of the library.

Changing machine code resembles the faults of real programs well where it follows patterns of source faults
(Duraes and Madeira, "Emulation of Software Faults", 2006): a condition turned round, a store left out.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from faults.injection import Injection

#: Units whose code does the forward transfer; what compares and reverses is not among them.
UNITS = ("convert.c", "translate.c", "objects.c", "trace.c", "reach.c", "changes.c", "inside.c")
_NOP = b"\x90"
Patch = tuple[int, bytes]


def functions(library: Path) -> list[tuple[str, int, int]]:
    """(name, file offset, size) of the functions of ``UNITS``, in order of their addresses."""
    sources = library.parents[3] / "native" / "kernels"
    texts = [(sources / unit).read_text() for unit in UNITS]
    found = [
        (name, address, size)
        for name, address, size in _symbols(library)
        if any(
            f" {name.partition('.')[0]}(" in text or f"*{name.partition('.')[0]}(" in text for text in texts
        )
    ]
    return sorted(found, key=lambda entry: entry[1])


def _symbols(library: Path) -> Iterator[tuple[str, int, int]]:
    """Functions of the symbol table; text lies at its address in our libraries' files."""
    data = library.read_bytes()
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    for section in sections:
        if section[1] != 2:  # SHT_SYMTAB
            continue
        strings = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], 24):
            name, info, _, index, value, length = struct.unpack_from("<IBBHQQ", data, at)
            if info & 15 == 2 and 0 < index < count and length:
                end = data.index(b"\0", strings + name)
                place = value - sections[index][3] + sections[index][4]
                yield data[strings + name : end].decode(), place, length


def inject(injection: Injection) -> None:
    """Change the library and let everything load the copy."""
    import instar.native as native

    library = native.library_path("kernels")
    data = bytearray(library.read_bytes())
    found = [
        (name, patch)
        for name, at, size in functions(library)
        for patch in _patches(injection, data, at, size)
    ]
    if not found:
        raise LookupError(f"no instruction for {injection.kind}")
    name, (place, code) = injection.random.choice(found)
    before = bytes(data[place : place + len(code)])
    data[place : place + len(code)] = code
    with tempfile.NamedTemporaryFile(suffix=".so", delete=False) as copy:
        copy.write(data)
    original = native.library_path
    native.library_path = lambda name: Path(copy.name) if name == "kernels" else original(name)
    native.load.cache_clear()
    native.load("kernels")
    Path(copy.name).unlink()
    injection.note(f"kernel {name}: {before.hex()} at {place:#x} became {code.hex()}")


def _patches(injection: Injection, data: bytearray, start: int, size: int) -> Iterator[Patch]:
    import capstone

    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    change = _CHANGES[injection.kind]
    for instruction in disassembler.disasm(bytes(data[start : start + size]), start):
        yield from change(instruction)


def _is_conditional(instruction: Any) -> bool:
    return bool(instruction.mnemonic.startswith("j") and instruction.mnemonic != "jmp")


def _goes_back(instruction: Any) -> bool:
    return bool(instruction.operands[0].imm < instruction.address)


def _opposite(instruction: Any) -> bytes:
    code = bytearray(instruction.bytes)
    code[1 if code[0] == 0x0F else 0] ^= 1  # the lowest bit of the opcode is "not"
    return bytes(code)


def _branch_flipped(instruction: Any) -> Iterator[Patch]:
    if _is_conditional(instruction) and not _goes_back(instruction):
        yield instruction.address, _opposite(instruction)


def _loop_stuck(instruction: Any) -> Iterator[Patch]:
    if _is_conditional(instruction) and _goes_back(instruction):
        code = bytes(instruction.bytes)
        yield instruction.address, b"\x90\xe9" + code[2:] if code[0] == 0x0F else b"\xeb" + code[1:]


def _loop_cut(instruction: Any) -> Iterator[Patch]:
    if _is_conditional(instruction) and _goes_back(instruction):
        yield instruction.address, _NOP * instruction.size


def _is_store(instruction: Any) -> bool:
    return bool(
        instruction.mnemonic in ("mov", "movups", "movdqu", "movaps", "movq")
        and instruction.operands
        and instruction.operands[0].type == 3  # X86_OP_MEM
    )


def _lost_write(instruction: Any) -> Iterator[Patch]:
    if _is_store(instruction) and "rsp" not in instruction.op_str:
        yield instruction.address, _NOP * instruction.size


def _missing_initialisation(instruction: Any) -> Iterator[Patch]:
    """Of a local: a register that is cleared or set to a number, a local in memory that is stored."""
    cleared = instruction.mnemonic == "xor" and len({o.reg for o in instruction.operands if o.type == 1}) == 1
    constant = instruction.mnemonic == "mov" and [o.type for o in instruction.operands] == [1, 2]
    local = _is_store(instruction) and "rsp" in instruction.op_str
    if cleared or constant or local:
        yield instruction.address, _NOP * instruction.size


def _wrong_offset(instruction: Any) -> Iterator[Patch]:
    """A member or element beside the one that is meant: a displacement of eight bytes more or less."""
    if instruction.disp_size != 1 or "rsp" in instruction.op_str or "rip" in instruction.op_str:
        return
    at = instruction.disp_offset
    for delta in (8, -8, 4):
        code = bytearray(instruction.bytes)
        code[at] = (code[at] + delta) & 0xFF
        yield instruction.address, bytes(code)


def _wrong_width(instruction: Any) -> Iterator[Patch]:
    """Half of a word: without REX.W a move has 32 bits."""
    code = bytearray(instruction.bytes)
    if instruction.mnemonic in ("mov", "cmp", "add", "sub", "and") and 0x48 <= code[0] <= 0x4F:
        code[0] &= ~8
        yield instruction.address, bytes(code)


def _off_by_one(instruction: Any) -> Iterator[Patch]:
    """``<`` for ``<=``: the condition takes or leaves equality; or a compared number is one more."""
    code = bytearray(instruction.bytes)
    if _is_conditional(instruction):
        at = 1 if code[0] == 0x0F else 0
        other = {2: 6, 3: 7, 6: 2, 7: 3, 0xC: 0xE, 0xD: 0xF, 0xE: 0xC, 0xF: 0xD}.get(code[at] & 15)
        if other is not None:
            code[at] = code[at] & 0xF0 | other
            yield instruction.address, bytes(code)
    elif instruction.mnemonic == "cmp" and instruction.imm_size == 1:
        code[instruction.imm_offset] = (code[instruction.imm_offset] + 1) & 0xFF
        yield instruction.address, bytes(code)


_CHANGES: dict[str, Callable[[Any], Iterator[Patch]]] = {
    "branch flipped": _branch_flipped,
    "loop stuck": _loop_stuck,
    "loop cut short": _loop_cut,
    "missing initialisation": _missing_initialisation,
    "wrong offset": _wrong_offset,
    "wrong width": _wrong_width,
    "off-by-one count": _off_by_one,
    "lost write": _lost_write,
}
KINDS = tuple(_CHANGES)
