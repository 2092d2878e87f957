"""An IRC gateway on GLib and a pool of database connections on libevent: main loops that libraries bring."""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

from tests.real.recipes import BITLBEE, PGBOUNCER
from tests.real.servers import free_port
from tests.real.subject import DAEMON, Subject

_USERS = 20


class Talk:
    """A connection that stays open and keeps what it has read."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._data = b""

    def send(self, data: bytes) -> None:
        """Send as it is."""
        self._socket.sendall(data)

    def until(self, end: bytes) -> bytes:
        """Everything up to these bytes."""
        while end not in self._data:
            part = self._socket.recv(65536)
            assert part, "the server closed the connection"
            self._data += part
        found, self._data = self._data.split(end, 1)
        return found + end

    def take(self, size: int) -> bytes:
        """So many bytes."""
        while len(self._data) < size:
            part = self._socket.recv(65536)
            assert part, "the server closed the connection"
            self._data += part
        found, self._data = self._data[:size], self._data[size:]
        return found

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Bitlbee(Subject):
    """Users, each with settings and accounts of a service that is never called."""

    recipe = BITLBEE
    states = (None, None)

    def __init__(self, directory: Path, mode: str) -> None:
        super().__init__(directory, mode)
        self.port = free_port()
        self._users: list[Talk] = []

    def command(self, program: Path) -> list[str]:
        base = self.directory
        (base / "bitlbee.conf").write_text(
            f"[settings]\nRunMode = Daemon\nDaemonInterface = 127.0.0.1\nDaemonPort = {self.port}\n"
            f"ConfigDir = {base}\nPidFile = {base}/server.pid\nPingInterval = 0\n"
        )
        (base / "motd.txt").write_text("welcome\n")
        command = [str(program), "-c", f"{base}/bitlbee.conf", "-d", str(base), "-P", f"{base}/server.pid"]
        return [*command, "-D"] if self.mode == DAEMON else [*command, "-D", "-n"]

    def _login(self, nick: str) -> Talk:
        user = Talk(self.port)
        user.send(f"NICK {nick}\r\nUSER {nick} 0 * :{nick}\r\n".encode())
        user.until(b" 366 ")  # the names in the control channel
        user.until(b"\r\n")
        return user

    @staticmethod
    def _ask(user: Talk, words: str, answer: str) -> None:
        user.send(f"PRIVMSG &bitlbee :{words}\r\n".encode())
        user.until(answer.encode())
        user.until(b"\r\n")

    def ready(self) -> bool:
        try:
            Talk(self.port).close()
        except OSError:
            return False
        return True

    def populate(self) -> None:
        self._users = [self._login(f"user{i}") for i in range(_USERS)]
        for i, user in enumerate(self._users):
            self._ask(user, f"set auto_reconnect_delay {100 + i}", f"{100 + i}")
            self._ask(
                user, f"account add jabber person{i}@nowhere.invalid secret", "Account successfully added"
            )
        self._users[0].send(b"PRIVMSG &bitlbee :set ")

    def check(self) -> None:
        self._users[0].send(b"auto_reconnect_delay\r\n")
        self._users[0].until(b"= `100'")
        for i, user in enumerate(self._users):
            self._ask(user, "account list", f"person{i}@nowhere.invalid")
            self._ask(user, "set auto_reconnect_delay", f"= `{100 + i}'")
        self._users[0].send(b"PRIVMSG &bitlbee :set ")

    def work(self) -> None:
        user = self._login("somebody")
        user.send(b"QUIT\r\n")
        user.close()

    def close(self) -> None:
        for user in self._users:
            user.close()


class Console(Talk):
    """A client of PostgreSQL's protocol, version 3, that asks simple questions."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        words = b"user\0admin\0database\0pgbouncer\0\0"
        self.send(struct.pack("!II", 8 + len(words), 196608) + words)
        self._rest()

    def _rest(self) -> list[tuple[bytes, bytes]]:
        """Messages up to "ready"."""
        found = []
        while True:
            kind, size = struct.unpack("!cI", self.take(5))
            found.append((kind, self.take(size - 4)))
            assert kind != b"E", found
            if kind == b"Z":
                return found

    def ask(self, question: str) -> list[list[str]]:
        """The rows of the answer."""
        text = question.encode() + b"\0"
        self.send(struct.pack("!cI", b"Q", 4 + len(text)) + text)
        return [list(_columns(data)) for kind, data in self._rest() if kind == b"D"]


def _columns(data: bytes) -> list[str]:
    (count,) = struct.unpack_from("!H", data)
    at, found = 2, []
    for _ in range(count):
        (size,) = struct.unpack_from("!i", data, at)
        at += 4
        found.append(data[at : at + max(size, 0)].decode())
        at += max(size, 0)
    return found


class Pgbouncer(Subject):
    """Sessions of its console, settings changed at run time, databases disabled and paused."""

    recipe = PGBOUNCER
    states = (None, None)

    def __init__(self, directory: Path, mode: str) -> None:
        super().__init__(directory, mode)
        self.port = free_port()
        self._consoles: list[Console] = []

    def command(self, program: Path) -> list[str]:
        base = self.directory
        base.chmod(0o777)  # it will not run as root
        databases = "".join(f"db{i} = host=127.0.0.1 port=1 dbname=db{i}\n" for i in range(200))
        (base / "pgbouncer.ini").write_text(
            f"[databases]\n{databases}[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            f"unix_socket_dir =\nauth_type = any\nadmin_users = admin\nlogfile = {base}/log\n"
            f"pidfile = {base}/server.pid\n"
        )
        mode = ["-d"] if self.mode == DAEMON else []
        return [str(program), "-q", "-u", "nobody", *mode, f"{base}/pgbouncer.ini"]

    def ready(self) -> bool:
        with contextlib.suppress(OSError):
            self.work()
            return True
        return False

    def populate(self) -> None:
        self._consoles = [Console(self.port) for _ in range(_USERS)]
        first = self._consoles[0]
        first.ask("SET server_idle_timeout = 4711")
        first.ask("DISABLE db7")
        first.ask("PAUSE db9")

    def check(self) -> None:
        first, *others = self._consoles
        config = {row[0]: row[1] for row in first.ask("SHOW CONFIG")}
        assert config["server_idle_timeout"] == "4711", config["server_idle_timeout"]
        databases = {row[0]: row for row in first.ask("SHOW DATABASES")}
        assert len(databases) == 201
        assert databases["db7"][-1] == "1" and databases["db8"][-1] == "0", databases["db7"]
        assert databases["db9"][-2] == "1" and databases["db8"][-2] == "0", databases["db9"]
        for console in others:
            assert len(console.ask("SHOW CLIENTS")) >= _USERS

    def work(self) -> None:
        console = Console(self.port)
        assert "PgBouncer" in console.ask("SHOW VERSION")[0][0]
        console.close()

    def close(self) -> None:
        for console in self._consoles:
            console.close()
