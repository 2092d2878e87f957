"""nginx, lighttpd and mini_httpd, with idle clients, a request half sent and an answer half read."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from tests.real.recipes import LIGHTTPD, MINI_HTTPD, NGINX
from tests.real.servers import free_port
from tests.real.subject import DAEMON, Subject

_CLIENTS = 60
_LARGE = b"".join(b"line %9d of a large file\n" % i for i in range(400_000))


class HttpClient:
    """A connection that stays open."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._data = b""

    def send(self, data: bytes) -> None:
        """Send as it is."""
        self._socket.sendall(data)

    def request(self, path: str, *, close: bool = False) -> None:
        """Ask for a file."""
        how = "close" if close else "keep-alive"
        self.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {how}\r\n\r\n".encode())

    def _more(self) -> None:
        part = self._socket.recv(65536)
        assert part, "the server closed the connection"
        self._data += part

    def begin(self) -> int:
        """Read the head of an answer; returns the length of what follows."""
        while b"\r\n\r\n" not in self._data:
            self._more()
        head, self._data = self._data.split(b"\r\n\r\n", 1)
        assert head.split()[1] == b"200", head
        found = re.search(rb"content-length: (\d+)", head, re.I)
        assert found is not None, head
        return int(found[1])

    def finish(self, length: int) -> bytes:
        """Read the body."""
        while len(self._data) < length:
            self._more()
        body, self._data = self._data[:length], self._data[length:]
        return body

    def get(self, path: str) -> bytes:
        """Ask and read."""
        self.request(path)
        return self.finish(self.begin())

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class WebServer(Subject):
    """What the web servers have in common."""

    keeps_alive = True

    def __init__(self, directory: Path, mode: str) -> None:
        super().__init__(directory, mode)
        self.port = free_port()
        self._clients: list[HttpClient] = []
        (directory / "www").mkdir()
        (directory / "www/small").write_bytes(b"a small file\n")
        (directory / "www/large").write_bytes(_LARGE)

    def _open(self) -> HttpClient:
        self._clients.append(HttpClient(self.port))
        return self._clients[-1]

    def ready(self) -> bool:
        try:
            client = HttpClient(self.port)
        except OSError:
            return False
        client.close()
        return True

    def populate(self) -> None:
        self._half = self._open()
        self._half.send(b"GET /small HTTP/1.1\r\nHost: loc")
        if not self.keeps_alive:
            return
        self._idle = [self._open() for _ in range(_CLIENTS)]
        for client in self._idle:
            assert client.get("/small") == b"a small file\n"
        self._reader = self._open()
        self._reader.request("/large")
        self._length = self._reader.begin()

    def check(self) -> None:
        self._half.send(b"alhost\r\n\r\n")
        assert self._half.finish(self._half.begin()) == b"a small file\n"
        if not self.keeps_alive:
            return
        assert self._reader.finish(self._length) == _LARGE
        for client in [*self._idle, self._reader]:
            assert client.get("/small") == b"a small file\n"

    def work(self) -> None:
        client = HttpClient(self.port)
        client.request("/small", close=True)
        assert client.finish(client.begin()) == b"a small file\n"
        client.close()

    def close(self) -> None:
        for client in self._clients:
            client.close()


class Nginx(WebServer):
    """One process; its counters go on."""

    recipe = NGINX
    states = (5, 22)

    def command(self, program: Path) -> list[str]:
        base = self.directory
        (base / "logs").mkdir()
        (base / "nginx.conf").write_text(
            f"master_process off;\ndaemon {'on' if self.mode == DAEMON else 'off'};\n"
            f"user root;\npid {base}/server.pid;\nerror_log {base}/logs/error.log info;\n"
            "events { worker_connections 512; }\n"
            f"http {{ access_log {base}/logs/access.log; keepalive_timeout 600; client_header_timeout 600;\n"
            f"client_body_temp_path {base}/body; proxy_temp_path {base}/proxy;\n"
            f"fastcgi_temp_path {base}/fcgi;\n"
            f"uwsgi_temp_path {base}/uwsgi; scgi_temp_path {base}/scgi;\n"
            f"server {{ listen 127.0.0.1:{self.port}; root {base}/www;\n"
            "location /status { stub_status; } } }\n"
        )
        return [str(program), "-c", f"{base}/nginx.conf", "-p", str(base)]

    def _requests(self) -> int:
        return int(self._idle[0].get("/status").split(b"\n")[2].split()[2])

    def populate(self) -> None:
        super().populate()
        self._counted = self._requests()

    def check(self) -> None:
        assert self._requests() > self._counted
        super().check()


class Lighttpd(WebServer):
    """With its built-in modules only."""

    recipe = LIGHTTPD
    states = (None, None)

    def command(self, program: Path) -> list[str]:
        base = self.directory
        (base / "lighttpd.conf").write_text(
            f'server.document-root = "{base}/www"\nserver.port = {self.port}\nserver.bind = "127.0.0.1"\n'
            f'server.pid-file = "{base}/server.pid"\nserver.errorlog = "{base}/error.log"\n'
            "server.max-keep-alive-requests = 100000\nserver.max-keep-alive-idle = 600\n"
            "server.max-read-idle = 600\n"
        )
        command = [str(program), "-f", f"{base}/lighttpd.conf", "-m", str(program.parent / ".libs")]
        return command if self.mode == DAEMON else [*command, "-D"]


class MiniHttpd(WebServer):
    """A process for each request: the parent alone is updated, and refused while it has children."""

    recipe = MINI_HTTPD
    keeps_alive = False

    def command(self, program: Path) -> list[str]:
        base = self.directory
        command = [str(program), "-p", str(self.port), "-h", "127.0.0.1", "-d", f"{base}/www", "-u", "root"]
        return [*command, "-i", f"{base}/server.pid", *([] if self.mode == DAEMON else ["-D"])]

    def populate(self) -> None:
        self.work()

    def check(self) -> None:
        self.work()
