"""Puts one fault into this process, which is about to become `instar update`."""

from __future__ import annotations

import mmap
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOM = 1 << 18
#: What an injector itself does wrong; it would pass for a fault that was detected.
FAILED = "injector failed"


class Notes:
    """What was made wrong, in memory that lives on when the process dies, and that its children share.

    Much of an update runs in a process that may open no file.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _ROOM)

    def add(self, text: str) -> None:
        """One more line; those that there is no room for are dropped."""
        data = text.replace("\n", " ").encode()[:2000] + b"\n"
        end = self._memory[:].find(b"\0")
        if 0 <= end < _ROOM - len(data):
            self._memory[end : end + len(data)] = data

    def take(self) -> str:
        """All of it; nothing is left."""
        text = self._memory[:].partition(b"\0")[0].decode(errors="replace")
        self._memory[: len(self._memory)] = bytes(_ROOM)
        return text


@dataclass(frozen=True)
class Injection:
    """What an injector is given.

    Attributes:
        kind: The type of the fault.
        random: Where every decision comes from.
        notes: Where ``note`` puts it.
        facts: What the campaign says besides: paths, the moment.
    """

    kind: str
    random: random.Random
    notes: Notes
    facts: dict[str, Any]

    def note(self, text: str) -> None:
        """Say what was made wrong, once it was."""
        self.notes.add(text)

    def failed(self, error: BaseException) -> None:
        """Say that nothing was made wrong because the injector is."""
        self.notes.add(f"{FAILED}: {type(error).__name__}: {error}")


Injector = Callable[[Injection], None]


def inject(fault: dict[str, Any], notes: Notes) -> None:
    """Choose by the fault's place ("kernel", "code", "plan", ...) who injects it."""
    from faults import code, environment, futures, kernels, plans, sweep

    places: dict[str, Injector] = {
        "none": lambda _: None,
        "kernel": kernels.inject,
        "code": code.inject,
        "sweep": sweep.inject,
        "plan": plans.inject,
        "future": futures.inject,
        "environment": environment.inject,
        "outside": lambda _: None,
    }
    injection = Injection(fault["kind"], random.Random(fault["seed"]), notes, fault)
    try:
        places[fault["place"]](injection)
    except Exception as error:
        injection.failed(error)
        raise


def describe(log: Path) -> list[str]:
    """What was noted."""
    return log.read_text().splitlines() if log.exists() else []


__all__ = ["FAILED", "Injection", "Injector", "Notes", "describe", "inject"]
