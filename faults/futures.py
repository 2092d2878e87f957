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
            if driver is None:
                injection.failed(LookupError(f"no new version at {phase} {where}"))
            injection.note(f"{injection.kind} of the new version, {phase} {where}")
            if number is None:
                driver.future.tracee.inject_syscall(_EXIT_GROUP, 0)
            else:
                os.kill(driver.pid, number)
        reach(phase, where)

    Transaction._start = started  # type: ignore[method-assign, assignment]
    faults.reach = reached


_SIGNALS: dict[str, Any] = {
    "crash": lambda rng: rng.choice((signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGKILL)),
    "hang": lambda _rng: signal.SIGSTOP,
    "exit": lambda _rng: None,
}


def _flip_before_validation(injection: Injection) -> None:
    """One bit of the state that the future was given: of a block that lives on, or of what was written."""
    from instar.update.transaction import Transaction

    compare = Transaction._compare
    in_pause = injection.random.random() < 0.5
    seed = injection.random.random()
    plans: list[Any] = []  # later ones may name only what differs

    def compared(transaction: Any, plan: Any) -> None:
        plans.append(plan)
        if (transaction.clock.paused_at is not None) == in_pause:
            try:
                found = _flip(random.Random(seed), transaction.driver.future.tracee.memory, plans[0])
            except Exception as error:
                injection.failed(error)
                raise
            injection.note(f"{found}, {'in the pause' if in_pause else 'while the old version serves'}")
        compare(transaction, plan)

    Transaction._compare = compared  # type: ignore[method-assign, assignment]


def _flip(rng: random.Random, memory: Any, plan: Any) -> str:
    ranges = [*plan.kept, *([plan.arena] if plan.arena is not None else [])]
    blocks = [(int(start), int(size)) for one in ranges for start, size in one.blocks]
    written = [(write.address, len(write.data)) for write in plan.writes]
    kinds = [places for places in (blocks, written) if places]
    start, size = rng.choice(rng.choice(kinds))
    at, bit = start + rng.randrange(size), rng.randrange(8)
    byte = memory.read(at, 1)[0]
    memory.write(at, bytes([byte ^ (1 << bit)]))
    return f"bit {bit} of byte {at - start} of {size} at {start:#x}"


KINDS = ("crash", "hang", "exit", "bit flip before validation")
