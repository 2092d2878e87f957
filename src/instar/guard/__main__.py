"""The guard's process: answers one peer, and lets the past go when the peer is gone or late.

usage: __main__.py DESCRIPTOR PID   (started by ``guard.client``; imports nothing that it does not need)
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from instar.errors import FaultError, InstarError, InternalError
from instar.guard import reach, wire
from instar.guard.holder import Holder
from instar.process.thread import Stop

_TIMER_SLACK = 29  # PR_SET_TIMERSLACK: sleeps end when they should
_WINDOW, _PAGE = 16 << 10, 4096
_RSP = slice(19 * 8, 20 * 8)  # in struct user_regs_struct


class Server:
    """Answers requests, [name, argument...], by ["ok", value], ["error", ...] or ["errno", ...]."""

    def __init__(self, channel: socket.socket, pid: int) -> None:
        self._channel, self._pid, self._holder = channel, pid, Holder(pid)
        self._shared = mmap.mmap(-1, _PAGE)
        self._window = self._data = b""
        self._given: list[int] = []
        self._sent: list[int] = []
        holder = self._holder
        self._requests: dict[str, Callable[..., Any]] = {
            "seize": holder.seize, "since": holder.since, "release": holder.release,
            "stake": holder.stake, "inject": self._inject, "signals": holder.signals, "mask": holder.mask,
            "prepare_end": holder.prepare_end,
            "run_end": holder.run_end, "stop": holder.stop, "step": holder.step, "hold": holder.hold,
            "commit_end": holder.commit_end, "share": self._share, "copy": self._copy, "peek": self._peek,
            "duplicate": self._duplicate, "keep": lambda: None,
        }  # fmt: skip

    def serve(self) -> None:
        """Until the peer is gone; the past is free then."""
        try:
            while True:
                if not select.select([self._channel], [], [], self._holder.left())[0]:
                    self._holder.release()
                    continue
                (serial, name, *arguments), self._data, given = wire.receive(self._channel)
                self._given += given  # closed by our end, which is what they tell
                self._answer(serial, name, arguments)
        except (EOFError, OSError):
            return
        finally:
            self._holder.release()

    def _answer(self, serial: int, name: str, arguments: list[Any]) -> None:
        self._window, self._sent = b"", []
        answer: list[Any]
        try:
            value = self._requests[name](*arguments)
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

    # ------------------------------------------------------------------------------------ where it stands

    def _sight(self, stop: Stop) -> list[object]:
        """With the top of the stack, from which the peer reads where it stands."""
        if stop.ended:
            return [*stop[:5], "", 0]
        registers = self._holder.thread.registers().pack()
        stack = int.from_bytes(registers[_RSP], "little")
        self._peek(stack, _WINDOW - stack % _PAGE)
        return [*stop[:5], registers.hex(), stack]

    def _inject(self, number: int, arguments: list[int], room: str) -> int:
        result, self._window = self._holder.inject(number, arguments, bytes.fromhex(room))
        return result

    # ------------------------------------------------------------------------------------ bytes and files

    def _share(self, size: int) -> None:
        """Memory for both, into which ``copy`` goes."""
        descriptor = os.memfd_create("past", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, size)
        self._shared, self._sent = mmap.mmap(descriptor, size), [descriptor]

    def _copy(self, offset: int) -> None:
        """The spans that came with the request, to an offset in the shared memory."""
        size = sum(size for _, size in reach.VECTOR.iter_unpack(self._data))
        if not 0 <= offset <= offset + size <= len(self._shared):
            raise InternalError("outside of the shared memory")
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._shared))
        reach.copy(self._pid, self._data, base + offset)

    def _peek(self, address: int, size: int) -> None:
        """As much of it as there is, the first byte at least."""
        size = min(size, wire.LARGEST)
        try:
            self._window = reach.read(self._pid, address, size)
        except FaultError as fault:
            if fault.address == address:
                return
            self._window = reach.read(self._pid, address, fault.address - address)

    def _duplicate(self, numbers: list[int]) -> list[int]:
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
    ctypes.CDLL(None).prctl(_TIMER_SLACK, 1, 0, 0, 0)
    Server(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])).serve()


if __name__ == "__main__":
    main()
