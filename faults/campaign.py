"""The campaign: plans injections from a seed, runs them side by side, prints the table, keeps the results."""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import queue
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from faults import code, environment, files, futures, kernels, plans
from faults.outcome import BAD, OUTCOMES, Result
from faults.runner import Runner
from faults.servers import Dnsmasq, Hallway
from faults.subjects import ROOT, Subject, Tables

RESULTS = Path(__file__).parent / "results"
SUBJECTS: dict[str, type[Subject]] = {kind.name: kind for kind in (Tables, Hallway, Dnsmasq)}
#: Types of faults in plans, kernels and code, in the order of the table.
TRANSFER = (
    "branch flipped", "loop stuck", "loop cut short", "missing initialisation", "wrong offset", "wrong width",
    "off-by-one count", "pointer to another object", "stale pointer", "overflow of a neighbour",
    "leaked object", "lost write", "doubled write",
)  # fmt: skip
_PLACES = {"kernel": kernels.KINDS, "code": code.KINDS, "plan": plans.KINDS}


@dataclass(frozen=True)
class Fault:
    """One injection to be made."""

    number: int
    place: str
    kind: str
    program: str
    seed: str

    @property
    def row(self) -> str:
        """Of the table."""
        return self.kind if self.place in (*_PLACES, "none") else f"{self.place}: {self.kind}"


def rows() -> list[tuple[str, list[tuple[str, str]]]]:
    """Every row of the table with the (place, kind) that belong to it."""
    found = [("no fault", [("none", "no fault")])]
    found += [
        (kind, [(place, kind) for place, kinds in _PLACES.items() if kind in kinds]) for kind in TRANSFER
    ]
    others = (
        ("handler", files.HANDLER_KINDS),
        ("future", futures.KINDS),
        ("environment", environment.KINDS),
        ("input", files.INPUT_KINDS),
    )
    for place, kinds in others:
        found += [(f"{place}: {kind}", [(place, kind)]) for kind in kinds]
    return found


def plan_faults(seed: int, count: int, only: Sequence[str], programs: Sequence[str]) -> list[Fault]:
    """The injections of a campaign: all types in turn, places and programs at random.

    Faults in the transfer come three times as often as the others, as in the paper's experiment.
    """
    wanted = [entry for entry in rows() if not only or any(word in entry[0] for word in only)]
    turn = [entry for entry in wanted for _ in range(3 if entry[0] in TRANSFER else 1)]
    result = []
    for number, (_, places) in zip(range(count), itertools.cycle(turn)):
        rng = random.Random(f"{seed}:{number}")
        place, kind = rng.choice(places)
        program = rng.choice(programs)
        if place == "handler":
            program = Tables.name  # whose types the handlers are for
        result.append(Fault(number, place, kind, program, f"{seed}:{number}"))
    return result


