"""What the user may decide about an update."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from instar.validation.taint import TaintPolicy


@dataclass(frozen=True)
class Rehearsal:
    """An update that is only tried.

    Attributes:
        hold: Whether the future is kept for inspection after it was validated.
        hold_s: For so many seconds at most; None: until a line comes in or Ctrl-C.
        announce: Told the future's process id when it is being kept.
    """

    hold: bool = False
    hold_s: float | None = None
    announce: Callable[[int], None] = lambda _pid: None


@dataclass(frozen=True)
class UpdateOptions:
    """Deadlines, strictness and what the new version is started with.

    Attributes:
        timeout: Seconds for the whole update.
        max_pause_ms: The pause after which the update is given up and rolled back.
        start_timeout: Seconds the new version has to come to its quiescent point.
        strict: Refuse also what would be rewritten on good evidence and listed as a warning.
        allow: Codes of refusals that the user takes upon themselves.
        argv: Arguments for the new version, first the program's name; None: those of the old one.
        start_as: User under whom the new version starts; None: the old process's present user.
        validate: Transfer back and compare; switched off by benchmarks only.
        probation_s: Seconds for which the past is kept after the commit, in case that the future fails.
        config: File with invariants and filters; None: ``instar.toml`` beside the new program.
        tainted: What becomes of pointers to nowhere, to freed memory, and of leaks.
        rehearsal: Throw the future away after it was validated, and let the past go on.
        handlers: The user's handler file; None: ``NEW.instar.py`` beside the new program, if there is one.
        compare_code: Compare the code of functions for the report.
        backwards: Handlers are those that made the running version, and their backward halves are meant.
    """

    timeout: float = 60.0
    max_pause_ms: float = 5000.0
    start_timeout: float = 30.0
    strict: bool = False
    allow: frozenset[str] = frozenset()
    argv: tuple[bytes, ...] | None = None
    start_as: str | None = None
    validate: bool = os.environ.get("INSTAR_VALIDATE", "1") != "0"
    rehearsal: Rehearsal | None = None
    probation_s: float = 0.0
    handlers: Path | None = None
    backwards: bool = False
    compare_code: bool = False
    config: Path | None = None
    tainted: TaintPolicy = field(default_factory=TaintPolicy)
