"""As much of DNS as the tests need: questions, A and TXT answers, an upstream server of our own."""

from __future__ import annotations

import socket
import struct
import threading

IN, CHAOS = 1, 3
A, TXT = 1, 16
_TTL = 86_400


def encode_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def question(identity: int, name: str, kind: int = A, family: int = IN) -> bytes:
    return (
        struct.pack(">6H", identity, 0x0100, 1, 0, 0, 0)
        + encode_name(name)
        + struct.pack(">2H", kind, family)
    )


def _skip_name(message: bytes, offset: int) -> int:
    while message[offset]:
        if message[offset] >= 0xC0:
            return offset + 2
        offset += 1 + message[offset]
    return offset + 1


def _read_name(message: bytes, offset: int) -> str:
    labels = []
    while message[offset]:
        labels.append(message[offset + 1 : offset + 1 + message[offset]].decode())
        offset += 1 + message[offset]
    return ".".join(labels)


def answers(message: bytes) -> list[bytes]:
    """The data of all answer records; raises ValueError for an error code."""
    _, flags, questions, count, _, _ = struct.unpack_from(">6H", message)
    if flags & 0xF:
        raise ValueError(f"the server answers with code {flags & 0xF}")
    offset = 12
    for _ in range(questions):
        offset = _skip_name(message, offset) + 4
    result = []
    for _ in range(count):
        offset = _skip_name(message, offset)
        size = struct.unpack_from(">H", message, offset + 8)[0]
        result.append(message[offset + 10 : offset + 10 + size])
        offset += 10 + size
    return result


def address_of(name: str) -> bytes:
    """The address that the upstream server gives a name: made from the name alone."""
    value = 2166136261
    for byte in name.encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return bytes([10, *value.to_bytes(4, "big")[1:]])


class Upstream:
    """A DNS server on 127.0.0.1 that knows an address for every name."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.asked = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Upstream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer nothing from now on."""
        if self._thread.is_alive():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"stop", ("127.0.0.1", self.port))
            self._thread.join()
            self._socket.close()

    def _serve(self) -> None:
        while True:
            message, sender = self._socket.recvfrom(4096)
            if message == b"stop":
                return
            self.asked += 1
            self._socket.sendto(self._answer(message), sender)

    @staticmethod
    def _answer(message: bytes) -> bytes:
        end = _skip_name(message, 12) + 4
        kind = struct.unpack_from(">H", message, end - 4)[0]
        name = _read_name(message, 12).lower()
        found = kind == A
        header = message[:2] + struct.pack(">5H", 0x8580, 1, int(found), 0, 0)
        record = b"\xc0\x0c" + struct.pack(">2HIH", A, IN, _TTL, 4) + address_of(name)
        return header + message[12:end] + (record if found else b"")


class Client:
    """Asks one server over UDP."""

    def __init__(self, port: int, timeout: float = 5.0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._socket.settimeout(timeout)
        self._identity = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, name: str, kind: int = A, family: int = IN) -> list[bytes]:
        """Answer data; raises TimeoutError."""
        self._identity = (self._identity + 1) & 0xFFFF
        self._socket.send(question(self._identity, name, kind, family))
        while True:
            message = self._socket.recv(4096)
            if struct.unpack_from(">H", message)[0] == self._identity:
                return answers(message)

    def text(self, name: str) -> str:
        """A CHAOS TXT answer: how dnsmasq tells its counters."""
        data = self.ask(name, TXT, CHAOS)
        return data[0][1 : 1 + data[0][0]].decode()
