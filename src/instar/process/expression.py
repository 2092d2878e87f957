"""Evaluating DWARF expressions (DWARF 5, section 2.5 and 2.6) against a frame of a stopped process.

What cannot be settled is an answer of its own, with the reason: nothing is ever assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from instar.errors import FaultError
from instar.process.numbering import CALLEE_SAVED, DWARF_RSP
from instar.process.opcodes import OP, Operation, decode
from instar.process.registers import MASK, signed

if TYPE_CHECKING:
    from instar.process.unwind import Frame


class Reader(Protocol):
    """Where memory is read from."""

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``; raises FaultError."""
        ...


class PlaceKind(Enum):
    """What a location description describes."""

    MEMORY = "memory"
    REGISTER = "register"
    VALUE = "value"
    PIECES = "pieces"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an object: ``size`` bits, taken from bit ``bit_offset`` of ``place``."""

    place: Place
    size: int
    bit_offset: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object is, or its value when it is nowhere.

    Attributes:
        address: Of MEMORY, in the process.
        register: DWARF number of REGISTER; where the frame's value of it is kept is ``frame.saved_at``.
        value: Bytes of VALUE (8, little-endian, for a computed one; the object has as many as its type).
        pieces: Of PIECES, in order from the least significant.
        reason: Of UNKNOWN, a kebab-case word: "optimized-out", "entry-value", "register-lost", ...
    """

    kind: PlaceKind
    address: int = 0
    register: int = -1
    value: bytes = b""
    pieces: tuple[Piece, ...] = ()
    reason: str = ""

    @classmethod
    def unknown(cls, reason: str) -> Place:
        """A place that cannot be told."""
        return cls(PlaceKind.UNKNOWN, reason=reason)


class UnknownError(Exception):
    """Evaluation came to something that cannot be settled; ``args[0]`` is the reason."""


@dataclass(frozen=True, slots=True)
class Context:
    """What an expression may refer to.

    Attributes:
        registers: DWARF number -> value in the frame.
        cfa: Canonical frame address, None while it is being computed itself.
        frame_base: DW_AT_frame_base of the function, b"" when it has none.
        load_bias: Added to link addresses.
        caller: Registers of the caller's frame, which are the callee-saved ones' values at entry.
        addresses: Index of .debug_addr -> link address (DW_OP_addrx), or None.
        tls: Offset in the module's thread-local block -> address, or None.
        entry: Register values at entry, proven by the call site (DW_TAG_call_site_parameter), or None.
    """

    registers: Mapping[int, int]
    memory: Reader
    cfa: int | None = None
    frame_base: bytes = b""
    load_bias: int = 0
    caller: Mapping[int, int] | None = None
    addresses: Callable[[int], int] | None = None
    tls: Callable[[int], int] | None = None
    entry: Mapping[int, int] | None = None


def locate(
    expression: bytes,
    frame: Frame,
    memory: Reader,
    frame_base: bytes = b"",
    load_bias: int | None = None,
    *,
    caller: Frame | None = None,
    addresses: Callable[[int], int] | None = None,
    tls: Callable[[int], int] | None = None,
    entry: Mapping[int, int] | None = None,
) -> Place:
    """Where the object with this location is in a frame.

    Args:
        expression: DW_AT_location, or the entry of the location list for ``frame.lookup_pc``.
        frame: Of ``unwind``.
        memory: The process's memory.
        frame_base: DW_AT_frame_base of the function.
        load_bias: The module's, by default the frame's.
        caller: The next frame, which settles DW_OP_entry_value of callee-saved registers.
        addresses: See Context.
        tls: See Context.
        entry: See Context.
    """
    context = Context(
        frame.registers,
        memory,
        frame.cfa,
        frame_base,
        frame.load_bias if load_bias is None else load_bias,
        caller.registers if caller is not None else None,
        addresses,
        tls,
        entry,
    )
    try:
        operations = decode(expression)
    except ValueError:
        return Place.unknown("malformed")
    return locate_operations(operations, context)


