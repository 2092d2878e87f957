"""Signals that wait in a process's queue, with all that their senders said (``siginfo_t``)."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_CODE, _SENDER, _VALUE = 8, 16, 24  # offsets of si_code, si_pid, si_value (<asm-generic/siginfo.h>)
_SI_USER, _SI_QUEUE, _SI_TIMER, _SI_MESGQ, _SI_TKILL = 0, -1, -2, -3, -6
_SENT = (_SI_USER, _SI_QUEUE, _SI_MESGQ, _SI_TKILL)  # codes with a sender
_NEVER = (signal.SIGKILL, signal.SIGSTOP)  # no mask holds them back


class QueuedSignal(NamedTuple):
    """One signal of a queue.

    Attributes:
        to_thread: Whether it was sent to the thread (tgkill, pthread_kill) and not to the process.
        info: ``siginfo_t``, 128 bytes.
    """

    to_thread: bool
    info: bytes

    @property
    def number(self) -> int:
        """The signal."""
        return int.from_bytes(self.info[:4], "little")

    @property
    def code(self) -> int:
        """``si_code``: why it was sent."""
        return int(struct.unpack_from("<i", self.info, _CODE)[0])

    @property
    def sender(self) -> int | None:
        """``si_pid``; None where the code says nothing about a sender."""
        return int(struct.unpack_from("<i", self.info, _SENDER)[0]) if self.code in _SENT else None

    def own_value(self, pid: int) -> int | None:
        """``si_value`` if process ``pid`` itself has chosen it, so that it may be one of its addresses."""
        chosen = self.code in (_SI_TIMER, _SI_MESGQ) or (self.code == _SI_QUEUE and self.sender == pid)
        return int(struct.unpack_from("<Q", self.info, _VALUE)[0]) if chosen else None

    def for_successor(self, old_pid: int, new_pid: int, values: Mapping[int, int]) -> QueuedSignal:
        """The same as the successor of a process must see it.

        What it sent to itself comes from itself, and an address in it is the counterpart's.

        Args:
            old_pid: Of the process for which it came.
            new_pid: Of its successor.
            values: Values that are others in the successor.
        """
        info = bytearray(self.info)
        if self.sender == old_pid:
            struct.pack_into("<i", info, _SENDER, new_pid)
        value = self.own_value(old_pid)
        if value is not None and value in values:
            struct.pack_into("<Q", info, _VALUE, values[value])
        return QueuedSignal(self.to_thread, bytes(info))


def own_values(signals: Iterable[QueuedSignal], pid: int) -> set[int]:
    """All values that a process itself has put into signals that wait for it."""
    return {value for one in signals if (value := one.own_value(pid)) is not None}


def blockable(signals: Iterable[QueuedSignal]) -> list[QueuedSignal]:
    """Those that wait until a mask lets them through: all but SIGKILL and SIGSTOP."""
    return [one for one in signals if one.number not in _NEVER]
