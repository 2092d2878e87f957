"""The campaign's servers: the example with its clients, and dnsmasq under queries."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from functools import cache
from pathlib import Path

from tests.real import builds, dns_messages, recipes

from faults.subjects import PATIENCE_S, ROOT, Subject
from instar.testing.programs import Program, TalkError

_CLIENTS = 24
_NAMES = 60
_READY_S = 60.0
_TRIES = 5


class Connection:
    """A client of hallway that knows what it must be told."""

    def __init__(self, port: int, number: int) -> None:
        self.number, self.commands, self.value = number, 0, ""
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._input = b""
        hello = self.ask(f"HELLO client-{number}")
        self.session = hello.rpartition(" ")[2]
        self.ask(f"JOIN room-{number % 4}")
        self.store("first")

    def ask(self, command: str) -> str:
        """One line for one line; chat of others is passed over."""
        self.socket.sendall(command.encode() + b"\n")
        self.commands += 1
        while True:
            while b"\n" not in self._input:
                data = self.socket.recv(65536)
                if not data:
                    raise TalkError("the connection was closed")
                self._input += data
            line, _, self._input = self._input.partition(b"\n")
            if not line.startswith(b"client-") or b": " not in line:
                return line.decode()

    def say(self, text: str) -> None:
        """To its room; the answer is chat."""
        self.socket.sendall(f"SAY {text}\n".encode())
        self.commands += 1

    def store(self, value: str) -> None:
        """Change what the server keeps for it."""
        answer = self.ask(f"SET key-{self.number} {value}")
        if answer != "stored":
            raise TalkError(f"SET is answered by {answer!r}")
        self.value = value

    def examine(self) -> list[str]:
        """Session, room, count of commands, value."""
        wanted = f"client-{self.number}, session {self.session}, {self.commands + 1} commands"
        wanted += f", room room-{self.number % 4}"
        found = self.ask("WHOAMI")
        wrong = [f"{found!r} for {wanted!r}"] if found != wanted else []
        found = self.ask(f"GET key-{self.number}")
        return wrong + ([f"{found!r} for {self.value!r}"] if found != f"value {self.value}" else [])

    def is_open(self) -> bool:
        """Whether the other side has not hung up."""
        try:
            readable = select.select([self.socket], [], [], 0)[0]
            return not readable or self.socket.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            return False


class Hallway(Subject):
    """The example server, with clients in rooms."""

    name = "hallway"
    weight = 4

    @classmethod
    @cache
    def programs(cls) -> tuple[Path, Path]:
        """As `make demo` builds them."""
        subprocess.run(["make", "-C", ROOT / "examples", "--silent"], check=True)
        build = ROOT / "examples" / "build"
        return build / "v1" / "hallway", build / "v2" / "hallway"

    def _start(self) -> int:
        port = _free_port(socket.SOCK_STREAM)
        command: list[str | Path] = [self.old, str(port), self.home / "hallway.log"]
        self._program = Program(command, environment=self.environment, directory=self.home)
        self._port = port
        self._clients = [Connection(port, number) for number in range(_CLIENTS)]
        return self._program.pid

    def work(self) -> None:
        """One client stores another value."""
        self.rounds += 1
        client = self._clients[self.rounds % _CLIENTS]
        client.store(f"value-{self.rounds}-{'x' * (self.rounds % 50)}")

    def examine(self) -> list[str]:
        """Every client on its own connection."""
        wrong: list[str] = []
        for client in self._clients:
            try:
                wrong += client.examine()
            except (TalkError, OSError) as error:
                wrong.append(str(error) or type(error).__name__)
                if len(wrong) > 2:
                    break  # each of them would wait
        return wrong

    def exhaust(self) -> list[str]:
        """Members of a room hear each other; sessions end; keys go; a new client comes."""
        try:
            for client in self._clients[:8]:
                client.ask(f"DEL key-{client.number}")
                client.say("hello")
            for client in self._clients[:8]:
                client.ask("QUIT")
            late = Connection(self._port, _CLIENTS)
            wrong = late.examine()
            late.socket.close()
            for client in self._clients[8:]:
                wrong += client.examine()
            return wrong
        except (TalkError, OSError) as error:
            return [f"afterwards: {error}"]

    def lost_connections(self) -> int:
        """That the server hung up."""
        return sum(not client.is_open() for client in self._clients)

    def hang_up(self) -> None:
        """All of them."""
        for client in self._clients:
            client.socket.close()

    def close(self) -> None:
        """With its pipes."""
        super().close()
        self._program.close()


def _free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Dnsmasq(Subject):
    """A resolver with a cache, whose upstream server answers nothing any more."""

    name = "dnsmasq"
    weight = 2

    @classmethod
    @cache
    def programs(cls) -> tuple[Path, Path]:
        """The distribution's package with its first patch, and with all."""
        pair = builds.build_pair(recipes.DNSMASQ)
        return pair.old, pair.new

    def _start(self) -> int:
        self._upstream = dns_messages.Upstream()
        self._upstream.__enter__()
        for _ in range(_TRIES):  # a port that was free may be another's by now
            port = _free_port(socket.SOCK_DGRAM)
            self._child = self._spawn(port)
            if self._is_ready(port):
                break
        else:
            raise RuntimeError(f"dnsmasq does not start; see {self.home / 'log'}")
        self._client = dns_messages.Client(port, PATIENCE_S)
        self._names = [f"host{i}.{'long-name.' * (i % 4) * 2}name.test" for i in range(_NAMES)]
        for name in self._names:
            self._require(name)
        self._counted = self._insertions()
        return self._child.pid

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        command = [
            str(self.old), "-C", "/dev/null", f"--port={port}", "--listen-address=127.0.0.1",
            "--bind-interfaces", "--no-resolv", "--no-hosts", f"--server=127.0.0.1#{self._upstream.port}",
            "--cache-size=500", "--user=root", "--group=root", "--keep-in-foreground",
            f"--pid-file={self.home / 'dnsmasq.pid'}", f"--log-facility={self.home / 'log'}",
        ]  # fmt: skip
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=self.home, env=self.environment)

    def _is_ready(self, port: int) -> bool:
        """Whether it answers; False when it has ended."""
        end = time.monotonic() + _READY_S
        while self._child.poll() is None:
            try:
                with dns_messages.Client(port, 0.5) as probe:
                    probe.text("version.bind")
                return self._child.poll() is None  # not another's answer
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
        return False

    def _require(self, name: str) -> None:
        found = self._client.ask(name)
        if found != [dns_messages.address_of(name)]:
            raise TalkError(f"{name} is answered by {found}")

    def _insertions(self) -> int:
        return int(self._client.text("insertions.bind"))

    def work(self) -> None:
        """A name that is cached, and one that is not."""
        self.rounds += 1
        self._require(self._names[self.rounds % len(self._names)])
        if self.rounds % 4 == 0 and len(self._names) < 2 * _NAMES:
            self._names.append(f"late{self.rounds}.test")
            self._require(self._names[-1])
            self._counted = self._insertions()

    def examine(self) -> list[str]:
        """All names come from the cache, which nothing was put into since."""
        try:
            for name in self._names:
                self._require(name)
            found = self._insertions()
        except (TalkError, OSError, ValueError) as error:
            return [str(error) or type(error).__name__]
        return [] if found == self._counted else [f"{found} insertions, {self._counted} before"]

    def exhaust(self) -> list[str]:
        """So many new names that the old ones must go."""
        try:
            for i in range(600):
                self._require(f"afterwards{i}.{'much.' * (i % 3) * 5}later.test")
        except (TalkError, OSError, ValueError) as error:
            return [f"afterwards: {error}"]
        return []

    def lost_connections(self) -> int:
        """Queries come as datagrams: nothing to lose but the answers."""
        return 0

    def hang_up(self) -> None:
        """With the upstream server."""
        self._upstream.stop()
        self._client.__exit__()

    def close(self) -> None:
        """The child too."""
        super().close()
        if self._child.poll() is None:
            os.kill(self._child.pid, 9)
        self._child.wait()
