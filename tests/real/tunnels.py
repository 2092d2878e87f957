"""A tunnel server, whose peers count what they send."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from tests.real.recipes import XL2TPD
from tests.real.servers import free_port
from tests.real.subject import DAEMON, Subject

_TUNNELS = 30
_CONTROL = 0xC802  # a control message with a length and sequence numbers, version 2 (RFC 2661, 3.1)
_REQUEST, _REPLY, _CONNECTED, _HELLO = 1, 2, 3, 6
_TYPE, _VERSION, _FRAMING, _HOST, _ASSIGNED, _WINDOW = 0, 2, 3, 7, 9, 10


class Tunnel:
    """The other end of one tunnel."""

    def __init__(self, port: int, number: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(20)
        self._socket.connect(("127.0.0.1", port))
        self._number, self._peer, self._sent, self._received = number, 0, 0, 0

    def _send(self, kind: int, *values: tuple[int, bytes]) -> None:
        parts = [(_TYPE, struct.pack("!H", kind)), *values]
        body = b"".join(struct.pack("!HHH", 0x8000 | 6 + len(v), 0, what) + v for what, v in parts)
        head = struct.pack("!HHHHHH", _CONTROL, 12 + len(body), self._peer, 0, self._sent, self._received)
        self._socket.send(head + body)
        self._sent += 1

    def _receive(self) -> bytes:
        """What the next message says, nothing for a bare acknowledgement; all that we sent was received."""
        while True:
            data = self._socket.recv(2000)
            _, _, tunnel, _, number, expected = struct.unpack_from("!HHHHHH", data)
            assert tunnel == self._number, (tunnel, self._number)
            said = data[12:] if number == self._received else b""
            self._received += bool(said)
            if expected == self._sent:
                return said

    def open(self) -> None:
        """Establish it."""
        number = struct.pack("!H", self._number)
        self._send(
            _REQUEST, (_VERSION, b"\1\0"), (_FRAMING, b"\0\0\0\3"), (_HOST, b"peer"), (_ASSIGNED, number),
            (_WINDOW, b"\0\4"),
        )  # fmt: skip
        values = self._receive()
        while values:
            size, _, what = struct.unpack_from("!HHH", values)
            if what == _ASSIGNED:
                (self._peer,) = struct.unpack_from("!H", values, 6)
            values = values[size & 0x3FF :]
        assert self._peer
        self._send(_CONNECTED)
        assert self._receive() == b""

    def greet(self) -> None:
        """Ask whether it is still there; it may ask the same meanwhile, which our next message answers."""
        self._send(_HELLO)
        self._receive()

    def close(self) -> None:
        """Say nothing more."""
        self._socket.close()


class Xl2tpd(Subject):
    """Tunnels without calls: each has numbers of its own on both sides."""

    recipe = XL2TPD
    states = (None, None)

    def __init__(self, directory: Path, mode: str) -> None:
        super().__init__(directory, mode)
        self.port = free_port(socket.SOCK_DGRAM)
        self._opened: list[Tunnel] = []

    def command(self, program: Path) -> list[str]:
        base = self.directory
        (base / "xl2tpd.conf").write_text(
            f"[global]\nlisten-addr = 127.0.0.1\nport = {self.port}\n[lns default]\n"
            "ip range = 10.9.8.1-10.9.8.200\nlocal ip = 10.9.8.250\nrequire authentication = no\n"
        )
        command = [
            str(program),
            "-c",
            f"{base}/xl2tpd.conf",
            "-s",
            f"{base}/secrets",
            "-p",
            f"{base}/server.pid",
        ]
        return [*command, "-C", f"{base}/control", *([] if self.mode == DAEMON else ["-D"])]

    def _open(self, number: int) -> Tunnel:
        tunnel = Tunnel(self.port, number)
        self._opened.append(tunnel)
        tunnel.open()
        return tunnel

    def ready(self) -> bool:
        try:
            self._other = self._open(9999)
        except OSError:
            return False
        return True

    def populate(self) -> None:
        self._known = [self._open(100 + i) for i in range(_TUNNELS)]
        for tunnel in self._known:
            tunnel.greet()

    def check(self) -> None:
        for tunnel in self._known:
            tunnel.greet()

    def work(self) -> None:
        self._other.greet()

    def close(self) -> None:
        for tunnel in self._opened:
            tunnel.close()
