"""Puts one fault into this process, which is about to become `instar update`."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Injection:
    """What an injector is given.

    Attributes:
        kind: The type of the fault.
        random: Where every decision comes from.
        log: File for ``note``.
        facts: What the campaign says besides: paths, the moment.
    """

    kind: str
    random: random.Random
    log: Path
    facts: dict[str, Any]

    def note(self, text: str) -> None:
        """Say what was made wrong, once it was."""
        with self.log.open("a") as file:
            file.write(text + "\n")


Injector = Callable[[Injection], None]


def inject(fault: dict[str, Any], log: Path) -> None:
    """Choose by the fault's place ("kernel", "code", "plan", ...) who injects it."""
    from faults import code, environment, futures, kernels, plans

    places: dict[str, Injector] = {
        "none": lambda _: None,
        "kernel": kernels.inject,
        "code": code.inject,
        "plan": plans.inject,
        "future": futures.inject,
        "environment": environment.inject,
        "outside": lambda _: None,
    }
    places[fault["place"]](Injection(fault["kind"], random.Random(fault["seed"]), log, fault))


def describe(log: Path) -> list[str]:
    """What was noted."""
    return log.read_text().splitlines() if log.exists() else []


__all__ = ["Injection", "Injector", "describe", "inject"]
