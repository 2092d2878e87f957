"""Whether a call of the new version would really wait: its own objects are asked, the past's look silent."""

from __future__ import annotations

import contextlib
import os
import select
import struct
from dataclasses import dataclass
from typing import Literal, Protocol

from instar.control.channel import find_duplicate
from instar.control.startup_answers import Alter, Call, Handle, Note
from instar.process.blocking import Blocking, blocking_call
from instar.process.descriptors import read_descriptor
from instar.process.memory import Memory
from instar.process.status import Status, read_status

_POLLFD = struct.Struct("<ihh")
_FAMILY_READERS = ("read", "readv", "recvfrom", "recvmsg", "recvmmsg", "accept", "accept4", "mq_timedreceive")
_SLEEPS = ("nanosleep", "clock_nanosleep", "pause", "rt_sigsuspend", "rt_sigtimedwait")
_ALWAYS_READY = ("file", "directory", "device", "memfd")
_FD_BITS = 64
_MSG_PEEK = 2


class Waiter(Protocol):
    """What is asked about the process (``startup_answers.Situation`` has it)."""

    @property
    def status(self) -> Status:
        """Of the process."""
        ...

    def handle(self, number: int) -> Handle | None:
        """A descriptor; None when it is not open."""
        ...

    def open_flags(self, number: int) -> int:
        """F_GETFL of a descriptor."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """Its memory."""
        ...


class Onlooker:
    """A ``Waiter`` for a process of which nothing is hidden."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.memory = Memory(pid)

    @property
    def status(self) -> Status:
        """See ``Waiter``, as for all below."""
        return read_status(self.pid)

    def handle(self, number: int) -> Handle | None:
        found = read_descriptor(self.pid, number) if number >= 0 else None
        if found is None:
            return None
        return Handle(number, found.kind, found.target, found.device, found.inode)

    def open_flags(self, number: int) -> int:
        found = read_descriptor(self.pid, number)
        return found.flags if found is not None else 0

    def read(self, address: int, size: int) -> bytes:
        return self.memory.read(address, size)


Outcome = Literal["returns", "waits", "silent"]


@dataclass(frozen=True, slots=True)
class Wait:
    """What a call that may block would do now.

    Attributes:
        outcome: "returns": let it run by the rules; "waits": it would sleep, and can be let sleep as
            ``alter`` says; "silent": it would sleep on something of the past: it must not be let in.
        alter: How to hide the past's descriptors from it, None when it needs no change.
        endless: It has no timeout.
    """

    outcome: Outcome
    alter: Alter | None = None
    endless: bool = True


RETURNS = Wait("returns")


def inspect_wait(call: Call, situation: Waiter) -> Wait:
    """Look at a call at its entry; nothing is consumed."""
    blocking = blocking_call(call.number, call.arguments)
    if blocking is None or not (blocking.waits_for_work or blocking.name in _SLEEPS):
        return _hide_only(call, situation)
    if situation.status.signals_pending & ~situation.status.signals_blocked:
        return _hide_only(call, situation)
    name = blocking.name
    if name in ("poll", "ppoll"):
        return _poll(call, situation, blocking)
    if name in ("select", "pselect6"):
        return _select(call, situation, blocking)
    if name.startswith("epoll"):
        ready = _ready(call.pid, call.signed(0), select.POLLIN)
        return RETURNS if ready else Wait("waits", endless=call.signed(3) < 0 and name != "epoll_pwait2")
    if name in _SLEEPS:
        return Wait("waits", endless=name in ("pause", "rt_sigsuspend"))
    if name in _FAMILY_READERS:
        return _read(call, situation)
    return RETURNS


def _hide_only(call: Call, situation: Waiter) -> Wait:
    """A look with no timeout (poll with 0) must not see the past's clients either."""
    if call.name in ("poll", "ppoll"):
        hidden = _hidden_in_poll(call, situation)[1]
        return Wait("returns", _alter_poll(call, hidden))
    if call.name in ("select", "pselect6"):
        return Wait("returns", _alter_select(call, _sets(call, situation), situation))
    return RETURNS


def _read(call: Call, situation: Waiter) -> Wait:
    number = call.signed(0)
    handle = situation.handle(number)
    if handle is None or handle.kind in _ALWAYS_READY:
        return RETURNS
    if situation.open_flags(number) & os.O_NONBLOCK:
        return RETURNS
    if handle.mute:
        return Wait("silent")
    return RETURNS if _ready(call.pid, number, select.POLLIN) else Wait("waits")