def locate_operations(operations: Sequence[Operation], context: Context) -> Place:
    """The place described by decoded operations."""
    try:
        return _Machine(operations, context).run()
    except UnknownError as error:
        return Place.unknown(str(error))
    except FaultError:
        return Place.unknown("memory-fault")


def evaluate_operations(operations: Sequence[Operation], context: Context, *initial: int) -> int:
    """The number computed by decoded operations; raises UnknownError or FaultError."""
    machine = _Machine(operations, context)
    machine.stack.extend(initial)
    place = machine.run()
    if place.kind is PlaceKind.MEMORY:
        return place.address
    if place.kind is PlaceKind.VALUE:
        return int.from_bytes(place.value[:8], "little")
    raise UnknownError(place.reason or "not-a-number")


_MAX_STEPS = 10_000
_BINARY: dict[int, Callable[[int, int], int]] = {
    OP.and_: lambda a, b: a & b,
    OP.or_: lambda a, b: a | b,
    OP.xor: lambda a, b: a ^ b,
    OP.plus: lambda a, b: a + b,
    OP.minus: lambda a, b: a - b,
    OP.mul: lambda a, b: a * b,
    OP.shl: lambda a, b: a << b if b < 64 else 0,
    OP.shr: lambda a, b: a >> b if b < 64 else 0,
    OP.shra: lambda a, b: signed(a) >> min(b, 63),
    OP.eq: lambda a, b: int(a == b),
    OP.ne: lambda a, b: int(a != b),
    OP.lt: lambda a, b: int(signed(a) < signed(b)),
    OP.le: lambda a, b: int(signed(a) <= signed(b)),
    OP.gt: lambda a, b: int(signed(a) > signed(b)),
    OP.ge: lambda a, b: int(signed(a) >= signed(b)),
}
_UNKNOWN: dict[int, str] = {
    OP.implicit_pointer: "implicit-pointer",
    OP.GNU_implicit_pointer: "implicit-pointer",
    OP.GNU_parameter_ref: "parameter-ref",
    OP.call2: "expression-call",
    OP.call4: "expression-call",
    OP.call_ref: "expression-call",
    OP.push_object_address: "object-address",
    OP.xderef: "address-space",
    OP.xderef_size: "address-space",
    OP.xderef_type: "address-space",
    OP.GNU_uninit: "uninitialized",
    OP.GNU_variable_value: "variable-value",
}
_TYPED = (
    OP.const_type, OP.regval_type, OP.deref_type, OP.convert, OP.reinterpret,
    OP.GNU_const_type, OP.GNU_regval_type, OP.GNU_deref_type, OP.GNU_convert, OP.GNU_reinterpret,
)  # fmt: skip


