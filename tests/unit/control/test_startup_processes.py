"""The rules for processes and the system, and the choice of descriptor numbers, without any process."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.control.situations import OWN_PID, PAST_PID, Made, call, descriptor, sock

from instar.control.startup_answers import Fake, Handle, Refuse, Run
from instar.control.startup_numbers import Likeness, choose_number, likeness, pair_numbers
from instar.control.startup_processes import RULES
from instar.control.startup_rules import decide

STRANGER = 777


@pytest.mark.parametrize("signal", [0, 15])
def test_the_past_does_not_exist(signal: int) -> None:
    made = Made(handles={99: Handle(99, "pidfd", "anon_inode:[pidfd]", 8, 1)})
    assert decide(call("kill", PAST_PID, signal), made) == Fake(-errno.ESRCH)
    assert decide(call("tgkill", PAST_PID, PAST_PID, signal), made) == Fake(-errno.ESRCH)
    assert decide(call("pidfd_send_signal", 99, signal), made) == Fake(-errno.ESRCH)
    assert decide(call("pidfd_open", PAST_PID, 0), made) == Fake(-errno.ESRCH)
    assert decide(call("kill", -PAST_PID, signal), made) == Fake(-errno.ESRCH)


def test_signals_to_itself_and_to_others() -> None:
    made = Made()
    assert decide(call("kill", OWN_PID, 15), made) == Run()
    assert decide(call("kill", 0, 15), made) == Run()
    assert decide(call("tgkill", OWN_PID, OWN_PID, 6), made) == Run()
    assert decide(call("kill", STRANGER, 0), made) == Run()
    for target in (STRANGER, -STRANGER, -1):
        assert isinstance(decide(call("kill", target, 15), made), Refuse)


def test_group_shared_with_others_gets_no_signal() -> None:
    made = Made(family={OWN_PID - 1})
    assert isinstance(decide(call("kill", 0, 15), made), Refuse)


@pytest.mark.parametrize(
    "name",
    ["mount", "sethostname", "reboot", "shmget", "semget", "msgget", "ptrace", "init_module", "settimeofday"],
)
def test_forbidden(name: str) -> None:
    answer = decide(call(name, 1), Made())
    assert isinstance(answer, Refuse) and answer.code == "startup-forbidden"


def test_reading_the_clock_s_discipline_is_fine() -> None:
    made = Made()
    assert decide(call("adjtimex", made.put(struct.pack("<I", 0))), made) == Run()
    assert isinstance(decide(call("adjtimex", made.put(struct.pack("<I", 1))), made), Refuse)


def test_ioctls() -> None:
    made = Made(
        handles={1: Handle(1, "terminal", "/dev/pts/0", 8, 3, past=(1,)), 4: Handle(4, "socket", "", 8, 9)}
    )
    assert isinstance(decide(call("ioctl", 4, 0x8914, 0), made), Refuse)
    assert decide(call("ioctl", 4, 0x8913, 0), made) == Run()
    assert decide(call("ioctl", 1, 0x5402, 0), made) == Fake(0)
    assert decide(call("ioctl", 1, 0x5401, 0), made) == Run()
    assert decide(call("ioctl", 4, 0x5421, 0), made) == Run()


def test_session_leader_may_ask_for_a_session() -> None:
    answer = decide(call("setsid"), Made())
    assert isinstance(answer, Run) and answer.note.settles == OWN_PID


def test_other_processes_are_not_changed() -> None:
    made = Made()
    assert isinstance(decide(call("setpriority", 0, STRANGER, 5), made), Refuse)
    assert decide(call("setpriority", 0, 0, 5), made) == Run()
    assert decide(call("prlimit64", STRANGER, 7, 0, 1), made) == Run()


def test_calls_without_a_rule_run() -> None:
    assert decide(call("getpid"), Made()) == Run()
    assert "getpid" not in RULES


# ---------------------------------------------------------------------------------------- numbers

KEYS = st.sampled_from([("epoll",), ("socket", 2, 1), ("file", "/log"), ("pipe", 0)])
PASTS = st.dictionaries(
    st.integers(0, 40), st.none() | KEYS.map(lambda key: Likeness(key, exact=False)), max_size=20
)


@given(PASTS, KEYS, st.integers(0, 45), st.frozensets(st.integers(0, 60), max_size=10))
def test_number_is_the_past_s_or_free_in_both(
    past: dict[int, Likeness | None], key: tuple[object, ...], number: int, taken: frozenset[int]
) -> None:
    taken -= {number}
    chosen = choose_number(number, Likeness(key, exact=False), past, taken, 1024)
    there = past.get(chosen)
    assert chosen not in taken
    if there is None or there.key != key:
        assert chosen not in past
        assert not any(like and like.key == key and n not in taken for n, like in past.items())
    here = past.get(number)
    if here is not None and here.key == key:
        assert chosen == number


def test_what_the_past_lacks_keeps_clear_of_its_next_clients() -> None:
    past = {0: None, 3: Likeness(("epoll",), exact=False)}
    assert choose_number(3, Likeness(("eventfd",), exact=False), past, {0}, 1024) > 60
    assert choose_number(3, Likeness(("eventfd",), exact=False), past, {0}, 10) == 4


def test_accepted_connections_are_like_nothing() -> None:
    assert likeness(descriptor(5, "socket", 1), sock(peer=b"\2\0xx")) is None
    assert likeness(descriptor(5, "socket", 1), sock(listening=True)) == Likeness(
        ("socket", 2, 1), exact=False
    )


def test_pairs_prefer_the_same_object() -> None:
    tcp = Likeness(("socket", 2, 1), exact=False)
    past = {
        4: (tcp, (8, 40)),
        5: (tcp, (8, 50)),
        6: (None, (8, 60)),
        7: (Likeness(("epoll",), exact=False), (8, 1)),
    }
    future = {4: (tcp, (8, 50)), 5: (tcp, (8, 99)), 7: (Likeness(("epoll",), exact=False), (8, 1))}
    assert pair_numbers(past, future) == {5: 4, 7: 7}


def test_questions_about_the_past() -> None:
    """A pid file that names the past is stale."""
    made = Made()
    for name in ("getsid", "getpgid", "sched_getscheduler"):
        assert decide(call(name, PAST_PID), made) == Fake(-errno.ESRCH)
        assert decide(call(name, 0), made) == Run()
    assert decide(call("getpriority", 0, PAST_PID), made) == Fake(-errno.ESRCH)
    assert decide(call("getpriority", PAST_PID, 0), made) == Run()
