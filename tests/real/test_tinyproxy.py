"""tinyproxy with a client in an idle tunnel: carried, or refused by name; never lost."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.real.builds import Pair
from tests.real.servers import Server, alive, free_port, until


class EchoServer:
    """The far end of a tunnel: sends back every line."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> EchoServer:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)


class Tunnel:
    """A client connection through the proxy."""

    def __init__(self, proxy: int, target: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", proxy), timeout=20)
        request = f"CONNECT 127.0.0.1:{target} HTTP/1.1\r\nHost: 127.0.0.1:{target}\r\n\r\n"
        self._socket.sendall(request.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = self._socket.recv(4096)
            assert part, "the proxy closed the connection"
            answer += part
        assert b" 200 " in answer.split(b"\r\n")[0]

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def say(self, line: bytes) -> bytes:
        """Send a line and wait for its echo."""
        self._socket.sendall(line)
        answer = b""
        while len(answer) < len(line):
            part = self._socket.recv(4096)
            assert part, "the tunnel broke"
            answer += part
        return answer


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


@pytest.fixture(params=["foreground", "daemon"])
def proxy(
    request: pytest.FixtureRequest, tinyproxy: Pair, start: Callable[..., Server], tmp_path: Path
) -> tuple[Server, int]:
    port, pid_file, settings = free_port(), tmp_path / "proxy.pid", tmp_path / "tinyproxy.conf"
    settings.write_text(
        f'Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogFile "{tmp_path / "log"}"\n'
        f'LogLevel Info\nPidFile "{pid_file}"\nAllow 127.0.0.1\nViaProxyName "proxy"\n'
    )

    def ready() -> bool:
        """Not by connecting: that makes a thread whose identity the server keeps."""
        log = tmp_path / "log"
        return log.exists() and "Accepting connections" in log.read_text()

    daemon = request.param == "daemon"
    command = [str(tinyproxy.old), "-c", str(settings), *([] if daemon else ["-d"])]
    return start(command, pid_file if daemon else None, ready), port


def test_driver(proxy: tuple[Server, int], echo: EchoServer) -> None:
    """Without an update, what the tests below rely on holds."""
    with Tunnel(proxy[1], echo.port) as one, Tunnel(proxy[1], echo.port) as two:
        assert one.say(b"hello\n") == b"hello\n"
        assert two.say(b"there\n") == b"there\n"


def test_without_clients(proxy: tuple[Server, int], tinyproxy: Pair, echo: EchoServer) -> None:
    server, port = proxy
    server.update(tinyproxy.new)
    with Tunnel(port, echo.port) as tunnel:
        assert tunnel.say(b"after\n") == b"after\n"


def test_after_a_client(proxy: tuple[Server, int], tinyproxy: Pair, echo: EchoServer) -> None:
    """The server keeps the ended thread's identity, to join it: no such word can be carried; it is named."""
    server, port = proxy
    with Tunnel(port, echo.port) as tunnel:
        assert tunnel.say(b"before\n") == b"before\n"
    until(lambda: len(list(Path(f"/proc/{server.pid}/task").iterdir())) == 1, "the tunnel's thread ended")
    report = server.update(tinyproxy.new, expect="refused")
    assert "child" in report["error"]["cause"]
    with Tunnel(port, echo.port) as tunnel:
        assert tunnel.say(b"after\n") == b"after\n"


def test_idle_tunnel_is_refused_or_carried(
    proxy: tuple[Server, int], tinyproxy: Pair, echo: EchoServer
) -> None:
    """Each tunnel is a thread that waits where the new version has none: it may not be lost."""
    server, port = proxy
    with Tunnel(port, echo.port) as tunnel:
        assert tunnel.say(b"before\n") == b"before\n"
        report = server.update(tinyproxy.new, expect="refused")
        assert report["error"]["code"] and report["error"]["remedy"]
        assert "thread" in report["error"]["cause"]
        assert alive(server.pid) and server.program() == tinyproxy.old
        assert tunnel.say(b"still here\n") == b"still here\n"
        with Tunnel(port, echo.port) as another:
            assert another.say(b"and new ones\n") == b"and new ones\n"
