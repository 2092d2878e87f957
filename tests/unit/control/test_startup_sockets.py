"""The rules for sockets, without any process."""

from __future__ import annotations

import errno
import struct

import pytest
from tests.unit.control.situations import Made, call, descriptor, facts, inet, inet6, place, sock, unix

from instar.control.startup_answers import Alter, Answer, Fake, Handle, Lend, Refuse, Run
from instar.control.startup_rules import decide

TCP, UDP = 1, 2


def new_socket(number: int = 4, **changes: object) -> Handle:
    return Handle(number, "socket", "socket:[900]", 8, 900, **changes)  # type: ignore[arg-type]


def bind(made: Made, address: bytes, number: int = 4) -> Answer:
    return decide(call("bind", number, made.put(address), len(address)), made)


def with_listener(address: bytes, family: int = 2, kind: int = TCP, **changes: object) -> Made:
    """The past listens at an address with descriptor 7; the new version has made socket 4."""
    details = sock(family, kind, listening=kind == TCP, local=address)
    return Made(
        [descriptor(7, "socket", 70, details)],
        {4: new_socket()},
        {4: sock(family, kind)},
        **changes,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (2, inet(80)),
        (2, inet(80, (0, 0, 0, 0))),
        (10, inet6(80)),
        (10, inet6(80, bytes(15) + b"\1")),
        (1, unix(b"\0abstract")),
        (1, unix(b"/run/socket")),
    ],
)
@pytest.mark.parametrize("kind", [TCP, UDP])
def test_equal_address_is_lent(family: int, address: bytes, kind: int) -> None:
    assert bind(with_listener(address, family, kind), address) == Lend(4, 7)


@pytest.mark.parametrize(
    ("family", "kind", "theirs", "ours"),
    [
        (2, TCP, inet(80), inet(81)),
        (2, TCP, inet(80), inet(80, (127, 0, 0, 2))),
        (2, TCP, inet(80), inet(0)),
        (10, TCP, inet6(80), inet6(80, bytes(15) + b"\1")),
        (1, TCP, unix(b"\0abstract"), unix(b"\0abstract2")),
    ],
)
def test_other_address_is_bound_really(family: int, kind: int, theirs: bytes, ours: bytes) -> None:
    assert bind(with_listener(theirs, family, kind), ours) == Run()


def test_other_protocol_of_the_same_address_is_not_lent() -> None:
    made = with_listener(inet(53), 2, TCP)
    made.sockets[4] = sock(2, UDP)
    assert bind(made, inet(53)) == Run()


def test_flow_label_and_padding_do_not_count() -> None:
    made = with_listener(inet6(80)[:4] + b"\1\2\3\4" + inet6(80)[8:], 10)
    assert bind(made, inet6(80)) == Lend(4, 7)


def test_accepted_connections_own_no_address() -> None:
    connection = sock(2, TCP, local=inet(80), peer=inet(5555))
    made = Made([descriptor(9, "socket", 71, connection)], {4: new_socket()}, {4: sock()})
    assert bind(made, inet(80)) == Run()


def test_of_several_the_one_with_the_same_number_then_one_not_lent_yet() -> None:
    details = sock(2, TCP, listening=True, local=inet(80))
    past = [descriptor(number, "socket", 70 + number, details) for number in (5, 6, 7)]
    made = Made(past, {6: new_socket(6)}, {6: sock(), 4: sock()})
    assert bind(made, inet(80), 6) == Lend(6, 6)
    made.handles = {5: Handle(5, "socket", "", 8, 75, past=(5,)), 4: new_socket()}
    assert bind(made, inet(80), 4) == Lend(4, 6)


def test_relative_path_of_the_past_is_found_by_its_file() -> None:
    made = with_listener(unix(b"run/socket"), 1)
    made.places[b"/srv/run/socket"] = place("/srv/run/socket", facts(3, 0o140755), owner=7)
    answer = bind(made, unix(b"/srv/run/socket"))
    assert isinstance(answer, Lend) and answer.past == 7


