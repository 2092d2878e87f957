"""A copy of one stopped process: everything that typing and transfer need of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from instar.process.registers import Registers
from instar.process.unwind import Frame
from instar.state.arguments import ArgumentArea
from instar.state.capture import Subject
from instar.state.frames import ProgramFrame
from instar.state.kernel import Span
from instar.state.mirror import Changes
from instar.state.repaired import Overlay

# Run-time address of a dynamic symbol in the process, None when it has none.
Resolver = Callable[[str], int | None]


@dataclass(eq=False)
class Image:
    """What was copied of one process while it stood still.

    Attributes:
        subject: The process.
        program: Path of its program file as mapped.
        statics: Spans of its writable segments.
        tls: Its thread-local block.
        heap: Spans of its heap (past only).
        frames: Its thread's stack.
        program_frames: Those of the program itself, innermost first.
        stack: Where those begin, and their bytes.
        canary: Stack protector value.
        arguments: Where its argv and environment are.
        resolve: Address of a dynamic symbol.
        registers: Of its thread as it stands in its blocking call.
        changes: What of the heap differs from the image before; None when that is not known. The two share
            their bytes, so the older one holds the new ones.
        round: Of the mirror: changes are told against the image of the round before.
        overlay: What repairs wrote into the copy; None when nothing repairs.
    """

    subject: Subject
    program: str
    statics: list[Span]
    tls: Span | None
    heap: list[Span]
    frames: Sequence[Frame]
    program_frames: Sequence[ProgramFrame]
    canary: int
    arguments: ArgumentArea
    resolve: Resolver
    registers: Registers | None = None
    changes: Changes | None = None
    round: int = 0
    overlay: Overlay | None = None
    stack: tuple[int, bytes] = (0, b"")
