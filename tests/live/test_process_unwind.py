"""Stacks are those that gdb sees: program counters, frame addresses, saved registers and their values."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.live.running import Compile, Running, Start

from instar.process import modules
from instar.process.deadline import Deadline
from instar.process.maps import read_maps
from instar.process.memory import Memory
from instar.process.tracee import Tracee
from instar.process.unwind import Frame, complete, prepare, unwind

FRAMES = "process_programs/frames.c"
ORACLE = Path(__file__).parent / "gdb_frames.py"
FLAGS = {
    "gcc-O0": ("gcc", ["-O0"]),
    "gcc-O2": ("gcc", ["-O2"]),
    "gcc-O2-static-pie-less": ("gcc", ["-O2", "-no-pie"]),
    "gcc-O1-framepointer": ("gcc", ["-O1", "-fno-omit-frame-pointer"]),
    "clang-O0": ("clang", ["-O0"]),
    "clang-O2": ("clang", ["-O2"]),
    "gcc-debug-frame-only": ("gcc", ["-O2", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]),
}
# DWARF number -> gdb's name
NAMES = ["rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)), "rip"]
CALLEE_SAVED = {3: "rbx", 6: "rbp", 12: "r12", 13: "r13", 14: "r14", 15: "r15"}


def stack_of(pid: int) -> list[Frame]:
    tracee = Tracee.seize(pid)
    tracee.interrupt(Deadline(10))
    frames = unwind(tracee.registers(), tracee.memory, read_maps(pid))
    tracee.detach()
    return frames


def gdb_stack(pid: int) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-p", str(pid), "-x", str(ORACLE)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("FRAMES "))
    frames: list[dict[str, Any]] = json.loads(line.removeprefix("FRAMES "))
    return frames


@pytest.mark.parametrize("mode", ["deep", "callback", "signal", "alloca", "noreturn", "first"])
@pytest.mark.parametrize("build", FLAGS)
def test_frames_are_those_of_gdb(compile_c: Compile, start: Start, build: str, mode: str) -> None:
    compiler, flags = FLAGS[build]
    running = start(compile_c(FRAMES, *flags, compiler=compiler), mode)
    running.wait_until_blocked("read")
    ours = stack_of(running.pid)
    theirs = gdb_stack(running.pid)

    assert complete(ours)
    assert [hex(frame.pc) for frame in ours] == [hex(frame["pc"]) for frame in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.signal_frame == other["signal"]
        assert mine.registers[7] == other["registers"]["rsp"]
        if not other["outermost"]:
            assert mine.cfa == other["cfa"]
        for number, name in CALLEE_SAVED.items():
            if other["registers"][name] is not None:
                assert mine.registers[number] == other["registers"][name], (mine.index, name)
            saved = other["saved"].get(name)
            assert mine.saved_at.get(number) == saved, (mine.index, name)
    names = [frame["name"] for frame in theirs]
    assert "main" in names


def test_gdb_is_there() -> None:
    assert shutil.which("gdb") and shutil.which("clang")


def test_program_counter_in_the_vdso(start: Start) -> None:
    running = start(FRAMES, "spin", flags=["-O2"])
    tracee = Tracee.seize(running.pid)
    maps = read_maps(running.pid)
    modules: set[str] = set()
    for _ in range(300):
        tracee.interrupt(Deadline(10))
        frames = unwind(tracee.registers(), tracee.memory, maps)
        modules.add(frames[0].module)
        assert complete(frames), frames[-1]
        tracee.resume()
        if "[vdso]" in modules and len(modules) > 1:
            break
    tracee.detach()
    assert "[vdso]" in modules


def test_replaced_and_deleted_files_are_still_read(compile_c: Compile, start: Start, tmp_path: Path) -> None:
    program = tmp_path / "victim"
    shutil.copy(compile_c(FRAMES, "-O2"), program)
    running = start(program, "deep")
    running.wait_until_blocked("read")
    before = stack_of(running.pid)
    program.unlink()
    shutil.copy("/bin/true", program)
    after = stack_of(running.pid)
    assert complete(after)
    assert [frame.pc for frame in after] == [frame.pc for frame in before]
    assert after[-1].module == str(program)


def test_images_from_memory_do_as_well(
    compile_c: Compile, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the files may not be opened (no right to map_files, another mount namespace)."""
    running = start(compile_c(FRAMES, "-O2"), "callback")
    running.wait_until_blocked("read")
    expected = stack_of(running.pid)
    monkeypatch.setattr(modules, "_candidates", lambda mapping, pid: [])
    assert stack_of(running.pid) == expected


def test_smashed_stack_ends_with_a_reason(start: Start) -> None:
    running = start(FRAMES, "deep", flags=["-O0"])
    running.wait_until_blocked("read")
    tracee = Tracee.seize(running.pid)
    tracee.interrupt(Deadline(10))
    maps = read_maps(running.pid)
    registers = tracee.registers()
    whole = unwind(registers, tracee.memory, maps)

    class Smashed:
        pid = running.pid

        def __init__(self, address: int, value: int) -> None:
            self.address, self.value = address, value

        def read(self, address: int, size: int) -> bytes:
            if address == self.address:
                return self.value.to_bytes(8, "little")
            return tracee.memory.read(address, size)

    slot = whole[5].saved_at[16]
    for value, end in ((0x4141414141414141, "no-module"), (0, "outermost"), (maps[0].start, "no-module")):
        frames = unwind(registers, Smashed(slot, value), maps)
        assert frames[: 5 - 1] == whole[: 5 - 1]
        assert frames[-1].end == end
    slot = whole[5].saved_at[6]
    for value in (0, 0x4141414141414141, whole[2].cfa):
        frames = unwind(registers, Smashed(slot, value), maps)
        assert frames[-1].end not in ("", "outermost"), frames[-1]
    tracee.detach()


def test_nothing_is_decoded_anew_after_a_warm_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a process stands, its stack is followed with what is known: no file is opened, no row decoded."""
    running = start(FRAMES, "callback", flags=["-O2"])
    running.wait_until_blocked("read")
    maps = read_maps(running.pid)
    assert prepare(Memory(running.pid), maps) >= 3
    first = stack_of(running.pid)

    def library() -> None:
        raise AssertionError("the native part is asked again")

    tracee = Tracee.seize(running.pid)
    tracee.interrupt(Deadline(10))
    with monkeypatch.context() as patched:
        patched.setattr(modules, "_library", library)
        again = unwind(tracee.registers(), tracee.memory, maps)
    tracee.detach()
    assert len(first) > 3 and [frame.pc for frame in again] == [frame.pc for frame in first]


def test_own_interpreter_is_unwound(start: Start) -> None:
    """A big stripped program with many libraries: Python itself."""
    code = "import select, sys; print('ready', flush=True); select.poll().poll()"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    running = Running([sys.executable, "-c", code], env=environment)
    try:
        assert running.line() == "ready"
        running.wait_until_blocked("poll")
        frames = stack_of(running.pid)
        assert complete(frames)
        assert [frame.pc for frame in frames] == [frame["pc"] for frame in gdb_stack(running.pid)]
    finally:
        running.close()