def test_socket_file_of_nobody_that_was_removed_gets_a_shadow() -> None:
    made = Made([], {4: new_socket()}, {4: sock(1)})
    made.places[b"/run/stale"] = place("/run/stale", None, absent=True)
    answer = bind(made, unix(b"/run/stale"))
    assert isinstance(answer, Alter)
    assert answer.paths == {1: b"\1\0/.shadow-stale"}
    assert answer.arguments == {2: len(b"\1\0/.shadow-stale") + 1}
    assert answer.note.shown_as is made.places[b"/run/stale"]


def test_new_socket_file_is_noted() -> None:
    made = Made([], {4: new_socket()}, {4: sock(1)})
    made.places[b"/run/fresh"] = place("/run/fresh")
    answer = bind(made, unix(b"/run/fresh"))
    assert isinstance(answer, Run) and answer.note.created is made.places[b"/run/fresh"]


@pytest.mark.parametrize(
    ("name", "arguments", "verb", "values"),
    [
        ("listen", (16,), "backlog", (16,)),
        ("shutdown", (2,), "shutdown", (2,)),
        ("setsockopt", (1, 8, 0, 0), "option", (1, 8)),
    ],
)
def test_a_lent_socket_is_changed_at_commit(
    name: str, arguments: tuple[int, ...], verb: str, values: tuple[int, ...]
) -> None:
    made = Made(handles={4: new_socket(past=(7,))})
    answer = decide(call(name, 4, *arguments), made)
    assert isinstance(answer, Fake) and answer.result == 0
    (held,) = answer.held
    assert (held.verb, held.number, held.values) == (verb, 4, values)


def test_options_of_own_sockets_are_set_and_written_down() -> None:
    made = Made(handles={4: new_socket()})
    answer = decide(call("setsockopt", 4, 1, 8, made.put(b"\1\0\0\0"), 4), made)
    assert isinstance(answer, Run) and answer.note.option is not None
    assert answer.note.option.data == b"\1\0\0\0"
    assert decide(call("shutdown", 4, 2), made) == Run()


def test_a_filter_is_held_with_its_instructions() -> None:
    made = Made(handles={4: new_socket(past=(7,))})
    program = struct.pack("<HBBI", 6, 0, 0, 0xFFFF)
    value = struct.pack("<H6xQ", 1, made.put(program))
    answer = decide(call("setsockopt", 4, 1, 26, made.put(value), len(value)), made)
    assert isinstance(answer, Fake) and answer.held[0].data == program


@pytest.mark.parametrize(("level", "name"), [(1, 50), (1, 52), (0, 64), (41, 65)])
def test_options_that_cannot_be_held_are_refused(level: int, name: int) -> None:
    made = Made(handles={4: new_socket(past=(7,))})
    answer = decide(call("setsockopt", 4, level, name, made.put(bytes(8)), 4), made)
    assert isinstance(answer, Refuse) and answer.code == "startup-forbidden"


@pytest.mark.parametrize("length", [-1, 1 << 20])
def test_an_impossible_option_fails(length: int) -> None:
    made = Made(handles={4: new_socket(past=(7,))})
    assert decide(call("setsockopt", 4, 1, 8, 0, length), made) == Fake(-errno.EINVAL)


def test_listen_at_a_new_address_is_held() -> None:
    made = Made(handles={4: new_socket()}, sockets={4: sock(local=inet(81))})
    answer = decide(call("listen", 4, 16), made)
    assert isinstance(answer, Fake) and answer.result == 0
    (held,) = answer.held
    assert (held.verb, held.number, held.values, held.text) == ("listen", 4, (16,), "127.0.0.1:81")


@pytest.mark.parametrize("name", ["accept", "accept4", "recvfrom", "recvmsg", "recvmmsg", "read", "readv"])
def test_clients_of_the_past_wait_for_the_past(name: str) -> None:
    lent = Made(handles={4: new_socket(past=(7,))})
    silent = Made(handles={4: new_socket(silent=True)})
    own = Made(handles={4: new_socket()})
    assert decide(call(name, 4), lent) == Fake(-errno.EAGAIN)
    assert decide(call(name, 4), silent) == Fake(-errno.EAGAIN)
    assert isinstance(decide(call(name, 4), own), Run)


def connect(made: Made, address: bytes) -> Answer:
    return decide(call("connect", 4, made.put(address), len(address)), made)


