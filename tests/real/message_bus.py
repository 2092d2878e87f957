"""dbus-daemon with clients: as much of its protocol as that needs (D-Bus specification, little endian)."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from tests.real.recipes import DBUS
from tests.real.servers import until
from tests.real.subject import DAEMON, Subject

_CLIENTS = 30
_CALL, _RETURN, _ERROR, _SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _REPLY, _DESTINATION, _SIGNATURE = 1, 2, 3, 5, 6, 8
_BUS = "org.freedesktop.DBus"


def _string(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode() + b"\0"


def _pad(data: bytes, size: int) -> bytes:
    return data + bytes(-len(data) % size)


class BusClient:
    """One connection; asks, and keeps the signals that arrive meanwhile."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(address)
        self._data, self._serial = b"", 0
        self.signals: list[tuple[str, str]] = []
        self._socket.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        while not self._data.endswith(b"\r\n"):
            self._more()
        assert self._data.startswith(b"OK "), self._data
        self._data = b""
        self._socket.sendall(b"BEGIN\r\n")
        self.name = self.ask("Hello").decode()

    def _more(self) -> None:
        part = self._socket.recv(65536)
        assert part, "the bus closed the connection"
        self._data += part

    def _send(self, kind: int, fields: list[tuple[int, str, str]], signature: str, body: bytes) -> int:
        self._serial += 1
        table = b""
        for code, sort, text in [*fields, *([(_SIGNATURE, "g", signature)] if signature else [])]:
            table = _pad(table, 8) + bytes([code, 1, ord(sort), 0])
            table += bytes([len(text)]) + text.encode() + b"\0" if sort == "g" else _string(text)
        head = struct.pack("<BBBBIII", ord("l"), kind, 0, 1, len(body), self._serial, len(table))
        self._socket.sendall(_pad(head + table, 8) + body)
        return self._serial

    def _receive(self) -> tuple[int, dict[int, object], bytes]:
        """(kind, header fields, body)."""
        while len(self._data) < 16:
            self._more()
        _, kind, _, _, size, _, length = struct.unpack_from("<BBBBIII", self._data)
        start = (16 + length + 7) // 8 * 8
        while len(self._data) < start + size:
            self._more()
        fields = self._fields(self._data[: 16 + length])
        body, self._data = self._data[start : start + size], self._data[start + size :]
        return kind, fields, body

    @staticmethod
    def _fields(head: bytes) -> dict[int, object]:
        at, fields = 16, dict[int, object]()
        while at < len(head):
            at = (at + 7) // 8 * 8
            code, sort = head[at], chr(head[at + 2])
            at += 4
            if sort == "u":
                fields[code] = struct.unpack_from("<I", head, at)[0]
                at += 4
                continue
            width = 1 if sort == "g" else 4
            size = int.from_bytes(head[at : at + width], "little")
            fields[code] = head[at + width : at + width + size].decode()
            at += width + size + 1
        return fields

    def ask(
        self, member: str, *arguments: str, flags: int | None = None, interface: str = _BUS, whom: str = _BUS
    ) -> bytes:
        """Call a method with texts (and a number); returns the body of the answer, a first text unpacked."""
        body, signature = b"", "s" * len(arguments)
        for argument in arguments:
            body = _pad(body, 4) + _string(argument)
        if flags is not None:
            body, signature = _pad(body, 4) + struct.pack("<I", flags), signature + "u"
        path = [(_PATH, "o", "/org/freedesktop/DBus"), (_INTERFACE, "s", interface), (_MEMBER, "s", member)]
        serial = self._send(_CALL, [*path, (_DESTINATION, "s", whom)], signature, body)
        while True:
            kind, fields, answer = self._receive()
            if kind == _SIGNAL:
                self._keep(fields, answer)
            elif fields.get(_REPLY) == serial:
                assert kind == _RETURN, (member, answer)
                if str(fields.get(_SIGNATURE, "")).startswith("s"):
                    return answer[4 : 4 + struct.unpack_from("<I", answer)[0]]
                return answer

    def _keep(self, fields: dict[int, object], body: bytes) -> None:
        if str(fields.get(_INTERFACE)) != _BUS:
            text = body[4 : 4 + struct.unpack_from("<I", body)[0]].decode()
            self.signals.append((str(fields[_MEMBER]), text))

    def signal(self, member: str, text: str) -> None:
        """Tell everybody who listens."""
        fields = [(_PATH, "o", "/test"), (_INTERFACE, "s", "test.Signals"), (_MEMBER, "s", member)]
        self._send(_SIGNAL, fields, "s", _string(text))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Dbus(Subject):
    """Clients with names of their own and match rules; a queue of owners for one name."""

    recipe = DBUS
    states = (None, None)

    def command(self, program: Path) -> list[str]:
        base = self.directory
        (base / "bus.conf").write_text(
            "<busconfig><type>session</type>"
            f"<listen>unix:path={base}/bus</listen>"
            f"<pidfile>{base}/server.pid</pidfile>"
            f"{'<fork/>' if self.mode == DAEMON else ''}<auth>EXTERNAL</auth>"
            '<policy context="default"><allow send_destination="*" eavesdrop="true"/>'
            '<allow eavesdrop="true"/>'
            '<allow own="*"/></policy></busconfig>'
        )
        return [str(program), f"--config-file={base}/bus.conf"]

    def _open(self) -> BusClient:
        return BusClient(f"{self.directory}/bus")

    def ready(self) -> bool:
        try:
            self._open().close()
        except OSError:
            return False
        return True

    def populate(self) -> None:
        self._clients = [self._open() for _ in range(_CLIENTS)]
        for i, client in enumerate(self._clients):
            client.ask("RequestName", f"test.client{i}", flags=0)
            client.ask("RequestName", "test.shared", flags=0)
            client.ask("AddMatch", f"type='signal',interface='test.Signals',member='M{i % 3}'")
        self._identity = self._clients[0].ask("GetId")

    def check(self) -> None:
        speaker = self._open()
        for i in range(3):
            speaker.signal(f"M{i}", f"message {i}")
        assert speaker.ask("GetId") == self._identity
        for i, client in enumerate(self._clients):
            assert client.ask("GetNameOwner", f"test.client{i}").decode() == client.name
            assert client.signals == [(f"M{i % 3}", f"message {i % 3}")], client.signals
        assert speaker.ask("GetNameOwner", "test.shared").decode() == self._clients[0].name
        self._clients[0].close()  # the next in the queue is the owner
        until(
            lambda: speaker.ask("GetNameOwner", "test.shared").decode() == self._clients[1].name,
            "a new owner",
        )
        speaker.close()

    def work(self) -> None:
        client = self._open()
        assert client.ask("GetNameOwner", _BUS).decode() == _BUS
        client.close()

    def close(self) -> None:
        for client in getattr(self, "_clients", ()):
            client.close()
