"""Start-up rules for sockets: the past's own are lent, nobody else is talked to before commit."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable

from instar.control.held import Held
from instar.control.paths import Place
from instar.control.startup_answers import (
    Alter,
    Answer,
    Call,
    Fake,
    Handle,
    Lend,
    Note,
    Refuse,
    Rule,
    Run,
    Situation,
    deny,
)
from instar.control.startup_past import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_UNIX,
    SOCK_DGRAM,
    Bound,
    address_key,
    describe_address,
)
from instar.process.descriptors import SocketDetails

_MAX_SOCKADDR, _MAX_UNIX = 128, 109
_DNS_PORT = 53
_NLM_F_DUMP = 0x300
_NETLINK_ROUTE, _NETLINK_SOCK_DIAG, _NETLINK_AUDIT, _NETLINK_GENERIC = 0, 4, 9, 16
_RTM_BASE, _SOCK_DESTROY, _GENL_ID_CTRL = 16, 21, 16
_AUDIT_USER = range(1100, 1200)

# Services that only answer or log: a connection to them leaves nothing behind.
QUIET_SERVICES = (
    "/dev/log",
    "/run/systemd/journal/",
    "/run/systemd/notify",
    "/run/systemd/userdb/",
    "/run/systemd/resolve/",
    "/run/nscd/",
    "/var/run/nscd/",
    "/var/lib/sss/pipes/",
    "/run/samba/winbindd/",
    "/var/run/.nscd_socket",
)
CONNECT_REMEDY = (
    "give --allow startup-connect if it may be done twice, or have the program do it after its start"
)


def rule_bind(call: Call, situation: Situation) -> Answer:
    """An address of the past: its own socket takes the place of the new one. Others are bound really."""
    number = call.signed(0)
    raw = _sockaddr(call, situation, 1, 2)
    details = situation.socket(number)
    if raw is None or details is None:
        return Run()
    place = None
    if (key := address_key(raw)) is not None and key[0] == AF_UNIX and not key[1].startswith(b"\0"):
        place = situation.locate(key[1])
    handle = situation.handle(number)
    if handle is not None and handle.lent:
        return deny(errno.EINVAL)  # bound already
    found = _owned(situation, details, key, place.owner if place is not None else None)
    if found:
        shown = (place,) if place is not None else ()
        return Lend(number, _choose(found, number, situation).number, shown)
    if place is None or place.exists:
        return Run()
    return _bind_shadow(situation, place) if place.absent else Run(Note(created=place))


def _bind_shadow(situation: Situation, place: Place) -> Answer:
    """A stale socket file whose removal is held back: bound beside it, renamed at commit."""
    shadow = situation.shadow(place)
    raw = struct.pack("<H", AF_UNIX) + os.fsencode(shadow.text)
    if len(raw) > _MAX_UNIX:
        return Refuse(
            "startup-forbidden",
            f"the path of the socket {place.text} is too long for a second name beside it",
            "use a shorter path",
        )
    note = Note(created=shadow, shown_as=place)
    return Alter(arguments={2: len(raw) + 1}, paths={1: raw}, note=note)


def _owned(
    situation: Situation, details: SocketDetails, key: tuple[int, bytes] | None, owner: int | None
) -> tuple[Bound, ...]:
    past = situation.past
    if key is None:
        return ()
    found = past.bound_at(details.family, details.type, key)
    if not found and owner is not None:
        found = tuple(bound for bound in past.bound if bound.number == owner and bound.type == details.type)
    return found


def _choose(found: tuple[Bound, ...], number: int, situation: Situation) -> Bound:
    """Of several sockets with one address (SO_REUSEPORT): the same number, else one that is not lent yet."""
    held = situation.sockets_held()
    free = [bound for bound in found if bound.inode not in held] or list(found)
    return next((bound for bound in free if bound.number == number), free[0])


def rule_accept(call: Call, situation: Situation) -> Answer:
    """Clients of the past wait for the past."""
    return _nothing_there(call, situation)


def _nothing_there(call: Call, situation: Situation) -> Answer:
    handle = situation.handle(call.signed(0))
    if handle is None or not handle.mute:
        note = Note(descriptor=call.name.startswith("accept"))
        return Run(note)
    return deny(errno.EAGAIN)


def rule_receive(call: Call, situation: Situation) -> Answer:
    """What was sent to the past is not read."""
    handle = situation.handle(call.signed(0))
    return deny(errno.EAGAIN) if handle is not None and handle.mute else Run()


def rule_connect(call: Call, situation: Situation) -> Answer:
    """No TCP; unix services that only answer are fine; the past itself looks as if it were not there."""
    number = call.signed(0)
    raw = _sockaddr(call, situation, 1, 2)
    details = situation.socket(number)
    handle = situation.handle(number)
    if raw is None or details is None:
        return Run()
    if handle is not None and handle.past:
        return Fake(0)
    family = int.from_bytes(raw[:2], "little")
    if _is_past(situation, family, details.type, raw):
        return deny(errno.ECONNREFUSED)
    if family == AF_UNIX:
        return _connect_unix(situation, details, raw)
    if family in (AF_INET, AF_INET6) and details.type != SOCK_DGRAM:
        return _refuse_connect("connects", raw)
    return Run()


def _is_past(situation: Situation, family: int, kind: int, raw: bytes) -> bool:
    """Whether an address leads to the past: a program that looks whether it runs already."""
    key = address_key(raw)
    if key is None:
        return False
    if any(
        bound.listening or bound.type == SOCK_DGRAM for bound in situation.past.bound_at(family, kind, key)
    ):
        return True
    if family == AF_UNIX and not key[1].startswith(b"\0"):
        place = situation.locate(key[1])
        return place is not None and place.owner is not None
    if family not in (AF_INET, AF_INET6):
        return False
    port = key[1][:2]
    ours = [bound for bound in situation.past.bound if bound.key[1][:2] == port and bound.type == kind]
    return any(_is_wildcard(bound) for bound in ours if bound.family in (AF_INET, AF_INET6)) and _is_loopback(
        raw
    )


def _is_wildcard(bound: Bound) -> bool:
    address = bound.key[1][2:6] if bound.family == AF_INET else bound.key[1][2:18]
    return not any(address)


def _is_loopback(raw: bytes) -> bool:
    if raw[:2] == struct.pack("<H", AF_INET):
        return raw[4] in (127, 0)
    return raw[8:24] in (bytes(15) + b"\1", bytes(16))


def _connect_unix(situation: Situation, details: SocketDetails, raw: bytes) -> Answer:
    where = describe_address(raw)
    if details.type == SOCK_DGRAM or len(raw) <= 2:
        return Run()
    place = situation.locate(address[1]) if (address := address_key(raw)) is not None else None
    texts = (where, place.text) if place is not None else (where,)
    if any(text.startswith(QUIET_SERVICES) for text in texts) or (place is not None and place.created):
        return Run()
    if not where.startswith("@") and (place is None or not place.exists):
        return Run()  # fails by itself
    return _refuse_connect("connects", raw)


def _refuse_connect(what: str, raw: bytes) -> Refuse:
    return Refuse(
        "startup-connect",
        f"the new version {what} to {describe_address(raw)} while it starts",
        CONNECT_REMEDY,
    )


def rule_sendto(call: Call, situation: Situation) -> Answer:
    """sendto and send: see ``_judge_send``."""
    raw = _sockaddr(call, situation, 4, 5) if call.arguments[4] else None
    length = call.arguments[2]
    handle = situation.handle(call.signed(0))
    if handle is not None and handle.inherited:
        return hold_output(handle, situation.read(call.arguments[1], length))
    return _judge_send(call, situation, raw, lambda: situation.read(call.arguments[1], min(length, 4096)))


def rule_sendmsg(call: Call, situation: Situation) -> Answer:
    """sendmsg: the same for gathered data."""
    name, name_length, vectors, count = struct.unpack("<QIxxxxQQ", situation.read(call.arguments[1], 32))
    raw = situation.read(name, min(name_length, _MAX_SOCKADDR)) if name else None
    handle = situation.handle(call.signed(0))
    if handle is not None and handle.inherited:
        return hold_output(handle, gather(situation, vectors, count))
    return _judge_send(call, situation, raw, lambda: gather(situation, vectors, count))


def rule_sendmmsg(call: Call, situation: Situation) -> Answer:
    """sendmmsg: judged by its first message (glibc's resolver sends two queries to one server)."""
    first = Call(call.pid, call.number, "sendmsg", call.arguments)
    answer = rule_sendmsg(first, situation)
    if not isinstance(answer, Run):
        handle = situation.handle(call.signed(0))
        if handle is not None and handle.inherited:
            return Refuse(
                "startup-forbidden",
                "the new version sends several messages at once on a descriptor of the old version",
                "have the program write its output with write or send",
            )
    return answer


def judge_data(call: Call, situation: Situation, handle: Handle, data: Callable[[], bytes]) -> Answer:
    """write and writev on a socket."""
    return _judge_send(call, situation, None, data)


def _judge_send(call: Call, situation: Situation, raw: bytes | None, data: Callable[[], bytes]) -> Answer:
    number = call.signed(0)
    handle = situation.handle(number)
    details = situation.socket(number)
    if handle is None or details is None:
        return Run()
    if handle.past:
        return _refuse_connect("sends on a socket of the old version", raw or details.raw_peer)
    if details.family == AF_NETLINK:
        return _judge_netlink(details, data())
    target = raw or details.raw_peer
    family = int.from_bytes(target[:2], "little") if len(target) >= 2 else details.family
    if family in (AF_INET, AF_INET6):
        question = details.type == SOCK_DGRAM and int.from_bytes(target[2:4], "big") == _DNS_PORT
        return Run() if question else _refuse_connect("sends", target)
    if details.family == AF_PACKET:
        return Refuse("startup-connect", "the new version sends a raw packet while it starts", CONNECT_REMEDY)
    if family == AF_UNIX and _is_past(situation, family, details.type, target):
        return deny(errno.ECONNREFUSED)
    if family == AF_UNIX and _is_service_manager(situation, target):
        return Fake(len(data()))  # it must not hear of a process that may be thrown away
    return Run()


def _is_service_manager(situation: Situation, target: bytes) -> bool:
    key = address_key(target)
    return key is not None and bool(key[1]) and key[1] == situation.past.notify_name


def _judge_netlink(details: SocketDetails, data: bytes) -> Answer:
    """Questions to the kernel are fine, changes of the network's configuration are not."""
    at = 0
    while at + 16 <= len(data):
        length, kind, flags = struct.unpack_from("<IHH", data, at)
        if not _netlink_harmless(details.protocol, kind, flags):
            return Refuse(
                "startup-forbidden",
                "the new version changes the kernel's configuration while it starts "
                f"(netlink {details.protocol}, message {kind})",
                "give --allow startup-forbidden if that may be done twice",
            )
        at += max(16, (length + 3) & ~3)
    return Run()


def _netlink_harmless(protocol: int, kind: int, flags: int) -> bool:
    if kind < _RTM_BASE:
        return True  # control messages
    if protocol == _NETLINK_ROUTE:
        return kind & 3 == 2
    if protocol == _NETLINK_SOCK_DIAG:
        return kind != _SOCK_DESTROY
    if protocol == _NETLINK_AUDIT:
        return kind in _AUDIT_USER
    if protocol == _NETLINK_GENERIC and kind == _GENL_ID_CTRL:
        return True
    return flags & _NLM_F_DUMP == _NLM_F_DUMP


def rule_new(call: Call, situation: Situation) -> Answer:
    """A call that makes a descriptor."""
    return Run(Note(descriptor=True))


def rule_socketpair(call: Call, situation: Situation) -> Answer:
    """A call that makes two."""
    return Run(Note(pair_address=call.arguments[3]))


def hold_output(handle: Handle, data: bytes) -> Fake:
    """Output to a descriptor that the past writes to as well: kept back, then written at commit."""
    held = Held("output", handle.target, number=handle.number, data=data)
    return Fake(len(data), held=(held,))


def gather(situation: Situation, address: int, count: int) -> bytes:
    """The data of an iovec array."""
    vectors = situation.read(address, 16 * min(count, 1024))
    return b"".join(
        situation.read(base, length) for base, length in struct.iter_unpack("<QQ", vectors) if length
    )


def _sockaddr(call: Call, situation: Situation, index: int, length_index: int) -> bytes | None:
    address, length = call.arguments[index], call.signed(length_index)
    if not address or not 2 <= length <= _MAX_SOCKADDR:
        return None
    return situation.read(address, length)


RULES: dict[str, Rule] = {
    "socket": rule_new,
    "socketpair": rule_socketpair,
    "bind": rule_bind,
    "accept": rule_accept,
    "accept4": rule_accept,
    "connect": rule_connect,
    "sendto": rule_sendto,
    "sendmsg": rule_sendmsg,
    "sendmmsg": rule_sendmmsg,
    "recvfrom": rule_receive,
    "recvmsg": rule_receive,
    "recvmmsg": rule_receive,
}
