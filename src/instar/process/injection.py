"""Running system calls and functions inside a stopped thread, and leaving no trace of it.

The thread's signals are held off meanwhile. System calls are made by running over a ``syscall`` instruction
of the process itself under PTRACE_SYSCALL, not by single steps: a step ends in a forced SIGTRAP, and a forced
signal that the thread blocks or ignores makes the kernel throw its handler away (kernel/signal.c,
force_sig_info_to_task). Function calls return to an address that can never be mapped, which is seen as a
fault at exactly that address; no text is written.

Where the thread stood decides how it is put back:

- entry of a system call: the call is cancelled, and made again from the same registers up to its entry stop;
- exit of a system call: registers only;
- everywhere else (interrupted, about to take a signal) the thread is brought back to a stop of the same place
  in the kernel (get_signal), where the kernel still decides about restarting an interrupted call, so that a
  pending -ERESTARTSYS keeps its exact meaning.
"""

from __future__ import annotations

import contextlib
import os
import signal as signals
import struct
from types import TracebackType
from typing import Self

from instar.errors import FaultError, HostError, InternalError
from instar.process import ptrace
from instar.process.blocking import RESTARTED
from instar.process.deadline import Deadline, DeadlineError
from instar.process.failures import ProcessDiedError, RemoteCallError, deaths, signal_name
from instar.process.maps import Mapping, read_maps
from instar.process.numbering import CALL_ARGUMENTS
from instar.process.ptrace_state import get_rseq
from instar.process.registers import DIRECTION_FLAG, MASK, SYSCALL_ARGUMENTS, TRAP_FLAG, Registers
from instar.process.resting import RED_ZONE as RED_ZONE
from instar.process.resting import RESTARTS as RESTARTS
from instar.process.tracee import Stop, Tracee

LANDING = 0x7FFFFFFFF000  # the last page of the user half is never mapped (TASK_SIZE_MAX is one page less)
SYSCALL_INSTRUCTION = b"\x0f\x05"

_ALL = MASK
_FAULTS = (signals.SIGSEGV, signals.SIGBUS, signals.SIGILL, signals.SIGFPE, signals.SIGTRAP)
_ALL_BUT_FAULTS = MASK & ~sum(1 << (number - 1) for number in _FAULTS)
_SIGSTOP = int(signals.SIGSTOP)
_TEN_SECONDS = 10.0
_EXIT_GROUP = 231
_RESTART_BLOCK = -516
_LIMIT = 1 << 24  # of a page-wise search for an instruction


