"""Servers of other protocols."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

from tests.real.recipes import BIRD, CHRONY
from tests.real.servers import free_port
from tests.real.subject import DAEMON, Subject


class Chrony(Subject):
    """A time server that leaves the clock alone; its counters go on."""

    recipe = CHRONY
    states = (0, None)

    def __init__(self, directory: Path, mode: str) -> None:
        super().__init__(directory, mode)
        self.port = free_port(socket.SOCK_DGRAM)

    def command(self, program: Path) -> list[str]:
        base = self.directory
        self._control = [str(program.parent / "chronyc"), "-n", "-h", f"{base}/chronyd.sock"]
        (base / "chrony.conf").write_text(
            f"port {self.port}\nbindaddress 127.0.0.1\ncmdport 0\nbindcmdaddress {base}/chronyd.sock\n"
            f"allow 127.0.0.1\nlocal stratum 7\nuser root\npidfile {base}/server.pid\n"
        )
        return [str(program), "-x", "-f", f"{base}/chrony.conf", *([] if self.mode == DAEMON else ["-n"])]

    def _ask(self, *words: str) -> str:
        done = subprocess.run([*self._control, *words], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ready(self) -> bool:
        try:
            self.work()
        except OSError:
            return False
        return True

    def work(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(20 if hasattr(self, "_served") else 0.3)
            client.connect(("127.0.0.1", self.port))
            client.send(b"\x23" + bytes(47))
            answer = client.recv(100)
        assert len(answer) == 48 and answer[0] & 7 == 4, answer
        assert answer[1] == 7 + 1 or answer[1] == 7, answer

    def _received(self) -> int:
        lines = dict(line.split(":", 1) for line in self._ask("serverstats").splitlines())
        return int(next(value for key, value in lines.items() if key.startswith("NTP packets received")))

    def populate(self) -> None:
        for _ in range(500):
            self.work()
        self._ask("deny", "10.1.2.0/24")
        self._served = self._received()
        assert self._served >= 500

    def check(self) -> None:
        assert self._received() >= self._served
        assert "209 Access denied" in self._ask("accheck", "10.1.2.3")
        assert "208 Access allowed" in self._ask("accheck", "127.0.0.1")
        self.work()


class Bird(Subject):
    """A routing daemon with static routes, a filter and a session of its control socket."""

    recipe = BIRD

    def command(self, program: Path) -> list[str]:
        base = self.directory
        routes = "".join(f"  route 10.{i // 250}.{i % 250}.0/24 blackhole;\n" for i in range(5000))
        (base / "bird.conf").write_text(
            f'log "{base}/log" all;\nrouter id 10.0.0.1;\nprotocol device {{ }}\n'
            "filter even { if net.len = 24 then { bgp_community.add((65000, 1)); accept; } reject; }\n"
            f"protocol static main {{ ipv4 {{ import filter even; }};\n{routes}}}\n"
            "protocol static spare { ipv4; route 192.168.7.0/24 blackhole; }\n"
        )
        command = [
            str(program),
            "-c",
            f"{base}/bird.conf",
            "-s",
            f"{base}/control",
            "-P",
            f"{base}/server.pid",
        ]
        return command if self.mode == DAEMON else [*command, "-f"]

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(f"{self.directory}/control")
        self._read(connection)
        return connection

    @staticmethod
    def _read(connection: socket.socket) -> str:
        """An answer ends with a line of four digits and a blank."""
        data = b""
        while not any(line[:4].isdigit() and line[4:5] == b" " for line in data.split(b"\n")[:-1]):
            part = connection.recv(65536)
            assert part, "the server closed the connection"
            data += part
        return data.decode()

    def _ask(self, connection: socket.socket, words: str) -> str:
        connection.sendall(words.encode() + b"\n")
        return self._read(connection)

    def ready(self) -> bool:
        try:
            self._connect().close()
        except OSError:
            return False
        return True

    def populate(self) -> None:
        self._session = self._connect()
        assert "0009-spare: disabled" in self._ask(self._session, "disable spare")
        self._before = self._state()

    def _state(self) -> tuple[str, str, str]:
        status = next(
            line for line in self._ask(self._session, "show status").splitlines() if "reboot" in line
        )
        return (
            status,
            self._ask(self._session, "show route count"),
            self._ask(self._session, "show route 10.3.7.0/24 all"),
        )

    def check(self) -> None:
        assert self._state() == self._before
        assert "192.168.7.0" not in self._ask(self._session, "show route")
        assert "spare: enabled" in self._ask(self._session, "enable spare")
        assert "192.168.7.0/24" in self._ask(self._session, "show route 192.168.7.0/24")

    def work(self) -> None:
        with self._connect() as connection:
            assert "10.2.3.0/24" in self._ask(connection, "show route 10.2.3.0/24")

    def close(self) -> None:
        if hasattr(self, "_session"):
            self._session.close()


OTHERS: tuple[type[Subject], ...] = (Chrony, Bird)
