"""As much of MQTT 3.1.1 as the tests need."""

from __future__ import annotations

import socket
import struct

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP = 2, 3, 4, 9, 13


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


class MqttClient:
    """One connection to a broker on 127.0.0.1.

    Args:
        port: The broker's.
        identity: Client identifier.
        clean: False for a session that the broker keeps while the client is away.
        will: Topic of a message that the broker sends when the connection breaks.
    """

    def __init__(self, port: int, identity: str, *, clean: bool = True, will: str = "") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._number = 0
        self.arrived: list[tuple[str, bytes]] = []
        flags = (2 if clean else 0) | (0x04 if will else 0)
        body = _text("MQTT") + bytes([4, flags]) + struct.pack(">H", 0) + _text(identity)
        if will:
            body += _text(will) + _text(f"{identity} is gone")
        self._send(0x10, body)
        answer = self._until(CONNACK)
        if answer[1]:
            raise ConnectionError(f"the broker refuses {identity}: {answer[1]}")
        self.session_present = bool(answer[0])

    def __enter__(self) -> MqttClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Break the connection."""
        self._socket.close()

    def subscribe(self, topic: str, quality: int = 0) -> None:
        self._number += 1
        self._send(0x82, struct.pack(">H", self._number) + _text(topic) + bytes([quality]))
        assert self._until(SUBACK)[2] == quality

    def publish(self, topic: str, payload: bytes, quality: int = 0, *, retain: bool = False) -> None:
        body = _text(topic)
        if quality:
            self._number += 1
            body += struct.pack(">H", self._number)
        self._send(0x30 | quality << 1 | int(retain), body + payload)
        if quality:
            assert struct.unpack(">H", self._until(PUBACK)[:2])[0] == self._number

    def ping(self) -> None:
        """Everything that the broker sent before its answer is in ``arrived`` afterwards."""
        self._send(0xC0, b"")
        self._until(PINGRESP)

    def wait(self, count: int) -> list[tuple[str, bytes]]:
        """The next ``count`` messages."""
        while len(self.arrived) < count:
            self._take(*self._receive())
        found, self.arrived = self.arrived[:count], self.arrived[count:]
        return found

    def _send(self, head: int, body: bytes) -> None:
        size, length = len(body), bytearray()
        while True:
            length.append(size & 0x7F | (0x80 if size > 0x7F else 0))
            size >>= 7
            if not size:
                break
        self._socket.sendall(bytes([head]) + length + body)

    def _until(self, kind: int) -> bytes:
        while True:
            head, body = self._receive()
            if head >> 4 == kind:
                return body
            self._take(head, body)

    def _take(self, head: int, body: bytes) -> None:
        assert head >> 4 == PUBLISH, f"unexpected packet {head:#x}"
        size = struct.unpack_from(">H", body)[0]
        topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
        if head & 6:
            self._send(0x40, rest[:2])
            rest = rest[2:]
        self.arrived.append((topic, rest))

    def _receive(self) -> tuple[int, bytes]:
        head, size, shift = self._exactly(1)[0], 0, 0
        while True:
            byte = self._exactly(1)[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return head, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the broker closed the connection")
            data += part
        return data