class Campaign:
    """Runs faults in several threads; each has its own tool and its own programs.

    Args:
        faults: What to inject.
        jobs: How many at once.
        home: For everything that is written.
    """

    def __init__(self, faults: Sequence[Fault], jobs: int, home: Path) -> None:
        self.results: list[Result] = []
        self._todo: queue.SimpleQueue[Fault] = queue.SimpleQueue()
        for fault in faults:
            self._todo.put(fault)
        self._done: queue.SimpleQueue[Result | BaseException | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(home / f"job{i}",)) for i in range(jobs)]

    def run(self) -> Iterator[Result]:
        """The results as they come; clean up on the way out, whatever happens."""
        for thread in self._threads:
            thread.start()
        try:
            working = len(self._threads)
            while working:
                found = self._done.get()
                if found is None:
                    working -= 1
                elif isinstance(found, Result):
                    self.results.append(found)
                    yield found
                else:
                    raise found
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _work(self, home: Path) -> None:
        try:
            with Runner(home, SUBJECTS) as runner:
                while not self._stop.is_set():
                    try:
                        fault = self._todo.get_nowait()
                    except queue.Empty:
                        break
                    self._done.put(runner.run(fault))
        except BaseException as error:
            self._done.put(error)
        finally:
            self._done.put(None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a campaign; the exit status is 1 when a fault escaped that docs/promises.md does not name."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="everything follows from it (default 1)")
    parser.add_argument("--count", type=int, default=2100, help="injections (default %(default)s)")
    parser.add_argument("--only", action="append", default=[], metavar="TYPE", help="types that contain this")
    parser.add_argument(
        "--program", action="append", default=[], choices=sorted(SUBJECTS), help="default: all"
    )
    parser.add_argument("--number", type=int, action="append", help="only these injections of the campaign")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="at once (default 2)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    arguments = parser.parse_args(argv)
    faults = plan_faults(
        arguments.seed, arguments.count, arguments.only, arguments.program or sorted(SUBJECTS)
    )
    if arguments.number:
        faults = [fault for fault in faults if fault.number in arguments.number]
    for name in sorted({fault.program for fault in faults}):
        SUBJECTS[name].programs()
    for number in (signal.SIGTERM, signal.SIGINT):  # also where a shell's background ignores Ctrl-C
        signal.signal(number, _interrupt)
    results = perform(faults, arguments.jobs, quiet=arguments.quiet)
    print_table(faults, results)
    keep(arguments.seed, faults, results)
    return 1 if any(result.outcome in BAD and not is_named(result) for result in results) else 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def is_named(result: Result) -> bool:
    """Escapes that no check of ours can find: docs/promises.md, "What faults can still do"."""
    return result.place == "handler" or (result.place, result.kind) == ("input", "DWARF")


def perform(faults: Sequence[Fault], jobs: int, *, quiet: bool) -> list[Result]:
    """Run, tell progress; Ctrl-C ends it early and in order."""
    home = Path(tempfile.mkdtemp(prefix="instar-faults-"))
    campaign = Campaign(faults, jobs, home)
    begun = time.monotonic()
    try:
        with suppress(KeyboardInterrupt):
            for done, result in enumerate(campaign.run(), 1):
                if result.outcome in BAD:
                    print(
                        f"\r#{result.number} {result.place}/{result.kind} on {result.program}: "
                        f"{result.outcome}: {'; '.join(result.done)[:150]} -> {result.complaints[:2]}",
                        flush=True,
                    )
                if not quiet:
                    rate = done / (time.monotonic() - begun)
                    print(f"\r{done}/{len(faults)}, {rate:.2f} a second ", end="", flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print()
    return campaign.results


def print_table(faults: Sequence[Fault], results: Sequence[Result]) -> None:
    """Rows: types; columns: outcomes."""
    names = {fault.number: fault.row for fault in faults}
    counts: dict[str, Counter[str]] = {}
    for result in results:
        counts.setdefault(names[result.number], Counter())[result.outcome] += 1
    width = max([len(name) for name in counts] or [5])
    print(" " * width + "  count " + " ".join(f"{name:>{max(len(name), 5)}}" for name in OUTCOMES))
    for name, _ in rows():
        if name in counts:
            print(_line(name, counts[name], width))
    total: Counter[str] = sum(counts.values(), Counter())
    print(_line("all", total, width))


def _line(name: str, counts: Counter[str], width: int) -> str:
    cells = " ".join(f"{counts[column] or '.':>{max(len(column), 5)}}" for column in OUTCOMES)
    return f"{name:<{width}} {sum(counts.values()):>6} {cells}"


def keep(seed: int, faults: Sequence[Fault], results: Sequence[Result]) -> Path:
    """All results as JSON, in order."""
    RESULTS.mkdir(exist_ok=True)
    document: dict[str, Any] = {
        "schema": 1,
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": _commit(),
        "kernel": platform.release(),
        "seed": seed,
        "planned": len(faults),
        "outcomes": dict(Counter(result.outcome for result in results)),
        "results": [result.to_json() for result in sorted(results, key=lambda one: one.number)],
    }
    path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"all of it: {path}")
    return path


def _commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
