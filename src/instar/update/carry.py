"""The worker's part of an update: prepares while the past serves, then plans the transfer of its state.

It reads copies and hands back a ``TransferPlan``; it has no way to change either process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from instar.errors import InternalError, RefusedError
from instar.handlers.repairing import Repairs, repaired_texts
from instar.metadata.version import Version
from instar.pairing.callsites import find_call_site
from instar.pairing.code import CodeComparison
from instar.pairing.plan import PairingPlan
from instar.pairing.problems import Problem
from instar.pairing.tables import TablePairing
from instar.state.capture import Shapes
from instar.state.image import Image
from instar.state.slots import build_type_table
from instar.transfer.mappings import MappingPool
from instar.transfer.plan import TransferPlan, without_blocks
from instar.transfer.planner import Planner
from instar.transfer.prepared import Options, Prepared
from instar.transfer.refresh import refresh_plan
from instar.transfer.stack import FramePair
from instar.transfer.strings import StringResolver
from instar.validation.conditions import Conditions, CopyReader
from instar.validation.outcome import Validation
from instar.validation.remaining import Unwritten, all_written
from instar.validation.validator import Validator

Array = np.ndarray[Any, np.dtype[Any]]


def prepare(old: Version, new: Version, pairing: PairingPlan) -> Prepared:
    """Everything that needs no process: type tables, mappings, string index."""
    tables = build_type_table(old), build_type_table(new)
    return Prepared(
        symbols=pairing.symbols,
        tables=tables,
        shapes=(Shapes(old, tables[0]), Shapes(new, tables[1])),
        pool=MappingPool(pairing.types, tables[0]),
        strings=StringResolver(old, new, pairing.content),
        entries=TablePairing(old, new, pairing.types, pairing.symbols, pairing.content),
    )


def load_repairs(path: Path | None, old: Version, prepared: Prepared) -> Repairs | None:
    """The repairs of a tainted past in a file; None for no file. Raises RefusedError as for handlers."""
    return None if path is None else Repairs(path, old, prepared.tables[0])


class FramePairing:
    """Pairs the frames of the two processes; remembers which functions have the same code."""

    def __init__(self, old: Version, new: Version, code: CodeComparison) -> None:
        self._old, self._new, self._code = old, new, code
        self._memo: dict[tuple[int, int], bool] = {}
        self._same_calls: set[tuple[int, int, int, int]] = set()

    def pair(self, past: Image, future: Image) -> tuple[FramePair, ...]:
        """Frame by frame; raises RefusedError when the chains of functions differ."""
        olds, news = past.program_frames, future.program_frames
        if [f.name for f in olds] != [f.name for f in news]:
            chains = (" < ".join(f.name for f in frames) or "nothing" for frames in (olds, news))
            raise RefusedError(
                "different-point",
                "the versions wait at different places: old {}, new {}".format(*chains),
                "keep the functions of the main loop, or mark an update point in both",
            )
        pairs = tuple(
            FramePair(o, n, self._same(o.function, n.function)) for o, n in zip(olds, news, strict=True)
        )
        for pair in pairs:
            if not pair.whole:
                self._require_same_call(pair)
        return pairs

    def _require_same_call(self, pair: FramePair) -> None:
        """In a function whose code changed, both versions must stand in the same of several equal calls."""
        key = (pair.old.function, pair.old.frame.link_pc, pair.new.function, pair.new.frame.link_pc)
        if key in self._same_calls:
            return
        old = find_call_site(self._old, pair.old.function, pair.old.frame.link_pc)
        new = find_call_site(self._new, pair.new.function, pair.new.frame.link_pc)
        if old is None or new is None or (old.ordinal, old.count) == (new.ordinal, new.count):
            self._same_calls.add(key)
            return
        raise RefusedError(
            "different-call",
            f"{pair.old.name} waits in call {old.ordinal + 1} of {old.count} (line {old.line}) before, "
            f"in call {new.ordinal + 1} of {new.count} (line {new.line}) in the new version",
            "the waiting call was copied, by the compiler or in the source: keep it in a function of its own",
        )

    def _same(self, old: int, new: int) -> bool:
        key = old, new
        if key not in self._memo:
            self._memo[key] = self._code.same(old, new)
        return self._memo[key]


class Planning:
    """Plans the transfer between two processes, first while the past serves and then while it stands still.

    Args:
        prepared: What is known without a process.
        frames: Pairs the frames of both.
    """

    def __init__(self, prepared: Prepared, frames: FramePairing) -> None:
        self._prepared, self._frames = prepared, frames
        self._last: tuple[Planner, TransferPlan] | None = None
        self._validator: Validator | None = None

    def plan(self, past: Image, future: Image, streams: Mapping[int, int], options: Options) -> TransferPlan:
        """Plan; when the plan before was for the same future, it must have been carried out.

        Where too little changed to matter for what was decided, only the changes are planned.
        """
        pairs = self._frames.pair(past, future)
        last, self._last = self._last, None
        if last is not None:
            planner, plan = last
            if (planner.future, planner.streams, planner.options) == (future, streams, options):
                refreshed = refresh_plan(planner, plan, past, pairs)
                if refreshed is not None:
                    self._last = planner, plan
                    return refreshed
            del planner, plan
        del last  # its columns are as large as the state
        self._validator = None
        fresh = Planner(self._prepared, past, future, pairs, streams, options)
        plan = fresh.plan()
        repaired = repaired_texts(past.overlay, fresh.state, fresh.old, fresh.locals.names)
        self._last = fresh, replace(plan, warnings=(*repaired, *plan.warnings)) if repaired else plan
        return self._last[1]

    @property
    def planner(self) -> Planner | None:
        """What made the last plan."""
        return None if self._last is None else self._last[0]

    def validate(
        self, plan: TransferPlan, registers: Mapping[int, int], unwritten: Unwritten = all_written
    ) -> Validation:
        """Transfer back and compare, after the last plan was carried out.

        Args:
            plan: The last one.
            registers: DWARF number -> value, of the future's thread.
            unwritten: Pages of the future that nobody wrote since before the first validation.
        """
        return self._checked().check(plan, registers, unwritten)

    def check_tables(self, plan: TransferPlan) -> None:
        """The part of ``validate`` that needs the tables of blocks; from here on they are not kept."""
        self._checked().check_tables(plan)
        if self._last is not None:
            self._last = self._last[0], without_blocks(self._last[1])

    def alike(self, past: Array, future: Array) -> Array:
        """Per word of both: whether they lead to the same, or are the same number."""
        return self._checked().alike(past, future)

    def _checked(self) -> Validator:
        if self._last is None:
            raise InternalError("nothing was planned")
        if self._validator is None:
            planner = self._last[0]
            memories = planner.past.subject.memory, planner.future.subject.memory
            self._validator = Validator(planner, memories[0].read, memories[1].read_into)
        return self._validator

    def unmet(self, conditions: Conditions) -> list[str]:
        """Filters that the past, which must be held, does not meet."""
        if self._last is None or not conditions.filters:
            return []
        subject = self._last[0].past.subject
        return conditions.unmet(subject, subject.memory)

    def broken(self, conditions: Conditions, when: Literal["old version", "new version"]) -> list[Problem]:
        """Invariants that the copy of the past, or the future as it is, breaks."""
        if self._last is None or not conditions.invariants:
            return []
        planner = self._last[0]
        if when == "new version":
            subject = planner.future.subject
            return conditions.broken(subject, subject.memory, when)
        subject = planner.past.subject
        return conditions.broken(subject, CopyReader(planner.state, subject.memory), when)
