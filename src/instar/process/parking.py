"""Holding a thread at a blocking call so that the call can be made again as if nothing had been."""

from __future__ import annotations

from instar.errors import InternalError
from instar.process import ptrace
from instar.process.injection import RESTARTS
from instar.process.tracee import Tracee

_EINTR = -4
_ERESTARTNOHAND = -514


def rewind_syscall(tracee: Tracee) -> bool:
    """Make the call that a stop broke off go on when the thread is resumed; nothing else changes.

    At an entry stop there is nothing to do. Interrupted in the call: the kernel restarts most calls by
    itself, timeouts included; one that was about to fail with EINTR (epoll_wait, reads with SO_RCVTIMEO) is
    turned into one that is restarted unless a signal with a handler is delivered first, in which case the
    program sees the EINTR that is its due. The timeout of such a call starts anew.

    Returns:
        Whether the thread is in a system call that will be made again.
    """
    stop = tracee.stop
    if stop is None or stop.ended:
        raise InternalError(f"process {tracee.pid} does not stand")
    if stop.entry:
        return True
    registers = tracee.registers()
    if not registers.in_syscall:
        return False
    if registers.result in RESTARTS:
        return True
    if registers.result == _EINTR and stop.event == ptrace.EVENT_STOP:
        tracee.set_registers(registers.copy(rax=_ERESTARTNOHAND))
        return True
    return False
