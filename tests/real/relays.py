"""Relays: what goes in at one side comes out at the other, and connections stay open on both."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from pathlib import Path

from tests.real.recipes import PEN, RINETD
from tests.real.servers import free_port
from tests.real.subject import DAEMON, Subject

_CLIENTS = 40
_LARGE = b"".join(b"line %9d of what is sent at once\n" % i for i in range(200_000))


class Counter:
    """The service behind a relay: numbers the lines of each connection; "all" is answered with a lot."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            for number, line in enumerate(connection.makefile("rb")):
                connection.sendall(_LARGE if line == b"all\n" else b"%d %s" % (number, line))

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class RelayClient:
    """One connection through the relay."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._count = 0

    def send(self, data: bytes) -> None:
        """Send as it is."""
        self._socket.sendall(data)

    def receive(self, size: int) -> bytes:
        """So many bytes."""
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            assert part, "the relay closed the connection"
            data += part
        return data

    def ask(self, line: bytes, begun: bytes = b"") -> None:
        """Send a line (its beginning was sent before) and get it back with the connection's next number."""
        self.send(line)
        answer = b"%d %s" % (self._count, begun + line)
        self._count += 1
        assert self.receive(len(answer)) == answer

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Relay(Subject):
    """Idle connections, one with half a line on its way, one whose client reads slowly."""

    def __init__(self, directory: Path, mode: str) -> None:
        super().__init__(directory, mode)
        self.port = free_port()
        self.service = Counter()
        self._clients: list[RelayClient] = []

    def _open(self) -> RelayClient:
        self._clients.append(RelayClient(self.port))
        return self._clients[-1]

    def ready(self) -> bool:
        try:
            self.work()
        except (OSError, AssertionError):
            return False
        return True

    def populate(self) -> None:
        self._idle = [self._open() for _ in range(_CLIENTS)]
        for i, client in enumerate(self._idle):
            for turn in range(3):
                client.ask(b"client %d in turn %d\n" % (i, turn))
        self._half, self._slow, self._begun = self._open(), self._open(), b"half "
        self._half.send(self._begun)
        self._slow.send(b"all\n")
        self._read = self._slow.receive(100_000)

    def check(self) -> None:
        self._half.ask(b"a line\n", begun=self._begun)
        self._begun = b""
        part = self._slow.receive(100_000)
        at = len(self._read)
        assert part == _LARGE[at : at + len(part)]
        self._read += part
        for i, client in enumerate(self._idle):
            client.ask(b"client %d afterwards\n" % i)

    def work(self) -> None:
        client = RelayClient(self.port)
        client.ask(b"a line\n")
        client.close()

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.service.close()


class Rinetd(Relay):
    """Forwards a port."""

    recipe = RINETD
    states = (None, None)

    def command(self, program: Path) -> list[str]:
        base = self.directory
        (base / "rinetd.conf").write_text(
            f"127.0.0.1 {self.port} 127.0.0.1 {self.service.port}\nallow 127.0.0.*\n"
            f"logfile {base}/log\npidlogfile {base}/server.pid\n"
        )
        return [str(program), "-c", f"{base}/rinetd.conf", *([] if self.mode == DAEMON else ["-f"])]


class Pen(Relay):
    """Balances load; gives up its rights; remembers its clients and has a control port."""

    recipe = PEN
    states = (None, None)
    options = ("--start-as", "root")

    def command(self, program: Path) -> list[str]:
        base = self.directory
        base.chmod(0o777)  # nobody writes there
        self._control = free_port()
        self._ask_with = [str(program.parent / "penctl"), f"127.0.0.1:{self._control}"]
        command = [
            str(program),
            "-r",
            "-u",
            "nobody",
            "-C",
            f"127.0.0.1:{self._control}",
            "-p",
            f"{base}/server.pid",
        ]
        command += [] if self.mode == DAEMON else ["-f"]
        return [*command, f"127.0.0.1:{self.port}", f"127.0.0.1:{self.service.port}"]

    def _tell(self, *words: str) -> str:
        done = subprocess.run([*self._ask_with, *words], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def populate(self) -> None:
        super().populate()
        self._tell("blacklist", "77")

    def check(self) -> None:
        assert self._tell("blacklist").split() == ["77"]
        super().check()
