"""Streams (FILE) go on where they were: buffered output is written once, what was read ahead is read once."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.live.handing import READ, Handing
from tests.live.obedient import build

from instar.control.stdio import Stream, list_streams, parse_stream, plain_vtable, resolve_libc
from instar.control.streams import StreamPlan, discard_streams, open_streams, plan_streams, restore_streams
from instar.errors import RefusedError
from instar.process.exports import Exports, read_exports
from instar.process.maps import read_maps
from instar.process.memory import Memory

EXPECTED = (
    "pending on stdout size=4096,300 pending=8,4 line=1 raw=1 modes=001 lines=[whole|] raw=[raw] "
    "lines=[whole|part more|] raw=[raw+] appender=[] reader=two tell=8 YZne| end=1 pipe=second "
    "pipe=third and more tell=4 two=one1 updated=[0123XY6789] untouched=[touched] "
    "appender=[appended|end] writer=[98|line 999|the end|] "
)
Make = Callable[..., Handing]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Handing] = []

    def make_(future: str = "future", past: str = "past") -> Handing:
        (tmp_path / "input").write_text("one\ntwo\nthree\n")
        (tmp_path / "empty").write_text("")
        program = build("streams", "-rdynamic")
        made.append(Handing(program, [past, str(tmp_path)], [future, str(tmp_path)], READ))
        return made[-1]

    yield make_
    for handing in made:
        handing.close()


def plan_for(handing: Handing, opened: dict[int, int] | None = None) -> StreamPlan:
    past, future = Memory(handing.past.pid), Memory(handing.future.pid)
    return plan_streams(past, read_maps(past.pid), future, read_maps(future.pid), opened)


def carry(handing: Handing) -> dict[int, int]:
    """An early pass while the past may still change, then the one in the pause."""
    opened = open_streams(handing.runtime, plan_for(handing))
    plan = plan_for(handing, opened)
    plan.require()
    opened = open_streams(handing.runtime, plan)
    handing.hand_over()
    restore_streams(handing.runtime, Memory(handing.past.pid), plan, opened)
    write_state(handing, opened)
    return opened


def write_state(handing: Handing, opened: dict[int, int]) -> None:
    """The program's own pointers to its streams: what a state transfer does."""
    addresses = []
    for pid in (handing.past.pid, handing.future.pid):
        first = next(m for m in read_maps(pid) if m.file == str(handing.program))
        exports = read_exports(Memory(pid), first)
        assert exports is not None
        addresses.append(exports.symbols["streams"])
    old = np.frombuffer(Memory(handing.past.pid).read(addresses[0], 13 * 8), "<u8").tolist()
    new = np.array([opened[address] for address in old], "<u8")
    handing.future.memory.write(addresses[1], new.tobytes())


def ask(handing: Handing) -> str:
    first = handing.ask("check")  # the pushed-back read crosses a line end
    return first + "| " + handing.line()


def test_the_program_itself_finds_all_well(make: Make) -> None:
    assert ask(make()) == EXPECTED + "log=[past|not yet flushed|served|]"


def test_streams_go_on_in_the_future(make: Make) -> None:
    handing = make()
    handing.begin()
    carry(handing)
    handing.commit()
    assert ask(handing) == EXPECTED + "log=[past|not yet flushed|future started|served|]"


def test_a_future_that_opened_nothing_gets_new_streams(make: Make) -> None:
    handing = make("nothing")
    handing.begin()
    carry(handing)
    handing.commit()
    assert ask(handing) == EXPECTED + "log=[past|not yet flushed|served|]"


def test_a_rolled_back_past_has_lost_nothing(make: Make) -> None:
    handing = make()
    handing.begin()
    carry(handing)
    handing.roll_back()
    assert ask(handing) == EXPECTED + "log=[past|not yet flushed|served|]"


def test_streams_that_the_past_closed_meanwhile_are_discarded(make: Make) -> None:
    handing = make("nothing")
    handing.begin()
    libc = resolve_libc(handing.future.memory, read_maps(handing.future.pid))
    before = list_streams(handing.future.memory, libc)
    opened = open_streams(handing.runtime, plan_for(handing))
    assert len(list_streams(handing.future.memory, libc)) == len(before) + 13
    made = set(opened.values()) - {stream.address for stream in before}
    discard_streams(handing.runtime, made)
    assert [s.address for s in list_streams(handing.future.memory, libc)] == [s.address for s in before]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ('popen("sleep 5", "w")', "popen"),
        ('fmemopen(0, 100, "w")', "memory"),
        ("open_memstream(&text, &size)", "memory"),
        ("(fwide(stdout, 1), stdout)", "wide"),
    ],
)
def test_streams_that_are_no_files_are_refused_by_name(tmp_path: Path, call: str, reason: str) -> None:
    source = tmp_path / "odd.c"
    source.write_text(
        "#define _GNU_SOURCE\n#include <stdio.h>\n#include <wchar.h>\n#include <unistd.h>\n"
        "FILE *file; char *text; size_t size;\n"
        f'int main(void) {{ file = {call}; write(1, "ready\\n", 6); return read(0, &size, 1); }}\n'
    )
    program = tmp_path / "odd"
    subprocess.run(["gcc", "-w", "-rdynamic", "-o", str(program), str(source)], check=True)
    with subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        memory, maps = Memory(process.pid), read_maps(process.pid)
        plan = plan_streams(memory, maps, memory, maps)
        exports = read_exports(memory, maps[0])
        assert exports is not None
        symbols = exports.symbols
        with pytest.raises(RefusedError) as info:
            plan.require([memory.u64(symbols["file"])])
        plan.require(reachable=[])
        process.kill()
    assert info.value.code == "stream-not-carried"
    assert reason in info.value.cause


def test_the_layout_is_that_of_the_libc_in_use(tmp_path: Path) -> None:
    """Every field that is read means what stdio's own functions say, in this very process."""
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    path = tmp_path / "text"
    path.write_text("abcdef\n" * 1000)
    address = libc.fopen(str(path).encode(), b"r+")
    file = ctypes.c_void_p(address)

    def look() -> Stream:
        stream = parse_stream(address, ctypes.string_at(address, 224))
        assert stream is not None
        return stream

    assert look().number == libc.fileno(file)
    assert look().vtable == plain_vtable(Memory(os.getpid()), _own_libc())
    assert look().buffer == (0, 0)
    assert libc.fgetc(file) == ord("a")
    stream = look()
    base, pointer, end = stream.read
    assert (pointer - base, end - base) == (1, stream.buffer[1] - stream.buffer[0])
    assert ctypes.string_at(pointer, 6) == b"bcdef\n"
    assert stream.orientation == -1
    libc.ungetc(ord("X"), file)
    pushed = look()
    assert pushed.flags & 0x100 and ctypes.string_at(pushed.read[1], 1) == b"X"
    assert pushed.saved == (pointer, end)
    assert libc.fseek(file, 100, 0) == 0 and libc.fputs(b"12345", file) >= 0
    writing = look()
    assert writing.flags & 0x800 and ctypes.string_at(writing.write[0], 5) == b"12345"
    assert writing.write[1] - writing.write[0] == 5
    assert libc.fseek(file, 6000, 0) == 0
    assert look().offset == os.lseek(libc.fileno(file), 0, os.SEEK_CUR) > 0
    libc.fclose(file)


def _own_libc() -> Exports:
    return resolve_libc(Memory(os.getpid()), read_maps(os.getpid()))
