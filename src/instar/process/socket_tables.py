"""Sockets of a running process as the kernel's tables show them (/proc/PID/net, proc_pid_net(5)).

To ask a socket itself takes a duplicate, and as long as there is one the socket is open: a process that
closes it in that moment sends its peer no end, and goes on hearing of it from its epoll set, under a number
that may be another connection's by then. So what a process opens and closes all the time is looked up: TCP,
UDP, and unix connections that were accepted at a name. The rest (unbound, netlink, unnamed) lives long, as
a rule.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from instar.process.sockets import SocketDetails, parse_address

_TCP, _UDP = (socket.SOCK_STREAM, socket.IPPROTO_TCP), (socket.SOCK_DGRAM, socket.IPPROTO_UDP)
_INTERNET = {"tcp": _TCP, "tcp6": _TCP, "udp": _UDP, "udp6": _UDP}
_SYN_SENT, _CLOSED, _LISTENING = 2, 7, 10  # include/net/tcp_states.h
_CONNECTED = "03"  # SS_CONNECTED of include/uapi/linux/net.h
_UNIX_ROW = re.compile(
    rb"[0-9A-Fa-f]+: [0-9A-F]{8} [0-9A-F]{8} [0-9A-F]{8} [0-9A-F]{4} [0-9A-F]{2} +[0-9]+( |$)"
)
_LINK_LOCAL = (b"\xfe", b"\xff")  # their sockets have an interface besides, which no table shows


def look_up_sockets(pid: int, inodes: Collection[int]) -> dict[int, SocketDetails]:
    """Inode -> details of those of some sockets that the tables describe as they describe themselves."""
    wanted = {str(inode).encode(): inode for inode in inodes}
    found: dict[int, SocketDetails] = {}
    for table, read in (*((name, _internet(*kind)) for name, kind in _INTERNET.items()), ("unix", _unix)):
        if len(found) == len(wanted):
            break
        twice: set[int] = set()
        for inode, details in _rows(pid, table, wanted, read):
            if found.setdefault(inode, details) != details:
                twice.add(inode)  # somebody's name reads like a row, or it changed while the table was read
        for inode in twice:
            del found[inode]
    return found


def _internet(kind: int, protocol: int) -> Callable[[list[bytes]], SocketDetails | None]:
    """Reads lines such as ``0: 0100007F:1F90 00000000:0000 0A ...``: addresses are words of the machine."""

    def read(fields: list[bytes]) -> SocketDetails | None:
        local, peer, state = _address(fields[1]), _address(fields[2]), int(fields[3], 16)
        if local is None or peer is None:
            return None
        if kind == socket.SOCK_STREAM and state in (_CLOSED, _SYN_SENT):
            return None  # not yet connected, or not any more: it knows more itself
        listening = kind == socket.SOCK_STREAM and state == _LISTENING
        if listening or not any(peer[2:4]):
            peer = b""
        family = int.from_bytes(local[:2], "little")
        return SocketDetails(
            family, kind, protocol, listening, parse_address(local), parse_address(peer), local, peer
        )

    return read


def _address(text: bytes) -> bytes | None:
    """The ``struct sockaddr`` that getsockname(2) would give."""
    host, _, port = text.partition(b":")
    words = struct.pack(f"={len(host) // 8}I", *(int(host[i : i + 8], 16) for i in range(0, len(host), 8)))
    number = int(port, 16)
    if len(words) == 4:
        return struct.pack("<H", socket.AF_INET) + struct.pack("!H4s8x", number, words)
    if len(words) != 16 or words[:1] in _LINK_LOCAL:
        return None
    return struct.pack("<H", socket.AF_INET6) + struct.pack("!HI16sI", number, 0, words, 0)


def _unix(fields: list[bytes]) -> SocketDetails | None:
    """``Num RefCount Protocol Flags Type St Inode Path``: a connection that has a path was accepted there."""
    kind = int(fields[4], 16)
    if len(fields) != 8 or fields[5].decode() != _CONNECTED or kind == socket.SOCK_DGRAM:
        return None
    if not fields[7].startswith(b"/"):
        return None  # an abstract name is not shown as it is
    local, peer = (struct.pack("<H", socket.AF_UNIX) + name for name in (fields[7] + b"\0", b""))
    return SocketDetails(
        socket.AF_UNIX, kind, 0, False, os.fsdecode(fields[7]), parse_address(peer), local, peer
    )


def _rows(
    pid: int, table: str, wanted: Collection[bytes], read: Callable[[list[bytes]], SocketDetails | None]
) -> Iterator[tuple[int, SocketDetails]]:
    column, most = (6, 7) if table == "unix" else (9, -1)
    try:
        lines = Path(f"/proc/{pid}/net/{table}").read_bytes().splitlines()[1:]
    except OSError:
        return  # a kernel without that family, or a process that is gone, which others will notice
    if table == "unix" and not all(map(_UNIX_ROW.match, lines)):
        return  # a name with the end of a line in it, which the kernel writes as it is: no name can be told
    for line in lines:
        fields = line.split(None, most)
        if len(fields) > column and fields[column] in wanted:
            details = read(fields)
            if details is not None:
                yield int(fields[column]), details
