"""What a socket is: kind, addresses, state (getsockopt(2), getsockname(2), getpeername(2))."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import NamedTuple

Address = tuple[object, ...] | str | bytes

_libc = ctypes.CDLL(None, use_errno=True)
_SO_PROTOCOL, _SO_DOMAIN = 38, 39
_ROOM = 128  # struct sockaddr_storage


class SocketDetails(NamedTuple):
    """A socket; addresses as Python's socket module has them, None where there is none.

    Attributes:
        raw_local: The ``struct sockaddr`` of the local address, raw_peer of the peer's.
        error: Why it could not be looked at, "" when it could.
    """

    family: int
    type: int
    protocol: int
    listening: bool
    local: Address | None
    peer: Address | None
    raw_local: bytes
    raw_peer: bytes
    error: str = ""


def describe_socket(descriptor: int) -> SocketDetails:
    """The details of a socket of this process (a duplicate, usually)."""
    raw_local = _name(_libc.getsockname, descriptor)
    raw_peer = _name(_libc.getpeername, descriptor)
    return SocketDetails(
        _option(descriptor, _SO_DOMAIN),
        _option(descriptor, socket.SO_TYPE),
        _option(descriptor, _SO_PROTOCOL),
        _option(descriptor, socket.SO_ACCEPTCONN) == 1,
        parse_address(raw_local),
        parse_address(raw_peer),
        raw_local,
        raw_peer,
    )


def unreadable_socket(error: str) -> SocketDetails:
    """The details of a socket that could not be duplicated."""
    return SocketDetails(-1, -1, -1, False, None, None, b"", b"", error)


def parse_address(raw: bytes) -> Address | None:
    """A ``struct sockaddr`` as Python's socket module shows it; the bytes themselves for other families."""
    if len(raw) < 2:
        return None
    (family,) = struct.unpack_from("<H", raw)
    if family == socket.AF_INET and len(raw) >= 8:
        port, address = struct.unpack_from("!H4s", raw, 2)
        return socket.inet_ntop(socket.AF_INET, address), port
    if family == socket.AF_INET6 and len(raw) >= 28:
        port, flow, host, _ = struct.unpack_from("!HI16sI", raw, 2)
        (scope,) = struct.unpack_from("<I", raw, 24)
        return socket.inet_ntop(socket.AF_INET6, host), port, flow, scope
    if family == socket.AF_UNIX:
        path = raw[2:]
        if path[:1] == b"\0":
            return path  # abstract: the whole name counts
        return os.fsdecode(path.split(b"\0", 1)[0])
    return raw


def _option(descriptor: int, option: int) -> int:
    value = ctypes.c_int(-1)
    length = ctypes.c_uint32(4)
    _libc.getsockopt(descriptor, socket.SOL_SOCKET, option, ctypes.byref(value), ctypes.byref(length))
    return value.value


def _name(call: ctypes._CFuncPtr, descriptor: int) -> bytes:  # type: ignore[name-defined]
    buffer = ctypes.create_string_buffer(_ROOM)
    length = ctypes.c_uint32(_ROOM)
    status: int = call(descriptor, buffer, ctypes.byref(length))
    return buffer.raw[: min(length.value, _ROOM)] if status == 0 else b""
