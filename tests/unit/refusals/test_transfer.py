"""Refusals on the way of the state: heap, pointers, frames, descriptors, timers, the gate."""

from __future__ import annotations

import errno
import socket
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from instar.control import dispositions, lending, quiescence, stdio, streams, timers
from instar.control.epoll import fill_epolls
from instar.control.gate import Gate
from instar.control.runtime import EPOLL_FIRE, EPOLL_ITEM, LOCK, Runtime
from instar.control.stdio import FILE, Stream, list_streams
from instar.control.streams import StreamPlan
from instar.errors import InstarError, RefusedError
from instar.handlers.names import Names
from instar.handlers.objects import ObjectFinder
from instar.handlers.sites import Sites
from instar.heap import glibc, inherited, mapped, threads
from instar.process.deadline import Deadline
from instar.process.maps import Mapping
from instar.process.signals import Disposition, PosixTimer
from instar.state.columns import ObjectFlag, ObjectKind, Status
from instar.state.kernel import make_objects
from instar.transfer import findings, jumps, planner
from instar.transfer.call import CallPlan, _plan_argument
from instar.transfer.fates import Fates
from instar.transfer.findings import Judge
from instar.transfer.planner import Planner
from instar.transfer.stack import REGISTER_BASE
from instar.update import carry
from instar.update.apply import choose_arena
from instar.update.carry import FramePairing
from instar.update.driver import _translate
from instar.update.probation import require_possible


def fake(**values: Any) -> Any:
    return SimpleNamespace(**values)


# Heap -------------------------------------------------------------------------------------------------------


def test_inside_malloc() -> None:
    with pytest.raises(RefusedError) as caught:
        glibc._check_idle(fake(locked=True, address=0x1000))
    assert caught.value.code == "heap-busy"
    glibc._check_idle(fake(locked=False))


@pytest.mark.parametrize(("found", "code"), [(1, "heap-corrupt"), (3, "heap-ambiguous")])
def test_more_or_fewer_mapped_blocks_than_malloc_counts(
    monkeypatch: pytest.MonkeyPatch, found: int, code: str
) -> None:
    chunks = [fake(start=0, end=4096)] * found
    scanner = fake(scan=lambda *_, **__: chunks, matches=lambda *_: False)
    monkeypatch.setattr(mapped, "_Scanner", lambda *_: scanner)
    counters = mapped.Counters(2, 8192, 0)
    with pytest.raises(RefusedError) as caught:
        mapped.find_mapped(cast(Any, None), [(0, 1 << 20)], counters, (2, 36))
    assert caught.value.code == code


def test_a_runtime_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    state = np.zeros(1, inherited.STATE)
    state["magic"], state["version"] = inherited.MAGIC, inherited.VERSION + 1
    exports = fake(symbols={inherited.STATE_SYMBOL: 0x1000}, path="/lib/libinstar-runtime.so")
    monkeypatch.setattr(inherited, "find_exports", lambda *_: exports)
    monkeypatch.setattr(inherited, "read_state", lambda *_: state[0])
    with pytest.raises(RefusedError) as caught:
        inherited.find_state(fake(pid=7), [])
    assert caught.value.code == "runtime-unknown"


def test_a_thread_that_glibc_did_not_make(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "read_proc", lambda *_: "7 8")
    with pytest.raises(RefusedError) as caught:
        threads.find_thread_pointers(fake(pid=7), [])
    assert caught.value.code == "thread-unknown"


def test_no_room_for_addresses() -> None:
    everything = Mapping(0, 1 << 47, "rw-p", 0, (0, 0), 0, "")
    with pytest.raises(RefusedError) as caught:
        choose_arena([everything], 1 << 40)
    assert caught.value.code == "no-address-room"


