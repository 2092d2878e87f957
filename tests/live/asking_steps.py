"""Asks a held process all that is ever asked, and does something at one step of it (test_guard_asking.py).

usage: asking_steps.py PID   (reads numbers of steps, has a child killed there, prints how the child ended)
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "src")]

from instar.guard import asking, reach
from instar.guard.holder import Holder
from instar.process import ptrace

SOON = 20.0
READ, EPOLL_WAIT, POLL, RESTART = 0, 232, 7, 219
ITIMER, ACTION = 36, 13


def hold(pid: int) -> Holder:
    """Held in the call that it waits in."""
    holder = Holder(pid)
    holder.seize(SOON)
    holder.stop(SOON)
    holder.step(SOON, [READ, EPOLL_WAIT, POLL, RESTART])
    holder.hold(SOON)
    return holder


@contextmanager
def at_every_step(deed: Callable[[int], None]) -> Iterator[None]:
    """Calls it before whatever is done to the process and when it was let run; the number counts up."""
    count = 0

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(number: int, *arguments: Any) -> Any:
            nonlocal count
            deed(count)
            count += 1
            result = function(number, *arguments)
            if number in (ptrace.CONT, ptrace.SYSCALL):  # now it may still run
                deed(count)
                count += 1
            return result

        return wrapped

    request, write = ptrace.request, reach.write
    ptrace.request, reach.write = wrap(request), wrap(write)
    try:
        yield
    finally:
        ptrace.request, reach.write = request, write


def ask(holder: Holder) -> tuple[bytes, bytes]:
    """Both kinds of questions; the second is asked anew, as the guard does."""
    first, timer = holder.inject(ITIMER, [0, asking.ROOM], b"")
    second, action = holder.inject(ACTION, [int(signal.SIGUSR1), 0, asking.ROOM, 8], b"")
    assert first == second == 0
    return timer, action


def ask_and_die(pid: int, fatal: int) -> None:
    """Is killed at a step, or comes to the end."""

    def die(number: int) -> None:
        if number == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    holder = hold(pid)
    with at_every_step(die):
        ask(holder)
    holder.release()


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            ask_and_die(int(sys.argv[1]), int(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(status, flush=True)


if __name__ == "__main__":
    main()
