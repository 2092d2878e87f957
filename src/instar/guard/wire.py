"""Messages between the guard and who asks it: one line of JSON, bytes behind it, descriptors beside it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

LARGEST = 64 << 10  # bytes behind a message
_MESSAGE = LARGEST + (64 << 10)
MOST_DESCRIPTORS = 253  # SCM_MAX_FD


class WireError(Exception):
    """A message that is none."""


def send(channel: socket.socket, message: object, data: bytes = b"", descriptors: Sequence[int] = ()) -> None:
    """Send one message; raises OSError."""
    line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    if len(data) > LARGEST or len(line) + len(data) > _MESSAGE:
        raise WireError(f"a message of {len(line)} and {len(data)} bytes")
    socket.send_fds(channel, [line, data], descriptors, socket.MSG_NOSIGNAL)


def receive(channel: socket.socket) -> tuple[Any, bytes, list[int]]:
    """The next message; raises EOFError at the end, WireError for what is no message, OSError."""
    raw, descriptors, flags, _ = socket.recv_fds(channel, _MESSAGE, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    try:
        if not raw:
            raise EOFError
        line, found, data = raw.partition(b"\n")
        if not found or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise WireError("a message that was cut off")
        return json.loads(line), data, descriptors
    except (ValueError, RecursionError) as error:
        close(descriptors)
        raise WireError(f"no JSON: {error}") from error
    except (EOFError, WireError):
        close(descriptors)
        raise


def close(descriptors: Sequence[int]) -> None:
    """Close what came beside a message that is not wanted."""
    for descriptor in descriptors:
        os.close(descriptor)