class _Machine:
    """The stack machine of one expression."""

    def __init__(self, operations: Sequence[Operation], context: Context) -> None:
        self.operations = operations
        self.context = context
        self.stack: list[int] = []
        self.place: Place | None = None
        self.pieces: list[Piece] = []
        self.index = 0

    def run(self) -> Place:
        if not self.operations:
            raise UnknownError("optimized-out")
        steps = 0
        while self.index < len(self.operations):
            steps += 1
            if steps > _MAX_STEPS:
                raise UnknownError("malformed")
            operation = self.operations[self.index]
            self.index += 1
            self.step(operation)
        if self.pieces:
            return Place(PlaceKind.PIECES, pieces=tuple(self.pieces))
        return self.finished()

    def finished(self) -> Place:
        """The simple place that the operations so far describe."""
        if self.place is not None:
            return self.place
        if not self.stack:
            return Place.unknown("optimized-out")
        return Place(PlaceKind.MEMORY, address=self.stack[-1])

    def step(self, operation: Operation) -> None:
        code = operation.code
        if OP.lit0 <= code <= OP.lit31:
            self.push(code - OP.lit0)
        elif OP.reg0 <= code <= OP.reg31:
            self.in_register(code - OP.reg0)
        elif OP.breg0 <= code <= OP.breg31:
            self.push(self.register(code - OP.breg0) + signed(operation.first))
        elif code in _BINARY:
            second, first = self.pop(), self.pop()
            self.push(_BINARY[code](first, second))
        elif code in _UNKNOWN:
            raise UnknownError(_UNKNOWN[code])
        elif code in _TYPED:
            self.typed(operation)
        elif OP.const1u <= code <= OP.consts:
            self.push(operation.first)
        else:
            self.other(operation)

    def other(self, operation: Operation) -> None:
        handler = _HANDLERS.get(operation.code)
        if handler is None:
            raise UnknownError(f"operation-{operation.code:#x}")
        handler(self, operation)

    # ------------------------------------------------------------------------------------ the stack

    def push(self, value: int) -> None:
        self.stack.append(value & MASK)

    def pop(self) -> int:
        if not self.stack:
            raise UnknownError("malformed")
        return self.stack.pop()

    def pick(self, index: int) -> None:
        if index >= len(self.stack):
            raise UnknownError("malformed")
        self.push(self.stack[-1 - index])

    def swap(self) -> None:
        second, first = self.pop(), self.pop()
        self.stack += [second, first]

    def rotate(self) -> None:
        third, second, first = self.pop(), self.pop(), self.pop()
        self.stack += [third, first, second]

    def divide(self) -> None:
        second, first = signed(self.pop()), signed(self.pop())
        if second == 0:
            raise UnknownError("division-by-zero")
        quotient = abs(first) // abs(second)
        self.push(quotient if (first < 0) == (second < 0) else -quotient)

    def modulo(self) -> None:
        second, first = self.pop(), self.pop()
        if second == 0:
            raise UnknownError("division-by-zero")
        self.push(first % second)

    def jump(self, operation: Operation) -> None:
        target = operation.target
        for index, candidate in enumerate(self.operations):
            if candidate.offset == target:
                self.index = index
                return
        if target != self.operations[-1].end:
            raise UnknownError("malformed")
        self.index = len(self.operations)

    # ------------------------------------------------------------------------------------ the frame

    def register(self, number: int) -> int:
        value = self.context.registers.get(number)
        if value is None:
            raise UnknownError("register-lost")
        return value

    def in_register(self, number: int) -> None:
        if number not in self.context.registers:
            # Vector and x87 registers are never saved by a called function; only frame 0 would have them.
            self.place = Place.unknown("register-lost")
        else:
            self.place = Place(PlaceKind.REGISTER, register=number)

    def dereference(self, size: int) -> None:
        if not 1 <= size <= 8:
            raise UnknownError("malformed")
        self.push(int.from_bytes(self.context.memory.read(self.pop(), size), "little"))

    def frame_base(self) -> int:
        if not self.context.frame_base:
            raise UnknownError("no-frame-base")
        operations = decode(self.context.frame_base)
        if any(operation.code == OP.fbreg for operation in operations):
            raise UnknownError("malformed")
        place = locate_operations(operations, self.context)
        if place.kind is PlaceKind.REGISTER:
            return self.register(place.register)
        if place.kind is PlaceKind.MEMORY:
            return place.address
        if place.kind is PlaceKind.VALUE:
            return int.from_bytes(place.value[:8], "little")
        raise UnknownError(place.reason or "no-frame-base")

    def canonical_frame_address(self) -> int:
        if self.context.cfa is None:
            raise UnknownError("no-cfa")
        return self.context.cfa

    def entry_value(self, operation: Operation) -> None:
        """The value a register had when the function was entered, where that is certain.

        A callee-saved register had the value that it has in the caller's frame, rsp the CFA less the return
        address. An argument register's value is lost unless the caller's call site tells it, which only debug
        information knows (``Context.entry``): without it, that is left unknown.
        """
        inner = decode(operation.block)
        if len(inner) != 1:
            raise UnknownError("entry-value")
        code = inner[0].code
        if OP.reg0 <= code <= OP.reg31:
            number, addend = code - OP.reg0, 0
        elif OP.breg0 <= code <= OP.breg31:
            number, addend = code - OP.breg0, signed(inner[0].first)
        else:
            raise UnknownError("entry-value")
        if self.context.entry is not None and number in self.context.entry:
            self.push(self.context.entry[number] + addend)
        elif number == DWARF_RSP and self.context.cfa is not None:
            self.push(self.context.cfa - 8 + addend)
        elif number in CALLEE_SAVED and self.context.caller is not None and number in self.context.caller:
            self.push(self.context.caller[number] + addend)
        else:
            raise UnknownError("entry-value")

    def address_index(self, operation: Operation, bias: int) -> None:
        if self.context.addresses is None:
            raise UnknownError("address-index")
        self.push(self.context.addresses(operation.first) + bias)

    def thread_local(self) -> None:
        if self.context.tls is None:
            raise UnknownError("thread-local")
        self.push(self.context.tls(self.pop()))

    def typed(self, operation: Operation) -> None:
        """Typed operations: only the generic type (offset 0) is an address-sized integer."""
        if operation.code in (OP.convert, OP.GNU_convert, OP.reinterpret, OP.GNU_reinterpret):
            generic = operation.first == 0
        else:
            generic = False
        if not generic:
            raise UnknownError("typed-operation")

    # ------------------------------------------------------------------------------------ ends

    def stack_value(self) -> None:
        self.place = Place(PlaceKind.VALUE, value=self.pop().to_bytes(8, "little"))

    def piece(self, bits: int, bit_offset: int) -> None:
        place = self.finished()
        self.pieces.append(Piece(place, bits, bit_offset))
        self.place = None
        self.stack.clear()