def test_connections_out() -> None:
    made = Made(handles={4: new_socket()}, sockets={4: sock()})
    answer = connect(made, inet(5432, (10, 0, 0, 9)))
    assert isinstance(answer, Refuse)
    assert answer.code == "startup-connect" and "10.0.0.9:5432" in answer.cause
    made.sockets[4] = sock(2, UDP)
    assert connect(made, inet(53, (10, 0, 0, 9))) == Run()
    made.sockets[4] = sock(16, 3)
    assert connect(made, struct.pack("<HHII", 16, 0, 0, 0)) == Run()


@pytest.mark.parametrize("address", [inet(80), inet(80, (0, 0, 0, 0)), inet(80, (127, 1, 2, 3))])
def test_the_past_cannot_be_connected_to(address: bytes) -> None:
    made = with_listener(inet(80, (0, 0, 0, 0)))
    assert connect(made, address) == Fake(-errno.ECONNREFUSED)


def test_unix_services() -> None:
    made = Made(handles={4: new_socket()}, sockets={4: sock(1)})
    for quiet in ("/run/nscd/socket", "/dev/log", "/run/systemd/journal/stdout"):
        made.places[quiet.encode()] = place(quiet, facts(3, 0o140755))
        assert connect(made, unix(quiet.encode())) == Run()
    made.places[b"/run/database"] = place("/run/database", facts(3, 0o140755))
    assert isinstance(connect(made, unix(b"/run/database")), Refuse)
    made.sockets[4] = sock(1, UDP)
    assert connect(made, unix(b"/run/database")) == Run()


def send(made: Made, data: bytes, address: bytes = b"") -> Answer:
    where = made.put(address) if address else 0
    return decide(call("sendto", 4, made.put(data), len(data), 0, where, len(address)), made)


def test_sending() -> None:
    made = Made(handles={4: new_socket()}, sockets={4: sock(2, UDP)})
    assert isinstance(send(made, b"x", inet(514)), Refuse)
    assert send(made, b"query", inet(53)) == Run()
    made.sockets[4] = sock(1, UDP, peer=unix(b"/dev/log"))
    assert send(made, b"<30>starting") == Run()
    made.sockets[4] = sock(17, 3)
    assert isinstance(send(made, b"frame"), Refuse)
    made.handles[4] = new_socket(past=(7,))
    made.sockets[4] = sock(2, UDP)
    assert isinstance(send(made, b"x", inet(53)), Refuse)


def test_output_to_a_shared_socket_is_held() -> None:
    made = Made(handles={4: new_socket(past=(1,), inherited=True)}, sockets={4: sock(1)})
    answer = send(made, b"hello")
    assert isinstance(answer, Fake) and answer.result == 5
    assert (answer.held[0].verb, answer.held[0].data) == ("output", b"hello")


@pytest.mark.parametrize(
    ("protocol", "kind", "flags", "harmless"),
    [
        (0, 18, 0x301, True),  # RTM_GETLINK, dump
        (0, 22, 0x1, True),  # RTM_GETADDR
        (0, 20, 0x5, False),  # RTM_NEWADDR
        (0, 25, 0x5, False),  # RTM_DELROUTE
        (4, 20, 0x301, True),  # SOCK_DIAG_BY_FAMILY
        (4, 21, 0x1, False),  # SOCK_DESTROY
        (9, 1112, 0x5, True),  # AUDIT_USER_LOGIN
        (9, 1001, 0x5, False),  # AUDIT_SET
        (16, 16, 0x5, True),  # genetlink controller
        (16, 30, 0x5, False),
        (12, 0x100, 0x301, True),  # conntrack dump
        (12, 0xA00, 0x5, False),  # nftables
    ],
)
def test_netlink(protocol: int, kind: int, flags: int, harmless: bool) -> None:
    made = Made(handles={4: new_socket()}, sockets={4: sock(16, 3, protocol=protocol)})
    message = struct.pack("<IHHII", 20, kind, flags, 1, 0) + bytes(4)
    answer = send(made, message)
    assert isinstance(answer, Run if harmless else Refuse)


def test_netlink_batch_is_judged_whole() -> None:
    made = Made(handles={4: new_socket()}, sockets={4: sock(16, 3)})
    good, bad = struct.pack("<IHHII", 16, 18, 0x301, 1, 0), struct.pack("<IHHII", 16, 20, 5, 2, 0)
    assert isinstance(send(made, good + bad), Refuse)