# Pointers and frames ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.WILD, "wild-pointer"),
        (Status.UNPAIRED, "no-counterpart"),
        (Status.INSIDE, "odd-pointer"),
        (Status.DROPPED, "dropped-member"),
        (Status.AMBIGUOUS, "ambiguous-pointer"),
        (Status.UNRESOLVED, "unknown-constant"),
    ],
)
@pytest.mark.parametrize("allowed", [False, True])
def test_a_pointer_is_named(
    monkeypatch: pytest.MonkeyPatch, status: Status, code: str, allowed: bool
) -> None:
    word = np.zeros(
        1, [("object", "i4"), ("offset", "u4"), ("value", "u8"), ("status", "i4"), ("source", "i4")]
    )
    word["status"], word["value"] = status, 0x1234
    monkeypatch.setattr(findings, "word_path", lambda *_: "server.peer")
    version = fake(elf=fake(relocations=np.zeros(0, [("address", "u8")])))
    state = fake(objects=make_objects(1, ObjectKind.STATIC), find=lambda _: None)
    allow = frozenset({code} if allowed else ())
    judge = Judge(state, cast(Any, version), 0, {}, lambda _: "nothing", allow, False)
    judge._pointers(status, list(word))
    assert [problem.code for problem in judge.result.problems] == ([] if allowed else [code])
    told = judge.result.warnings if allowed else [judge.result.problems[0].cause]
    assert "server.peer" in told[0] and (not allowed or told[0].startswith(code))


