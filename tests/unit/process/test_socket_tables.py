"""What the kernel's tables say of sockets is what the sockets say themselves."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from instar.process import descriptors
from instar.process.descriptors import list_descriptors
from instar.process.socket_tables import look_up_sockets
from instar.process.sockets import SocketDetails, describe_socket

Sockets = dict[str, socket.socket]


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[Sockets]:
    """Pairs by every way to have one, listeners, and some that the tables do not know."""
    with ExitStack() as stack:
        found: Sockets = {}

        def add(name: str, one: socket.socket) -> socket.socket:
            found[name] = stack.enter_context(one)
            return one

        def connect(name: str, family: int, kind: int, address: tuple[str, int] | str) -> None:
            listener = add(f"{name}-listener", socket.socket(family, kind))
            listener.bind(address)
            listener.listen(1)
            add(f"{name}-client", socket.socket(family, kind)).connect(listener.getsockname())
            add(f"{name}-accepted", listener.accept()[0])

        connect("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        connect("tcp6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0))
        mapped = add("mapped-client", socket.socket(socket.AF_INET6))
        mapped.connect(("::ffff:127.0.0.1", found["tcp-listener"].getsockname()[1]))
        connect("unix", socket.AF_UNIX, socket.SOCK_STREAM, str(tmp_path / "a socket"))
        connect("packets", socket.AF_UNIX, socket.SOCK_SEQPACKET, str(tmp_path / "packets"))
        connect("abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0{tmp_path}")
        add("udp", socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind(("127.0.0.1", 0))
        add("udp6", socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)).bind(("::", 0))
        add("udp-client", socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).connect(
            found["udp"].getsockname()
        )
        add("unbound", socket.socket())
        for number, one in enumerate(socket.socketpair()):
            add(f"pair{number}", one)
        yield found


def inode(one: socket.socket) -> int:
    return os.fstat(one.fileno()).st_ino


def test_tables_say_what_sockets_say(sockets: Sockets) -> None:
    found = look_up_sockets(os.getpid(), [inode(one) for one in sockets.values()])
    for name, one in sockets.items():
        if inode(one) in found:
            assert found[inode(one)] == describe_socket(one.fileno()), name


def test_what_opens_and_closes_all_the_time_is_in_the_tables(sockets: Sockets) -> None:
    found = look_up_sockets(os.getpid(), [inode(one) for one in sockets.values()])
    names = {name for name, one in sockets.items() if inode(one) in found}
    internet = {"listener", "client", "accepted"}
    assert names == {f"tcp-{role}" for role in internet} | {f"tcp6-{role}" for role in internet} | {
        "mapped-client", "unix-accepted", "packets-accepted", "udp", "udp6", "udp-client",
    }  # fmt: skip


def test_other_sockets_are_not_looked_for(sockets: Sockets) -> None:
    wanted = inode(sockets["udp"])
    assert set(look_up_sockets(os.getpid(), [wanted])) == {wanted}
    assert look_up_sockets(os.getpid(), []) == {}


def test_only_what_the_tables_do_not_know_is_duplicated(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A duplicate keeps what the process closes meanwhile open: its epoll set would go on reporting it."""
    asked: list[int] = []
    ask = descriptors._socket_details

    def note(source: descriptors.Source, one: descriptors.Descriptor) -> SocketDetails | None:
        asked.append(one.number)
        return ask(source, one)

    monkeypatch.setattr(descriptors, "_socket_details", note)
    details = {one.number: one.socket for one in list_descriptors(os.getpid())}
    for name, one in sockets.items():
        assert details[one.fileno()] == describe_socket(one.fileno()), name
    duplicated = {name for name, one in sockets.items() if one.fileno() in asked}
    assert duplicated == {
        "unix-listener", "unix-client", "packets-listener", "packets-client", "abstract-listener",
        "abstract-client", "abstract-accepted", "unbound", "pair0", "pair1",
    }  # fmt: skip


@pytest.mark.parametrize("behind", ["the rest of the name", "0: 00000003 00000000 00000000 0001 03 {} /x"])
def test_a_name_of_several_lines_is_no_row(
    sockets: Sockets, tmp_path: Path, behind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any process may bind it; the kernel writes it as it is, so it may read like another row."""
    accepted = inode(sockets["unix-accepted"])
    assert accepted in look_up_sockets(os.getpid(), [accepted])
    name = tmp_path / ("n\n" + behind.format(accepted))
    name.parent.mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as liar:
        liar.bind(os.path.relpath(name))
        assert accepted not in look_up_sockets(os.getpid(), [accepted])
    assert accepted in look_up_sockets(os.getpid(), [accepted])
