"""Faults of the new version: it dies, hangs or exits at any phase, or its memory has another bit."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

from faults.injection import Injection

#: Points at which there is a future: see instar.update.faults.
_EXIT_GROUP = 231
POINTS = [
    (phase, where)
    for phase in ("pre-copy", "quiesce", "pre-check", "transfer", "validate", "commit")
    for where in ("before", "middle")
]


def inject(injection: Injection) -> None:
    """At one point of the update, once; or in its start-up, where the campaign has given such a program."""
    if injection.kind == "bit flip before validation":
        _flip_before_validation(injection)
    elif "program" in injection.facts:
        injection.note(f"start-up of {injection.facts['program']}")
    else:
        _at_a_point(injection)


def _at_a_point(injection: Injection) -> None:
    from instar.update import faults
    from instar.update.transaction import Transaction

    wanted = injection.random.choice(POINTS)
    number = _SIGNALS[injection.kind](injection.random)
    running: list[Any] = []
    start, reach = Transaction._start, faults.reach

    def started(transaction: Any) -> None:
        start(transaction)
        running[:] = [transaction]

    def reached(phase: str, where: str) -> None:
        if (phase, where) == wanted and running:
            driver = running[0].driver
            running.clear()
            injection.note(f"{injection.kind} of the new version, {phase} {where}")
            if number is None:
                driver.future.tracee.inject_syscall(_EXIT_GROUP, 0)
            else:
                os.kill(driver.pid, number)
        reach(phase, where)

    Transaction._start = started  # type: ignore[method-assign]
    faults.reach = reached


_SIGNALS: dict[str, Any] = {
    "crash": lambda rng: rng.choice((signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGKILL)),
    "hang": lambda _rng: signal.SIGSTOP,
    "exit": lambda _rng: None,
}


def _flip_before_validation(injection: Injection) -> None:
    """One bit of the state that the future was given: a byte of a live object's counterpart."""
    from instar.update.transaction import Transaction

    compare = Transaction._compare
    in_pause = injection.random.random() < 0.5
    seed = injection.random.random()

    def compared(transaction: Any, plan: Any) -> None:
        if (transaction.clock.paused_at is not None) == in_pause:
            found = _flip(random.Random(seed), transaction)
            injection.note(f"{found}, {'in the pause' if in_pause else 'while the old version serves'}")
        compare(transaction, plan)

    Transaction._compare = compared  # type: ignore[method-assign]


def _flip(rng: random.Random, transaction: Any) -> str:
    import numpy as np

    planner, _ = transaction.planning._last
    objects = planner.state.objects
    live = ((objects["flags"] & (1 | 1024)) != 0) & (objects["fate"] <= 1) & (objects["kind"] <= 2)
    rows = np.flatnonzero(live & (objects["size"] > 0))
    row = rng.choice(rows.tolist())
    entry = objects[row]
    moves = int(entry["fate"]) == 1
    start = int(entry["new_address" if moves else "address"])
    size = int(entry["out_size" if moves and entry["out_size"] else "size"])
    at, bit = start + rng.randrange(size), rng.randrange(8)
    memory = transaction.driver.future.tracee.memory
    byte = memory.read(at, 1)[0]
    memory.write(at, bytes([byte ^ (1 << bit)]))
    return f"bit {bit} of byte {at - start} of {size} of the counterpart of {int(entry['address']):#x}"


KINDS = ("crash", "hang", "exit", "bit flip before validation")
