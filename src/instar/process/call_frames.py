"""Call frame information (DWARF 5, section 6.4; System V ABI for x86-64), row by row.

Written here and not taken from libdw: the tool reads that of programs and libraries that nobody trusts, and a
mistake in Python comes to a wrong row at worst. What is malformed is as good as not there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from instar.process.frame_tables import EntryTable, FrameEntry, SearchTable
from instar.process.image_parts import ImageParts
from instar.process.opcodes import OP, Operation, decode, read_leb128

REGISTER_COUNT = 17
_UNDEFINED, _SAME, _EXPRESSION = range(3)
_MASK = (1 << 64) - 1
_RSP = 7
_CALLEE_SAVED = (3, 6, 12, 13, 14, 15)  # rbx, rbp, r12 to r15
_MOST_STATES, _LONGEST = 1 << 10, 1 << 20  # states that are kept; bytes of instructions


class Rule(NamedTuple):
    """How one register of the caller is recovered: undefined, the same, or by an expression."""

    kind: int
    operations: tuple[Operation, ...] = ()

    @property
    def same(self) -> bool:
        """The called function has not touched the register."""
        return self.kind == _SAME

    @property
    def undefined(self) -> bool:
        """The value is lost."""
        return self.kind == _UNDEFINED


class Row(NamedTuple):
    """A row of the call frame table: valid for link addresses in [start, end)."""

    start: int
    end: int
    return_register: int
    signal_frame: bool
    cfa: Rule
    registers: tuple[Rule, ...]


class FrameTable:
    """The rows of one image."""

    def __init__(self, parts: ImageParts) -> None:
        sections = [(parts.eh_frame, True), (parts.debug_frame, False)]
        self._tables = [EntryTable(found, is_eh) for found, is_eh in sections if found is not None]
        self._search = SearchTable.find_in(parts.search, self._tables)

    def row(self, address: int) -> Row | None:
        """The row for a link address; None where there is no usable call frame information."""
        for table in self._tables:
            try:
                by = self._search if table.is_eh and self._search is not None else table
                frame = by.find(address)
                if frame is not None:
                    return _Machine(frame, address).row()
            except (ValueError, IndexError, OverflowError):
                continue
        return None


@dataclass
class _State:
    """Attributes:
    cfa: (register, offset), or an expression.
    rules: Register -> (what, operand).
    """

    cfa: tuple[int, int] | bytes | None = None
    rules: dict[int, tuple[str, int | bytes]] = field(default_factory=dict)

    def copy(self) -> _State:
        return _State(self.cfa, dict(self.rules))


class _Machine:
    """Carries the instructions of a frame out, up to an address."""

    def __init__(self, frame: FrameEntry, address: int) -> None:
        self._frame, self._common, self._address = frame, frame.common, address
        self._start, self._end = frame.start, frame.end
        self._state, self._initial = _State(), _State()
        self._kept: list[_State] = []
        self._data, self._at = b"", 0

    def row(self) -> Row:
        """Raises ValueError, IndexError."""
        self._run(self._common.program)
        self._initial = self._state.copy()
        self._run(self._frame.program)
        registers = tuple(self._rule(number) for number in range(REGISTER_COUNT))
        common = self._common
        return Row(
            self._start, self._end, common.return_register, common.signal_frame, self._cfa(), registers
        )

    def _cfa(self) -> Rule:
        cfa = self._state.cfa
        if cfa is None:
            return Rule(_UNDEFINED)
        if isinstance(cfa, bytes):
            return Rule(_EXPRESSION, tuple(decode(cfa)))
        return Rule(_EXPRESSION, (Operation(OP.bregx, cfa[0], cfa[1] & _MASK),))

    def _rule(self, number: int) -> Rule:
        what, operand = self._state.rules.get(number) or _default(number)
        if what == "same":
            return Rule(_SAME)
        if what == "undefined":
            return Rule(_UNDEFINED)
        if what == "register":
            assert isinstance(operand, int)
            return Rule(_EXPRESSION, (Operation(OP.regx, operand),))
        value = (Operation(OP.stack_value),) if what.startswith("value") else ()
        frame = Operation(OP.call_frame_cfa, offset=-1)  # nothing jumps there
        if isinstance(operand, bytes):
            return Rule(_EXPRESSION, (frame, *decode(operand), *_at_end(value, len(operand))))
        added = Operation(OP.plus_uconst, operand & _MASK)
        return Rule(_EXPRESSION, (frame, added, *value))

    def _run(self, program: bytes) -> None:
        if len(program) > _LONGEST:
            raise ValueError("too long")
        self._data, self._at = program, 0
        while self._at < len(program):
            code = program[self._at]
            self._at += 1
            high, low = code & 0xC0, code & 0x3F
            if high == 0x40:
                step = low
            elif high == 0x80:
                self._set(low, "offset", self._unsigned() * self._common.data_unit)
                continue
            elif high == 0xC0:
                self._restore(low)
                continue
            elif low in _ADVANCES:
                size = _ADVANCES[low]
                step = int.from_bytes(self._take(size), "little")
            elif low == 0x01:  # set_loc
                raise ValueError("an address of its own")
            else:
                self._other(low)
                continue
            if not self._advance(self._start + step * self._common.code_unit):
                return

    def _advance(self, to: int) -> bool:
        """Whether the row for the address is still to come."""
        if to > self._address:
            self._end = min(self._end, to)
            return False
        self._start = to
        return True

    def _take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) < size:
            raise ValueError("cut off")
        self._at += size
        return found

    def _unsigned(self) -> int:
        value, self._at = read_leb128(self._data, self._at, False)
        return value

    def _signed(self) -> int:
        value, self._at = read_leb128(self._data, self._at, True)
        return value - (1 << 64) if value >> 63 else value

    def _set(self, register: int, what: str, operand: int | bytes = 0) -> None:
        if register < REGISTER_COUNT:  # vector registers are nobody's business here
            self._state.rules[register] = what, operand

    def _restore(self, register: int) -> None:
        if register in self._initial.rules:
            self._state.rules[register] = self._initial.rules[register]
        else:
            self._state.rules.pop(register, None)

    def _with_offset(self, offset: int) -> None:
        if not isinstance(self._state.cfa, tuple):
            raise ValueError("an offset to no register")
        self._state.cfa = self._state.cfa[0], offset

    def _with_register(self, register: int) -> None:
        if not isinstance(self._state.cfa, tuple):
            raise ValueError("a register without an offset")
        self._state.cfa = register, self._state.cfa[1]

    def _other(self, code: int) -> None:
        unit = self._common.data_unit
        match code:
            case 0x00:  # nop
                pass
            case 0x05:  # offset_extended
                self._set(self._unsigned(), "offset", self._unsigned() * unit)
            case 0x06:  # restore_extended
                self._restore(self._unsigned())
            case 0x07:
                self._set(self._unsigned(), "undefined")
            case 0x08:  # same_value
                self._set(self._unsigned(), "same")
            case 0x09:
                self._set(self._unsigned(), "register", self._unsigned())
            case 0x0A | 0x0B:
                self._keep_state(code)
            case 0x0C | 0x0D | 0x0E | 0x0F | 0x12 | 0x13:
                self._define_cfa(code)
            case 0x10 | 0x16:  # expression, val_expression
                register, size = self._unsigned(), self._unsigned()
                self._set(register, "offset" if code == 0x10 else "value", self._take(size))
            case 0x11:  # offset_extended_sf
                self._set(self._unsigned(), "offset", self._signed() * unit)
            case 0x14:  # val_offset
                self._set(self._unsigned(), "value", self._unsigned() * unit)
            case 0x15:  # val_offset_sf
                self._set(self._unsigned(), "value", self._signed() * unit)
            case 0x2E:  # GNU_args_size
                self._unsigned()
            case 0x2F:  # GNU_negative_offset_extended
                self._set(self._unsigned(), "offset", -self._unsigned() * unit)
            case _:
                raise ValueError(f"unknown instruction {code:#x}")

    def _keep_state(self, code: int) -> None:
        if code == 0x0A:  # remember_state
            if len(self._kept) >= _MOST_STATES:
                raise ValueError("too many states")
            self._kept.append(self._state.copy())
        else:
            self._state = self._kept.pop()

    def _define_cfa(self, code: int) -> None:
        match code:
            case 0x0C:
                self._state.cfa = self._unsigned(), self._unsigned()
            case 0x0D:
                self._with_register(self._unsigned())
            case 0x0E:
                self._with_offset(self._unsigned())
            case 0x0F:
                self._state.cfa = self._take(self._unsigned())
            case 0x12:
                self._state.cfa = self._unsigned(), self._signed() * self._common.data_unit
            case _:
                self._with_offset(self._signed() * self._common.data_unit)


_ADVANCES = {0x02: 1, 0x03: 2, 0x04: 4}  # advance_loc1, 2, 4


def _at_end(operations: tuple[Operation, ...], end: int) -> tuple[Operation, ...]:
    return tuple(one._replace(offset=end, end=end + 1) for one in operations)


def _default(number: int) -> tuple[str, int | bytes]:
    """What is not said: the calling convention (System V ABI for x86-64, figure 3.4)."""
    if number == _RSP:
        return "value", 0
    return ("same", 0) if number in _CALLEE_SAVED else ("undefined", 0)
