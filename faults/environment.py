"""Faults of the machine around the tool: no memory, descriptors or disk, a slow disk, signals."""

from __future__ import annotations

import builtins
import errno
import os
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

from faults.injection import Injection

PHASES = ("plan", "start", "pre-copy", "quiesce", "pre-check", "transfer", "validate", "commit")


def inject(injection: Injection) -> None:
    """See the functions below."""
    _WAYS[injection.kind](injection)


def _at_a_point(injection: Injection, what: str) -> None:
    """The hooks that the tool has itself."""
    phase, where = injection.random.choice(PHASES[1:]), injection.random.choice(("before", "middle", "after"))
    os.environ["INSTAR_FAULT"] = f"{phase}:{where}:{what}"
    injection.note(f"{what} {where} {phase}")


def _limit(which: int, value: int) -> None:
    resource.setrlimit(which, (value, resource.getrlimit(which)[1]))


def _no_space(injection: Injection) -> None:
    """Either at a point, or files may not grow beyond a size (0: at all)."""
    if injection.random.random() < 0.5:
        _at_a_point(injection, "enospc")
        return
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # write answers with EFBIG
    size = injection.random.choice((0, 0, 512, 4096, 65536))
    _limit(resource.RLIMIT_FSIZE, size)
    injection.note(f"files may have {size} bytes")


def _few_descriptors(injection: Injection) -> None:
    count = injection.random.randrange(6, 40)
    _limit(resource.RLIMIT_NOFILE, count)
    injection.note(f"{count} descriptors")


def _no_memory(injection: Injection) -> None:
    """Either at a point, or from some size on; the size that the process has now is the least."""
    if injection.random.random() < 0.3:
        _at_a_point(injection, "oom")
        return
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    size = pages * resource.getpagesize() + injection.random.randrange(1 << 16, 64 << 20)
    _limit(resource.RLIMIT_DATA, size)
    injection.note(f"{size >> 20} MB of data")


def _slow_disk(injection: Injection) -> None:
    """Every file that is opened, and every flush, takes its time."""
    delay = injection.random.choice((0.005, 0.02, 0.05))
    injection.note(f"{delay * 1000:g} ms for each file")
    for owner, name in ((builtins, "open"), (os, "fsync"), (Path, "read_bytes"), (os, "replace")):
        _delay(owner, name, delay)


def _delay(owner: Any, name: str, delay: float) -> None:
    original = getattr(owner, name)

    def slow(*arguments: Any, **named: Any) -> Any:
        time.sleep(delay)
        return original(*arguments, **named)

    setattr(owner, name, slow)


def _killed_tool(injection: Injection) -> None:
    """At a point, or at any time."""
    if injection.random.random() < 0.5:
        _at_a_point(injection, "kill")
        return
    after = injection.random.uniform(0.0, 0.7)
    injection.note(f"SIGKILL after {after * 1000:.0f} ms")
    _after(after, lambda: os.kill(os.getpid(), signal.SIGKILL))


def _killed_guard(injection: Injection) -> None:
    """The process that holds the past."""
    if injection.random.random() < 0.5:
        _at_a_point(injection, "kill-guard")
        return
    after = injection.random.uniform(0.1, 0.7)
    injection.note(f"SIGKILL to the guard after {after * 1000:.0f} ms")

    def kill() -> None:
        from instar.update import faults

        if "guard" in faults.roles:
            os.kill(faults.roles["guard"], signal.SIGKILL)

    _after(after, kill)


def _clock_step(injection: Injection) -> None:
    """The wall clock jumps while the update runs (the monotonic one cannot, by its contract)."""
    step = injection.random.choice((-1, 1)) * injection.random.choice((1, 3600, 40 * 365 * 86400))
    begun, after = time.monotonic(), injection.random.uniform(0.0, 0.5)
    injection.note(f"{step} s after {after * 1000:.0f} ms")
    for name, unit in (("time", 1), ("time_ns", 10**9)):
        _step(name, step * unit, begun + after)


def _step(name: str, step: int, moment: float) -> None:
    original = getattr(time, name)

    def stepped() -> Any:
        return original() + (step if time.monotonic() >= moment else 0)

    setattr(time, name, stepped)


def _signal_storm(injection: Injection) -> None:
    """Signals that end nobody, as fast as they can be sent, to the tool and to the past."""
    numbers = [signal.SIGWINCH, signal.SIGCHLD, signal.SIGURG, signal.SIGCONT]
    past = int(injection.facts["pid"])
    injection.note(f"{', '.join(number.name for number in numbers)} to instar and {past}")
    signal.signal(signal.SIGWINCH, lambda *_: None)

    def storm() -> None:
        for number in numbers:
            for pid in (os.getpid(), past):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    return
        time.sleep(0.0005)

    def forever() -> None:
        while True:
            storm()

    threading.Thread(target=forever, daemon=True).start()


def _after(seconds: float, action: Any) -> None:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()


_WAYS: dict[str, Any] = {
    errno.errorcode[errno.ENOSPC]: _no_space,
    errno.errorcode[errno.EMFILE]: _few_descriptors,
    errno.errorcode[errno.ENOMEM]: _no_memory,
    "slow disk": _slow_disk,
    "killed tool": _killed_tool,
    "killed guard": _killed_guard,
    "clock step": _clock_step,
    "signal storm": _signal_storm,
}
KINDS = tuple(_WAYS)
