"""An update that looks at no deadline ends all the same."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import pytest

from instar.process.deadline import Deadline
from instar.update import watchdog
from instar.update.watchdog import WorkTooLongError, bounded_pause, bounded_work


def test_a_loop_that_never_ends_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_LATE_S", 0.0)
    monkeypatch.setattr(watchdog, "_GRACE_S", 60.0)  # a machine may be that busy: the kill would be ours
    with pytest.raises(WorkTooLongError) as caught, bounded_work(Deadline(0.02), lambda: False):
        while True:
            pass
    assert caught.value.code == "deadline"


def test_nothing_is_raised_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_LATE_S", 0.0)
    with bounded_work(Deadline(0.001), lambda: True):
        sum(range(1_000_000))
    with bounded_work(Deadline.never(), lambda: False):
        pass


def test_what_does_not_come_back_ends_with_the_process() -> None:
    """A call that sees no exception: as a loop in a kernel."""
    script = """
        import ctypes
        from instar.process.deadline import Deadline
        from instar.update import watchdog
        watchdog._LATE_S = watchdog._GRACE_S = 0.05
        with watchdog.bounded_work(Deadline(0.01), lambda: False):
            while True:
                ctypes.CDLL(None).pause()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == -9
    assert "the old version goes on" in done.stderr


@pytest.mark.parametrize("manager", ["bounded_work(Deadline(0.01), lambda: False)", "bounded_pause(100)"])
def test_a_loop_in_c_that_keeps_the_interpreter_is_killed(manager: str) -> None:
    """No signal handler and no thread of Python's ever runs: the kernel's timer does it."""
    script = f"""
        import itertools, signal
        from instar.process.deadline import Deadline
        from instar.update import watchdog
        from instar.update.watchdog import *
        watchdog._LATE_S = watchdog._GRACE_S = watchdog._STUCK_S = 0.05
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])  # a busy machine: not before the loop
        with {manager}:
            sum(itertools.repeat(0))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=os.environ, check=False)
    assert done.returncode == -9


class _Recorder:
    """In place of the kernel's timer."""

    def __init__(self) -> None:
        self.set_to: list[float] = []
        self.off = threading.Event()

    def set(self, seconds: float) -> None:
        """Remember."""
        self.set_to.append(seconds)
        if not seconds:
            self.off.set()


def test_the_timer_is_called_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end, and where a version serves for good and the work goes on."""
    timers: list[_Recorder] = []

    def recorded() -> _Recorder:
        timers.append(_Recorder())
        return timers[-1]

    monkeypatch.setattr(watchdog, "LastResort", recorded)
    monkeypatch.setattr(watchdog, "_LATE_S", 0.0)
    with bounded_pause(60_000):
        assert not timers[0].off.is_set()
    with bounded_work(Deadline(0.01), lambda: True):
        assert timers[1].off.wait(60)
    assert [one.set_to[0] > 0 and one.set_to[-1] == 0 for one in timers] == [True, True]
