"""A tool process for test_runtime_gate.py: commits an update of obey.c by steps, kills somebody on the way.

usage: python -m tests.live.commit_steps PAST PROGRAM STEP VICTIM [SIGNAL]
(stdin and stdout are the pipes that the past uses)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress

from tests.live.holding import hold

from instar.control import gate as gates
from instar.control.channel import open_channel
from instar.control.gate import Gate
from instar.control.runtime import Runtime
from instar.errors import InstarError
from instar.guard.client import Past
from instar.native import library_path
from instar.process.deadline import Deadline
from instar.process.launch import Preparation
from instar.process.tracee import Tracee

FLOOR = 100
SOON = 10.0


def start(program: str) -> Tracee:
    """The future, parked at its first read of standard input. Its "ready" is swallowed."""
    env = {"PATH": os.environ["PATH"], "LD_PRELOAD": str(library_path("runtime"))}
    nowhere = os.open(
        os.devnull, os.O_WRONLY
    )  # our own standard error is the test's pipe: it must end with us
    prepare = Preparation(descriptors={0: 0, 1: 1, 2: nowhere})
    tracee = Tracee.launch([program], env, executable=program, prepare=prepare)
    while True:
        stop = tracee.run_until_syscall(Deadline(SOON))
        if stop.entry and stop.syscall is not None:
            if stop.syscall.number == 1:
                tracee.suppress_syscall(stop.syscall.arguments[2])
            elif stop.syscall.number == 0 and stop.syscall.arguments[0] == 0:
                return tracee


def steps(past: Past, future: Tracee) -> Iterator[None]:
    """One commit; yields after every step."""
    runtime = Runtime(future)
    channel = open_channel(runtime, FLOOR)
    gate = Gate(runtime, channel)
    yield
    gate.prepare(past.pid, FLOOR + 8, future.signal_mask())
    yield
    gate.enter(Deadline(SOON))
    yield
    past.keep(channel.fileno())
    past.prepare_end()
    yield
    gate.announce_ending(Deadline(SOON))
    yield
    past.commit_end()
    yield
    gate.announce_ended()
    yield
    past.run_end(SOON)
    yield
    gate.go()
    yield
    gate.wait_until_serving(Deadline(SOON))
    past.release()
    yield


def main() -> None:
    past_pid, program, fatal, victim = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    gates.GRACE_MS = 300
    number = int(sys.argv[5]) if len(sys.argv) > 5 else 9
    past = hold(past_pid)
    future = start(program)
    print(f"future {future.pid}", file=sys.stderr, flush=True)
    victims = {
        "tool": os.getpid(),
        "guard": past.guard_pid,
        "past": past_pid,
        "future": future.pid,
        "nobody": 0,
    }
    try:
        for step, _ in enumerate(steps(past, future)):
            if step == fatal and victims[victim]:
                os.kill(victims[victim], number)
    except InstarError as error:
        print(f"failed {error.code}", file=sys.stderr, flush=True)
        with suppress(InstarError):
            past.release()
    else:
        print("committed", file=sys.stderr, flush=True)
    print("end", file=sys.stderr, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
