"""Questions that only the past itself can ask the kernel: its timers, and what it does at signals.

The held past makes the system calls; afterwards it stands as before. If we are killed at any moment of it,
the kernel puts it back: from the first change on, all that the past would run by itself is ``rt_sigreturn``,
over a frame below its stack that holds its registers, extended registers and signal mask. A question is asked
by giving another number to the call that stands at its entry; what follows it is ``rt_sigreturn`` again.
"""

from __future__ import annotations

import struct
from pathlib import Path

from instar.errors import HostError, InternalError
from instar.guard import reach
from instar.process import ptrace
from instar.process.registers import DIRECTION_FLAG, MASK, SYSCALL_ARGUMENTS, TRAP_FLAG, Registers
from instar.process.resting import RESTARTS, TIME_LEFT_BELOW
from instar.process.thread import Thread

ROOM = 1 << 64  # stands for the address of the room
_ROOM, _ROOM_AT, _EXTENDED_AT = 32, 320, 384  # in what is written below the stack; the context comes first
_ENOSYS, _RESTART = -38, 219  # restart_syscall
_TIMERS, _ACTION = (36, 224), 13  # getitimer, timer_gettime; rt_sigaction
_RETURN = b"\x48\xc7\xc0\x0f\0\0\0\x0f\x05"  # mov $15, %rax; syscall: unwinders know it by this too
# struct ucontext: flags (XSTATE, SS, STRICT_SS), link, stack (refused: the real one stays), sigcontext, mask.
_CONTEXT = struct.Struct("<3QixxxxQ18Q4H4QQ64xQ")
_SAVED = [f"r{number}" for number in range(8, 16)]
_SAVED += ["rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp", "rip", "eflags"]
_TOLD = struct.Struct("<IIQI")  # struct _fpx_sw_bytes: magic, size with the second magic, features, size
_TOLD_AT, _IN_USE_AT, _AMX, _AMX_AT = 464, 512, 3 << 17, 2752  # of the XSAVE area


def is_question(number: int, arguments: list[int]) -> bool:
    """Whether a call only asks."""
    return number in _TIMERS or (number == _ACTION and arguments[1] == 0)


class Asking:
    """A time during which a held thread asks for us; use as a context manager.

    Args:
        thread: It stands in a system call, or at one's entry is refused.
    """

    def __init__(self, thread: Thread) -> None:
        self._thread = thread

    def __enter__(self) -> Asking:
        thread = self._thread
        self._registers, self._mask = saved, mask = thread.registers(), thread.signal_mask()
        held = thread.stop is not None and thread.stop.event == ptrace.EVENT_STOP
        if not (held and saved.in_syscall and saved.result in RESTARTS):
            raise InternalError(f"process {thread.pid} is not held in a call")
        extended = _extended_frame(thread.request(ptrace.get_extended_state))
        self._base = base = (saved.rsp - TIME_LEFT_BELOW - _EXTENDED_AT - len(extended)) & ~63
        self._back = saved.copy(rip=_find_return(thread.pid, saved), rsp=base, rax=_ENOSYS, orig_rax=-1)
        self._back.eflags &= ~(TRAP_FLAG | DIRECTION_FLAG)
        again = saved.copy(rip=saved.rip - 2, rax=_number(thread.pid, saved))
        values = [getattr(again, name) for name in _SAVED]
        stack, place = (0, 4, 0), base + _EXTENDED_AT
        context = _CONTEXT.pack(7, 0, *stack, *values, saved.cs, 0, 0, saved.ss, 0, 0, 0, 0, place, mask)
        reach.write(thread.pid, base, context.ljust(_EXTENDED_AT, b"\0") + extended)
        thread.suspend_filter()
        thread.set_registers(self._back)
        thread.set_signal_mask(MASK)
        return self

    def call(self, number: int, arguments: list[int], room: bytes) -> tuple[int, bytes]:
        """Make a system call; returns its result and what is then in the room.

        Args:
            number: Of the call.
            arguments: ``ROOM`` stands for the address of the room.
            room: What is in the room before, at most 32 bytes.
        """
        thread, place = self._thread, self._base + _ROOM_AT
        reach.write(thread.pid, place, room.ljust(_ROOM, b"\0")[:_ROOM])
        values = [place if value == ROOM else value for value in arguments]
        thread.run_to("syscall", "syscall-entry")
        names = dict(zip(SYSCALL_ARGUMENTS, values, strict=False))
        thread.set_registers(self._back.copy(orig_rax=number, **names))
        stop = thread.run_to("syscall", "syscall-exit")
        return (stop.syscall and stop.syscall.result) or 0, reach.read(thread.pid, place, _ROOM)

    def __exit__(self, *_: object) -> None:
        thread = self._thread
        if thread.end is not None:
            return
        thread.request_stop()
        thread.run_to("cont", "event")
        thread.set_signal_mask(self._mask)
        thread.set_registers(self._registers)
        thread.resume_filter()


def _extended_frame(state: bytes) -> bytes:
    """The XSAVE area as rt_sigreturn takes it back, which has no room for AMX where it was never used."""
    features, in_use = (int.from_bytes(state[at : at + 8], "little") for at in (_TOLD_AT, _IN_USE_AT))
    size = len(state) if in_use & _AMX else min(len(state), _AMX_AT)
    told = _TOLD.pack(0x46505853, size + 4, features, size)
    return state[:_TOLD_AT] + told + state[_TOLD_AT + len(told) : size] + struct.pack("<I", 0x46505845)


def _find_return(pid: int, registers: Registers) -> int:
    """Where the libc that it waits in returns from signal handlers; refused where no frame may be written."""
    if "\tshstk" in Path(f"/proc/{pid}/status").read_text(errors="replace"):
        raise _cannot(pid, "has a shadow stack")
    base, at, on_stack = 0, -1, False
    for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= registers.rip < end:
            base, at = start, reach.read(pid, start, end - start).find(_RETURN)
        on_stack |= start <= registers.rsp < end and line.endswith("[stack]")
    if at < 0 or not on_stack:
        raise _cannot(pid, "waits outside of its libc, or on a stack of its own making")
    return base + at


def _number(pid: int, registers: Registers) -> int:
    """Of the call that it makes again, also where the kernel goes on with it by a number of its own."""
    if registers.orig_rax != _RESTART:
        return registers.orig_rax
    code = reach.read(pid, registers.rip - 7, 7)  # mov $number, %eax; syscall
    if code[:1] + code[5:] != b"\xb8\x0f\x05":
        raise _cannot(pid, "makes calls in an unknown way")
    return int.from_bytes(code[1:5], "little")


def _cannot(pid: int, what: str) -> HostError:
    cause = f"process {pid} {what}: it cannot be made to ask for its timers and handlers"
    return HostError("cannot-ask", cause, "let it wait in a call of its libc, and without a shadow stack")
