"""Addresses that the past owns are lent; new ones are not heard of before commit."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest
from tests.live.running import Compile, Running, Start
from tests.live.startup_support import PATIENCE_S, ask, build, descriptors, free_port, future_of

from instar.process.descriptors import duplicate


def ask_unix(address: str | bytes) -> str:
    """What the server behind a unix socket answers."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(address)
        sock.sendall(b"hello")
        return sock.recv(64).decode()


Addresses = tuple[Path, Path, Running, int, Path, int]


@pytest.fixture
def addresses(compile_c: Compile, start: Start, tmp_path: Path) -> Addresses:
    """The past with its addresses: program, new program, process, port, path, new port."""
    old, new = build(compile_c, "addresses")
    port, fresh, path = free_port(), free_port(), tmp_path / "socket"
    return old, new, start(old, str(port), str(path), str(fresh)), port, path, fresh


def test_every_address_is_lent(addresses: Addresses) -> None:
    old, new, past, port, path, _ = addresses
    before, facts = descriptors(past.pid), path.stat()
    with future_of(past.pid, old, new) as future:
        after = descriptors(future.pid)
        listeners = [number for number in range(3, 7) if before[number].startswith("socket:")]
        assert listeners == [3, 4, 5, 6]
        assert {after[number] for number in listeners} == {before[number] for number in listeners}
        assert path.stat().st_ino == facts.st_ino and path.stat().st_mode == facts.st_mode
        for _ in range(4):
            assert ask(port) == "hello v1"
            assert ask_unix(str(path)) == "hello v1"
            assert ask_unix(b"\0instar-test-%d" % port) == "hello v1"
    assert ask_unix(str(path)) == "hello v1"
    assert path.stat().st_ino == facts.st_ino


def test_new_listener_is_heard_of_at_commit_only(addresses: Addresses) -> None:
    old, new, past, port, path, fresh = addresses
    with future_of(past.pid, old, new) as future:
        assert f"listen on 127.0.0.1:{fresh}" in future.plan
        with pytest.raises(ConnectionRefusedError):
            ask(fresh)
        past.process.kill()
        past.process.wait()
        assert future.commit_held() == []
        future.tracee.detach()
        assert ask(fresh) == "hello v2"
        assert ask(port) == "hello v2"
        assert ask_unix(str(path)) == "hello v2"
        assert stat.S_IMODE(path.stat().st_mode) == 0o602


def test_new_listener_is_never_heard_of_after_abort(addresses: Addresses) -> None:
    old, new, past, port, _, fresh = addresses
    with future_of(past.pid, old, new):
        pass
    with pytest.raises(ConnectionRefusedError):
        ask(fresh)
    assert ask(port) == "hello v1"


def test_lending_needs_no_right_of_the_new_version(compile_c: Compile, start: Start) -> None:
    """The past has dropped its user; pidfd_getfd would fail inside the new version."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    old, new = build(compile_c, "epoll_server")
    for program in (old, new):
        for parent in (program.parent, program.parent.parent, program.parent.parent.parent):
            parent.chmod(0o755)
        program.chmod(0o755)
    port = free_port()
    past = start(old, str(port), user=65534, group=65534, extra_groups=[])
    with future_of(past.pid, old, new) as future:
        status = Path(f"/proc/{future.pid}/status").read_text()
        assert "Uid:\t65534\t65534\t65534\t65534" in status
        assert descriptors(future.pid)[3] == descriptors(past.pid)[3]
        assert ask(port) == "hello v1"


def settings(pid: int, number: int) -> dict[str, int]:
    """What is set on a listening TCP socket of a process; the backlog as tcpi_sacked has it (tcp(7))."""
    with closing(socket.socket(fileno=duplicate(pid, number))) as sock:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        return {
            "priority": sock.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY),
            "keepalive": sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            "nodelay": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
            "backlog": int.from_bytes(info[28:32], "little"),
        }


@pytest.mark.parametrize("ending", ["abort", "commit"])
def test_options_reach_the_lent_socket_at_commit_only(compile_c: Compile, start: Start, ending: str) -> None:
    old, new = build(compile_c, "options")
    port = free_port()
    past = start(old, str(port))
    before = settings(past.pid, 3)
    assert before == {"priority": 0, "keepalive": 0, "nodelay": 0, "backlog": 16}
    with future_of(past.pid, old, new) as future:
        assert settings(past.pid, 3) == before
        assert settings(future.pid, 3) == before  # the very socket
        assert f"set the backlog of 127.0.0.1:{port} to 77" in future.plan
        if ending == "commit":
            past.process.kill()
            past.process.wait()
            assert future.commit_held() == []
            after = {"priority": 4, "keepalive": 1, "nodelay": 1, "backlog": 77}
            assert settings(future.pid, 3) == after
    if ending == "abort":
        assert settings(past.pid, 3) == before
        assert ask(port) == "hello v1"
