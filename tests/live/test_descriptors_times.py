"""Timers go on with the time they had left, under their ids; signals do what they did in the past."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.live.handing import READ, Handing
from tests.live.obedient import build

from instar.control import timers
from instar.control.dispositions import apply_dispositions, plan_dispositions, read_handlers
from instar.control.timers import apply_timers, plan_timers, read_timers
from instar.errors import RefusedError
from instar.process.maps import read_maps
from instar.process.status import read_status


@pytest.fixture
def handing() -> Iterator[Handing]:
    made = Handing(build("times"), ["past"], ["future"], READ)
    yield made
    made.close()


def base(pid: int, program: Path) -> int:
    return next(m.start for m in read_maps(pid) if m.file == str(program))


def carry(handing: Handing) -> None:
    past, future = handing.held, handing.future
    assert past is not None
    shift = np.uint64((base(future.pid, handing.program) - base(past.pid, handing.program)) % 2**64)
    apply_timers(future, read_timers(past, plan_timers(past.pid)), lambda values: values + shift)
    plan = plan_dispositions(read_status(past.pid), read_status(future.pid))
    apply_dispositions(
        handing.runtime, plan, read_handlers(past, plan.caught), lambda addresses: addresses + shift
    )


def near(before: str, after: str) -> bool:
    """The same timers, up to two seconds on."""
    old, new = (list(map(int, re.findall(r"\d+", text))) for text in (before, after))
    return len(old) == len(new) and all(0 <= a - b <= 2 for a, b in zip(old, new, strict=True))


def test_timers_and_handlers_go_on(handing: Handing) -> None:
    before = handing.ask("left")
    assert "2:" in before and "6:" in before and "1:" not in before.split("0:")[1]
    handing.begin()
    carry(handing)
    handing.hand_over()
    handing.commit()
    assert near(before, handing.ask("left"))
    pid = handing.future.pid
    os.kill(pid, signal.SIGPIPE)  # ignored since after the past's start-up
    os.kill(pid, signal.SIGHUP)  # both versions' start-up
    os.kill(pid, signal.SIGQUIT)  # the future's own start-up handles it again
    os.kill(pid, signal.SIGUSR1)  # blocked
    assert handing.ask("now") == "now"  # the timer's own handler runs, with the translated value
    assert handing.ask("seen") in (
        f"1:1 3:1 14:1 {signal.SIGRTMIN}:1 count",
        f"1:1 3:1 14:1 {signal.SIGRTMIN}:1",  # SIGALRM came last: its value is not the timer's
    )
    assert read_status(pid).signals_blocked == 1 << (signal.SIGUSR1 - 1)


def test_ids_are_used_up_where_the_kernel_cannot_be_told(
    handing: Handing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "_RESTORE_IDS", 0x7FFF)
    before = handing.ask("left")
    handing.begin()
    carry(handing)
    handing.hand_over()
    handing.commit()
    assert near(before, handing.ask("left"))
    assert handing.ask("timer") == "7"


def test_a_rolled_back_past_keeps_its_timers(handing: Handing) -> None:
    before = handing.ask("left")
    handing.begin()
    carry(handing)
    handing.hand_over()
    handing.roll_back()
    assert near(before, handing.ask("left"))
    assert handing.ask("now") == "now"


def test_a_timer_that_starts_a_thread_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "thread.c"
    source.write_text(
        "#include <signal.h>\n#include <time.h>\n#include <unistd.h>\n"
        "static void run(union sigval v) {}\n"
        "int main(void) { timer_t t; struct sigevent e = {.sigev_notify = SIGEV_THREAD};\n"
        "e.sigev_notify_function = run; timer_create(CLOCK_MONOTONIC, &e, &t);\n"
        'write(1, "ready\\n", 6); for (;;) pause(); }\n'
    )
    import subprocess

    program = tmp_path / "thread"
    subprocess.run(["gcc", "-o", str(program), str(source), "-lrt", "-lpthread"], check=True)
    with subprocess.Popen([str(program)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        with pytest.raises(RefusedError) as info:
            plan_timers(process.pid)
        process.kill()
    assert info.value.code == "timer-thread"
