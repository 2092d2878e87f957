"""Sets socket options that were held back while the new version started."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

INSTRUCTION_SIZE = 8  # struct sock_filter
_WITH_FILTER = (26, 51)  # SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF


def takes_filter(level: int, name: int) -> bool:
    """Whether the value of an option points at instructions (struct sock_fprog)."""
    return level == socket.SOL_SOCKET and name in _WITH_FILTER


def apply_option(descriptor: int, level: int, name: int, data: bytes) -> None:
    """Set an option that was held; one that has the value already is left alone. Raises OSError.

    Some options can be set only before the ``bind`` (IPV6_V6ONLY), or only once (a group is joined): what the
    past has set alike is no failure.
    """
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        if takes_filter(level, name):
            _attach(sock, level, name, data)
        elif not _has_value(sock, level, name, data):
            _set(sock, level, name, data)


def _set(sock: socket.socket, level: int, name: int, data: bytes) -> None:
    try:
        sock.setsockopt(level, name, data)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:  # a member of that group already
            raise


def _has_value(sock: socket.socket, level: int, name: int, data: bytes) -> bool:
    """Whether an option reads as it is to be set; a string may come back with a NUL more."""
    try:
        present = sock.getsockopt(level, name, max(len(data) + 1, 16))
    except OSError:
        return False
    return bool(present) and present.rstrip(b"\0") == data.rstrip(b"\0")


def _attach(sock: socket.socket, level: int, name: int, instructions: bytes) -> None:
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    count = len(instructions) // INSTRUCTION_SIZE
    sock.setsockopt(level, name, struct.pack("<H6xQ", count, ctypes.addressof(buffer)))