_Handler = Callable[[_Machine, Operation], None]
_HANDLERS: dict[int, _Handler] = {
    OP.addr: lambda m, o: m.push(o.first + m.context.load_bias),
    OP.deref: lambda m, o: m.dereference(8),
    OP.deref_size: lambda m, o: m.dereference(o.first),
    OP.dup: lambda m, o: m.pick(0),
    OP.drop: lambda m, o: (m.pop(), None)[1],
    OP.over: lambda m, o: m.pick(1),
    OP.pick: lambda m, o: m.pick(o.first),
    OP.swap: lambda m, o: m.swap(),
    OP.rot: lambda m, o: m.rotate(),
    OP.abs: lambda m, o: m.push(abs(signed(m.pop()))),
    OP.div: lambda m, o: m.divide(),
    OP.mod: lambda m, o: m.modulo(),
    OP.neg: lambda m, o: m.push(-m.pop()),
    OP.not_: lambda m, o: m.push(~m.pop()),
    OP.plus_uconst: lambda m, o: m.push(m.pop() + o.first),
    OP.skip: lambda m, o: m.jump(o),
    OP.bra: lambda m, o: m.jump(o) if m.pop() else None,
    OP.regx: lambda m, o: m.in_register(o.first),
    OP.bregx: lambda m, o: m.push(m.register(o.first) + signed(o.second)),
    OP.fbreg: lambda m, o: m.push(m.frame_base() + signed(o.first)),
    OP.nop: lambda m, o: None,
    OP.call_frame_cfa: lambda m, o: m.push(m.canonical_frame_address()),
    OP.entry_value: lambda m, o: m.entry_value(o),
    OP.GNU_entry_value: lambda m, o: m.entry_value(o),
    OP.addrx: lambda m, o: m.address_index(o, m.context.load_bias),
    OP.GNU_addr_index: lambda m, o: m.address_index(o, m.context.load_bias),
    OP.constx: lambda m, o: m.address_index(o, 0),
    OP.GNU_const_index: lambda m, o: m.address_index(o, 0),
    OP.form_tls_address: lambda m, o: m.thread_local(),
    OP.GNU_push_tls_address: lambda m, o: m.thread_local(),
    OP.implicit_value: lambda m, o: setattr(m, "place", Place(PlaceKind.VALUE, value=o.block)),
    OP.stack_value: lambda m, o: m.stack_value(),
    OP.piece: lambda m, o: m.piece(o.first * 8, 0),
    OP.bit_piece: lambda m, o: m.piece(o.first, o.second),
}