def test_state_that_hangs_on_a_local_only(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = make_objects(2, ObjectKind.HEAP)
    objects["kind"][0], objects["size"][1] = ObjectKind.FRAME, 48

    def reach() -> None:
        if objects["flags"][0] & ObjectFlag.ROOT:
            objects["flags"][1] |= ObjectFlag.REACHED

    one: Any = object.__new__(Planner)
    one.state, one.fates, one.past = (
        fake(objects=objects, reach=reach),
        Fates(),
        fake(subject=0, program=0, heap=0),
    )
    for name in ("library_words", "stream_rows", "library_rows"):
        monkeypatch.setattr(planner, name, lambda *_: None)
    monkeypatch.setattr(planner, "mark_library_blocks", lambda *_: np.zeros(0, np.int64))
    one._refuse_hanging()
    ((row, problem),) = one.fates.problems
    assert (row, problem.code) == (1, "state-in-local") and "48 bytes" in problem.cause


def test_a_saved_context() -> None:
    one: Any = object.__new__(jumps.JumpCarrier)
    one.state = fake(objects=make_objects(1, ObjectKind.STATIC), bytes_at=lambda *_: b"\1" * 256)
    ((_, problem),) = one._judge_context(0, 0)
    assert problem.code == "jump-buffer"


def test_another_of_several_equal_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = iter([fake(ordinal=0, count=2, line=10), fake(ordinal=1, count=2, line=20)])
    monkeypatch.setattr(carry, "find_call_site", lambda *_: next(sites))
    one: Any = object.__new__(FramePairing)
    one._old = one._new = None
    one._same_calls = set()
    frame = fake(function=1, name="serve", frame=fake(link_pc=5))
    with pytest.raises(RefusedError) as caught:
        one._require_same_call(fake(old=frame, new=frame))
    assert caught.value.code == "different-call" and "call 2 of 2 (line 20)" in caught.value.cause


def leads_nowhere(words: Any) -> Any:
    return np.full(len(words), Status.UNPAIRED), words


def test_an_argument_without_counterpart() -> None:
    plan = CallPlan()
    _plan_argument(plan, "epoll_wait", 1, REGISTER_BASE, leads_nowhere)
    assert [problem.code for problem in plan.problems] == ["call-argument"] and not plan.registers


def test_a_stack_that_cannot_be_followed() -> None:
    chain = fake(whole=False, functions=("serve",))
    error = quiescence._never_rests(fake(pid=7), cast(Any, None), chain)
    assert error.code == "stack-unreadable" and "serve" in error.cause


# Handlers ---------------------------------------------------------------------------------------------------


def test_a_name_that_several_have() -> None:
    names = Names(fake(version=None), "old")
    with pytest.raises(RefusedError) as caught:
        names._one("function", [3, 4], "start()", fake())
    assert caught.value.code == "handler-ambiguous"


def test_objects_that_may_be_in_a_union() -> None:
    one: Any = object.__new__(ObjectFinder)
    one._state, one.problems = fake(objects=make_objects(1, ObjectKind.HEAP)), []
    one._pairing = fake(old=fake(size=lambda _: 8), new=fake(size=lambda _: 8))
    one._refuse_locals = one._refuse_conflicts = lambda rows: None
    one._of_rows(np.zeros(1, np.int64), (0, 0), Sites(in_union="value.node"))
    ((_, problem),) = one.problems
    assert (problem.code, problem.path) == ("handler-in-union", "value.node")


# Descriptors, timers, streams -------------------------------------------------------------------------------


def test_an_epoll_cookie_without_counterpart() -> None:
    with pytest.raises(RefusedError) as caught:
        _translate(fake(translate=leads_nowhere), np.array([0x1234], np.uint64))
    assert caught.value.code == "epoll-cookie" and "0x1234" in caught.value.cause


@pytest.mark.parametrize(
    ("flags", "result", "code"),
    [(EPOLL_FIRE, -errno.EAGAIN, "epoll-oneshot"), (0, -errno.EPERM, "epoll-failed")],
)
def test_a_registration_that_fails(flags: int, result: int, code: str) -> None:
    items = np.zeros(2, EPOLL_ITEM)
    items["flags"][1] = flags

    def control(rows: Any) -> None:
        rows["result"][1] = result

    with pytest.raises(RefusedError) as caught:
        fill_epolls(fake(control_epoll=control), items)
    assert caught.value.code == code


def test_a_signal_handler_that_is_gone() -> None:
    plan = dispositions.DispositionPlan((), (10,))
    handlers = {10: Disposition(0x1234, 0, 0, 0)}
    with pytest.raises(RefusedError) as caught:
        dispositions.apply_dispositions(fake(), plan, handlers, lambda words: np.zeros_like(words))
    assert caught.value.code == "handler-gone" and "SIGUSR1" in caught.value.cause


def test_a_list_of_streams_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fake(pid=7, u64=lambda _: 0x1000, read=lambda address, size: bytes(size))
    with pytest.raises(RefusedError) as caught:
        list_streams(memory, fake(symbols={"_IO_list_all": 0x10}))
    assert caught.value.code == "libc-unknown" and FILE.itemsize > 200
    monkeypatch.setattr(stdio, "find_exports", lambda *_: None)
    with pytest.raises(RefusedError) as caught:
        stdio.resolve_libc(memory, [])
    assert caught.value.code == "libc-unknown"


def test_a_stream_that_start_up_has_used() -> None:
    stream = Stream(0x1000, 0, 5, (0, 0, 0), (0, 0), (0, 0), (0, 0), 0, 0, 0, -1, 0, 0)

    def fetch(address: int, rows: Any) -> None:
        rows["result"] = -errno.EBUSY

    runtime = fake(
        scratch=lambda size: 0x5000, memory=fake(write=lambda *_: None), call=lambda *_: 1, fetch=fetch
    )
    with pytest.raises(RefusedError) as caught:
        streams.restore_streams(runtime, fake(), StreamPlan((stream,), {}), {0x1000: 0x2000})
    assert caught.value.code == "stream-busy" and "descriptor" in caught.value.cause


def test_a_timer_whose_id_is_not_given_out_again() -> None:
    memory = fake(write=lambda *_: None, read=lambda *_: bytes(4))
    surgery = fake(scratch=lambda _: 0, syscall=lambda *_: -errno.EINVAL, tracee=fake(memory=memory, pid=7))
    with pytest.raises(RefusedError) as caught:
        timers._make_timer(surgery, PosixTimer(5, 10, 0, "signal", False, 7, 1), 0, True)
    assert caught.value.code == "timer-id" and "id 5" in caught.value.cause


def test_a_descriptor_that_cannot_be_lent() -> None:
    with pytest.raises(InstarError) as caught:
        lending._check(-errno.EBADF, "dup3")
    assert caught.value.code == "cannot-lend" and "dup3" in caught.value.cause


def test_record_locks_and_probation() -> None:
    with pytest.raises(RefusedError) as caught:
        require_possible(np.zeros(2, LOCK))
    assert caught.value.code == "no-probation" and "2 record locks" in caught.value.cause
    require_possible(np.zeros(0, LOCK))


# The runtime and the gate -----------------------------------------------------------------------------------


def test_a_call_of_the_runtime_that_fails() -> None:
    runtime = object.__new__(Runtime)
    runtime.symbols = {"instar_runtime_channel": 1}
    runtime.tracee = fake(call=lambda *_: (1 << 64) - errno.EMFILE)
    with pytest.raises(InstarError) as caught:
        runtime.call("channel", 3)
    assert caught.value.code == "runtime-call" and "Too many open files" in caught.value.cause


def test_a_future_that_ends_at_the_gate() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gate = Gate(fake(memory=None, state_address=0, tracee=fake(pid=7)), ours)
    theirs.close()
    with ours, pytest.raises(InstarError) as caught:
        gate.wait_until_serving(Deadline(5))
    assert caught.value.code == "gate-lost"