class Surgery:
    """A time during which a stopped thread works for us; use as a context manager.

    At its end (also after an error) the registers, the extended registers, the signal mask and the stop are
    what they were; signals that arrived meanwhile are pending. If this process is killed inside, the thread
    is left in the middle of foreign work: a past should not be operated on without need.
    """

    def __init__(self, tracee: Tracee) -> None:
        self.tracee = tracee
        self.calls = 0
        self._stop: Stop
        self._registers: Registers
        self._mask = 0
        self._extended: bytes | None = None
        self._stopped = False
        self._held = False

    # ------------------------------------------------------------------------------------ begin and end

    def __enter__(self) -> Self:
        tracee = self.tracee
        stop = tracee.stop
        if stop is None or stop.ended:
            raise InternalError(f"process {tracee.pid} is operated on while it does not stand")
        if stop.event not in (0, ptrace.EVENT_STOP):
            raise InternalError(f"process {tracee.pid} stands in the middle of a call (event {stop.event})")
        self._stop = stop
        self._mask = tracee.signal_mask()
        self._registers = tracee.registers()
        self._leave_critical_section()
        tracee.suspend_filter()
        tracee.set_signal_mask(_ALL)
        try:
            self._go_to_boundary()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.tracee.end is not None:
            return
        try:
            self._put_back()
        except ProcessDiedError:
            if error is None:
                raise

    def _go_to_boundary(self) -> None:
        """To a stop from where the thread can be sent anywhere in user space."""
        if self._stop.entry:
            self.tracee.set_registers(self._registers.copy(orig_rax=-1))
            self._next("syscall", expected="syscall-exit")
        elif self._stop.kind == "signal":
            self._requeue(self._stop.signal)

    def _requeue(self, number: int) -> None:
        """Give the signal of a signal stop back to the queue (it is blocked now), keeping its siginfo."""
        if number == _SIGSTOP:
            self._held = True
            number = 0
        self.tracee.request(ptrace.interrupt)
        self._next("cont", number, expected="event")

    def _put_back(self) -> None:
        tracee = self.tracee
        if self._extended is not None:
            tracee.set_extended_state(self._extended)
        if self._stop.entry:
            self._enter_again()
        elif self._stop.exit and self._registers.result not in RESTARTS:
            tracee.set_registers(self._registers)
        else:
            self._stop_again()
        known = self._stop.entry or self._stop.exit
        if self._stop.kind == "signal":
            known = self._take_signal_again()
        tracee.set_signal_mask(self._mask)
        tracee.resume_filter()
        if known:
            tracee.stop = self._stop
        tracee._call = self._stop.syscall if self._stop.entry else None
        if self._stopped and not self._continued():
            os.kill(tracee.pid, _SIGSTOP)

    def _enter_again(self) -> None:
        saved = self._registers
        self.tracee.set_registers(saved.copy(rip=saved.rip - 2, rax=saved.orig_rax, orig_rax=-1))
        stop = self._next("syscall", expected="syscall-entry")
        if stop.syscall is None or stop.syscall.number != saved.orig_rax:
            raise InternalError(f"process {self.tracee.pid} did not come back to its system call")

    def _stop_again(self) -> None:
        """Back to a stop inside the kernel's signal handling, then the registers."""
        if self.calls or self.tracee.stop is not self._stop:
            self.tracee.request(ptrace.interrupt)
            self._next("cont", expected="event")
        self.tracee.set_registers(self._registers)

    def _take_signal_again(self) -> bool:
        """Let the requeued signal, and only that, be taken again: the stop that the caller knows."""
        tracee, number = self.tracee, self._stop.signal
        if self._held:
            if self._continued():
                return False
            os.kill(tracee.pid, _SIGSTOP)
        tracee.set_signal_mask(_ALL & ~(1 << (number - 1)))
        self._next("cont", expected="signal", wanted=number)
        return True

    def _continued(self) -> bool:
        """Whether a SIGCONT has come that takes back the SIGSTOP we hold."""
        return any(info.signal == signals.SIGCONT for info in self.tracee.pending_signals())

    # ------------------------------------------------------------------------------------ work

    def syscall(self, number: int, *arguments: int, deadline: Deadline | None = None) -> int:
        """Make one system call; returns its result (minus the errno where it failed).

        Not for calls that never return or make processes without the caller waiting for them. A call that
        blocks past the deadline is broken off, then DeadlineError is raised.
        """
        if number in RESTARTED and self._registers.result == _RESTART_BLOCK and self._registers.in_syscall:
            raise InternalError(
                "a sleep in a process whose own sleep is to be restarted would replace its end"
            )
        deadline = deadline or Deadline(_TEN_SECONDS)
        self.tracee.set_signal_mask(_ALL)
        values = dict(zip(SYSCALL_ARGUMENTS, arguments, strict=False))
        target = self._registers.copy(rip=self._gadget(), rax=number, orig_rax=-1, **values)
        target.eflags &= ~(TRAP_FLAG | DIRECTION_FLAG)
        while True:
            self.calls += 1
            self.tracee.set_registers(target)
            self._next("syscall", expected="syscall-entry", deadline=deadline)
            result = self._finish(deadline)
            if result not in RESTARTS:
                return result

    def exit(self, status: int, deadline: Deadline) -> None:
        """exit_group; always ends in ProcessDiedError."""
        tracee = self.tracee
        target = self._registers.copy(rip=self._gadget(), rax=_EXIT_GROUP, orig_rax=-1, rdi=status)
        tracee.set_registers(target)
        tracee._resume(ptrace.CONT, 0)
        while True:
            stop = tracee.wait(deadline)
            if stop.ended:
                raise tracee.died(stop)
            tracee._resume(ptrace.CONT, 0)

    def call(self, function: int, *arguments: int, deadline: Deadline | None = None) -> int:
        """Call a C function with integer or pointer arguments; returns rax, unsigned.

        Raises RemoteCallError when it crashes. After DeadlineError the function was abandoned in the middle
        (its locks stay taken): the process should be ended.
        """
        deadline = deadline or Deadline(_TEN_SECONDS)
        tracee = self.tracee
        self._refuse_unsuitable()
        if self._extended is None:
            self._extended = tracee.extended_state()
        target = self._registers.copy(rip=function, rax=0, orig_rax=-1)
        for name, value in zip(CALL_ARGUMENTS, arguments, strict=False):
            setattr(target, name, value & MASK)
        rest = [value & MASK for value in arguments[len(CALL_ARGUMENTS) :]]
        target.rsp = ((self._registers.rsp - RED_ZONE - 8 * len(rest)) & ~15) - 8
        target.eflags &= ~(TRAP_FLAG | DIRECTION_FLAG)
        frame = struct.pack(f"<{1 + len(rest)}Q", LANDING, *rest)
        try:
            tracee.memory.write(target.rsp, frame)
        except FaultError:
            self._grow_stack(target.rsp)
            tracee.memory.write(target.rsp, frame)
        self.calls += 1
        tracee.set_signal_mask(_ALL_BUT_FAULTS)
        tracee.set_registers(target)
        try:
            self._next("cont", expected="signal", deadline=deadline)
            return self._returned(target.rsp + 8)
        finally:
            if tracee.end is None:
                tracee.set_signal_mask(_ALL)

    def scratch(self, size: int) -> int:
        """The address of ``size`` bytes that may be overwritten: dead stack below the red zone.

        Valid until the next ``scratch`` or ``call``; the contents are whatever was there.
        """
        address = (self._registers.rsp - RED_ZONE - size) & ~63
        try:
            self.tracee.memory.write(address, bytes(size))
        except FaultError:
            self._grow_stack(address)
        return address

    def _grow_stack(self, address: int) -> None:
        """Have the thread touch its stack: writes from outside do not make it grow (since Linux 6.5)."""
        get_mask = 14  # rt_sigprocmask(SIG_BLOCK, NULL, address, 8) writes there
        result = self.syscall(get_mask, 0, 0, address, 8)
        if result < 0:
            raise RemoteCallError(
                "stack-exhausted",
                f"process {self.tracee.pid} has no room below its stack pointer {self._registers.rsp:#x}",
                "the process cannot be worked on at this point; try again",
            )

    def _returned(self, stack: int) -> int:
        registers = self.tracee.registers()
        if registers.rip == LANDING and registers.rsp == stack:
            return registers.rax
        info = self.tracee.siginfo()
        raise RemoteCallError(
            "remote-call-crashed",
            f"a function called in process {self.tracee.pid} ended in {signal_name(info.signal)} "
            f"at {registers.rip:#x} (address {info.address:#x})",
            "the process cannot be worked on at this point; try again",
        )

    def _refuse_unsuitable(self) -> None:
        from instar.process.status import read_status

        with deaths(self.tracee.pid):
            status = read_status(self.tracee.pid)
        if status.shadow_stack:
            raise HostError(
                "shadow-stack",
                f"process {self.tracee.pid} has a shadow stack: no function can be called in it from outside",
                "start the program with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off",
            )
        if status.signals_ignored & (1 << (signals.SIGSEGV - 1)):
            raise HostError(
                "fault-ignored",
                f"process {self.tracee.pid} ignores SIGSEGV: the end of a call in it cannot be seen",
                "have the program leave SIGSEGV alone",
            )

    # ------------------------------------------------------------------------------------ steps

    def _finish(self, deadline: Deadline) -> int:
        """From the entry stop of an injected call to its exit."""
        stop = self._next("syscall", expected="syscall-exit", deadline=deadline)
        if stop.syscall is None or stop.syscall.result is None:
            raise InternalError("an exit stop without a result")
        return stop.syscall.result

    def _break_off(self) -> None:
        """Get a call out of the kernel."""
        self.tracee.request(ptrace.interrupt)
        stop = self.tracee.wait(Deadline(_TEN_SECONDS))
        if stop.ended:
            raise self.tracee.died(stop)

    def _next(
        self,
        how: str,
        signal: int = 0,
        *,
        expected: str,
        wanted: int = 0,
        deadline: Deadline | None = None,
    ) -> Stop:
        """Resume and wait for one kind of stop; events on the way are passed, SIGSTOP is put aside."""
        tracee = self.tracee
        number = {"cont": ptrace.CONT, "syscall": ptrace.SYSCALL}[how]
        deadline = deadline or Deadline(_TEN_SECONDS)
        while True:
            tracee._resume(number, signal)
            signal = 0
            stop = self._wait(deadline)
            if stop.ended or stop.event == ptrace.EVENT_EXIT:
                raise tracee.died(stop)
            if expected == "event" and stop.event == ptrace.EVENT_STOP:
                return stop
            if stop.kind == "signal" and stop.signal == _SIGSTOP and wanted != _SIGSTOP:
                self._stopped = True
                continue
            if stop.kind == expected and wanted in (0, stop.signal):
                return stop
            if expected == "event":
                tracee.request(ptrace.interrupt)
            if stop.kind == "signal":
                self._pass_signal(stop)

    def _wait(self, deadline: Deadline) -> Stop:
        try:
            return self.tracee.wait(deadline)
        except DeadlineError:
            self._break_off()
            raise

    def _pass_signal(self, stop: Stop) -> None:
        """A signal that the mask did not hold back: a crash of the injected work, or sent again for later."""
        if self.tracee.siginfo().by_kernel:
            raise RemoteCallError(
                "remote-call-crashed",
                f"process {self.tracee.pid} got {signal_name(stop.signal)} during injected work",
                "the process cannot be worked on at this point; try again",
            )
        self.tracee.set_signal_mask(self.tracee.signal_mask() | 1 << (stop.signal - 1))
        os.kill(self.tracee.pid, stop.signal)

    # ------------------------------------------------------------------------------------ where to run

    def _gadget(self) -> int:
        """The address of a ``syscall`` instruction of the process."""
        tracee = self.tracee
        for address in (tracee.gadget, self._registers.rip - 2):
            if address > 0 and self._is_gadget(address):
                tracee.gadget = address
                return address
        tracee.gadget = find_syscall_instruction(tracee)
        return tracee.gadget

    def _is_gadget(self, address: int) -> bool:
        with contextlib.suppress(FaultError):
            return self.tracee.memory.read(address, 2) == SYSCALL_INSTRUCTION
        return False

    def _leave_critical_section(self) -> None:
        """Abort a restartable sequence that the thread stands in, as the kernel does when it preempts one."""
        if self._registers.in_syscall:
            return
        tracee = self.tracee
        area, _ = tracee.request(get_rseq)
        if not area:
            return
        descriptor = tracee.memory.u64(area + 8)
        if not descriptor:
            return
        start, length, abort = struct.unpack("<QQQ", tracee.memory.read(descriptor + 8, 24))
        if start <= self._registers.rip < start + length:
            self._registers.rip = abort
            tracee.memory.write(area + 8, bytes(8))


def find_syscall_instruction(tracee: Tracee) -> int:
    """The address of some ``syscall`` instruction: of the vDSO, else of any other code."""
    with deaths(tracee.pid):
        maps = read_maps(tracee.pid)
    code = [mapping for mapping in maps if mapping.executable and mapping.path != "[vsyscall]"]
    for mapping in sorted(code, key=_preference):
        with contextlib.suppress(FaultError):
            text = tracee.memory.read(mapping.start, min(mapping.size, _LIMIT))
            found = text.find(SYSCALL_INSTRUCTION)
            if found >= 0:
                return mapping.start + found
    raise HostError(
        "no-syscall-instruction",
        f"process {tracee.pid} has no syscall instruction in its code",
        "only ordinary dynamically linked programs can be updated",
    )


def _preference(mapping: Mapping) -> int:
    if mapping.path == "[vdso]":
        return 0
    return 1 if "libc" in mapping.path else 2
