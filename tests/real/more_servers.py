"""A resolver, two caches with threads and two servers that answer from processes of their own."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

from tests.real.dns_messages import Client, Upstream, address_of
from tests.real.recipes import DROPBEAR, MEMCACHED, REDIS, UNBOUND
from tests.real.servers import free_port
from tests.real.subject import DAEMON, Subject


class Unbound(Subject):
    """A resolver with a full cache, asked after its upstream server is gone."""

    recipe = UNBOUND

    def command(self, program: Path) -> list[str]:
        base = self.directory
        self.port, self._upstream = free_port(socket.SOCK_DGRAM), Upstream()
        self._upstream.__enter__()
        self._names = [f"host{i}.some-zone.org" for i in range(2000)]
        (base / "unbound.conf").write_text(
            f'server:\n interface: 127.0.0.1\n port: {self.port}\n username: ""\n chroot: ""\n'
            f' directory: "{base}"\n pidfile: "{base}/server.pid"\n do-daemonize: '
            f'{"yes" if self.mode == DAEMON else "no"}\n module-config: "iterator"\n num-threads: 1\n'
            f' do-not-query-localhost: no\n logfile: "{base}/log"\n use-syslog: no\n'
            f'remote-control:\n control-enable: no\nforward-zone:\n name: "."\n'
            f" forward-addr: 127.0.0.1@{self._upstream.port}\n"
        )
        return [str(program), "-c", f"{base}/unbound.conf"]

    def _ask(self, names: list[str]) -> None:
        with Client(self.port) as client:
            wrong = [name for name in names if client.ask(name) != [address_of(name)]]
        assert not wrong, f"{len(wrong)} of {len(names)}"

    def ready(self) -> bool:
        try:
            with Client(self.port, timeout=0.3) as client:
                return client.ask("ready.org") == [address_of("ready.org")]
        except OSError:
            return False

    def populate(self) -> None:
        self._ask(self._names)

    def check(self) -> None:
        self._upstream.stop()
        self._ask(self._names)

    def work(self) -> None:
        self._ask(self._names[:50])

    def close(self) -> None:
        self._upstream.stop()


class _Lines(Subject):
    """Asked in lines of text."""

    def __init__(self, directory: Path, mode: str) -> None:
        super().__init__(directory, mode)
        self.port = free_port()

    def _open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def ready(self) -> bool:
        try:
            self._open().close()
        except OSError:
            return False
        return True

    @staticmethod
    def _ask(connection: socket.socket, line: bytes, end: bytes) -> bytes:
        connection.sendall(line + b"\r\n")
        answer = b""
        while not answer.endswith(end):
            part = connection.recv(65536)
            assert part, "the server closed the connection"
            answer += part
        return answer

    def close(self) -> None:
        if hasattr(self, "_connection"):
            self._connection.close()


class Memcached(_Lines):
    """Has threads of its own also with one worker: refused by name."""

    recipe = MEMCACHED

    def command(self, program: Path) -> list[str]:
        mode = ["-d", "-P", f"{self.directory}/server.pid"] if self.mode == DAEMON else []
        return [str(program), "-t", "1", "-u", "root", "-l", "127.0.0.1", "-p", str(self.port), *mode]

    def populate(self) -> None:
        self._connection = self._open()
        for i in range(1000):
            self._ask(self._connection, b"set key%d 0 0 7\r\nitem%03d" % (i, i % 1000), b"STORED\r\n")

    def check(self) -> None:
        for i in range(1000):
            assert b"item%03d" % (i % 1000) in self._ask(self._connection, b"get key%d" % i, b"END\r\n")

    def work(self) -> None:
        with self._open() as connection:
            assert b"item007" in self._ask(connection, b"get key7", b"END\r\n")


class Redis(_Lines):
    """Has threads for slow work: refused by name."""

    recipe = REDIS

    def command(self, program: Path) -> list[str]:
        options = {
            "bind": "127.0.0.1", "port": self.port, "save": "", "dir": self.directory,
            "daemonize": "yes" if self.mode == DAEMON else "no", "pidfile": f"{self.directory}/server.pid",
            "logfile": f"{self.directory}/log",
        }  # fmt: skip
        return [str(program), *(word for key, value in options.items() for word in (f"--{key}", str(value)))]

    def populate(self) -> None:
        self._connection = self._open()
        for i in range(1000):
            self._ask(self._connection, b"SET key%d item%03d" % (i, i), b"+OK\r\n")

    def check(self) -> None:
        for i in range(1000):
            assert b"item%03d" % i in self._ask(self._connection, b"GET key%d" % i, b"item%03d\r\n" % i)

    def work(self) -> None:
        with self._open() as connection:
            self._ask(connection, b"PING", b"+PONG\r\n")


class Dropbear(_Lines):
    """A process for each connection: the parent alone is updated."""

    recipe = DROPBEAR

    def command(self, program: Path) -> list[str]:
        key = self.directory / "key"
        make = [str(program.parent / "dropbearkey"), "-t", "ed25519", "-f", str(key)]
        subprocess.run(make, check=True, capture_output=True, timeout=60)
        mode = ["-P", f"{self.directory}/server.pid"] + ([] if self.mode == DAEMON else ["-F", "-E"])
        return [str(program), "-r", str(key), "-p", f"127.0.0.1:{self.port}", *mode]

    def _greeting(self) -> None:
        with self._open() as connection:
            assert connection.recv(100).startswith(b"SSH-2.0-dropbear")

    def populate(self) -> None:
        self._greeting()

    def check(self) -> None:
        self._greeting()


MORE: tuple[type[Subject], ...] = (Unbound, Memcached, Redis, Dropbear)
