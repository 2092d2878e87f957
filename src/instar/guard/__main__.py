"""The guard's process: answers one peer, and lets the past go when the peer is gone or late.

usage: __main__.py DESCRIPTOR PID   (started by ``guard.client``; imports nothing that it does not need)
"""

from __future__ import annotations

import ctypes
import mmap
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from instar.errors import FaultError, InstarError, InternalError
from instar.guard import reach, wire
from instar.guard.holder import Holder
from instar.process.thread import Stop

_TIMER_SLACK = 29  # PR_SET_TIMERSLACK: sleeps end when they should
_WINDOW, _PAGE, _GRACE_S = 16 << 10, 4096, 5.0
_RSP = slice(19 * 8, 20 * 8)  # in struct user_regs_struct
_OURS = ("inject", "keep", "share", "copy", "peek", "duplicate")
_HOLDERS = (
    "seize", "release", "stop", "since", "step", "hold", "signals", "mask",
    "stake", "prepare_end", "commit_end", "run_end",
)  # fmt: skip


class Server:
    """Answers requests, [name, argument...], by ["ok", value], ["error", ...] or ["errno", ...]."""

    def __init__(self, channel: socket.socket, pid: int) -> None:
        self._channel, self._pid, self._holder = channel, pid, Holder(pid)
        self._shared = mmap.mmap(-1, _PAGE)
        self._window = self._data = b""
        self._owners = {**dict.fromkeys(_OURS, self), **dict.fromkeys(_HOLDERS, self._holder)}
        self._given: list[int] = []
        self._sent: list[int] = []

    def serve(self) -> None:
        """Until the peer is gone; the past is free then, and also when we are stuck: the kernel kills us."""
        try:
            while True:
                left = self._holder.left()
                signal.setitimer(signal.ITIMER_REAL, 0 if left is None else left + _GRACE_S)
                if left == 0 or not select.select([self._channel], [], [], left)[0]:
                    self._holder.release()
                    continue
                (serial, name, *arguments), self._data, given = wire.receive(self._channel)
                self._given += given
                self._answer(serial, name, arguments)
        except (EOFError, OSError):
            return
        finally:
            self._holder.release()

    def _answer(self, serial: int, name: str, arguments: list[Any]) -> None:
        self._window, self._sent = b"", []
        answer: list[Any]
        try:
            value = getattr(self._owners[name], name)(*arguments)
            answer = ["ok", self._sight(value) if isinstance(value, Stop) else value]
        except FaultError as error:
            answer = ["fault", error.address]
        except InstarError as error:
            answer = ["error", type(error).__name__, error.code, error.cause, error.remedy]
        except OSError as error:
            answer = ["errno", error.errno]
        try:
            wire.send(self._channel, [serial, *answer], self._window, self._sent)
        finally:
            wire.close(self._sent)

    def _sight(self, stop: Stop) -> list[object]:
        """With the top of the stack, from which the peer reads where it stands."""
        registers = b"" if stop.ended else self._holder.thread.registers().pack()
        stack = int.from_bytes(registers[_RSP], "little")
        self.peek(stack, 0 if stop.ended else _WINDOW - stack % _PAGE)
        return [*stop[:5], registers.hex(), stack]

    # ------------------------------------------------------------------------------------ requests

    def inject(self, number: int, arguments: list[int], room: str) -> int:
        """See Holder; the bytes go beside the message."""
        result, self._window = self._holder.inject(number, arguments, bytes.fromhex(room))
        return result

    def keep(self) -> None:
        """The descriptors that came stay open as long as we live: by that they tell it."""

    def share(self) -> None:
        """The memory that came is for both; the kernel copies into it, which bears that it shrinks."""
        self._shared = mmap.mmap(self._given[-1], 0)

    def copy(self, offset: int) -> None:
        """The spans that came with the request, to an offset in the shared memory."""
        size = sum(size for _, size in reach.VECTOR.iter_unpack(self._data))
        if not 0 <= offset <= offset + size <= len(self._shared):
            raise InternalError("outside of the shared memory")
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._shared))
        reach.copy(self._pid, self._data, base + offset)

    def peek(self, address: int, size: int) -> None:
        """As much of it as there is, the first byte at least."""
        size = min(size, wire.LARGEST)
        try:
            self._window = reach.read(self._pid, address, size)
        except FaultError as fault:
            if fault.address > address:
                self._window = reach.read(self._pid, address, fault.address - address)

    def duplicate(self, numbers: list[int]) -> list[int]:
        """At most as many as fit into one message; which of them are open."""
        found = []
        for number, own in reach.duplicates(self._pid, numbers[: wire.MOST_DESCRIPTORS]):
            self._sent.append(own)
            found.append(number)
        return found


def main() -> None:
    """Serve the peer whose socket the command line names."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # who is interrupted tells us, or leaves
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # kills
    ctypes.CDLL(None).prctl(_TIMER_SLACK, 1, 0, 0, 0)
    Server(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])).serve()


if __name__ == "__main__":
    main()