# ---------------------------------------------------------------------------------------- poll


def _poll(call: Call, situation: Waiter, blocking: Blocking) -> Wait:
    entries, hidden = _hidden_in_poll(call, situation)
    shown = [(number, events) for index, (number, events) in enumerate(entries) if index not in hidden]
    alter = _alter_poll(call, hidden)
    if any(_ready(call.pid, number, events) for number, events in shown if number >= 0):
        return Wait("returns", alter)
    endless = call.signed(2) < 0 if blocking.name == "poll" else not call.arguments[2]
    return Wait("waits", alter, endless)


def _hidden_in_poll(call: Call, situation: Waiter) -> tuple[list[tuple[int, int]], dict[int, int]]:
    """The entries, and index -> descriptor of those that must look silent."""
    count = min(call.arguments[1] & 0xFFFFFFFF, 1 << 16)
    data = situation.read(call.arguments[0], _POLLFD.size * count) if count else b""
    entries = [(number, events) for number, events, _ in _POLLFD.iter_unpack(data)]
    hidden = {}
    for index, (number, _) in enumerate(entries):
        handle = situation.handle(number)
        if handle is not None and handle.mute:
            hidden[index] = number
    return entries, hidden


def _alter_poll(call: Call, hidden: dict[int, int]) -> Alter | None:
    """The descriptor is -1 during the call, which makes the kernel pass over the entry."""
    if not hidden:
        return None
    base = call.arguments[0]
    stores = tuple((base + _POLLFD.size * index, struct.pack("<i", -1)) for index in hidden)
    back = tuple((base + _POLLFD.size * index, struct.pack("<i", number)) for index, number in hidden.items())
    return Alter(stores=stores, note=Note(stores=back))


# ---------------------------------------------------------------------------------------- select


def _sets(call: Call, situation: Waiter) -> list[tuple[int, int, bytes]]:
    """(address, poll events, bits) of the three sets."""
    size = (call.signed(0) + _FD_BITS - 1) // _FD_BITS * 8
    events = (select.POLLIN, select.POLLOUT, select.POLLPRI)
    pairs = zip(call.arguments[1:4], events, strict=True)
    return [
        (address, event, situation.read(address, size)) for address, event in pairs if address and size > 0
    ]


def _numbers(bits: bytes) -> list[int]:
    value = int.from_bytes(bits, "little")
    return [number for number in range(value.bit_length()) if value >> number & 1]


def _select(call: Call, situation: Waiter, blocking: Blocking) -> Wait:
    sets = _sets(call, situation)
    alter = _alter_select(call, sets, situation)
    mute = _mute_numbers(sets, situation)
    for _, event, bits in sets:
        if any(_ready(call.pid, number, event) for number in _numbers(bits) if number not in mute):
            return Wait("returns", alter)
    return Wait("waits", alter, endless=not call.arguments[4])


def _mute_numbers(sets: list[tuple[int, int, bytes]], situation: Waiter) -> set[int]:
    found = set()
    for number in {number for _, _, bits in sets for number in _numbers(bits)}:
        handle = situation.handle(number)
        if handle is not None and handle.mute:
            found.add(number)
    return found


def _alter_select(call: Call, sets: list[tuple[int, int, bytes]], situation: Waiter) -> Alter | None:
    """The bits are cleared; the kernel writes the sets anyway, so there is nothing to put back."""
    mute = _mute_numbers(sets, situation)
    if not mute:
        return None
    mask = sum(1 << number for number in mute)
    stores = []
    for address, _, bits in sets:
        cleared = int.from_bytes(bits, "little") & ~mask
        stores.append((address, cleared.to_bytes(len(bits), "little")))
    return Alter(stores=tuple(stores))


# ---------------------------------------------------------------------------------------- readiness


def _ready(pid: int, number: int, events: int) -> bool:
    """Whether poll would return at once for a descriptor of a process."""
    descriptor = find_duplicate(pid, number)
    if descriptor is None:
        return True  # not open: the kernel says so at once
    with contextlib.closing(_Closer(descriptor)):
        poll = select.poll()
        poll.register(descriptor, events)
        return bool(poll.poll(0))


class _Closer:
    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self) -> None:
        os.close(self.descriptor)
