"""Start-up rules for what the new version sets on a socket: on the past's own only at commit.

A lent socket is one object with the past's: an option set on it now would be set under the past's clients.
The options that a program sets on a socket of its own before its ``bind`` are written down too: where the
bind is answered with the past's socket, they belong to that one.
"""

from __future__ import annotations

import errno
import socket
import struct

from instar.control.held import Held, Verb
from instar.control.socket_options import INSTRUCTION_SIZE, takes_filter
from instar.control.startup_answers import (
    Answer,
    Call,
    Fake,
    Handle,
    Note,
    Refuse,
    Rule,
    Run,
    Situation,
    deny,
)
from instar.control.startup_past import describe_address

_LONGEST = 1 << 16
_SOL_IP, _SOL_IPV6 = 0, 41
_WITH_DESCRIPTOR = (50, 52)  # SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF
_FIREWALL = (64, 65)  # IPT_SO_SET_REPLACE, IPT_SO_SET_ADD_COUNTERS, and the same for IPv6


def rule_listen(call: Call, situation: Situation) -> Answer:
    """The backlog of the past's own listener is set at commit; so is a listener that the past lacks."""
    number = call.signed(0)
    handle = situation.handle(number)
    if handle is None or handle.kind != "socket":
        return Run()
    verb: Verb = "backlog" if handle.past else "listen"
    text = name_socket(handle, situation)
    return Fake(0, held=(Held(verb, text, number=number, values=(call.signed(1),)),))


def rule_shutdown(call: Call, situation: Situation) -> Answer:
    """It would end the past's connection, or its listening: at commit."""
    number = call.signed(0)
    handle = situation.handle(number)
    if handle is None or not handle.past:
        return Run()
    if call.signed(1) not in (0, 1, 2):
        return deny(errno.EINVAL)
    held = Held("shutdown", name_socket(handle, situation), number=number, values=(call.signed(1),))
    return Fake(0, held=(held,))


def rule_setsockopt(call: Call, situation: Situation) -> Answer:
    """Options: see the module."""
    number, level, name = call.signed(0), call.signed(1), call.signed(2)
    handle = situation.handle(number)
    if handle is None or handle.kind != "socket":
        return Run()
    if level in (_SOL_IP, _SOL_IPV6) and name in _FIREWALL:
        return _forbid("changes the rules of the packet filter while it starts")
    length = call.signed(4)
    if not 0 <= length <= _LONGEST:
        return deny(errno.EINVAL) if handle.past else Run()
    if level == socket.SOL_SOCKET and name in _WITH_DESCRIPTOR:
        return _forbid("attaches a BPF program to a socket of the old version") if handle.past else Run()
    data = _read_value(call, situation, level, name, length)
    text = name_socket(handle, situation)
    held = Held("option", text, number=number, values=(level, name), data=data)
    return Fake(0, held=(held,)) if handle.past else Run(Note(option=held))


def _forbid(what: str) -> Refuse:
    return Refuse(
        "startup-forbidden",
        f"the new version {what}",
        "give --allow startup-forbidden if that may be done twice, or have the program do it after its start",
    )


def _read_value(call: Call, situation: Situation, level: int, name: int, length: int) -> bytes:
    """The bytes of the value; of a filter (struct sock_fprog) its instructions."""
    data = situation.read(call.arguments[3], length) if length else b""
    if takes_filter(level, name) and length >= 16:
        count, address = struct.unpack_from("<H6xQ", data)
        return situation.read(address, count * INSTRUCTION_SIZE)
    return data


def name_socket(handle: Handle, situation: Situation) -> str:
    """Its address, for people."""
    details = situation.socket(handle.number)
    return describe_address(details.raw_local) if details is not None else handle.target


RULES: dict[str, Rule] = {
    "listen": rule_listen,
    "setsockopt": rule_setsockopt,
    "shutdown": rule_shutdown,
}
